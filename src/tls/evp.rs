//! The EVP form of the callback: OpenSSL 3.0 and later.

use std::ffi::{c_int, c_uchar};

use openssl_sys::{EVP_CIPHER_CTX, SSL};

use super::api::{EvpMacCtx, OsslParam, TlsApi};
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
    let mac = EvpMac { api: &attachment.library.api, mac };
    // SAFETY: passed on from the TLS library.
    unsafe {
        Call { attachment, ssl, name, iv, cipher, mac, enc, touched: Touched::Nothing }.answer()
    }
}

struct EvpMac<'c> {
    api: &'c TlsApi,
    mac: *mut EvpMacCtx,
}

impl TicketMac for EvpMac<'_> {
    fn key(&mut self, key: &Secret<32>) -> bool {
        let Some(init) = self.api.evp_mac_init else { return false };
        let digest = c"SHA256";
        let params = [
            OsslParam {
                key: c"digest".as_ptr(),
                data_type: OsslParam::UTF8_STRING,
                data: digest.as_ptr().cast_mut().cast(),
                data_size: digest.count_bytes(),
                return_size: 0,
            },
            OsslParam::end(),
        ];
        // SAFETY: the TLS library's live HMAC context, a key of 32 bytes, and
        // an array that ends.
        unsafe { init(self.mac, key.expose().as_ptr(), key.expose().len(), params.as_ptr()) == 1 }
    }

    fn absorb(&mut self, data: &[u8]) -> bool {
        let Some(update) = self.api.evp_mac_update else { return false };
        // SAFETY: the context that `key` initialised, and a valid slice.
        unsafe { update(self.mac, data.as_ptr(), data.len()) == 1 }
    }
}
