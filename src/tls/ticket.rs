//! Seal and open: what a ticket key callback answers, whatever its form.
//!
//! The contract (SSL_CTX_set_tlsext_ticket_key_evp_cb(3), and what the
//! libraries really do): opening answers 0 for "full handshake, new ticket",
//! 1 for "use it", 2 for "use it and renew it". Sealing answers 1, or 0 for
//! "no ticket" where the library survives that. Nothing ever answers < 0,
//! which would end the handshake.

use std::ffi::{c_int, c_uchar};
use std::time::Duration;

use openssl_sys::SSL;

use super::api::TlsApi;
use super::attach::Attachment;
use super::sni::{self, ServerName};
use crate::clock::Time;
use crate::config::Renew;
use crate::ring::reader::Key;
use crate::ring::stats::Counter;
use crate::schedule::KeyState;
use crate::secret::{KeyName, KeySecrets, Secret};

const NONE: c_int = 0;
const USE: c_int = 1;
const RENEW: c_int = 2;

/// The cipher and MAC contexts that the TLS library hands to its callback.
/// Each step tells whether it succeeded.
pub trait TicketCrypto {
    /// Primes the cipher to encrypt with AES-256-CBC.
    fn encrypt(&mut self, key: &Secret<32>, iv: &[u8; 16]) -> bool;
    /// Primes the cipher to decrypt with AES-256-CBC.
    fn decrypt(&mut self, key: &Secret<32>, iv: &[u8; 16]) -> bool;
    /// Keys the MAC, HMAC-SHA-256.
    fn key_mac(&mut self, key: &Secret<32>) -> bool;
    /// Puts associated data into the MAC, before the TLS library adds the ticket.
    fn absorb(&mut self, data: &[u8]) -> bool;
}

/// Answers a callback.
///
/// # Safety
///
/// `ssl`, `name` (16 bytes) and `iv` (16 bytes) are what the TLS library gave
/// to the callback; the last two are written only if `enc` is 1, since they
/// point into the ClientHello else.
#[inline(never)] // The caller wipes the stack that it used.
pub unsafe fn answer(
    attachment: &Attachment,
    ssl: *mut SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    crypto: &mut impl TicketCrypto,
    enc: c_int,
) -> c_int {
    attachment.settle();
    let now = attachment.keyring.now();
    if enc == 1 {
        // SAFETY: passed on.
        let Some(sealed) = (unsafe { seal(attachment, ssl, now, crypto) }) else {
            attachment.keyring.count(Counter::Unsealed);
            // SAFETY: passed on.
            return unsafe { decline(&attachment.library.api, name, iv, crypto, enc) };
        };
        // SAFETY: at enc = 1 both are buffers of 16 bytes for us to fill.
        unsafe { sealed.write(name, iv) };
        return USE;
    }
    // SAFETY: at enc = 0 both point to 16 bytes of the ticket.
    let (name, iv) =
        unsafe { (KeyName(name.cast::<[u8; 16]>().read()), iv.cast::<[u8; 16]>().read()) };
    // SAFETY: passed on.
    if !unsafe { open(attachment, ssl, now, &name, &iv, crypto) } {
        return NONE;
    }
    // SAFETY: `ssl` is the connection that the callback is for.
    let is_tls_1_3 = unsafe { attachment.library.api.is_tls_1_3(ssl) };
    match attachment.renew {
        Renew::Always => RENEW,
        Renew::Never => USE,
        // A TLS 1.2 renewal extends nothing, and an OpenSSL client that is
        // sent one drops the session it had. Keys outlive their tickets.
        Renew::Auto => {
            if is_tls_1_3 {
                RENEW
            } else {
                USE
            }
        }
    }
}

/// Answers a callback without keys: a full handshake at enc = 0, no ticket at
/// enc = 1, or where the library does not survive that, a ticket that nobody
/// can open.
///
/// # Safety
///
/// As for [`answer`].
pub unsafe fn decline(
    api: &TlsApi,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    crypto: &mut impl TicketCrypto,
    enc: c_int,
) -> c_int {
    if enc != 1 || api.zero_means_no_ticket() {
        return NONE;
    }
    let Some(sealed) = seal_for_nobody(crypto) else { return NONE };
    // SAFETY: at enc = 1 both are buffers of 16 bytes for us to fill.
    unsafe { sealed.write(name, iv) };
    USE
}

/// What goes in front of a sealed ticket.
struct Sealed {
    name: KeyName,
    iv: [u8; 16],
}

impl Sealed {
    /// # Safety
    ///
    /// Both are buffers of 16 bytes to fill.
    unsafe fn write(&self, name: *mut c_uchar, iv: *mut c_uchar) {
        // SAFETY: the caller vouches for both.
        unsafe {
            name.cast::<[u8; 16]>().write(self.name.0);
            iv.cast::<[u8; 16]>().write(self.iv);
        }
    }
}

/// # Safety
///
/// `ssl` is the connection of the callback that runs, at enc = 1.
unsafe fn seal(
    attachment: &Attachment,
    ssl: *mut SSL,
    now: Time,
    crypto: &mut impl TicketCrypto,
) -> Option<Sealed> {
    let api = &attachment.library.api;
    let keyring = attachment.keyring;
    keyring.expect_lifetime(Duration::from_secs(attachment.timeout()));
    let mut key = Key::blank();
    if !keyring.sealing_key(now, &mut key) {
        return None;
    }
    let mut iv = [0; 16];
    // SAFETY: passed on.
    let name = unsafe { ServerName::at_sealing(api, ssl, attachment.name_index()) };
    let primed = api.random(&mut iv)
        && crypto.encrypt(&key.secrets.aes, &iv)
        && name.is_some_and(|name| prime_mac(attachment, &key, &name, now, crypto));
    keyring.count(if primed { Counter::Issued } else { Counter::Errors });
    primed.then_some(Sealed { name: key.name, iv })
}

/// Seals with a key that nobody keeps: a ticket that is well-formed and never
/// resumes, for TLS libraries that do not survive "no ticket".
fn seal_for_nobody(crypto: &mut impl TicketCrypto) -> Option<Sealed> {
    let mut sealed = Sealed { name: KeyName([0; 16]), iv: [0; 16] };
    let mut secrets = KeySecrets::zeroed();
    // Not the TLS library's generator: its failure may be why we are here.
    let drawn = draw_from_kernel(&mut sealed.name.0)
        && draw_from_kernel(&mut sealed.iv)
        && draw_from_kernel(secrets.aes.expose_mut())
        && draw_from_kernel(secrets.hmac.expose_mut());
    let primed = drawn && crypto.encrypt(&secrets.aes, &sealed.iv) && crypto.key_mac(&secrets.hmac);
    primed.then_some(sealed)
}

fn draw_from_kernel(bytes: &mut [u8]) -> bool {
    // SAFETY: the buffer is valid for its length; up to 256 bytes come whole (getrandom(2)).
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    usize::try_from(got) == Ok(bytes.len())
}

/// # Safety
///
/// `ssl` is the connection of the callback that runs, at enc = 0.
unsafe fn open(
    attachment: &Attachment,
    ssl: *mut SSL,
    now: Time,
    name: &KeyName,
    iv: &[u8; 16],
    crypto: &mut impl TicketCrypto,
) -> bool {
    let keyring = attachment.keyring;
    keyring.tick(now);
    let mut key = Key::blank();
    if !keyring.ring().find(name, &mut key) {
        keyring.count(Counter::Unknown);
        return false;
    }
    let state = key.times.state(now);
    if state == KeyState::Expired {
        keyring.count(Counter::Expired);
        return false;
    }
    // SAFETY: passed on.
    let name = unsafe { ServerName::at_opening(&attachment.library.api, ssl) };
    let primed =
        crypto.decrypt(&key.secrets.aes, iv) && prime_mac(attachment, &key, &name, now, crypto);
    if primed && attachment.renew == Renew::Always {
        // SAFETY: passed on; the index is for this.
        unsafe { sni::remember(&attachment.library.api, ssl, attachment.name_index(), &name) };
    }
    keyring.count(match (primed, state) {
        (false, _) => Counter::Errors,
        (true, KeyState::Retired) => Counter::ResumedRetired,
        (true, _) => Counter::ResumedActive,
    });
    primed
}

fn prime_mac(
    attachment: &Attachment,
    key: &Key,
    name: &ServerName<'_>,
    now: Time,
    crypto: &mut impl TicketCrypto,
) -> bool {
    if !crypto.key_mac(&key.secrets.hmac) {
        return false;
    }
    key.plain
        || attachment.scope_of_context(now).is_some_and(|context| crypto.absorb(context))
            && crypto.absorb(&attachment.scope.of_connection(name))
}
