//! The C programs of `c-tests/`, built with AddressSanitizer (with its search for leaks) and
//! UndefinedBehaviorSanitizer. What the compiler instruments is the C side: calls into the library
//! with what they point to; and every allocation, also the library's, is watched for leaks, double
//! frees and overruns by libc's functions.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use testbed::log::said;
use testbed::{RingDir, artifacts};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A program that `make sanitize` builds.
fn sanitized(name: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let dir = BUILT.get_or_init(|| build().map_err(|error| error.to_string())).clone()?;
    Ok(dir.join(name))
}

fn build() -> Result<PathBuf> {
    let target = artifacts::target()?;
    let output = Command::new("make")
        .args(["--silent", "sanitize"])
        .current_dir(artifacts::root())
        // Else it would look for the job server of a make that runs this test.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(target.join("c-asan"))
}

fn run(name: &str, arguments: &[&str]) -> Result<Output> {
    let rings = RingDir::new()?;
    let output = Command::new(sanitized(name)?)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C")
        .env("TKTROT_DIR", rings.path())
        .env("C_TESTS_BRIEF", "1")
        .env("ASAN_OPTIONS", "detect_leaks=1:detect_stack_use_after_return=1:exitcode=99")
        .env("UBSAN_OPTIONS", "print_stacktrace=1")
        .output()?;
    Ok(output)
}

/// Links against the sanitizers' own functions.
fn is_instrumented(name: &str) -> Result<bool> {
    let output = Command::new("nm").arg(sanitized(name)?).output()?;
    let symbols = String::from_utf8(output.stdout)?;
    Ok(["__asan_init", "__asan_report_load", "__ubsan_handle_"]
        .iter()
        .all(|symbol| symbols.contains(symbol)))
}

macro_rules! programs {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() -> Result<()> {
            let name = stringify!($name);
            assert!(is_instrumented(name)?, "c-tests/{name}.c is not instrumented");
            let output = run(name, &[])?;
            assert!(output.status.success(), "{name}: {}\n{}", output.status, said(&output));
            Ok(())
        })*
    };
}

programs!(api settings contract generator forks ivs pool primed scope many_contexts turnover);

#[test]
fn the_sanitizers_see_what_is_wrong() -> Result<()> {
    for (defect, message) in [
        ("overwrite", "heap-buffer-overflow"),
        ("use-after-free", "heap-use-after-free"),
        ("leak", "detected memory leaks"),
        ("int-overflow", "signed integer overflow"),
    ] {
        let output = run("defects", &[defect])?;
        assert!(!output.status.success(), "{defect} was let pass");
        assert!(said(&output).contains(message), "{defect}: {}", said(&output));
    }
    let output = run("defects", &[])?;
    assert!(output.status.success(), "nothing is wrong: {}", said(&output));
    Ok(())
}
