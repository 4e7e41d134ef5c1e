//! The deliberate bugs of checks/mutants can be put into this tree, and name tests that there are.
//! Whether those see them is what `make mutants` shows.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use testbed::artifacts::root;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The name and the path of each.
fn mutants() -> Result<Vec<(String, PathBuf)>> {
    let mut mutants = Vec::new();
    for entry in fs::read_dir(root().join("checks/mutants"))? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("patch")) {
            mutants
                .push((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), path));
        }
    }
    assert!(!mutants.is_empty());
    Ok(mutants)
}

#[test]
fn all_apply() -> Result<()> {
    for (name, path) in mutants()? {
        let output = Command::new("git")
            .args(["apply", "--check"])
            .arg(&path)
            .current_dir(root())
            .output()
            .map_err(|error| format!("git cannot be run: {error}"))?;
        assert!(
            output.status.success(),
            "{name} does not apply any more: make it anew\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

#[test]
fn each_names_a_test_that_there_is() -> Result<()> {
    for (name, path) in mutants()? {
        let patch = fs::read_to_string(path)?;
        let mut runs = patch.lines().filter_map(|line| line.strip_prefix("Run: "));
        let (Some(run), None) = (runs.next(), runs.next()) else {
            panic!("{name} does not name one test");
        };
        let function = |file: &str, test: &str| {
            let text = fs::read_to_string(root().join(file)).unwrap_or_default();
            assert!(text.contains(&format!("fn {test}()")), "{name}: {file} has no test {test}");
        };
        match run.split(' ').collect::<Vec<_>>()[..] {
            [kind @ ("lib" | "fleet" | "agent"), path] => {
                let tree = if kind == "lib" { String::new() } else { format!("{kind}/") };
                let (module, test) = path.rsplit_once("::").ok_or(path)?;
                let file = module.replace("::", "/");
                // In a file of their own, or at the end of what they test.
                let own = format!("{tree}src/{file}.rs");
                let there = root().join(&own).is_file();
                let around = format!("{tree}src/{}.rs", file.trim_end_matches("/tests"));
                function(if there { &own } else { &around }, test);
            }
            ["simulation", test] => function("fleet/tests/simulation/main.rs", test),
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
