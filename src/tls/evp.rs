//! The EVP form of the callback: OpenSSL 3.0 and later, where the HMAC form is not the faster one
//! ([`super::api::TlsApi::doors`]).
//!
//! Of the same shape as [`super::hmac`], and apart from it because what differs is all that
//! there is: the type of the MAC context, which libssl fixes for each form, and how it is
//! keyed. What both forms share is in [`super::ticket`].

use std::ffi::{c_int, c_uchar};

use openssl_sys::{EVP_CIPHER_CTX, SSL};

use super::api::{EvpMacCtx, OsslParam};
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
    mac: *mut EvpMacCtx,
    enc: c_int,
) -> c_int {
    let mac = EvpMac { attachment, mac };
    // SAFETY: passed on from the TLS library.
    unsafe {
        Call { attachment, ssl, name, iv, cipher, mac, enc, touched: Touched::Nothing }.answer()
    }
}

struct EvpMac<'c> {
    attachment: &'c Attachment,
    mac: *mut EvpMacCtx,
}

impl TicketMac for EvpMac<'_> {
    fn key(&mut self, key: &Secret<32>) -> bool {
        let Some(init) = self.attachment.library.api.evp_mac_init else { return false };
        let properties = self.attachment.algorithms().library_context().properties.as_deref();
        let params = [
            OsslParam::text(c"digest", c"SHA256"),
            properties.map_or(OsslParam::end(), |query| OsslParam::text(c"properties", query)),
            OsslParam::end(),
        ];
        // SAFETY: the TLS library's live HMAC context, a key of 32 bytes, and
        // an array that ends.
        unsafe { init(self.mac, key.expose().as_ptr(), key.expose().len(), params.as_ptr()) == 1 }
    }

    fn is_there(&self) -> bool {
        !self.mac.is_null()
    }

    fn absorb(&mut self, data: &[u8]) -> bool {
        let Some(update) = self.attachment.library.api.evp_mac_update else { return false };
        // SAFETY: the context that `key` initialised, and a valid slice.
        unsafe { update(self.mac, data.as_ptr(), data.len()) == 1 }
    }
}
