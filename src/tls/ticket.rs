//! Seal and open: what a ticket key callback answers, whatever its form.
//!
//! The contract (SSL_CTX_set_tlsext_ticket_key_evp_cb(3), and what the
//! libraries really do): opening answers 0 for "full handshake, new ticket",
//! 1 for "use it", 2 for "use it and renew it". Sealing answers 1, or 0 for
//! "no ticket" where the library survives that. Nothing ever answers < 0,
//! which would end the handshake.

use std::ffi::{c_int, c_long, c_uchar};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use openssl_sys::{EVP_CIPHER_CTX, HMAC_CTX, SSL};

use super::algorithms::Direction;
use super::attachment::Attachment;
use super::connection::{self, Opened};
use super::error_queue;
use super::iv;
use super::primed::{self, MacOf};
use super::scope::ContextPart;
use super::sni::ServerName;
use crate::clock::Time;
use crate::config::{Bind, Renew, Upkeep};
use crate::log::OnceOnly;
use crate::ring::seqlock::Located;
use crate::ring::stats::Counter;
use crate::schedule::KeyState;
use crate::secret::{KeyName, KeySecrets, SHALLOW, Secret, wipe_stack, wipe_stack_by};
use crate::thread::Iv;
use crate::unnoticed::Unnoticed;
use crate::{error, random, upkeep, warning};

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
    /// False if libssl has none: it decides by the callback that is set when the
    /// handshake comes there, and that may have been changed since.
    fn is_there(&self) -> bool;
    /// Itself, if it is of a kind that can be copied: see [`primed`].
    fn copyable(&self) -> Option<*mut HMAC_CTX> {
        None
    }
}

/// What a ticket is sealed with and bound to.
struct SealedWith<'b> {
    key: &'b Located<'b>,
    /// A part of the scope; `None` for a ticket without associated data.
    scope: Option<&'b ContextPart>,
    server_name: &'b ServerName<'b>,
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
    /// Which secrets were on the stack.
    pub touched: Touched,
}

/// What has to be wiped after a call.
#[derive(Clone, Copy)]
pub enum Touched {
    /// It looked a key up, at most.
    Nothing,
    /// It primed a cipher, and copied a MAC that was primed.
    CipherKey,
    /// It primed both.
    Both,
}

/// What goes in front of a sealed ticket.
struct Sealed {
    name: KeyName,
    iv: [u8; 16],
}

impl<'c, Mac: TicketMac> Call<'c, Mac> {
    /// Answers the call, whatever happens inside, and leaves the thread as it was.
    ///
    /// # Safety
    ///
    /// The members are what the TLS library gave to the callback that runs.
    pub unsafe fn answer(mut self) -> c_int {
        let _unnoticed = Unnoticed::begin();
        let _mark = error_queue::Mark::set(&self.attachment.library.api);
        // SAFETY: passed on from the caller.
        let answer = unsafe { self.answer_below() };
        match self.touched {
            Touched::Nothing => {}
            Touched::CipherKey => wipe_stack_by::<SHALLOW>(),
            Touched::Both => wipe_stack(),
        }
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
            let called_for = self.mac.is_there() && !self.cipher.is_null();
            match (called_for && self.attachment.serves(), self.enc) {
                (false, ENCRYPT) => self.decline(),
                (false, _) => NONE,
                (true, ENCRYPT) => self.seal_or_decline(),
                (true, _) => self.open(),
            }
        }));
        let declined = || {
            static SAID: OnceOnly = OnceOnly::new();
            if SAID.first() {
                error!("a bug in libtktrot's ticket callback; handshakes go on without it");
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
        self.settle();
        // SAFETY: passed on from the caller.
        unsafe {
            self.tell_refused();
            match self.seal() {
                Some(sealed) => self.hand_out(&sealed),
                None => {
                    self.attachment.count(Counter::Unsealed);
                    self.decline()
                }
            }
        }
    }

    /// Makes this process known to the ring, once.
    fn settle(&self) {
        let Attachment { keyring, upkeep, .. } = self.attachment;
        if keyring.settle() && *upkeep == Upkeep::Thread {
            upkeep::start(keyring, primed::sweep);
        }
    }

    /// A ticket was opened in this handshake, which became a full one all the
    /// same: that is known when it is given a new one.
    ///
    /// # Safety
    ///
    /// As for [`Call::answer`], at enc = 1.
    unsafe fn tell_refused(&self) {
        let Attachment { library, .. } = self.attachment;
        // SAFETY: the connection of this call.
        unsafe {
            let reused = library.api.session_reused(self.ssl);
            let handshake = connection::handshake_so_far(library, self.ssl).filter(|_| !reused);
            let opened = handshake.map(|handshake| mem::replace(&mut handshake.opened, Opened::No));
            if opened == Some(Opened::Counted) {
                self.attachment.count(Counter::Refused);
            }
        }
    }

    /// True where libssl would end the handshake that comes with such a ticket:
    /// it has no session id context, and client certificates are asked for
    /// (SSL_CTX_set_session_id_context(3)). The server's own keys would have
    /// failed its clients, too, but only those that come back to this process.
    ///
    /// # Safety
    ///
    /// As for [`Call::answer`], at enc = 1.
    unsafe fn would_be_refused(&self, scope: Option<&ContextPart>) -> bool {
        let Attachment { library, .. } = self.attachment;
        // SAFETY: the connection of this call, whose session is being sealed.
        let is_set = unsafe { library.api.has_id_context(self.ssl) };
        self.attachment.learn_id_context(is_set);
        if is_set {
            return false;
        }
        // Where it can be opened, or if it can be anywhere, where it was made.
        let asks = match scope.filter(|_| self.attachment.scope.bind().verify) {
            Some(part) => part.policy().asks(),
            // SAFETY: the connection of this call.
            None => unsafe { library.api.asks_for_certificate(self.ssl) },
        };
        if asks {
            static SAID: OnceOnly = OnceOnly::new();
            if SAID.first() {
                warning!(
                    "client certificates are asked for without a session id context \
                     (SSL_CTX_set_session_id_context): libssl would end a handshake that comes \
                     with such a ticket, so none is issued"
                );
            }
        }
        asks
    }

    /// # Safety
    ///
    /// As for [`Call::answer`], at enc = 1.
    unsafe fn seal(&mut self) -> Option<Sealed> {
        let attachment = self.attachment;
        let keyring = attachment.keyring;
        let now = keyring.now();
        primed::tend(now);
        let timeout = attachment.timeout();
        keyring.expect_lifetime_with(timeout, attachment);
        let mut scope = None;
        if attachment.scope.bind() != Bind::NONE {
            // SAFETY: the connection of this call.
            scope = unsafe { connection::scope_at_sealing(attachment, self.ssl, now) };
            let Some(bound) = &scope else {
                attachment.count(Counter::Errors);
                return None;
            };
            attachment.tell_traits(bound);
        }
        // SAFETY: passed on from the caller.
        if unsafe { self.would_be_refused(scope.as_deref()) } {
            return None;
        }
        let mut sealed = None;
        // A key that is revoked right now has a successor: nothing was primed with it yet.
        for _ in 0..3 {
            let key = keyring.sealing_with(now, attachment)?;
            // SAFETY: passed on from the caller.
            sealed = unsafe { self.seal_with(&key, scope.as_deref(), now) };
            if sealed.is_some() {
                let kept = key.times.retention();
                if kept < timeout {
                    // SAFETY: the connection of this call.
                    unsafe { self.promise(kept) };
                }
                break;
            }
            if key.is_there() {
                break;
            }
        }
        attachment.count(if sealed.is_some() { Counter::Issued } else { Counter::Errors });
        sealed
    }

    /// Where keys are kept for less than sessions live (TKTROT_LIFETIME), the ticket does not
    /// say that it lives for longer (`ticket_lifetime_hint` of RFC 5077, `ticket_lifetime` of
    /// RFC 8446). libssl has put the session into the ticket by now, and
    /// takes from it what the ticket says after this; the session itself is in no cache.
    ///
    /// # Safety
    ///
    /// The connection of this call, at enc = 1.
    #[cold]
    unsafe fn promise(&self, kept: Duration) {
        let Attachment { library, .. } = self.attachment;
        // BoringSSL and AWS-LC say it before they ask for a key.
        let is_early = library.api.is_boring();
        let functions = library.api.ssl_get_session.zip(library.originals.ssl_session_set_timeout);
        if let Some((get, set)) = functions.filter(|_| !is_early) {
            // SAFETY: a live connection, and its session, if it has one.
            unsafe {
                let session = get(self.ssl);
                if !session.is_null() {
                    set(session, kept.as_secs() as c_long);
                }
            }
        }
    }

    /// # Safety
    ///
    /// As for [`Call::answer`], at enc = 1.
    unsafe fn seal_with(
        &mut self,
        key: &Located<'_>,
        scope: Option<&ContextPart>,
        now: Time,
    ) -> Option<Sealed> {
        let Attachment { library, .. } = self.attachment;
        // SAFETY: the connection of this call.
        let server_name = unsafe { connection::server_name_at_sealing(library, self.ssl) }?;
        let iv = iv::of_moment(iv::fresh(&library.api, self.attachment.algorithms())?, now);
        let bound = SealedWith { key, scope, server_name: &server_name };
        let primed = self.prime(&bound, &iv, Direction::Encrypt, now);
        primed.then_some(Sealed { name: key.name, iv })
    }

    /// Goes on without a key: "no ticket", or for a TLS library that does not
    /// survive that, a well-formed ticket under a key that nobody keeps.
    ///
    /// # Safety
    ///
    /// As for [`Call::answer`], at enc = 1.
    unsafe fn decline(&mut self) -> c_int {
        let possible = self.mac.is_there() && !self.cipher.is_null();
        if self.attachment.library.api.zero_means_no_ticket() || !possible {
            return NONE;
        }
        let mut sealed = Sealed { name: KeyName([0; 16]), iv: [0; 16] };
        let mut secrets = KeySecrets::zeroed();
        self.touched = Touched::Both;
        // Not the TLS library's generator: its failure may be why we are here.
        let draw = |bytes: &mut [u8]| random::from_kernel(bytes).is_ok();
        let primed = draw(&mut sealed.name.0)
            && draw(&mut sealed.iv)
            && draw(secrets.aes.expose_mut())
            && draw(secrets.hmac.expose_mut())
            && self.prime_cipher((&secrets.aes, false), &sealed.iv, Direction::Encrypt)
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
        self.settle();
        let now = keyring.now();
        keyring.tick_with(now, self.attachment);
        primed::tend(now);
        let bind = self.attachment.scope.bind();
        let mut scope = None;
        if bind != Bind::NONE {
            // SAFETY: the connection of this call. What holds for it now is to be known when
            // the next ticket is sealed, whatever becomes of this one.
            scope = unsafe { connection::scope_at_opening(self.attachment, self.ssl, now) };
        }
        let Some(key) = keyring.ring().locate(&name) else {
            self.attachment.count(Counter::Unknown);
            return NONE;
        };
        let state = key.times.state(now);
        if state == KeyState::Expired {
            self.attachment.count(Counter::Expired);
            return NONE;
        }
        // Binding is the context's own: whatever others of the ring ask for, its tickets are
        // bound, but those from before, whose keys came out of a file.
        let is_bound = bind != Bind::NONE && !key.imported();
        let is_checked = is_bound && bind.verify || self.attachment.sees_sessions();
        if !is_checked {
            // Who sealed it may have asked for no certificate, and so sealed what
            // libssl ends the handshake for where one is asked for.
            let may_lack_it = self.attachment.may_lack_id_context();
            // SAFETY: the connection of this call.
            if may_lack_it && unsafe { library.api.asks_for_certificate(self.ssl) } {
                self.attachment.count(Counter::WrongScope);
                return NONE;
            }
        }
        if is_bound && scope.is_none() {
            self.attachment.count(Counter::Errors);
            return NONE;
        }
        // SAFETY: the connection of this call.
        let server_name = unsafe { connection::server_name_at_opening(library, self.ssl) };
        if server_name.is_none() && is_bound && bind.sni {
            self.attachment.count(Counter::WrongScope);
            return NONE;
        }
        let scope = scope.as_deref().filter(|_| is_bound);
        let bound = SealedWith {
            key: &key,
            scope,
            server_name: server_name.as_ref().unwrap_or(&ServerName::None),
        };
        if !self.prime(&bound, &iv, Direction::Decrypt, now) {
            self.attachment.count(Counter::Errors);
            return NONE;
        }
        let opened = match state {
            KeyState::Retired => Counter::ResumedRetired,
            _ => Counter::ResumedActive,
        };
        // SAFETY: the connection of this call.
        unsafe { self.note_opened(opened, server_name.as_ref(), is_bound) };
        match renew {
            Renew::Always => RENEW,
            // A TLS 1.2 renewal extends nothing, and an OpenSSL client that is
            // sent one drops the session it had. Keys outlive their tickets.
            // SAFETY: the connection of this call.
            Renew::Auto if unsafe { library.api.is_tls_1_3(self.ssl) } => RENEW,
            Renew::Auto | Renew::Never => USE,
        }
    }

    /// The TLS library has what it needs to open the ticket. Where it shows what
    /// it found, that is counted, else this; once for a handshake, which may
    /// have two ClientHellos.
    ///
    /// # Safety
    ///
    /// As for [`Call::answer`], at enc = 0.
    unsafe fn note_opened(
        &self,
        opened: Counter,
        server_name: Option<&ServerName<'_>>,
        is_bound: bool,
    ) {
        let Attachment { library, renew, .. } = self.attachment;
        // SAFETY: the connection of this call.
        let handshake = unsafe { connection::handshake(library, self.ssl) };
        let known = handshake.as_ref().map_or(Opened::No, |handshake| handshake.opened);
        let mut becomes = known;
        if known != Opened::Counted {
            becomes = Opened::Handed(opened);
            if !self.attachment.sees_sessions() {
                becomes = Opened::Counted;
                self.attachment.count(opened);
            }
        }
        if let Some(handshake) = handshake {
            (handshake.opened, handshake.is_bound) = (becomes, is_bound);
            if let Some(server_name) = server_name.filter(|_| *renew == Renew::Always) {
                handshake.remember(server_name);
            }
        }
    }

    /// Primes both contexts; false if the TLS library fails, or the key is gone.
    fn prime(&mut self, bound: &SealedWith<'_>, iv: &Iv, direction: Direction, now: Time) -> bool {
        let mut aes = Secret::zeroed();
        self.touched = Touched::CipherKey;
        bound.key.read_aes(&mut aes)
            && self.prime_cipher((&aes, bound.key.aes_128), iv, direction)
            && self.prime_mac(bound, now)
    }

    fn prime_cipher(&self, key: (&Secret<32>, bool), iv: &Iv, direction: Direction) -> bool {
        let (api, algorithms) = (&self.attachment.library.api, self.attachment.algorithms());
        // SAFETY: the TLS library's live cipher context.
        unsafe { algorithms.prime(api, self.cipher, key, iv, direction) }
    }

    fn prime_mac(&mut self, bound: &SealedWith<'_>, now: Time) -> bool {
        let SealedWith { key, scope, server_name } = bound;
        let of = MacOf::new(self.attachment, key, *scope);
        // SAFETY: the MAC context is that of the attachment's library.
        let copied = self.mac.copyable().and_then(|mac| unsafe { primed::copy(&of, mac) });
        if !copied.unwrap_or_else(|| self.key_mac(bound, &of, now)) {
            return false;
        }
        let connection = self.attachment.scope.of_connection(server_name);
        match connection.filter(|_| scope.is_some()) {
            None => true,
            Some((head, name)) => absorb_both(&mut self.mac, &head, name),
        }
    }

    /// As the first ticket of a key does.
    #[cold]
    #[inline(never)]
    fn key_mac(&mut self, bound: &SealedWith<'_>, of: &MacOf, now: Time) -> bool {
        let mut hmac = Secret::zeroed();
        self.touched = Touched::Both;
        let keyed = bound.key.read_hmac(&mut hmac)
            && self.mac.key(&hmac)
            && bound.scope.is_none_or(|scope| self.mac.absorb(scope.encoded()));
        if let Some(mac) = self.mac.copyable().filter(|_| keyed) {
            // SAFETY: of the attachment's library, and keyed just now.
            unsafe { primed::keep(of, self.attachment, mac, now) };
        }
        keyed
    }
}

/// In one step if they are short: each costs.
fn absorb_both(mac: &mut impl TicketMac, head: &[u8; 5], name: &[u8]) -> bool {
    let mut both = [0; 64];
    let len = head.len() + name.len();
    if len > both.len() {
        return mac.absorb(head) && mac.absorb(name);
    }
    both[..head.len()].copy_from_slice(head);
    both[head.len()..len].copy_from_slice(name);
    mac.absorb(&both[..len])
}
