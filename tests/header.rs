//! `include/tktrot.h` is the header that the source makes, and compiles in C and C++.

use std::env;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

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

/// Compiles a file that holds nothing but the header, as a host's would.
fn compiles_alone(compiler: &str, arguments: &[&str], before: &str) {
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let mut child = Command::new(compiler)
        .args(arguments)
        .args(["-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I"])
        .arg(include)
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{compiler} cannot be run (make deps): {error}"));
    let source = format!(
        "{before}#include <tktrot.h>\n#include <tktrot.h>\n\
         int use(void);\n\
         int use(void) {{ tkt_config cfg = TKT_CONFIG_INIT; return (int)cfg.strict; }}\n"
    );
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(source.as_bytes()).expect("the compiler reads");
    drop(stdin);
    let output = child.wait_with_output().expect("the compiler ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} {arguments:?}:\n{said}");
}

#[test]
fn the_header_needs_no_other() {
    compiles_alone("gcc", &["-std=c99", "-x", "c"], "");
    compiles_alone("gcc", &["-std=c11", "-x", "c"], "");
    compiles_alone("g++", &["-std=c++11", "-x", "c++"], "");
    compiles_alone("g++", &["-std=c++17", "-x", "c++"], "");
}

#[test]
fn the_table_of_a_tls_library_compiles_in_both_languages() {
    let with_openssl = "#include <openssl/ssl.h>\n#include <openssl/rand.h>\n\
                        #include <openssl/hmac.h>\n#include <tktrot.h>\n\
                        void table(tkt_tls_api *);\n\
                        void table(tkt_tls_api *api)\n\
                        { tkt_tls_api filled = TKT_TLS_API_INIT; *api = filled; }\n";
    compiles_alone("gcc", &["-std=c99", "-x", "c"], with_openssl);
    compiles_alone("g++", &["-std=c++11", "-x", "c++"], with_openssl);
}
