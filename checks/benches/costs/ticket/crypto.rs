//! What libssl does with one ticket, around the callback: the same calls in the same order, on
//! contexts made as libssl makes them.

use std::ffi::{c_int, c_uchar};
use std::ptr;

use openssl_sys as ffi;

use super::aes::Aes;
use super::callback::Callback;
use super::form::{Form, Mac, hmac};
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
    form: &'static Form,
    mac: *mut Mac,
}

impl Contexts {
    /// Of the kind that this callback gets.
    pub fn new(callback: Callback) -> Contexts {
        Contexts::of(callback.form)
    }

    /// Of the kind that a callback of the HMAC form gets.
    pub fn of_hmac() -> Contexts {
        Contexts::of(&hmac::FORM)
    }

    fn of(form: &'static Form) -> Contexts {
        // SAFETY: takes nothing, and neither does the other one.
        unsafe { Contexts { cipher: ffi::EVP_CIPHER_CTX_new(), form, mac: (form.new)() } }
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
        let Callback { form, function } = asked.callback;
        if !ptr::eq(form, self.form) {
            return -1;
        }
        // SAFETY: the connection is in the state that the callback expects, the contexts are new
        // and of its kind, and there are 16 bytes at either pointer.
        unsafe { function(asked.ssl, name, iv, self.cipher, self.mac, enc) }
    }

    /// Computes the tag, and lets `use_it` store or compare it.
    fn tag(
        &mut self,
        ticket: &mut Ticket,
        use_it: impl FnOnce([u8; 32], &mut Ticket) -> bool,
    ) -> bool {
        let mut tag = [0; 32];
        let parts: [&[u8]; 3] = [&ticket.name, &ticket.iv, &ticket.body];
        // SAFETY: a live context of this form.
        let done = unsafe {
            parts.iter().all(|part| (self.form.update)(self.mac, part))
                && (self.form.finish)(self.mac, &mut tag)
        };
        done && use_it(tag, ticket)
    }
}

/// A callback's part with everything at hand, and nothing but the two calls that set contexts: the
/// cipher was fetched and the MAC keyed before. The key and the IV are zeroes.
pub struct LeastCallback {
    aes: Aes,
    keyed: *mut Mac,
}

impl LeastCallback {
    pub fn new() -> Result<LeastCallback> {
        // SAFETY: takes nothing.
        let keyed = unsafe { (hmac::FORM.new)() };
        let least = LeastCallback { aes: Aes::look_up()?, keyed };
        // SAFETY: a context that was just made, in the same form.
        let is_keyed = !keyed.is_null() && unsafe { (hmac::FORM.key)(keyed, &[0; 32]) };
        if is_keyed { Ok(least) } else { Err("no HMAC".into()) }
    }

    /// Sets contexts of the HMAC form.
    pub fn set(&self, contexts: &mut Contexts, enc: c_int) -> bool {
        let (aes, none, zeroes) = (self.aes.as_ptr(), ptr::null_mut(), [0u8; 32].as_ptr());
        // SAFETY: live contexts, and key and IV as long as they are to be.
        ptr::eq(contexts.form, &hmac::FORM)
            && unsafe {
                ffi::EVP_CipherInit_ex(contexts.cipher, aes, none, zeroes, zeroes, enc) == 1
                    && hmac::copy(contexts.mac, self.keyed)
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

// SAFETY: what it holds is only read once it is made, which threads may do at once
// (openssl-threads(7)).
unsafe impl Send for LeastCallback {}
// SAFETY: as above.
unsafe impl Sync for LeastCallback {}

impl Drop for LeastCallback {
    fn drop(&mut self) {
        // SAFETY: made in `new`; null is fine, too.
        unsafe { (hmac::FORM.free)(self.keyed) }
    }
}

impl Drop for Contexts {
    fn drop(&mut self) {
        // SAFETY: made in `of`; null is fine, too.
        unsafe {
            ffi::EVP_CIPHER_CTX_free(self.cipher);
            (self.form.free)(self.mac);
        }
    }
}

impl Ticket {
    /// One that no server has sealed.
    pub fn blank() -> Ticket {
        Ticket { name: [0; 16], iv: [0; 16], body: [0; PADDED], tag: [0; 32] }
    }
}
