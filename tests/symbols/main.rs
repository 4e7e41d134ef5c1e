//! What the two libraries export, what they are called, and what they need.
//! [`portable`]: the same of another build of them.

mod portable;

use std::fs;
use std::path::Path;
use std::process::Command;

use testbed::artifacts;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn output_of(program: &str, arguments: &[&str], library: &Path) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .arg(library)
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| format!("{program} cannot be run (make deps): {error}"))?;
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// The names that a library gives to others, sorted.
fn exports(library: &Path) -> Result<Vec<String>> {
    let listing = output_of("nm", &["-D", "--defined-only", "--format=posix"], library)?;
    let names = listing.lines().filter_map(|line| line.split_whitespace().next());
    let mut names: Vec<_> = names.map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

/// Compares with the list, or writes it.
fn check_exports(library: &Path, list: &str) -> Result<()> {
    let path = artifacts::root().join("c-tests").join(list);
    let seen = exports(library)?;
    if std::env::var_os("TKTROT_WRITE_SYMBOLS").is_some() {
        fs::write(&path, seen.join("\n") + "\n")?;
    }
    let listed: Vec<_> =
        fs::read_to_string(&path).unwrap_or_default().lines().map(str::to_owned).collect();
    let missing: Vec<_> = listed.iter().filter(|name| !seen.contains(name)).collect();
    let new: Vec<_> = seen.iter().filter(|name| !listed.contains(name)).collect();
    assert!(
        listed == seen,
        "the exports are not those of c-tests/{list} (gone {missing:?}, new {new:?}); if that is \
         meant, run: make symbols"
    );
    Ok(())
}

/// The values of one kind of entry in the dynamic section.
fn dynamic<'l>(listing: &'l str, tag: &str) -> Vec<&'l str> {
    let tag = format!("({tag})");
    let lines = listing.lines().filter_map(|line| line.split_once(&*tag));
    lines.map(|(_, value)| value.trim()).collect()
}

fn check_linkage(library: &Path, soname: &str) -> Result<()> {
    let listing = output_of("readelf", &["--dynamic", "--wide"], library)?;
    let name = dynamic(&listing, "SONAME");
    assert!(name.len() == 1 && name[0].ends_with(&format!("[{soname}]")), "{name:?}, not {soname}");

    // Whichever TLS library the process has is served; none is brought along.
    let needed = dynamic(&listing, "NEEDED");
    assert!(needed.iter().any(|line| line.contains("libc.so")), "{needed:?}");
    let tls = |line: &&str| line.contains("libssl") || line.contains("libcrypto");
    assert!(!needed.iter().any(tls), "{soname} needs {needed:?}");

    // Callbacks and thread-locals outlive a dlclose.
    let flags = dynamic(&listing, "FLAGS_1");
    assert!(flags.iter().any(|line| line.contains("NODELETE")), "{soname} has {flags:?}");
    Ok(())
}

#[test]
fn the_library_exports_what_is_listed() -> Result<()> {
    check_exports(artifacts::library()?, "symbols.txt")
}

#[test]
fn the_shim_exports_what_is_listed() -> Result<()> {
    check_exports(artifacts::shim()?, "symbols-preload.txt")
}

#[test]
fn the_library_is_linked_as_programs_expect() -> Result<()> {
    let major = env!("CARGO_PKG_VERSION_MAJOR");
    check_linkage(artifacts::library()?, &format!("libtktrot.so.{major}"))
}

#[test]
fn the_shim_is_linked_as_the_loader_expects() -> Result<()> {
    check_linkage(artifacts::shim()?, "libtktrot_preload.so")
}
