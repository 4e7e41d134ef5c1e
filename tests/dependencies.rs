//! What is loaded into other people's servers depends on four crates, and everything here on what
//! deny.toml allows. `make deny` asks for known vulnerabilities, too.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, LicenseReq, Licensee, ParseMode};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// All that the library needs at run time, whatever that needs itself included.
const FOUR: [&str; 4] = ["libc", "once_cell", "openssl-sys", "zeroize"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn policy() -> Result<toml::Table> {
    Ok(std::fs::read_to_string(root().join("deny.toml"))?.parse()?)
}

fn words(list: &toml::Value) -> Vec<String> {
    let texts = list.as_array().into_iter().flatten().filter_map(toml::Value::as_str);
    texts.map(str::to_owned).collect()
}

fn cargo(arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {stderr}");
    Ok(output.stdout)
}

/// Every package of the workspace's Cargo.lock that the targets of deny.toml need.
fn packages(policy: &toml::Table) -> Result<Vec<Value>> {
    let targets = words(&policy["graph"]["targets"]);
    assert!(!targets.is_empty());
    let mut arguments = vec!["metadata", "--format-version=1", "--locked", "--all-features"];
    for target in &targets {
        arguments.extend(["--filter-platform", target]);
    }
    let metadata: Value = serde_json::from_slice(&cargo(&arguments)?)?;
    let packages = metadata["packages"].as_array().ok_or("no packages")?;
    assert!(packages.len() > 100, "{} packages", packages.len());
    Ok(packages.clone())
}

fn text<'v>(package: &'v Value, member: &str) -> &'v str {
    package[member].as_str().unwrap_or_default()
}

fn is_allowed(requirement: &LicenseReq, licences: &[String]) -> bool {
    licences.iter().any(|name| {
        Licensee::parse(name)
            .unwrap_or_else(|error| panic!("deny.toml: {error}"))
            .satisfies(requirement)
    })
}

#[test]
fn the_library_and_the_shim_depend_on_four_crates() -> Result<()> {
    for package in ["tktrot", "tktrot-preload"] {
        let tree = cargo(&[
            "tree",
            "--locked",
            "--package",
            package,
            "--edges",
            "normal",
            "--all-features",
            "--target",
            "all",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])?;
        let tree = String::from_utf8(tree)?;
        let names = tree.lines().filter_map(|line| line.split(' ').next());
        let found: BTreeSet<_> = names.filter(|name| !name.starts_with("tktrot")).collect();
        assert_eq!(found, BTreeSet::from(FOUR), "{package} depends on other crates:\n{tree}");
    }
    Ok(())
}

#[test]
fn every_licence_is_one_of_those_in_deny_toml() -> Result<()> {
    let policy = policy()?;
    let allowed = words(&policy["licenses"]["allow"]);
    let exceptions = policy["licenses"]["exceptions"].as_array().ok_or("no exceptions")?;
    for package in packages(&policy)? {
        let name = text(&package, "name");
        let own = exceptions.iter().filter(|exception| exception["crate"].as_str() == Some(name));
        let licences: Vec<_> =
            own.flat_map(|exception| words(&exception["allow"])).chain(allowed.clone()).collect();
        let licence = text(&package, "license");
        let expression = Expression::parse_mode(licence, ParseMode::LAX)
            .map_err(|error| format!("{name} says no licence that can be read: {error}"))?;
        assert!(
            expression.evaluate(|requirement| is_allowed(requirement, &licences)),
            "{name}: {licence} is not allowed by deny.toml"
        );
    }
    Ok(())
}

#[test]
fn every_package_comes_from_a_registry_in_deny_toml_and_none_is_banned() -> Result<()> {
    let policy = policy()?;
    let registries = words(&policy["sources"]["allow-registry"]);
    let banned = words(&policy["bans"]["deny"]);
    assert!(!registries.is_empty() && !banned.is_empty());
    for package in packages(&policy)? {
        let name = text(&package, "name");
        assert!(!banned.iter().any(|other| other == name), "{name} is banned by deny.toml");
        match package["source"].as_str() {
            Some(source) => {
                let known = |url: &String| source == format!("registry+{url}");
                assert!(registries.iter().any(known), "{name} comes from {source}");
            }
            None => {
                let manifest = Path::new(text(&package, "manifest_path"));
                assert!(manifest.starts_with(root()), "{name} is not of this tree");
            }
        }
    }
    Ok(())
}
