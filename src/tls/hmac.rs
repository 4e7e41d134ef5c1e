//! The HMAC form of the callback: OpenSSL 1.1.1, BoringSSL, AWS-LC, LibreSSL; and later OpenSSL
//! where keyed MACs can be copied, which makes it the faster one ([`super::api::TlsApi::doors`]).
//! Apart from [`super::evp`] for the reason that stands there.

use std::ffi::{c_int, c_uchar};
use std::ptr;

use openssl_sys::{EVP_CIPHER_CTX, HMAC_CTX, SSL};

use super::attachment::Attachment;
use super::ticket::{Call, TicketMac, Touched};
use crate::secret::Secret;

/// Answers the callback of a context.
///
/// # Safety
///
/// Called by the TLS library through the callback of `attachment`'s context,
/// with the arguments of its contract.
pub unsafe fn answer(
    attachment: &Attachment,
    ssl: *mut SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    cipher: *mut EVP_CIPHER_CTX,
    mac: *mut HMAC_CTX,
    enc: c_int,
) -> c_int {
    let mac = HmacMac { attachment, mac };
    // SAFETY: passed on from the TLS library.
    unsafe {
        Call { attachment, ssl, name, iv, cipher, mac, enc, touched: Touched::Nothing }.answer()
    }
}

struct HmacMac<'c> {
    attachment: &'c Attachment,
    mac: *mut HMAC_CTX,
}

impl TicketMac for HmacMac<'_> {
    fn key(&mut self, key: &Secret<32>) -> bool {
        let api = &self.attachment.library.api;
        let sha256 = self.attachment.algorithms().sha256(api);
        let Some(init) = api.hmac_init_ex.filter(|_| !sha256.is_null()) else { return false };
        let bytes = key.expose();
        // SAFETY: the TLS library's live HMAC context and a key of 32 bytes.
        unsafe { init(self.mac, bytes.as_ptr().cast(), bytes.len(), sha256, ptr::null_mut()) == 1 }
    }

    fn is_there(&self) -> bool {
        !self.mac.is_null()
    }

    fn absorb(&mut self, data: &[u8]) -> bool {
        let Some(update) = self.attachment.library.api.hmac_update else { return false };
        // SAFETY: the context that `key` initialised, and a valid slice.
        unsafe { update(self.mac, data.as_ptr(), data.len()) == 1 }
    }

    fn copyable(&self) -> Option<*mut HMAC_CTX> {
        self.attachment.library.api.copies_macs().then_some(self.mac)
    }
}
