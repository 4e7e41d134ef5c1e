//! What a connection keeps of ours, in its ex_data: what its context was when
//! it was made, and what its present handshake has shown so far. From both follows
//! what its tickets are bound to.

use std::ffi::{c_int, c_long, c_void};
use std::ptr;
use std::sync::Arc;

use openssl_sys::SSL;

use super::api::{AnyFunction, NameSource, TlsApi};
use super::attachment::{Attachment, Whose};
use super::client_hello::ClientHello;
use super::resolve::Library;
use super::scope::{ContextPart, PartRef};
use super::sni::ServerName;
use super::verification::VerifyPolicy;
use crate::clock::Time;
use crate::ring::stats::Counter;
use crate::thread;

/// What is kept for one connection.
#[derive(Default)]
struct Connection {
    part: Option<Arc<ContextPart>>,
    /// What serves it: lives as long as its context, and so as the connection.
    attachment: Option<&'static Attachment>,
    handshake: Option<Handshake>,
    /// Where libssl shows the ClientHello in a message only: the last one.
    hello: Option<Hello>,
    /// The server's own message callback, where ours is in its place ([`super::messages`]).
    messages: Option<AnyFunction>,
}

/// What is kept of a ClientHello.
struct Hello {
    /// As [`Handshake::random`].
    random: [u8; 32],
    host: Host,
}

/// What a handshake has shown. Another one of the same connection
/// (SSL_clear(3), renegotiation) starts anew.
pub struct Handshake {
    /// The ClientHello's random bytes, which tell it from others. A second
    /// ClientHello (RFC 8446 §4.1.2) has the same.
    random: [u8; 32],
    /// The number of the part with the policy that holds before anything
    /// switches it: when a ticket is opened, if one is.
    pub part: Option<u64>,
    /// What became of its ticket.
    pub opened: Opened,
    /// True if that is bound to anything.
    pub is_bound: bool,
    /// The policy that the session says it was made under ([`super::late`]).
    pub late: Option<u64>,
    /// The name that the client asked for, for the renewal of a TLS 1.2 ticket.
    host: Option<Host>,
}

/// What became of the ticket of a handshake.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// It had none, or none that could be opened.
    No,
    /// The TLS library has its key, and will show what it finds. It counts as that.
    Handed(Counter),
    /// It counted as one that is resumed.
    Counted,
}

/// A [`ServerName`] that is kept.
enum Host {
    None,
    Name(Box<[u8]>),
    Malformed(Box<[u8]>),
}

impl Host {
    fn of(name: &ServerName<'_>) -> Self {
        match name {
            ServerName::None => Host::None,
            ServerName::Name(name) => Host::Name(Box::from(*name)),
            ServerName::Malformed(raw) => Host::Malformed(Box::from(*raw)),
        }
    }

    fn name(&self) -> ServerName<'_> {
        match self {
            Host::None => ServerName::None,
            Host::Name(name) => ServerName::Name(name),
            Host::Malformed(raw) => ServerName::Malformed(raw),
        }
    }
}

/// Keeps, with a connection that was made just now, what its context was then,
/// and what serves that.
///
/// # Safety
///
/// `ssl` is a live SSL of the attachment's library, made of its context, that
/// no other thread has yet.
pub unsafe fn begin(ssl: *mut SSL, attachment: &Attachment, part: Arc<ContextPart>) {
    // SAFETY: passed on from the caller; it lives as long as its context, which the
    // connection holds.
    unsafe {
        let attachment: &'static Attachment = &*ptr::from_ref(attachment);
        if let Some(connection) = made(attachment.library, ssl) {
            (connection.part, connection.attachment) = (Some(part), Some(attachment));
        }
    }
}

/// What serves a connection; `None` if it was made out of our sight.
///
/// # Safety
///
/// As for [`part`].
pub unsafe fn served_by<'c>(library: &Library, ssl: *mut SSL) -> Option<&'c Attachment> {
    // SAFETY: passed on from the caller.
    unsafe { of(library, ssl) }?.attachment
}

/// What the context of a connection was when that was made; `None` if it was
/// made out of our sight.
///
/// # Safety
///
/// `ssl` is a live SSL of `library` that this thread uses, and the result is
/// not used when that has ended.
pub unsafe fn part<'c>(library: &Library, ssl: *mut SSL) -> Option<&'c Arc<ContextPart>> {
    // SAFETY: passed on from the caller.
    unsafe { of(library, ssl) }?.part.as_ref()
}

/// What the present handshake has shown, from now on if nothing did before.
/// `None` if nothing can be kept.
///
/// # Safety
///
/// `ssl` is the connection of the callback that runs, and the result is not
/// used when that has ended, nor beside another one.
pub unsafe fn handshake<'c>(library: &'static Library, ssl: *mut SSL) -> Option<&'c mut Handshake> {
    // SAFETY: passed on from the caller.
    unsafe {
        let random = client_random(&library.api, ssl)?;
        let slot = &mut made(library, ssl)?.handshake;
        if slot.as_ref().is_none_or(|handshake| handshake.random != random) {
            *slot = Some(Handshake {
                random,
                part: None,
                opened: Opened::No,
                is_bound: true,
                late: None,
                host: None,
            });
        }
        slot.as_mut()
    }
}

/// As [`handshake`]; `None` if it has shown nothing so far.
///
/// # Safety
///
/// As for [`handshake`].
pub unsafe fn handshake_so_far<'c>(library: &Library, ssl: *mut SSL) -> Option<&'c mut Handshake> {
    // SAFETY: passed on from the caller.
    unsafe {
        let handshake = of(library, ssl)?.handshake.as_mut()?;
        let random = client_random(&library.api, ssl)?;
        (handshake.random == random).then_some(handshake)
    }
}

/// As [`handshake`]; `None` before a ClientHello was read, for which its callback is
/// too early.
///
/// # Safety
///
/// As for [`handshake`].
pub unsafe fn handshake_under_way<'c>(
    library: &'static Library,
    ssl: *mut SSL,
) -> Option<&'c mut Handshake> {
    // SAFETY: passed on from the caller.
    unsafe {
        let began = client_random(&library.api, ssl)? != [0; 32];
        if began { handshake(library, ssl) } else { None }
    }
}

impl Handshake {
    /// Keeps the name of a connection whose ticket is being opened, for its
    /// renewal.
    pub fn remember(&mut self, name: &ServerName<'_>) {
        self.host = Some(Host::of(name));
    }

    /// The name that was kept. `None` if there is none.
    pub fn recall(&self) -> Option<ServerName<'_>> {
        self.host.as_ref().map(Host::name)
    }
}

/// What a ticket of a connection has to be bound to, to be opened: to the
/// policy that holds before anything switches it. `None` if the TLS library
/// fails, or it cannot be known.
///
/// # Safety
///
/// `ssl` is the connection of the callback that runs, at enc = 0.
pub unsafe fn scope_at_opening(
    attachment: &Attachment,
    ssl: *mut SSL,
    now: Time,
) -> Option<PartRef<'_>> {
    // SAFETY: passed on from the caller.
    unsafe {
        // A second ClientHello comes after the callbacks that the first one called.
        let so_far = handshake_so_far(attachment.library, ssl);
        let before = so_far.and_then(|handshake| handshake.part);
        if let Some(before) = before.and_then(|number| attachment.scope.of_number(number)) {
            return Some(before);
        }
        let bound = scope_of_now(attachment, ssl, now)?;
        if let Some(handshake) = handshake(attachment.library, ssl) {
            handshake.part = Some(bound.number());
        }
        Some(bound)
    }
}

/// What a ticket is bound to that is sealed now. `None` if the TLS library
/// fails, or it cannot be known.
///
/// The policy may have been switched since a ticket of this handshake would
/// have been opened: then it is bound to the one of then, so that it can be
/// opened, if that asks for nothing. Else somebody could use it who has
/// shown less than that one asks for; it is bound to the one of now.
///
/// # Safety
///
/// `ssl` is the connection of the callback that runs, at enc = 1.
pub unsafe fn scope_at_sealing(
    attachment: &Attachment,
    ssl: *mut SSL,
    now: Time,
) -> Option<PartRef<'_>> {
    // SAFETY: passed on from the caller.
    unsafe {
        let bound = scope_of_now(attachment, ssl, now)?;
        // For tickets that come later, after post-handshake authentication, this one's
        // policy is that of before.
        let in_1_3 = attachment.library.api.is_tls_1_3(ssl);
        let handshake = match in_1_3 {
            true => handshake(attachment.library, ssl),
            false => handshake_so_far(attachment.library, ssl),
        };
        let before = match handshake {
            Some(handshake) => *handshake.part.get_or_insert(bound.number()),
            None => return Some(bound),
        };
        if before == bound.number() {
            return Some(bound);
        }
        let asks = |before: &PartRef<'_>| before.policy().asks_in_handshake(in_1_3);
        let before = attachment.scope.of_number(before).filter(|before| !asks(before));
        Some(before.map_or(bound, |before| PartRef::Own(before.into_shared())))
    }
}

/// The policy of a connection is about to be switched, perhaps in a handshake: it is
/// kept what it was before.
///
/// # Safety
///
/// `ssl` is a live SSL of the attachment's library that this thread uses.
pub unsafe fn keep_policy(attachment: &Attachment, ssl: *mut SSL, now: Time) {
    // SAFETY: passed on from the caller.
    unsafe {
        let under_way = handshake_under_way(attachment.library, ssl);
        if under_way.is_none_or(|handshake| handshake.part.is_some()) {
            return;
        }
        let before = scope_of_now(attachment, ssl, now).map(|bound| bound.number());
        if let Some(handshake) = handshake_so_far(attachment.library, ssl) {
            handshake.part = before;
        }
    }
}

/// With the policy that a connection has now.
///
/// # Safety
///
/// `ssl` is a live SSL of the attachment's library that this thread uses.
unsafe fn scope_of_now(attachment: &Attachment, ssl: *mut SSL, now: Time) -> Option<PartRef<'_>> {
    let api = &attachment.library.api;
    let sources = (api, attachment.algorithms());
    // SAFETY: the caller vouches for `ssl`; it was made of the context,
    // which lives while its attachment does.
    unsafe {
        let policy = attachment.scope.policy(|| VerifyPolicy::of_connection(api, ssl));
        // Before the context was attached anew, it may have had another.
        let own = part(attachment.library, ssl).filter(|part| attachment.scope.made(part));
        let part = match (own, &attachment.whose) {
            (Some(part), _) | (None, Whose::Common { part: Some(part), .. }) => part,
            (None, Whose::Its(ctx)) => {
                return attachment.scope.of_connections_context(sources, (*ctx, ssl), policy, now);
            }
            (None, Whose::Common { part: None, .. }) => return None,
        };
        if part.policy() == policy {
            return Some(PartRef::Kept(part));
        }
        attachment.scope.with_policy(sources, part.of_context(), policy, thread::pin(), now)
    }
}

/// The server name of a connection whose ticket is being opened. `None` if it cannot be known.
///
/// # Safety
///
/// `ssl` is the connection of the callback that runs, at enc = 0, and the result is not used
/// when that has ended.
#[inline]
pub unsafe fn server_name_at_opening<'h>(
    library: &Library,
    ssl: *mut SSL,
) -> Option<ServerName<'h>> {
    let api = &library.api;
    // SAFETY: the caller vouches for `ssl`.
    unsafe {
        match api.name_source() {
            NameSource::ClientHello => {
                ServerName::in_client_hello(api.ssl_client_hello_get0_ext, ssl)
            }
            NameSource::Negotiated => Some(ServerName::negotiated(api, ssl)),
            NameSource::Message => server_name_in_message(library, ssl),
        }
    }
}

/// The server name of a connection for which a ticket is being sealed. `None` if
/// it cannot be known.
///
/// # Safety
///
/// `ssl` is the connection of the callback that runs, at enc = 1.
pub unsafe fn server_name_at_sealing<'h>(
    library: &Library,
    ssl: *mut SSL,
) -> Option<ServerName<'h>> {
    let api = &library.api;
    // SAFETY: the caller vouches for `ssl`.
    unsafe {
        if api.name_source() == NameSource::Message {
            let shown = server_name_in_message(library, ssl);
            if shown.is_some() {
                return shown;
            }
        }
        if api.session_reused(ssl) && !api.is_tls_1_3(ssl) && !api.is_boring() {
            return handshake_so_far(library, ssl)?.recall();
        }
        Some(ServerName::negotiated(api, ssl))
    }
}

/// The server name in the ClientHello of the present handshake, if that was shown.
///
/// # Safety
///
/// `ssl` is the connection of the callback that runs, and the result is not used when that has
/// ended.
#[cold]
unsafe fn server_name_in_message<'h>(library: &Library, ssl: *mut SSL) -> Option<ServerName<'h>> {
    // SAFETY: passed on from the caller. The name's bytes stay where they are until the next
    // ClientHello of the connection is shown.
    unsafe {
        let hello = of(library, ssl)?.hello.as_ref()?;
        (client_random(&library.api, ssl)? == hello.random).then(|| hello.host.name())
    }
}

/// A connection was shown the ClientHello of a handshake, or with `None` one that cannot be read.
///
/// # Safety
///
/// `ssl` is the connection of the callback that runs.
pub unsafe fn note_hello(
    library: &'static Library,
    ssl: *mut SSL,
    hello: Option<&ClientHello<'_>>,
) {
    // SAFETY: passed on from the caller.
    if let Some(connection) = unsafe { made(library, ssl) } {
        connection.hello =
            hello.map(|hello| Hello { random: *hello.random, host: Host::of(&hello.server_name) });
    }
}

/// The server's own message callback of a connection, where ours is in its place: `None` where it
/// is not.
///
/// # Safety
///
/// `ssl` is a live SSL of `library` that this thread uses.
pub unsafe fn own_messages(library: &Library, ssl: *mut SSL) -> Option<AnyFunction> {
    // SAFETY: passed on from the caller.
    unsafe { of(library, ssl) }?.messages
}

/// Keeps the server's own message callback of a connection. False if nothing can be kept.
///
/// # Safety
///
/// As for [`own_messages`].
pub unsafe fn keep_messages(library: &'static Library, ssl: *mut SSL, own: AnyFunction) -> bool {
    // SAFETY: passed on from the caller.
    let connection = unsafe { made(library, ssl) };
    connection.map(|connection| connection.messages = Some(own)).is_some()
}

/// # Safety
///
/// `ssl` is a live SSL of the library that `api` is of.
unsafe fn client_random(api: &TlsApi, ssl: *const SSL) -> Option<[u8; 32]> {
    let mut random = [0; 32];
    // SAFETY: the caller vouches for `ssl`; 32 bytes of room.
    let len = unsafe { api.ssl_get_client_random?(ssl, random.as_mut_ptr(), random.len()) };
    (len == random.len()).then_some(random)
}

/// # Safety
///
/// `ssl` is a live SSL of `library`, which one thread uses at a time: this one.
unsafe fn of<'c>(library: &Library, ssl: *mut SSL) -> Option<&'c mut Connection> {
    let index = library.indices.connection();
    if index < 0 {
        return None;
    }
    // SAFETY: the caller vouches for `ssl`; under our index there is null or a Connection.
    unsafe { library.api.ssl_get_ex_data?(ssl, index).cast::<Connection>().as_mut() }
}

/// As [`of`], made if there is none.
///
/// # Safety
///
/// As for [`of`].
unsafe fn made<'c>(library: &'static Library, ssl: *mut SSL) -> Option<&'c mut Connection> {
    // SAFETY: passed on from the caller.
    if let Some(connection) = unsafe { of(library, ssl) } {
        return Some(connection);
    }
    let (index, set) = (library.indices.connection(), library.api.ssl_set_ex_data?);
    let new = Box::into_raw(Box::<Connection>::default());
    // SAFETY: the caller vouches for `ssl`; a box of ours for the index's free function.
    unsafe {
        if index < 0 || set(ssl, index, new.cast()) != 1 {
            drop(Box::from_raw(new));
            return None;
        }
        new.as_mut()
    }
}

/// Makes the index for [`Connection`]s; < 0 if there is none.
pub fn new_index(library: &'static Library) -> c_int {
    let argument = ptr::from_ref(library).cast_mut().cast();
    library.api.new_ssl_index(argument, Some(duplicate), Some(free))
}

/// A duplicate (SSL_dup(3)) is made of the same context, and has no handshake yet.
unsafe extern "C" fn duplicate(
    to: *mut c_void,
    _from_object: *const c_void,
    from: *mut c_void,
    index: c_int,
    _argl: c_long,
    library: *mut c_void,
) -> c_int {
    // SAFETY: `from` is the place of our pointer or null; `library` is what
    // `new_index` gave.
    unsafe {
        let (from, library) = (from.cast::<*mut Connection>(), &*library.cast::<Library>());
        // One that was made in our sight has its own, but for the message callback.
        let own = library.api.crypto_get_ex_data.map(|get| get(to, index).cast::<Connection>());
        if let Some(own) = own.filter(|own| !own.is_null()) {
            (*own).messages = from.read().as_ref().and_then(|connection| connection.messages);
            from.write(own);
            return 1;
        }
        let same = from.read().as_ref().map(|connection| {
            let (part, messages) = (connection.part.clone(), connection.messages);
            // It may be of another context: the one that the other was switched to.
            Box::new(Connection { part, messages, ..Connection::default() })
        });
        from.write(same.map_or(ptr::null_mut(), Box::into_raw));
    }
    1
}

unsafe extern "C" fn free(
    _parent: *mut c_void,
    connection: *mut c_void,
    _ad: *mut c_void,
    _index: c_int,
    _argl: c_long,
    _argp: *mut c_void,
) {
    if !connection.is_null() {
        // SAFETY: stored by `with` or `duplicate`, and freed once per object.
        drop(unsafe { Box::from_raw(connection.cast::<Connection>()) });
    }
}
