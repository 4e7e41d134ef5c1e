//! The two forms of the ticket key callback. They differ in the kind of MAC context that the
//! callback gets from libssl: HMAC's own, or from OpenSSL 3.0 on the EVP kind.

#[cfg(openssl_3)]
mod evp;
pub mod hmac;

use std::ffi::{c_int, c_uchar, c_void};

use openssl::ssl::SslContext;
use openssl_sys as ffi;

use crate::Result;

/// A MAC context of either kind.
pub type Mac = c_void;

/// A callback of either form.
pub type Callback = unsafe extern "C" fn(
    *mut ffi::SSL,
    *mut c_uchar,
    *mut c_uchar,
    *mut ffi::EVP_CIPHER_CTX,
    *mut Mac,
    c_int,
) -> c_int;

/// What can be done in one form. The functions take contexts that `new` of the same form has made,
/// or that libssl has handed to a callback of this form; they live.
pub struct Form {
    /// Gives a context a callback, or takes it away.
    pub set: fn(&SslContext, Option<Callback>) -> Result<()>,
    /// Makes a context as libssl does for each ticket.
    pub new: unsafe fn() -> *mut Mac,
    /// Gives it a key as the form's manual page does, nothing prepared.
    pub key: unsafe fn(*mut Mac, &[u8; 32]) -> bool,
    pub update: unsafe fn(*mut Mac, &[u8]) -> bool,
    pub finish: unsafe fn(*mut Mac, &mut [u8; 32]) -> bool,
    /// Null is fine, too.
    pub free: unsafe fn(*mut Mac),
}

/// Those that this OpenSSL has, first the one that libssl prefers.
pub const ALL: &[&Form] = &[
    #[cfg(openssl_3)]
    &evp::FORM,
    &hmac::FORM,
];

/// The one that this OpenSSL's manual recommends.
pub const NEWEST: &Form = ALL[0];
