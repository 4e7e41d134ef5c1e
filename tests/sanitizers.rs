//! The C programs of `c-tests/`, built with AddressSanitizer (with its search for leaks) and
//! UndefinedBehaviorSanitizer; those with threads with ThreadSanitizer, too. What the compiler
//! instruments is the C side: calls into the library with what they point to; and every allocation,
//! also the library's, is watched for leaks, double frees and overruns by libc's functions. What
//! ThreadSanitizer sees of the library are its calls of libc: memory, locks, threads. `make
//! sanitize-all` has the library itself instrumented.

use std::process::{Command, Output};

use testbed::log::said;
use testbed::{RingDir, artifacts};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A way to build a program.
struct Sanitizer {
    /// Below the target directory.
    dir: &'static str,
    /// What a program has that was built so.
    symbols: &'static [&'static str],
}

const ADDRESS: Sanitizer =
    Sanitizer { dir: "c-asan", symbols: &["__asan_init", "__asan_report_load", "__ubsan_handle_"] };
const THREAD: Sanitizer =
    Sanitizer { dir: "c-tsan", symbols: &["__tsan_init", "__tsan_read4", "__tsan_func_entry"] };

fn run(name: &str, by: &Sanitizer, arguments: &[&str]) -> Result<Output> {
    let rings = RingDir::new()?;
    let output = Command::new(artifacts::sanitized(by.dir, name)?)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C")
        .env("TKTROT_DIR", rings.path())
        .env("C_TESTS_BRIEF", "1")
        .env("ASAN_OPTIONS", "detect_leaks=1:detect_stack_use_after_return=1:exitcode=99")
        .env("UBSAN_OPTIONS", "print_stacktrace=1")
        // Children of programs with threads make threads, too.
        .env("TSAN_OPTIONS", "die_after_fork=0:exitcode=99")
        .output()?;
    Ok(output)
}

/// Links against the sanitizers' own functions.
fn is_instrumented(name: &str, by: &Sanitizer) -> Result<bool> {
    let output = Command::new("nm").arg(artifacts::sanitized(by.dir, name)?).output()?;
    let symbols = String::from_utf8(output.stdout)?;
    Ok(by.symbols.iter().all(|symbol| symbols.contains(symbol)))
}

fn nothing_is_wrong_with(name: &str, by: &Sanitizer) -> Result<()> {
    assert!(is_instrumented(name, by)?, "{}/{name} is not instrumented", by.dir);
    let output = run(name, by, &[])?;
    assert!(output.status.success(), "{name}: {}\n{}", output.status, said(&output));
    Ok(())
}

macro_rules! programs {
    ($by:expr, $($name:ident)*) => {
        $(#[test]
        fn $name() -> super::Result<()> {
            super::nothing_is_wrong_with(stringify!($name), &$by)
        })*
    };
}

mod memory {
    programs!(super::ADDRESS, api settings contract generator forks ivs pool primed scope
        many_contexts turnover);
}

/// Not those in which several threads fork: ThreadSanitizer itself does not survive that.
mod threads {
    programs!(super::THREAD, api exits primed turnover);
}

#[test]
fn the_sanitizers_see_what_is_wrong() -> Result<()> {
    for (by, defect, message) in [
        (ADDRESS, "overwrite", "heap-buffer-overflow"),
        (ADDRESS, "use-after-free", "heap-use-after-free"),
        (ADDRESS, "leak", "detected memory leaks"),
        (ADDRESS, "int-overflow", "signed integer overflow"),
        (THREAD, "race", "ThreadSanitizer: data race"),
        (THREAD, "lock-order", "ThreadSanitizer: lock-order-inversion"),
    ] {
        let output = run("defects", &by, &[defect])?;
        assert!(!output.status.success(), "{defect} was let pass");
        assert!(said(&output).contains(message), "{defect}: {}", said(&output));
    }
    for by in [ADDRESS, THREAD] {
        let output = run("defects", &by, &[])?;
        assert!(output.status.success(), "nothing is wrong: {}", said(&output));
    }
    Ok(())
}
