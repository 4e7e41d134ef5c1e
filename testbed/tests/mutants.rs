//! The deliberate bugs of checks/mutants can be put into this tree, and name tests that there are.
//! Whether those see them is what `make mutants` shows.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;

use testbed::artifacts::root;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const MUTANTS: [&str; 31] = [
    "callback-taken-away",
    "copy-accepted",
    "empty-slot-matched",
    "erased-too-late",
    "error-queue-not-restored",
    "expiry-off-by-one",
    "interrupted-sleep-fatal",
    "late-policy-ignored",
    "lengthened-key",
    "lock-not-repaired",
    "lock-taken-from-the-living",
    "memory-not-reserved",
    "missing-release",
    "name-not-forgotten",
    "namespace-time",
    "older-epoch-taken",
    "one-certificate-bound",
    "period-not-remembered",
    "redis-clock-lengthens",
    "reference-not-held",
    "revocation-not-put-back",
    "revoked-key-inherited",
    "revoked-key-taken",
    "scope-part-dropped",
    "silent-leader",
    "skipped-sequence-check",
    "states-pile-up",
    "switched-policy-ignored",
    "throw-away-key-reused",
    "unchecked-generator",
    "wrong-library-context",
];

#[test]
fn all_are_there_and_apply() -> Result<()> {
    let dir = root().join("checks/mutants");
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir)? {
        let path = entry?.path();
        if path.extension() != Some(OsStr::new("patch")) {
            continue;
        }
        names.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        let output = Command::new("git")
            .args(["apply", "--check"])
            .arg(&path)
            .current_dir(root())
            .output()
            .map_err(|error| format!("git cannot be run: {error}"))?;
        assert!(
            output.status.success(),
            "{} does not apply any more: make it anew\n{}",
            path.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    names.sort();
    assert_eq!(names, MUTANTS);
    Ok(())
}

#[test]
fn each_names_a_test_that_there_is() -> Result<()> {
    for name in MUTANTS {
        let patch = fs::read_to_string(root().join(format!("checks/mutants/{name}.patch")))?;
        let mut runs = patch.lines().filter_map(|line| line.strip_prefix("Run: "));
        let (Some(run), None) = (runs.next(), runs.next()) else {
            panic!("{name} does not name one test");
        };
        let function = |file: &str, test: &str| {
            let text = fs::read_to_string(root().join(file)).unwrap_or_default();
            assert!(text.contains(&format!("fn {test}()")), "{name}: {file} has no test {test}");
        };
        match run.split(' ').collect::<Vec<_>>()[..] {
            ["lib" | "fleet", path] => {
                let tree = if run.starts_with("fleet ") { "fleet/" } else { "" };
                let (module, test) = path.rsplit_once("::").ok_or(path)?;
                let file = module.replace("::", "/");
                // In a file of their own, or at the end of what they test.
                let own = format!("{tree}src/{file}.rs");
                let there = root().join(&own).is_file();
                let around = format!("{tree}src/{}.rs", file.trim_end_matches("/tests"));
                function(if there { &own } else { &around }, test);
            }
            ["test" | "shim", file, path] => match path.rsplit_once("::") {
                Some((module, test)) => function(&format!("tests/{file}/{module}.rs"), test),
                None => {
                    let alone = format!("tests/{file}.rs");
                    let is_alone = root().join(&alone).is_file();
                    let within = format!("tests/{file}/main.rs");
                    function(if is_alone { &alone } else { &within }, path);
                }
            },
            ["c", program] => {
                assert!(root().join(format!("c-tests/{program}.c")).is_file(), "{name}: {program}");
            }
            // The models of the ring, which are built in a way of their own.
            ["make", "models"] => {}
            _ => panic!("{name} runs {run}, which is nothing that checks/mutants/run knows"),
        }
    }
    Ok(())
}
