//! Client verification that a certificate callback sets (SSL_CTX_set_cert_cb(3)), as lighttpd's
//! does. libssl calls it in full handshakes only: of a client that resumes nobody asks what it
//! would have asked for, and the ticket, which is opened before, is bound to the policy before it.
//!
//! Within one context that is no matter: the same callback has let the client in. Another one,
//! after a reload or on another host, may ask for more. So a session says in its ticket which
//! context made it, and under which policy its handshake ended; and another context takes it
//! only once a full handshake for the same server name has ended under the same policy there.
//!
//! A callback of a connection (SSL_set_cert_cb(3)) is one that Node gives to each, and asks for
//! nothing more in. Those count once one is seen to have changed the policy.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use once_cell::race::OnceBox;
use openssl_sys::{SSL, SSL_SESSION};

use super::attachment::Attachment;
use super::connection;
use super::resolve::{Library, Originals};
use super::scope;
use super::sni::ServerName;
use super::verification::VerifyPolicy;
use crate::clock;
use crate::process::OneAtATime;

/// How many server names a context knows the policy of. Of others it takes only sessions of its own.
const NAMES: usize = 1024;
/// So far from where it belongs a name is looked for.
const REACH: usize = 8;
/// What certificate callbacks there are in a process, as [`Library`] keeps it: none; some of
/// connections, which have changed no policy so far; some of contexts, or some that have.
const NO_CALLBACK: u8 = 0;
const OF_CONNECTIONS: u8 = 1;
const CHANGES_POLICY: u8 = 2;
/// What a name has whose handshakes ended under different policies.
const SEVERAL: u64 = 0;
/// The last bytes of a session's data for its ticket (SSL_SESSION_set1_ticket_appdata(3)), before
/// which stands what the server put there.
const MARK: [u8; 8] = *b"tktrot\0\x01";

/// Which context, of all that ever were: none on this host was made at the same time by the same
/// process at the same address. A child has those of its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    made: u64,
    process: u32,
    address: u64,
}

/// What a context knows of the policies in which its handshakes end.
pub struct Late {
    identity: Identity,
    seen: OnceBox<Seen>,
}

/// The policy of each server name; both as a digest, 0 for none. Read by anybody while one writes.
struct Seen {
    names: Box<[(AtomicU64, AtomicU64)]>,
    writing: OneAtATime,
}

/// What a session says of itself in its ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Statement {
    /// The ring's node: which host.
    node: u64,
    context: Identity,
    policy: u64,
}

impl Late {
    /// For a context that was made just now, at that address.
    pub fn of_new_context(address: usize) -> Self {
        // Clients have contexts, too: nothing is opened for them, as the machine's own time takes.
        let made = clock::namespace_time().unwrap_or(0);
        let (process, address) = (std::process::id(), address as u64);
        let identity = Identity { made, process, address };
        Late { identity, seen: OnceBox::new() }
    }

    /// A session is about to be sealed: says in it where it is from, and under which policy.
    ///
    /// # Safety
    ///
    /// `ssl` is the connection of libssl's callback that runs, of a context of that attachment.
    pub unsafe fn state(&self, attachment: &Attachment, ssl: *mut SSL) {
        let library = attachment.library;
        // SAFETY: the caller vouches for `ssl`, which has the session that is sealed.
        unsafe {
            let resumed = library.api.session_reused(ssl);
            if !is_heeded(attachment) {
                if resumed || !changed(attachment, ssl) {
                    return;
                }
                library.note_certificate_callback();
            }
            let policy = match resumed {
                true => connection::handshake_so_far(library, ssl).and_then(|it| it.late),
                false => self.learn(attachment, ssl),
            };
            let session = library.api.ssl_get_session.map(|get| get(ssl));
            let session = session.filter(|session| !session.is_null());
            if let (Some(policy), Some(session)) = (policy, session) {
                self.statement(attachment, policy).append(&library.originals, session);
            }
        }
    }

    /// A full handshake shows what holds for its server name. `None` if the TLS library fails.
    ///
    /// # Safety
    ///
    /// As for [`Late::state`].
    unsafe fn learn(&self, attachment: &Attachment, ssl: *mut SSL) -> Option<u64> {
        let api = &attachment.library.api;
        // SAFETY: the caller vouches for `ssl`, which has its policy.
        let (name, policy) = unsafe {
            let policy = VerifyPolicy::of_connection(api, ssl);
            let policy = policy.encode(api, attachment.algorithms())?;
            (ServerName::negotiated(api, ssl), digest(attachment, &policy)?)
        };
        let seen = self.seen.get_or_init(|| Box::new(Seen::nothing()));
        seen.learn(digest_of_name(attachment, &name)?, policy);
        Some(policy)
    }

    /// True for a session that this context may not take: one of another context, under a policy
    /// that is not known to hold here for the server name. What it says it says no more.
    ///
    /// # Safety
    ///
    /// `ssl` and `session` are what libssl gave to its callback that runs, of a context of that
    /// attachment.
    pub unsafe fn refuses(
        &self,
        attachment: &Attachment,
        ssl: *mut SSL,
        session: *mut SSL_SESSION,
    ) -> bool {
        let library = attachment.library;
        // SAFETY: passed on from the caller.
        unsafe {
            let statement = Statement::take(&library.originals, session);
            let handshake = connection::handshake_so_far(library, ssl);
            let is_bound = handshake.as_ref().is_none_or(|handshake| handshake.is_bound);
            if !is_heeded(attachment) || !is_bound {
                return false;
            }
            let Some(statement) = statement else { return true };
            if statement != self.statement(attachment, statement.policy) {
                let name = connection::server_name_at_opening(library, ssl);
                let known = name.and_then(|name| self.known(attachment, &name));
                if known != Some(statement.policy) {
                    return true;
                }
            }
            if let Some(handshake) = handshake {
                handshake.late = Some(statement.policy);
            }
            false
        }
    }

    fn known(&self, attachment: &Attachment, name: &ServerName<'_>) -> Option<u64> {
        self.seen.get()?.policy_of(digest_of_name(attachment, name)?)
    }

    fn statement(&self, attachment: &Attachment, policy: u64) -> Statement {
        Statement { node: attachment.keyring.ring().node(), context: self.identity, policy }
    }
}

/// True if tickets are bound to the policy, and there are certificate callbacks, which may change it.
pub fn may_change_policy(attachment: &Attachment) -> bool {
    attachment.library.certificate_callbacks() != NO_CALLBACK && attachment.scope.bind().verify
}

/// True if it is taken that they do.
fn is_heeded(attachment: &Attachment) -> bool {
    attachment.library.certificate_callbacks() == CHANGES_POLICY && attachment.scope.bind().verify
}

/// True if a full handshake ends under another policy than it began with.
///
/// # Safety
///
/// As for [`Late::state`].
unsafe fn changed(attachment: &Attachment, ssl: *mut SSL) -> bool {
    let library = attachment.library;
    // SAFETY: passed on from the caller.
    let (before, now) = unsafe {
        let before = connection::handshake_so_far(library, ssl).and_then(|it| it.part);
        (before, VerifyPolicy::of_connection(&library.api, ssl))
    };
    let before = before.and_then(|number| attachment.scope.of_number(number));
    before.is_some_and(|before| before.policy() != now)
}

impl Seen {
    fn nothing() -> Self {
        let none = |_| (AtomicU64::new(0), AtomicU64::new(SEVERAL));
        Seen { names: (0..NAMES).map(none).collect(), writing: OneAtATime::new() }
    }

    fn places(&self, name: u64) -> impl Iterator<Item = &(AtomicU64, AtomicU64)> {
        let first = name as usize % NAMES;
        (first..first + REACH).map(|place| &self.names[place % NAMES])
    }

    fn policy_of(&self, name: u64) -> Option<u64> {
        // Acquire: its policy was there before it.
        let mut places = self.places(name);
        let (_, policy) = places.find(|(known, _)| known.load(Ordering::Acquire) == name)?;
        Some(policy.load(Ordering::Relaxed)).filter(|policy| *policy != SEVERAL)
    }

    /// A full handshake more will tell what cannot be written now.
    fn learn(&self, name: u64, policy: u64) {
        self.writing.attempt(|| {
            let known =
                |of: u64| self.places(name).find(|(known, _)| known.load(Ordering::Relaxed) == of);
            if let Some((_, before)) = known(name) {
                if before.load(Ordering::Relaxed) != policy {
                    before.store(SEVERAL, Ordering::Relaxed);
                }
            } else if let Some((free, its)) = known(0) {
                its.store(policy, Ordering::Relaxed);
                free.store(name, Ordering::Release);
            }
        });
    }
}

impl Statement {
    const LEN: usize = 8 + 8 + 4 + 8 + 8 + MARK.len();

    fn encode(&self) -> Vec<u8> {
        let Statement { node, context: Identity { made, process, address }, policy } = self;
        [
            &node.to_be_bytes()[..],
            &made.to_be_bytes(),
            &process.to_be_bytes(),
            &address.to_be_bytes(),
            &policy.to_be_bytes(),
            &MARK,
        ]
        .concat()
    }

    /// What stands at the end of such data, and how long the rest is.
    fn decode(data: &[u8]) -> Option<(usize, Statement)> {
        let before = data.len().checked_sub(Self::LEN)?;
        let data = data[before..].strip_suffix(&MARK)?;
        let (node, data) = data.split_first_chunk()?;
        let (made, data) = data.split_first_chunk()?;
        let (process, data) = data.split_first_chunk()?;
        let (address, data) = data.split_first_chunk()?;
        let (policy, _) = data.split_first_chunk()?;
        let context = Identity {
            made: u64::from_be_bytes(*made),
            process: u32::from_be_bytes(*process),
            address: u64::from_be_bytes(*address),
        };
        let (node, policy) = (u64::from_be_bytes(*node), u64::from_be_bytes(*policy));
        Some((before, Statement { node, context, policy }))
    }

    /// Puts it behind what the server says in a session.
    ///
    /// # Safety
    ///
    /// `session` is a live session, of the library of `originals`, that this thread uses.
    unsafe fn append(&self, originals: &Originals, session: *mut SSL_SESSION) {
        let Some(set) = originals.ssl_session_set1_ticket_appdata else { return };
        // SAFETY: passed on from the caller; the data is copied.
        unsafe {
            let data = data_of(originals, session);
            let before = Self::decode(&data).map_or(data.len(), |(before, _)| before);
            let data = [&data[..before], &self.encode()].concat();
            set(session, data.as_ptr().cast(), data.len());
        }
    }

    /// Takes it out: what is left is what the server put there.
    ///
    /// # Safety
    ///
    /// As for [`Statement::append`].
    unsafe fn take(originals: &Originals, session: *mut SSL_SESSION) -> Option<Self> {
        let set = originals.ssl_session_set1_ticket_appdata?;
        // SAFETY: passed on from the caller; the data is copied.
        unsafe {
            let data = data_of(originals, session);
            let (before, statement) = Self::decode(&data)?;
            let rest = if before == 0 { ptr::null() } else { data.as_ptr() };
            set(session, rest.cast(), before);
            Some(statement)
        }
    }
}

/// A session's data for its ticket.
///
/// # Safety
///
/// As for [`Statement::append`].
unsafe fn data_of(originals: &Originals, session: *mut SSL_SESSION) -> Vec<u8> {
    let (mut data, mut len) = (ptr::null_mut::<c_void>(), 0);
    // SAFETY: passed on from the caller; on success the bytes are the session's.
    unsafe {
        let get = originals.ssl_session_get0_ticket_appdata;
        if get.is_none_or(|get| get(session, &mut data, &mut len) != 1) || data.is_null() {
            return Vec::new();
        }
        std::slice::from_raw_parts(data.cast::<u8>(), len).to_vec()
    }
}

fn digest_of_name(attachment: &Attachment, name: &ServerName<'_>) -> Option<u64> {
    let (head, name) = scope::of_server_name(name);
    digest(attachment, &[&head[..], name].concat())
}

/// Never 0. `None` if the TLS library fails.
fn digest(attachment: &Attachment, bytes: &[u8]) -> Option<u64> {
    let digest = attachment.algorithms().sha256_of(&attachment.library.api, bytes)?;
    digest.first_chunk().map(|first| u64::from_be_bytes(*first) | 1)
}

impl Library {
    /// A server sets a certificate callback for a context, or one of a connection has changed the
    /// policy.
    pub fn note_certificate_callback(&self) {
        self.certificate_callbacks.store(CHANGES_POLICY, Ordering::Relaxed);
    }

    /// A server sets a certificate callback for a connection.
    pub fn note_certificate_callback_of_connection(&self) {
        // Mostly it is known, and then nothing is written that threads share.
        if self.certificate_callbacks() == NO_CALLBACK {
            let (none, some) = (NO_CALLBACK, OF_CONNECTIONS);
            let callbacks = &self.certificate_callbacks;
            let _ = callbacks.compare_exchange(none, some, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn certificate_callbacks(&self) -> u8 {
        self.certificate_callbacks.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_stands_behind_what_the_server_says() {
        let context = Identity { made: 2, process: 3, address: 4 };
        let statement = Statement { node: 1, context, policy: 5 };
        for own in [&b""[..], b"the server's", &MARK] {
            let data = [own, &statement.encode()].concat();
            assert_eq!(Statement::decode(&data), Some((own.len(), statement)));
        }
        let encoded = statement.encode();
        assert_eq!(encoded.len(), Statement::LEN);
        for other in
            [&encoded[1..], &encoded[..encoded.len() - 1], b"the server's own data only", b""]
        {
            assert_eq!(Statement::decode(other), None);
        }
    }

    #[test]
    fn a_name_has_the_policy_of_all_its_handshakes() {
        let seen = Seen::nothing();
        let [name, other] = [77, 77 + NAMES as u64];
        assert_eq!(seen.policy_of(name), None);
        seen.learn(name, 5);
        seen.learn(other, 7);
        seen.learn(name, 5);
        assert_eq!([name, other].map(|name| seen.policy_of(name)), [Some(5), Some(7)]);
        seen.learn(name, 7);
        seen.learn(name, 5);
        assert_eq!([name, other].map(|name| seen.policy_of(name)), [None, Some(7)]);
    }

    #[test]
    fn where_no_place_is_left_what_is_known_stays() {
        let seen = Seen::nothing();
        let names = (0..=REACH as u64).map(|number| 9 + number * NAMES as u64);
        names.clone().for_each(|name| seen.learn(name, name));
        let known = names.filter(|name| seen.policy_of(*name) == Some(*name));
        assert_eq!(known.count(), REACH);
    }
}
