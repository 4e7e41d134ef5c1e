//! Sets `cfg(loom)` for this crate alone: nothing else is compiled anew.

fn main() {
    println!("cargo:rustc-cfg=loom");
    println!("cargo:rerun-if-changed=build.rs");
}
