//! The version of the library.

use std::ffi::c_char;

/// The version of the library that is running, as in "0.1.0".
///
/// The string is static. Compare it with `TKT_VERSION`, the version of the
/// header that a program was compiled with.
#[unsafe(no_mangle)]
pub extern "C" fn tkt_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
