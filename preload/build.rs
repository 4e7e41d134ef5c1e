//! Link flags of the shim.

fn main() {
    // Callbacks of ours may run, and thread-locals exist, after a dlclose.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libtktrot_preload.so");
}
