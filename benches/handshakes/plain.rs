//! The ticket key callback that examples on the web show, after the one in
//! SSL_CTX_set_tlsext_ticket_key_evp_cb(3): one key, nothing prepared, nothing rotated.

use std::ffi::{c_int, c_uchar};
use std::ptr;
use std::sync::OnceLock;

use foreign_types::ForeignType;
use openssl::error::ErrorStack;
use openssl::rand::rand_bytes;
use openssl::ssl::SslContext;
use openssl_sys as ffi;

use crate::Result;

type Callback = unsafe extern "C" fn(
    *mut ffi::SSL,
    *mut c_uchar,
    *mut c_uchar,
    *mut ffi::EVP_CIPHER_CTX,
    *mut ffi::EVP_MAC_CTX,
    c_int,
) -> c_int;

// A public function of libssl 3 that openssl-sys does not declare.
unsafe extern "C" {
    fn SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx: *mut ffi::SSL_CTX, callback: Callback) -> c_int;
}

/// OSSL_PARAM_UTF8_STRING.
const UTF8_STRING: u32 = 4;

struct Key {
    name: [u8; 16],
    aes: [u8; 32],
    hmac: [u8; 32],
}

static KEY: OnceLock<Key> = OnceLock::new();

/// Sets the callback.
pub fn install(context: &SslContext) -> Result<()> {
    let mut key = Key { name: [0; 16], aes: [0; 32], hmac: [0; 32] };
    rand_bytes(&mut key.name)?;
    rand_bytes(&mut key.aes)?;
    rand_bytes(&mut key.hmac)?;
    KEY.get_or_init(|| key);
    // SAFETY: a live context; the callback has the type that libssl 3 calls.
    match unsafe { SSL_CTX_set_tlsext_ticket_key_evp_cb(context.as_ptr(), callback) } {
        1 => Ok(()),
        _ => Err(ErrorStack::get().into()),
    }
}

/// Renews in TLS 1.3 only, as the others do that are measured.
unsafe extern "C" fn callback(
    ssl: *mut ffi::SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    cipher: *mut ffi::EVP_CIPHER_CTX,
    mac: *mut ffi::EVP_MAC_CTX,
    enc: c_int,
) -> c_int {
    let Some(key) = KEY.get() else { return -1 };
    // SAFETY: libssl's own arguments: 16 bytes at `name` and `iv`, to be written when `enc` is 1;
    // live contexts; the key's lengths are those that the cipher and the MAC take.
    unsafe {
        if enc == 1 {
            if ffi::RAND_bytes(iv, 16) != 1 {
                return -1;
            }
            ptr::copy_nonoverlapping(key.name.as_ptr(), name, 16);
        } else if std::slice::from_raw_parts(name, 16) != key.name {
            return 0;
        }
        let aes = ffi::EVP_aes_256_cbc();
        if ffi::EVP_CipherInit_ex(cipher, aes, ptr::null_mut(), key.aes.as_ptr(), iv, enc) != 1
            || !key_mac(mac, key)
        {
            return -1;
        }
        if enc == 0 && ffi::SSL_version(ssl) == ffi::TLS1_3_VERSION { 2 } else { 1 }
    }
}

/// # Safety
///
/// `mac` is a live context of HMAC.
unsafe fn key_mac(mac: *mut ffi::EVP_MAC_CTX, key: &Key) -> bool {
    let param = |name: &'static std::ffi::CStr, data_type, data: *const u8, data_size| {
        let data = data.cast_mut().cast();
        ffi::OSSL_PARAM { key: name.as_ptr(), data_type, data, data_size, return_size: usize::MAX }
    };
    const OCTET_STRING: u32 = 5;
    let params = [
        param(c"key", OCTET_STRING, key.hmac.as_ptr(), key.hmac.len()),
        param(c"digest", UTF8_STRING, c"sha256".as_ptr().cast(), 6),
        ffi::OSSL_PARAM {
            key: ptr::null(),
            data_type: 0,
            data: ptr::null_mut(),
            data_size: 0,
            return_size: 0,
        },
    ];
    // SAFETY: the caller vouches for `mac`; the parameters end with one without a name, and
    // setting them only reads their data.
    unsafe { ffi::EVP_MAC_CTX_set_params(mac, params.as_ptr()) == 1 }
}
