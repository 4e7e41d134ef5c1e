//! `include/tktrot.h` is the header that the source makes.

use std::env;
use std::fs;
use std::path::Path;

const GENERATED: &str = include_str!(concat!(env!("OUT_DIR"), "/tktrot.h"));

#[test]
fn the_checked_in_header_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/tktrot.h");
    if env::var_os("TKTROT_WRITE_HEADER").is_some() {
        fs::write(&path, GENERATED).expect("include/tktrot.h can be written");
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    let first = checked_in.lines().zip(GENERATED.lines()).position(|(old, new)| old != new);
    assert!(
        checked_in == GENERATED,
        "include/tktrot.h is not what the source makes (first difference at line {}); run: make header",
        first.map_or(checked_in.lines().count().min(GENERATED.lines().count()), |line| line) + 1,
    );
}

#[test]
fn the_header_tells_the_version_of_the_package() {
    let version = format!("#define TKT_VERSION \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(GENERATED.contains(&version), "change TKT_VERSION in cbindgen.toml: {version}");
}
