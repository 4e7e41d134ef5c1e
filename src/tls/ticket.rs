//! Seal and open: what a ticket key callback answers, whatever its form.
//!
//! The contract (SSL_CTX_set_tlsext_ticket_key_evp_cb(3), and what the
//! libraries really do): opening answers 0 for "full handshake, new ticket",
//! 1 for "use it", 2 for "use it and renew it". Sealing answers 1, or 0 for
//! "no ticket" where the library survives that. Nothing ever answers < 0,
//! which would end the handshake.

use std::ffi::{c_int, c_uchar};
use std::panic::{AssertUnwindSafe, catch_unwind};

use openssl_sys::{EVP_CIPHER_CTX, SSL};

use super::attachment::Attachment;
use super::sni::{self, ServerName};
use crate::clock::Time;
use crate::config::Renew;
use crate::error;
use crate::log::OnceOnly;
use crate::ring::reader::Key;
use crate::ring::stats::Counter;
use crate::schedule::KeyState;
use crate::secret::{KeyName, KeySecrets, Secret, wipe_stack};

const NONE: c_int = 0;
const USE: c_int = 1;
const RENEW: c_int = 2;

const ENCRYPT: c_int = 1;

/// The MAC context that the TLS library hands to its callback, of either form.
/// Each step tells whether it succeeded.
pub trait TicketMac {
    /// Keys it: HMAC-SHA-256.
    fn key(&mut self, key: &Secret<32>) -> bool;
    /// Puts associated data into it, before the TLS library adds the ticket.
    fn absorb(&mut self, data: &[u8]) -> bool;
}

/// One call of a ticket key callback: what the TLS library handed in.
///
/// `name` and `iv` have 16 bytes. At `enc` = 0 they point into the ClientHello
/// and are never written; at `enc` = 1 they are to be filled.
pub struct Call<'c, Mac> {
    pub attachment: &'c Attachment,
    pub ssl: *mut SSL,
    pub name: *mut c_uchar,
    pub iv: *mut c_uchar,
    pub cipher: *mut EVP_CIPHER_CTX,
    pub mac: Mac,
    pub enc: c_int,
}

/// What goes in front of a sealed ticket.
struct Sealed {
    name: KeyName,
    iv: [u8; 16],
}

impl<Mac: TicketMac> Call<'_, Mac> {
    /// Answers the call, whatever happens inside.
    ///
    /// # Safety
    ///
    /// The members are what the TLS library gave to the callback that runs.
    pub unsafe fn answer(mut self) -> c_int {
        // SAFETY: passed on from the caller.
        let answer = unsafe { self.answer_below() };
        wipe_stack();
        answer
    }

    /// Not inlined, so that its frames are below [`wipe_stack`]'s caller.
    ///
    /// # Safety
    ///
    /// As for [`Call::answer`].
    #[inline(never)]
    unsafe fn answer_below(&mut self) -> c_int {
        // SAFETY: passed on from the caller.
        let answer = catch_unwind(AssertUnwindSafe(|| unsafe {
            self.attachment.settle();
            if self.enc == ENCRYPT { self.seal_or_decline() } else { self.open() }
        }));
        let declined = || {
            static SAID: OnceOnly = OnceOnly::new();
            if SAID.first() {
                error!("a defect of libtktrot in the ticket callback; handshakes go on without it");
            }
            // SAFETY: passed on from the caller.
            unsafe { if self.enc == ENCRYPT { self.decline() } else { NONE } }
        };
        answer.unwrap_or_else(|_| catch_unwind(AssertUnwindSafe(declined)).unwrap_or(NONE))
    }

    /// # Safety
    ///
    /// As for [`Call::answer`], at enc = 1.
    unsafe fn seal_or_decline(&mut self) -> c_int {
        // SAFETY: passed on from the caller.
        unsafe {
            match self.seal() {
                Some(sealed) => self.hand_out(&sealed),
                None => {
                    self.attachment.keyring.count(Counter::Unsealed);
                    self.decline()
                }
            }
        }
    }

    /// # Safety
    ///
    /// As for [`Call::answer`], at enc = 1.
    unsafe fn seal(&mut self) -> Option<Sealed> {
        let Attachment { library, keyring, .. } = self.attachment;
        let now = keyring.now();
        keyring.expect_lifetime(self.attachment.timeout());
        let mut key = Key::blank();
        if !keyring.sealing_key(now, &mut key) {
            return None;
        }
        let mut iv = [0; 16];
        // SAFETY: the connection of this call.
        let server_name =
            unsafe { ServerName::at_sealing(&library.api, self.ssl, self.attachment.name_index()) };
        let primed = library.api.fresh_iv(&mut iv)
            && self.prime_encryption(&key.secrets.aes, &iv)
            && server_name.is_some_and(|server_name| self.prime_mac(&key, &server_name, now));
        keyring.count(if primed { Counter::Issued } else { Counter::Errors });
        primed.then_some(Sealed { name: key.name, iv })
    }

    /// Goes on without a key: "no ticket", or for a TLS library that does not
    /// survive that, a well-formed ticket under a key that nobody keeps.
    ///
    /// # Safety
    ///
    /// As for [`Call::answer`], at enc = 1.
    unsafe fn decline(&mut self) -> c_int {
        if self.attachment.library.api.zero_means_no_ticket() {
            return NONE;
        }
        let mut sealed = Sealed { name: KeyName([0; 16]), iv: [0; 16] };
        let mut secrets = KeySecrets::zeroed();
        // Not the TLS library's generator: its failure may be why we are here.
        let primed = draw_from_kernel(&mut sealed.name.0)
            && draw_from_kernel(&mut sealed.iv)
            && draw_from_kernel(secrets.aes.expose_mut())
            && draw_from_kernel(secrets.hmac.expose_mut())
            && self.prime_encryption(&secrets.aes, &sealed.iv)
            && self.mac.key(&secrets.hmac);
        // SAFETY: passed on from the caller.
        if primed { unsafe { self.hand_out(&sealed) } } else { NONE }
    }

    /// # Safety
    ///
    /// As for [`Call::answer`], at enc = 1.
    unsafe fn hand_out(&self, sealed: &Sealed) -> c_int {
        // SAFETY: at enc = 1 both are buffers of 16 bytes for us to fill.
        unsafe {
            self.name.cast::<[u8; 16]>().write(sealed.name.0);
            self.iv.cast::<[u8; 16]>().write(sealed.iv);
        }
        USE
    }

    /// # Safety
    ///
    /// As for [`Call::answer`], at enc = 0.
    unsafe fn open(&mut self) -> c_int {
        let Attachment { library, keyring, renew, .. } = self.attachment;
        // SAFETY: at enc = 0 both point to 16 bytes of the ticket.
        let (name, iv) = unsafe {
            (KeyName(self.name.cast::<[u8; 16]>().read()), self.iv.cast::<[u8; 16]>().read())
        };
        let now = keyring.now();
        keyring.tick(now);
        let mut key = Key::blank();
        if !keyring.ring().find(&name, &mut key) {
            keyring.count(Counter::Unknown);
            return NONE;
        }
        let state = key.times.state(now);
        if state == KeyState::Expired {
            keyring.count(Counter::Expired);
            return NONE;
        }
        // SAFETY: the connection of this call.
        if !key.plain && !unsafe { self.attachment.verifies_as_usual(self.ssl) } {
            keyring.count(Counter::WrongScope);
            return NONE;
        }
        // SAFETY: the connection of this call.
        let server_name = unsafe { ServerName::at_opening(&library.api, self.ssl) };
        let primed = self.prime_decryption(&key, &iv) && self.prime_mac(&key, &server_name, now);
        keyring.count(match (primed, state) {
            (false, _) => Counter::Errors,
            (true, KeyState::Retired) => Counter::ResumedRetired,
            (true, _) => Counter::ResumedActive,
        });
        if !primed {
            return NONE;
        }
        match renew {
            Renew::Always => {
                let index = self.attachment.name_index();
                // SAFETY: the connection of this call; the index is for this.
                unsafe { sni::remember(&library.api, self.ssl, index, &server_name) };
                RENEW
            }
            // A TLS 1.2 renewal extends nothing, and an OpenSSL client that is
            // sent one drops the session it had. Keys outlive their tickets.
            // SAFETY: the connection of this call.
            Renew::Auto if unsafe { library.api.is_tls_1_3(self.ssl) } => RENEW,
            Renew::Auto | Renew::Never => USE,
        }
    }

    fn prime_encryption(&self, key: &Secret<32>, iv: &[u8; 16]) -> bool {
        // SAFETY: the TLS library's live cipher context.
        unsafe { self.attachment.library.api.prime_encryption(self.cipher, key, iv) }
    }

    fn prime_decryption(&self, key: &Key, iv: &[u8; 16]) -> bool {
        let (api, aes) = (&self.attachment.library.api, &key.secrets.aes);
        // SAFETY: the TLS library's live cipher context.
        unsafe { api.prime_decryption(self.cipher, aes, key.aes_128, iv) }
    }

    fn prime_mac(&mut self, key: &Key, server_name: &ServerName<'_>, now: Time) -> bool {
        if !self.mac.key(&key.secrets.hmac) {
            return false;
        }
        if key.plain {
            return true;
        }
        let Some(context) = self.attachment.scope_of_context(now) else { return false };
        let connection = self.attachment.scope.of_connection(server_name);
        self.mac.absorb(context)
            && connection.is_none_or(|(head, name)| self.mac.absorb(&head) && self.mac.absorb(name))
    }
}

fn draw_from_kernel(bytes: &mut [u8]) -> bool {
    // SAFETY: the buffer is valid for its length; up to 256 bytes come whole (getrandom(2)).
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    usize::try_from(got) == Ok(bytes.len())
}
