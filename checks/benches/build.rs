//! Which OpenSSL the benchmark is compiled with.

use std::env;

fn main() {
    // One that fetches algorithms, and has EVP_MAC; as openssl-sys has read in its headers.
    println!("cargo:rustc-check-cfg=cfg(openssl_3)");
    let version = env::var("DEP_OPENSSL_VERSION_NUMBER").expect("set by openssl-sys");
    let version = u64::from_str_radix(&version, 16).expect("a hexadecimal number");
    if version >= 0x3000_0000 {
        println!("cargo:rustc-cfg=openssl_3");
    }
}
