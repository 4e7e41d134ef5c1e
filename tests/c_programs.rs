//! The C programs of `c-tests/`, each as it is and under valgrind.

use std::fs;
use std::process::Command;

use testbed::{RingDir, artifacts, log};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Runs a program, which bounds itself, with rings of its own; returns what it said.
fn run(name: &str, mut command: Command, variables: &[(&str, &str)]) -> Result<String> {
    let rings = RingDir::new()?;
    let output = command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C")
        .env("TKTROT_DIR", rings.path())
        .envs(variables.iter().copied())
        .output()
        .map_err(|error| format!("{command:?} cannot be run (make deps): {error}"))?;
    let said = log::said(&output);
    assert!(output.status.success(), "c-tests/{name}.c: {}\n{said}", output.status);
    Ok(said)
}

fn as_it_is(name: &str) -> Result {
    run(name, Command::new(artifacts::program(name)?), &[]).map(drop)
}

/// Any error and any leak is one too many; what only repeats itself is repeated less.
fn under_valgrind(name: &str) -> Result {
    let program = artifacts::program(name)?;
    let suppressions = artifacts::root().join("c-tests/valgrind.supp");
    let mut command = Command::new("valgrind");
    command
        .args(["-q", "--error-exitcode=99", "--num-callers=20", "--track-origins=no"])
        // One thread runs at a time, and else it may be the same one for seconds.
        .arg("--fair-sched=try")
        .args(["--leak-check=full", "--errors-for-leak-kinds=definite,indirect,possible"])
        .arg(format!("--suppressions={}", suppressions.display()))
        .arg(program);
    run(name, command, &[("C_TESTS_BRIEF", "1")]).map(drop)
}

/// A test as it is and one under valgrind for each program.
macro_rules! programs {
    ($($name:ident)*) => {
        const PROGRAMS: &[&str] = &[$(stringify!($name)),*];
        $(mod $name {
            #[test]
            fn as_it_is() -> super::Result {
                super::as_it_is(stringify!($name))
            }

            #[test]
            fn under_valgrind() -> super::Result {
                super::under_valgrind(stringify!($name))
            }
        })*
    };
}

programs!(api settings contract generator forks fork_storm exits pool scope bypass many_contexts turnover ivs primed unnoticed upheaval);

/// It calls no function of the library then: its contexts are attached by the shim.
#[test]
fn under_the_shim_every_one_of_1200_listeners_has_the_rings_keys() -> Result {
    let shim = artifacts::shim()?.display().to_string();
    let command = Command::new(artifacts::program("many_contexts")?);
    let said = run("many_contexts", command, &[("LD_PRELOAD", &shim)])?;
    assert_eq!(log::ours(&said), [""; 0], "{said}");
    Ok(())
}

/// Who may come in is what would hold without a ticket, whoever says so and when.
#[test]
fn under_the_shim_no_ticket_gets_anybody_further() -> Result {
    let shim = artifacts::shim()?.display().to_string();
    let command = Command::new(artifacts::program("bypass")?);
    let said = run("bypass", command, &[("LD_PRELOAD", &shim)])?;
    assert_eq!(log::ours(&said), [""; 0], "{said}");
    Ok(())
}

/// What a program asks for with tkt_install stays as it is where the shim is loaded, too: its
/// labels, rings and bindings are not those of the environment.
#[test]
fn the_shim_leaves_to_a_program_what_it_installs_itself() -> Result {
    let shim = artifacts::shim()?.display().to_string();
    let variables = [("LD_PRELOAD", &*shim), ("TKTROT_BIND", "cert"), ("C_TESTS_BRIEF", "1")];
    run("scope", Command::new(artifacts::program("scope")?), &variables)?;
    Ok(())
}

#[test]
fn under_the_shim_no_child_of_a_fork_storm_hangs() -> Result {
    let shim = artifacts::shim()?.display().to_string();
    let variables = [("LD_PRELOAD", &*shim), ("TKTROT_ROTATE", "1s"), ("TKTROT_LIFETIME", "8s")];
    let said = run("fork_storm", Command::new(artifacts::program("fork_storm")?), &variables)?;
    assert_eq!(log::ours(&said), [""; 0]);
    Ok(())
}

/// Contexts come and go there, with every setting that could be left behind by one for the next.
#[test]
fn under_the_shim_no_context_leaves_anything_to_the_next() -> Result {
    let shim = artifacts::shim()?.display().to_string();
    for takeover in ["yes", "no"] {
        let variables = [("LD_PRELOAD", &*shim), ("TKTROT_TAKEOVER", takeover)];
        run("turnover", Command::new(artifacts::program("turnover")?), &variables)?;
    }
    Ok(())
}

/// What the application sees of its thread, its contexts and connections.
#[test]
fn under_the_shim_nothing_of_ours_is_seen_on_a_thread() -> Result {
    let shim = artifacts::shim()?.display().to_string();
    let variables = [("LD_PRELOAD", &*shim), ("TKTROT_RENEW", "always")];
    run("unnoticed", Command::new(artifacts::program("unnoticed")?), &variables)?;
    Ok(())
}

/// Without AES-256-CBC in its library context one of the contexts cannot be served. What is known
/// when the server starts stops a strict one; what comes later stops nothing.
#[test]
fn strict_stops_a_server_at_its_start_and_never_in_service() -> Result {
    let shim = artifacts::shim()?.display().to_string();
    let outcome = |moment: &str, strict: &str| -> Result<(Option<i32>, String)> {
        let rings = RingDir::new()?;
        let output = Command::new(artifacts::program("unnoticed")?)
            .arg(moment)
            .env_clear()
            .env("LC_ALL", "C")
            .env("TKTROT_DIR", rings.path())
            .env("LD_PRELOAD", &shim)
            .env("TKTROT_STRICT", strict)
            .output()?;
        Ok((output.status.code(), log::said(&output)))
    };
    for (moment, strict) in [("start", "0"), ("in-service", "0"), ("in-service", "1")] {
        let (status, said) = outcome(moment, strict)?;
        assert_eq!(status, Some(0), "{moment}, {strict}: {said}");
        assert!(said.contains("it runs"), "{said}");
        let lines = log::ours(&said);
        let cause = "a context keeps the ticket keys it has: there is no AES-256-CBC in its own";
        assert!(lines.len() == 1 && lines[0].contains(cause), "{moment}, {strict}: {said}");
    }
    let (status, said) = outcome("start", "1")?;
    assert_eq!(status, Some(78), "{said}");
    assert!(said.contains("there is no AES-256-CBC in its own library context"), "{said}");
    assert!(!said.contains("it runs"), "{said}");
    Ok(())
}

#[test]
fn every_program_is_run() -> Result {
    let mut found = Vec::new();
    for entry in fs::read_dir(artifacts::root().join("c-tests"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "c") {
            found.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    found.sort();
    let mut listed = PROGRAMS.to_vec();
    listed.sort_unstable();
    assert_eq!(found, listed, "the list in tests/c_programs.rs is not that of c-tests/");
    Ok(())
}
