//! The library and the shim with an OpenSSL that is not the system's: 1.1.1, which calls the
//! callback in its HMAC form. `make test-tls` has more of them.

use std::path::Path;
use std::process::{Command, Output};

use testbed::log::said;
use testbed::{RingDir, artifacts};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const OLD: &str = "openssl-1.1.1";

/// Runs a program, which bounds itself, with rings of its own.
fn run(mut command: Command, variables: &[(&str, &Path)]) -> Result<Output> {
    let rings = RingDir::new()?;
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C");
    command.env("TKTROT_DIR", rings.path()).envs(variables.iter().copied());
    Ok(command.output().map_err(|error| format!("{command:?} cannot be run: {error}"))?)
}

/// The same library as everywhere else, with a program that is linked with 1.1.1.
fn with_1_1_1(name: &str) -> Result {
    let output = run(Command::new(artifacts::tls_program(OLD, name)?), &[])?;
    assert!(output.status.success(), "c-tests/{name}.c: {}\n{}", output.status, said(&output));
    Ok(())
}

#[test]
fn openssl_1_1_1_sees_the_contract_of_the_callback_kept() -> Result {
    with_1_1_1("contract")
}

#[test]
fn openssl_1_1_1_opens_tickets_where_they_were_issued() -> Result {
    with_1_1_1("scope")
}

#[test]
fn openssl_1_1_1_goes_on_without_random_numbers() -> Result {
    with_1_1_1("generator")
}

#[test]
fn openssl_1_1_1_takes_every_function() -> Result {
    with_1_1_1("api")
}

/// A process with the system's libssl and 1.1.1's, each behind a module of its own, both at work.
fn two_libssl(keys: &str) -> Result<Command> {
    let mut command = Command::new(artifacts::tls_program("system", "several_libssl/host")?);
    command.arg(keys);
    for library in ["system", OLD] {
        command.arg(artifacts::tls_program(library, "several_libssl/module")?);
    }
    Ok(command)
}

/// What it says of them: two versions, each with its handshakes.
fn versions(output: &Output) -> Vec<String> {
    let text = said(output);
    assert!(output.status.success(), "{}\n{text}", output.status);
    let versions = text.lines().filter_map(|line| line.strip_prefix("libssl 0x"));
    let versions: Vec<String> = versions
        .filter_map(|line| Some(line.split_once(": 40 full, 40 resumed")?.0.into()))
        .collect();
    assert_eq!(versions.len(), 2, "{text}");
    versions
}

/// Each of its contexts has the shim's keys, whichever libssl it is of, and no callback is given
/// what belongs to the other.
#[test]
fn under_the_shim_two_libssl_in_one_process_share_their_keys() -> Result {
    let preloaded = run(two_libssl("shared")?, &[("LD_PRELOAD", artifacts::shim()?)])?;
    let versions = versions(&preloaded);
    assert!(versions[0].starts_with('3') && versions[1].starts_with("10101"), "{versions:?}");
    Ok(())
}

/// What shows that it was the shim.
#[test]
fn without_the_shim_every_context_of_two_libssl_has_its_own_keys() -> Result {
    versions(&run(two_libssl("own")?, &[])?);
    Ok(())
}

/// Plugins with the system's libssl and with 1.1.1's, which take turns at one address.
fn reloaded() -> Result<Command> {
    let mut command = Command::new(artifacts::tls_program("system", "several_libssl/reloaded")?);
    for library in ["system", OLD] {
        command.arg(artifacts::tls_program(library, "several_libssl/plugin")?);
    }
    Ok(command)
}

/// Where a plugin lay, another one is loaded: what is remembered of the caller's address is forgotten.
#[test]
fn a_plugin_in_the_place_of_another_is_served_by_its_own_libssl() -> Result {
    let bare = run(reloaded()?, &[])?;
    assert!(bare.status.success(), "{}\n{}", bare.status, said(&bare));
    let rings = RingDir::new()?;
    let variables = [("LD_PRELOAD", artifacts::shim()?), ("TKTROT_DIR", rings.path())];
    let preloaded = run(reloaded()?, &variables)?;
    assert!(preloaded.status.success(), "{}\n{}", preloaded.status, said(&preloaded));
    assert_eq!(said(&preloaded), said(&bare));
    // What shows that it was the shim.
    assert_eq!(std::fs::read_dir(rings.path())?.count(), 1);
    Ok(())
}
