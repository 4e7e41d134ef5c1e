//! What a server sees of the library: nothing but what `c-tests/differential/expected.txt` explains.

use std::path::PathBuf;
use std::sync::OnceLock;

use testbed::{RingDir, artifacts};

#[path = "../c-tests/differential/compare.rs"]
mod compare;

use compare::{Expected, Mode, Programs, Written, differences};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const OLD: &str = "openssl-1.1.1";

/// A run with rings of its own.
fn run(library: &str, mode: Mode, is_brief: bool) -> Result<Written> {
    let program = |name: &str| -> Result<PathBuf> {
        let name = format!("differential/{name}");
        Ok(if library == "system" {
            artifacts::program(&name)?
        } else {
            artifacts::tls_program(library, &name)?
        })
    };
    let (bare, linked) = (program("bare")?, program("linked")?);
    let shim = artifacts::shim()?;
    let programs = Programs { bare: &bare, linked: &linked, shim, configuration: None };
    let rings = RingDir::new()?;
    Ok(programs.run(mode, rings.path(), is_brief)?)
}

/// What it writes without us, run once.
fn bare(library: &'static str) -> Result<&'static Written> {
    static SYSTEM: OnceLock<std::result::Result<Written, String>> = OnceLock::new();
    static OLDER: OnceLock<std::result::Result<Written, String>> = OnceLock::new();
    let cell = if library == "system" { &SYSTEM } else { &OLDER };
    let written = cell.get_or_init(|| {
        run(library, Mode::Bare, library != "system").map_err(|error| error.to_string())
    });
    written.as_ref().map_err(|error| error.clone().into())
}

fn expected() -> Result<Expected> {
    let path = artifacts::root().join("c-tests/differential/expected.txt");
    Ok(Expected::parse(&std::fs::read_to_string(path)?)?)
}

/// Memory is watched for 10,000 rounds with the system's library, and for fewer with the other.
fn compare(library: &'static str, mode: Mode) -> Result {
    let found = differences(bare(library)?, &run(library, mode, library != "system")?);
    expected()?.check(library, mode, &found).unwrap_or_else(|said| panic!("{said}"));
    Ok(())
}

#[test]
fn two_bare_runs_are_the_same_and_every_scenario_runs() -> Result {
    let (one, other) = (bare("system")?, run("system", Mode::Bare, true)?);
    assert_eq!(one.cannot_run(), [""; 0]);
    assert_eq!(expected()?.check_absent("system", one), Ok(()));
    assert_eq!(differences(one, &other), []);
    Ok(())
}

#[test]
fn under_the_shim_a_server_sees_only_what_is_expected() -> Result {
    compare("system", Mode::Preloaded)
}

#[test]
fn linked_a_server_sees_only_what_is_expected() -> Result {
    compare("system", Mode::Linked)
}

#[test]
fn with_openssl_1_1_1_two_bare_runs_are_the_same() -> Result {
    let (one, other) = (bare(OLD)?, run(OLD, Mode::Bare, true)?);
    assert_eq!(one.cannot_run(), [""; 0]);
    assert_eq!(expected()?.check_absent(OLD, one), Ok(()));
    assert_eq!(differences(one, &other), []);
    Ok(())
}

#[test]
fn with_openssl_1_1_1_under_the_shim_a_server_sees_only_what_is_expected() -> Result {
    compare(OLD, Mode::Preloaded)
}

#[test]
fn with_openssl_1_1_1_linked_a_server_sees_only_what_is_expected() -> Result {
    compare(OLD, Mode::Linked)
}

/// The comparison itself: what it must see, and what it must not pass over.
mod comparison {
    use super::*;

    const BARE: &str = "[a]\nfirst, SSL_new: leaves nothing\nfirst: full\nfirst, events: one, two, three\n\
                        first, calls of the server: done errno 0\nexit status: 0\n[b]\nlines: 0\n";

    fn check(changed: &str, expected: &str) -> std::result::Result<(), String> {
        let [bare, other] = [BARE, changed].map(|text| Written::parse(text).unwrap());
        let expected = Expected::parse(expected).unwrap();
        expected.check("system", Mode::Linked, &differences(&bare, &other))
    }

    #[test]
    fn what_is_the_same_needs_no_reason() {
        assert_eq!(check(BARE, ""), Ok(()));
    }

    #[test]
    fn what_differs_needs_one_for_its_mode_and_library() {
        let changed = BARE.replace("one, two, three", "one, three, four");
        let line = "    first, events: two => four\n";
        assert!(check(&changed, "").is_err_and(|said| said.contains("first, events: two => four")));
        for (head, is_explained) in [
            ("a | linked | all", true),
            ("c a | preloaded linked | openssl-4.0 system", false),
            ("a | preloaded linked | openssl-4.0 system", true),
            ("a | preloaded | all", false),
            ("a | linked | openssl-4.0", false),
            ("b | linked | all", false),
        ] {
            let said = check(&changed, &format!("## why\n{head}\n{line}"));
            assert_eq!(said.is_ok(), is_explained, "{head}: {said:?}");
        }
    }

    #[test]
    fn what_is_explained_must_happen() {
        let explained = "## why\na | linked | all\n    first, events: two => four\n";
        assert!(check(BARE, explained).is_err_and(|said| said.contains("is not so")));
    }

    #[test]
    fn what_moves_differs() {
        assert!(check(&BARE.replace("one, two", "two, one"), "").is_err());
    }

    #[test]
    fn a_resumption_explains_what_follows_from_it_and_nothing_else() {
        let explained =
            "## resumes where it did not\na | linked | all\n    first: full => resumed\n";
        let resumed = BARE.replace("first: full", "first: resumed").replace("one, two", "one");
        assert_eq!(check(&resumed, explained), Ok(()));
        for (from, to) in [
            ("SSL_new: leaves nothing", "SSL_new: errno 2"),
            ("done errno 0", "done errno 0 queue: [an error]"),
            ("done errno 0", "done errno 2"),
            ("one", "one, >alert internal error"),
            ("exit status: 0", "ended by: signal 6"),
            ("lines: 0", "lines: 1"),
        ] {
            let worse = resumed.replacen(from, to, 1);
            assert!(check(&worse, explained).is_err(), "{to} is passed over");
        }
    }

    #[test]
    fn a_scenario_or_line_that_is_missing_differs() {
        assert!(check("[b]\nlines: 0\n", "").is_err());
        assert!(check(&BARE.replace("exit status: 0\n", ""), "").is_err());
        assert!(Written::parse("[a]\nkey: 1\nkey: 2\n").is_err());
    }

    #[test]
    fn what_a_library_has_nothing_for_is_listed_and_nothing_else_is() {
        let bare = Written::parse("[a/1.2]\nscenario: not in this version\n[a/1.3]\nfirst: full\n");
        let check = |text: &str| {
            Expected::parse(text).unwrap().check_absent("system", bare.as_ref().unwrap())
        };
        assert_eq!(check("a/1.2 | not in this version | openssl-4.0 system\n"), Ok(()));
        for text in [
            "",
            "a/1.2 | not in this version | openssl-4.0\n",
            "a/* | not in this version | system\n",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
        assert!(Expected::parse("a | not in this version | system\n    key: a => b\n").is_err());
    }

    #[test]
    fn what_a_library_has_nothing_for_may_be_explained_for_all() {
        let all = "## why\na | linked | all\n    first, events: two => four\n";
        let absent = |library: &str| format!("{all}a | not in this version | {library}\n");
        assert_eq!(check(BARE, &absent("system")), Ok(()));
        assert!(check(BARE, &absent("openssl-4.0")).is_err());
        let changed = BARE.replace("one, two, three", "one, three, four");
        assert!(check(&changed, &absent("system")).is_err());
    }

    #[test]
    fn a_line_that_is_no_entry_is_refused() {
        for text in [
            "a b c\n",
            "## why\n    key: a => b\n",
            "a | linked | all\n    key: a => b\n",
            "## why\na | linked | all\n    key: a\n",
        ] {
            assert!(Expected::parse(text).is_err(), "{text}");
        }
    }
}
