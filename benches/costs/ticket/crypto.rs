//! What libssl does with one ticket, around the callback: the same calls in the same order, on
//! contexts made as libssl makes them.

use std::ffi::{c_int, c_uchar};
use std::ptr;

use openssl_sys as ffi;

use super::callback::Callback;
use super::in_handshake::Asked;
use crate::Result;

/// About what a session is that a ticket holds, in bytes.
pub const SESSION: usize = 192;
/// With the cipher's padding.
const PADDED: usize = SESSION + 16;

/// A ticket.
#[derive(Clone)]
pub struct Ticket {
    pub name: [u8; 16],
    pub iv: [u8; 16],
    body: [u8; PADDED],
    tag: [u8; 32],
}

/// A cipher and a MAC, neither of them set; libssl makes both anew for each ticket.
pub struct Contexts {
    cipher: *mut ffi::EVP_CIPHER_CTX,
    mac: Mac,
}

#[derive(Clone, Copy)]
enum Mac {
    Evp(*mut ffi::EVP_MAC_CTX),
    Hmac(*mut ffi::HMAC_CTX),
}

impl Contexts {
    /// Of the kind that this callback gets.
    pub fn new(callback: Callback) -> Contexts {
        match callback {
            Callback::Hmac(_) => Contexts::of_hmac(),
            Callback::Evp(_) => Contexts::of_evp(),
        }
    }

    /// Of the kind that a callback of the HMAC form gets.
    pub fn of_hmac() -> Contexts {
        // SAFETY: takes nothing, and neither does the other one.
        unsafe {
            Contexts { cipher: ffi::EVP_CIPHER_CTX_new(), mac: Mac::Hmac(ffi::HMAC_CTX_new()) }
        }
    }

    fn of_evp() -> Contexts {
        // SAFETY: as documented; nothing but the MAC's name is handed in.
        unsafe {
            let cipher = ffi::EVP_CIPHER_CTX_new();
            let hmac = ffi::EVP_MAC_fetch(ptr::null_mut(), c"HMAC".as_ptr(), ptr::null());
            let context = ffi::EVP_MAC_CTX_new(hmac);
            ffi::EVP_MAC_free(hmac);
            Contexts { cipher, mac: Mac::Evp(context) }
        }
    }

    /// Seals a session of zeroes; false if something failed.
    pub fn seal(&mut self, asked: Asked, ticket: &mut Ticket) -> bool {
        let (name, iv) = (ticket.name.as_mut_ptr(), ticket.iv.as_mut_ptr());
        self.ask(asked, name, iv, 1) == 1 && self.encrypt_and_tag(ticket)
    }

    /// What is left of sealing when the contexts are set.
    pub fn encrypt_and_tag(&mut self, ticket: &mut Ticket) -> bool {
        let (session, mut len, mut rest) = ([0u8; SESSION], 0, 0);
        // SAFETY: a live context, and buffers that are as long as is said, the target by a block
        // longer.
        let encrypted = unsafe {
            let to = ticket.body.as_mut_ptr();
            let from = session.as_ptr();
            ffi::EVP_EncryptUpdate(self.cipher, to, &mut len, from, SESSION as c_int) == 1
                && ffi::EVP_EncryptFinal_ex(self.cipher, to.add(len as usize), &mut rest) == 1
        };
        encrypted
            && (len + rest) as usize == PADDED
            && self.tag(ticket, |tag, ticket| {
                ticket.tag = tag;
                true
            })
    }

    /// Opens it and looks whether that is what was sealed.
    pub fn open(&mut self, asked: Asked, ticket: &mut Ticket) -> bool {
        // At enc = 0 a callback does not write there.
        let (name, iv) = (ticket.name.as_mut_ptr(), ticket.iv.as_mut_ptr());
        let answer = self.ask(asked, name, iv, 0);
        (answer == 1 || answer == 2) && self.check_and_decrypt(ticket)
    }

    /// What is left of opening when the contexts are set.
    pub fn check_and_decrypt(&mut self, ticket: &mut Ticket) -> bool {
        let (mut session, mut len, mut rest) = ([0xffu8; PADDED + 16], 0, 0);
        self.tag(ticket, |tag, ticket| openssl::memcmp::eq(&tag, &ticket.tag))
            // SAFETY: as for sealing.
            && unsafe {
                let to = session.as_mut_ptr();
                let from = ticket.body.as_ptr();
                ffi::EVP_DecryptUpdate(self.cipher, to, &mut len, from, PADDED as c_int) == 1
                    && ffi::EVP_DecryptFinal_ex(self.cipher, to.add(len as usize), &mut rest) == 1
            }
            && session[..SESSION] == [0; SESSION]
    }

    /// Asks about a key of this name; whether there is none.
    pub fn is_unknown(&mut self, asked: Asked, ticket: &mut Ticket) -> bool {
        self.ask(asked, ticket.name.as_mut_ptr(), ticket.iv.as_mut_ptr(), 0) == 0
    }

    fn ask(&self, asked: Asked, name: *mut c_uchar, iv: *mut c_uchar, enc: c_int) -> c_int {
        // SAFETY: the connection is in the state that the callback expects, the contexts are new
        // and of its kind, and there are 16 bytes at either pointer.
        unsafe {
            match (asked.callback, self.mac) {
                (Callback::Evp(ask), Mac::Evp(mac)) => {
                    ask(asked.ssl, name, iv, self.cipher, mac, enc)
                }
                (Callback::Hmac(ask), Mac::Hmac(mac)) => {
                    ask(asked.ssl, name, iv, self.cipher, mac, enc)
                }
                _ => -1,
            }
        }
    }

    /// Computes the tag, and lets `use_it` store or compare it.
    fn tag(
        &mut self,
        ticket: &mut Ticket,
        use_it: impl FnOnce([u8; 32], &mut Ticket) -> bool,
    ) -> bool {
        let mut tag = [0; 32];
        let parts: [&[u8]; 3] = [&ticket.name, &ticket.iv, &ticket.body];
        // SAFETY: live contexts, slices with their lengths, and room for the tag.
        let done = unsafe {
            match self.mac {
                Mac::Evp(mac) => {
                    let mut len = 0;
                    parts.iter().all(|p| ffi::EVP_MAC_update(mac, p.as_ptr(), p.len()) == 1)
                        && ffi::EVP_MAC_final(mac, tag.as_mut_ptr(), &mut len, tag.len()) == 1
                }
                Mac::Hmac(mac) => {
                    let mut len = 0;
                    parts.iter().all(|p| ffi::HMAC_Update(mac, p.as_ptr(), p.len()) == 1)
                        && ffi::HMAC_Final(mac, tag.as_mut_ptr(), &mut len) == 1
                }
            }
        };
        done && use_it(tag, ticket)
    }
}

/// A callback's part with everything at hand, and nothing but the two calls that set contexts: the
/// cipher was fetched and the MAC keyed before. The key and the IV are zeroes.
pub struct LeastCallback {
    aes: *mut ffi::EVP_CIPHER,
    keyed: *mut ffi::HMAC_CTX,
}

impl LeastCallback {
    pub fn new() -> Result<LeastCallback> {
        let zeroes = [0u8; 32];
        // SAFETY: a name that ends, a new context, and a key as long as is said.
        unsafe {
            let aes = ffi::EVP_CIPHER_fetch(ptr::null_mut(), c"AES-256-CBC".as_ptr(), ptr::null());
            let keyed = ffi::HMAC_CTX_new();
            let least = LeastCallback { aes, keyed };
            let (key, sha256) = (zeroes.as_ptr().cast(), ffi::EVP_sha256());
            let is_keyed = ffi::HMAC_Init_ex(keyed, key, 32, sha256, ptr::null_mut()) == 1;
            if is_keyed && !aes.is_null() { Ok(least) } else { Err("no AES or no HMAC".into()) }
        }
    }

    /// Sets contexts of the HMAC form.
    pub fn set(&self, contexts: &mut Contexts, enc: c_int) -> bool {
        let Mac::Hmac(mac) = contexts.mac else { return false };
        let (none, zeroes) = (ptr::null_mut(), [0u8; 32].as_ptr());
        // SAFETY: live contexts, and key and IV as long as they are to be.
        unsafe {
            ffi::EVP_CipherInit_ex(contexts.cipher, self.aes, none, zeroes, zeroes, enc) == 1
                && ffi::HMAC_CTX_copy(mac, self.keyed) == 1
        }
    }

    /// Seals with contexts of the HMAC form that are not set; false if something failed.
    pub fn seal(&self, contexts: &mut Contexts, ticket: &mut Ticket) -> bool {
        self.set(contexts, 1) && contexts.encrypt_and_tag(ticket)
    }

    /// Opens, as [`LeastCallback::seal`] seals.
    pub fn open(&self, contexts: &mut Contexts, ticket: &mut Ticket) -> bool {
        self.set(contexts, 0) && contexts.check_and_decrypt(ticket)
    }
}

// SAFETY: both are only read once they are made, which threads may do at once (openssl-threads(7)).
unsafe impl Send for LeastCallback {}
// SAFETY: as above.
unsafe impl Sync for LeastCallback {}

impl Drop for LeastCallback {
    fn drop(&mut self) {
        // SAFETY: made in `new`; null is fine, too.
        unsafe {
            ffi::EVP_CIPHER_free(self.aes);
            ffi::HMAC_CTX_free(self.keyed);
        }
    }
}

impl Drop for Contexts {
    fn drop(&mut self) {
        // SAFETY: made in `new`; null is fine, too.
        unsafe {
            ffi::EVP_CIPHER_CTX_free(self.cipher);
            match self.mac {
                Mac::Evp(mac) => ffi::EVP_MAC_CTX_free(mac),
                Mac::Hmac(mac) => ffi::HMAC_CTX_free(mac),
            }
        }
    }
}

impl Ticket {
    /// One that no server has sealed.
    pub fn blank() -> Ticket {
        Ticket { name: [0; 16], iv: [0; 16], body: [0; PADDED], tag: [0; 32] }
    }
}
