//! The soname and link flags of the C library, and its header: generated into
//! OUT_DIR, never into the source tree. `tests/header.rs` compares it with the
//! copy in `include/`.

use std::path::PathBuf;
use std::{env, fs};

/// What the header is generated from.
const SOURCES: [&str; 7] = [
    "src/capi/version.rs",
    "src/capi/error.rs",
    "src/capi/config.rs",
    "src/capi/install.rs",
    "src/capi/message.rs",
    "src/capi/control.rs",
    "src/capi/api.rs",
];

fn main() {
    let major = env::var("CARGO_PKG_VERSION_MAJOR").expect("set by cargo");
    // Not rustc-cdylib-link-arg: dependents' cdylibs inherit that, and the shim
    // would pass for this library (cargo#9562).
    println!("cargo:rustc-link-arg=-Wl,-soname,libtktrot.so.{major}");
    // Callbacks of ours may run, and thread-locals exist, after a dlclose.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let config = cbindgen::Config::from_file("cbindgen.toml").expect("cbindgen.toml");
    let sources = SOURCES.iter().chain(&["src/tls/api.rs"]);
    let builder = sources.fold(cbindgen::Builder::new(), |builder, path| {
        println!("cargo:rerun-if-changed={path}");
        builder.with_src(path)
    });
    println!("cargo:rerun-if-changed=cbindgen.toml");
    let header = builder.with_config(config).generate().expect("a header from src/capi");
    let mut text = Vec::new();
    header.write(&mut text);
    let text = String::from_utf8(text).expect("a header in UTF-8");
    // For Rust, what the caller vouches for has a heading of its own.
    let text = text.replace(" * # Safety\n *\n", "");
    fs::write(out.join("tktrot.h"), text).expect("a place for the header");
}
