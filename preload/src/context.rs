//! What the hooks know of each SSL_CTX, and what they decide for it. The state
//! lies in the context's ex_data and is freed with it.

use std::ffi::{c_int, c_long, c_uchar, c_void};
use std::fmt;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};

use openssl_sys::{SSL, SSL_CTX, SSL_METHOD, SSL_SESSION};
use tktrot::log::OnceOnly;
use tktrot::ring::stats::Counter;
use tktrot::rotate::Keyring;
use tktrot::tls::algorithms::LibraryContext;
use tktrot::tls::api::AnyFunction;
use tktrot::tls::attach::{self, Connections};
use tktrot::tls::attachment::Attachment;
use tktrot::tls::connection;
use tktrot::tls::late::{self, Late};
use tktrot::tls::messages;
use tktrot::tls::resolve::{Indices, Library, OpenedSession, Originals, SealsSession};
use tktrot::tls::session::Found;
use tktrot::{error, notice, process, program, warning};

use crate::guest::{Guest, guest, unnoticed};

/// Keys that a server set itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum OwnKeys {
    /// `SSL_CTX_set_tlsext_ticket_keys`.
    Fixed = 1,
    /// `SSL_CTX_set_tlsext_ticket_key_cb`.
    HmacCallback = 2,
    /// `SSL_CTX_set_tlsext_ticket_key_evp_cb`.
    EvpCallback = 3,
}

impl fmt::Display for OwnKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OwnKeys::Fixed => "ticket keys (SSL_CTX_set_tlsext_ticket_keys)",
            OwnKeys::HmacCallback => "ticket key callback (SSL_CTX_set_tlsext_ticket_key_cb)",
            OwnKeys::EvpCallback => "ticket key callback (SSL_CTX_set_tlsext_ticket_key_evp_cb)",
        })
    }
}

/// What a hook does with a server's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Pass it on.
    Pass,
    /// Say that it succeeded.
    Swallow,
}

/// What a context is for, as its method tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Only makes connections: ticket keys are of no use to it.
    Client,
    Server,
    /// libssl makes its connections, not `SSL_new`; and shows the sessions in tickets with a
    /// connection of its own, which is not the one that the ticket key callback gets.
    QuicListener,
}

/// The state of one context.
struct Context {
    role: Role,
    /// The last keys that the server set, as [`OwnKeys`]; 0 for none.
    own: AtomicI32,
    /// Nothing is left to do at `SSL_new`.
    decided: AtomicBool,
    /// What serves it; null if nothing of ours does.
    attachment: AtomicPtr<Attachment>,
    /// Where its cryptography comes from.
    library_context: LibraryContext,
    /// The server's own callbacks for sessions in tickets: ours call them.
    callbacks: SessionCallbacks,
    /// The server's own message callback, which new connections have; null for none.
    messages: AtomicPtr<c_void>,
    /// What its certificate callback makes of the policy.
    late: Late,
}

/// What a server set with `SSL_CTX_set_session_ticket_cb`: as in libssl itself,
/// nobody uses the context while it does.
#[derive(Default)]
struct SessionCallbacks {
    seals: AtomicPtr<c_void>,
    opened: AtomicPtr<c_void>,
    argument: AtomicPtr<c_void>,
    /// Ours are in place.
    ours: AtomicBool,
}

/// A context was made: the ring is opened now, with the privileges of now, and
/// what will keep the context from being served is told now.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`.
pub unsafe fn made(
    library: &'static Library,
    ctx: *mut SSL_CTX,
    method: *const SSL_METHOD,
    library_context: LibraryContext,
) {
    let Some(guest) = guest() else { return };
    let is = |of: Option<unsafe extern "C" fn() -> *const SSL_METHOD>| {
        // SAFETY: a function of that library, without arguments.
        of.is_some_and(|of| unsafe { of() } == method)
    };
    let Originals {
        tls_server_method,
        ossl_quic_server_method,
        ossl_quic_client_method,
        ossl_quic_client_thread_method,
        ..
    } = library.originals;
    // In BoringSSL and AWS-LC both are the method for everybody.
    let client = is(library.api.tls_client_method) && !is(tls_server_method)
        || is(ossl_quic_client_method)
        || is(ossl_quic_client_thread_method);
    let role = match client {
        true => Role::Client,
        false if is(ossl_quic_server_method) => Role::QuicListener,
        false => Role::Server,
    };
    // SAFETY: the caller vouches for `ctx`.
    let Some(context) = (unsafe { state(library, ctx, role, &library_context) }) else { return };
    if context.role == Role::Client {
        return;
    }
    guest.keyring(library);
    if let Err(why) = attach::is_possible(library, &context.library_context) {
        guest.stop_if_strict(&format!("a context could not be served: {why}"));
    }
}

/// A call came for a TLS library that the loader does not tell: it is passed on, and no more.
pub fn unknown() {
    if let Some(guest) = guest() {
        guest.library_is_unknown();
    }
}

/// A connection is about to be made of a context: if it is the first, the
/// context is attached. True if the connection will be served.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`.
pub unsafe fn used(library: &'static Library, ctx: *mut SSL_CTX) -> bool {
    let Some(guest) = guest() else { return false };
    // SAFETY: the caller vouches for `ctx`.
    let Some(context) = (unsafe { state_of(library, ctx) }) else {
        return false;
    };
    if context.decided.load(Ordering::Acquire) {
        return context.is_attached();
    }
    if context.role != Role::Client {
        guest.goes_into_service();
    }
    let keeps_its_own = context.own.load(Ordering::Relaxed) != 0 && !guest.config.takeover;
    // SAFETY: the caller vouches for `ctx`. A program that calls tkt_install
    // knows better than our environment how.
    let is_installed = unsafe { attach::attached(ctx) }.is_some();
    if context.role != Role::Client && !is_installed {
        let mut attachment = None;
        if !keeps_its_own {
            // SAFETY: the caller vouches for `ctx`.
            attachment = unsafe { attach(guest, library, ctx, context) };
        }
        let attachment = attachment.map_or(ptr::null(), ptr::from_ref);
        context.attachment.store(attachment.cast_mut(), Ordering::Release);
        if attachment.is_null()
            && let Some(keyring) = guest.known_keyring()
        {
            keyring.count_unsettled(Counter::LeftAlone);
        }
    }
    context.decided.store(true, Ordering::Release);
    context.is_attached()
}

impl Context {
    fn is_attached(&self) -> bool {
        !self.attachment.load(Ordering::Acquire).is_null()
    }
}

/// A connection was made of a context that is served: it keeps what the context
/// is now, and what keeps it from tickets of ours is counted.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`, which the server does not change now,
/// and `ssl` was made of it just now.
pub unsafe fn connected(library: &'static Library, ctx: *mut SSL_CTX, ssl: *mut SSL) {
    // SAFETY: the caller vouches for `ctx`, which keeps its attachment.
    let Some(context) = (unsafe { state_of(library, ctx) }) else {
        return;
    };
    // SAFETY: as above.
    let Some(attachment) = (unsafe { context.attachment.load(Ordering::Acquire).as_ref() }) else {
        return;
    };
    let now = attachment.keyring.now();
    // SAFETY: the caller vouches for both.
    unsafe {
        if let Some(part) = attachment.scope_of_new_connection((ctx, ssl), now) {
            connection::begin(ssl, attachment, part);
        }
        let messages = context.messages.load(Ordering::Relaxed);
        messages::watch(library, ssl, mem::transmute::<*mut c_void, AnyFunction>(messages));
        if let Some(unserved) = Unserved::of(library, ssl) {
            unserved.count(attachment.keyring);
        }
    }
}

/// The server is about to change the policy of a connection, or to switch its context.
///
/// # Safety
///
/// `ssl` is a live SSL of `library` that this thread uses.
pub unsafe fn policy_changes(library: &'static Library, ssl: *mut SSL) {
    // SAFETY: the caller vouches for `ssl`.
    unsafe {
        if let Some(attachment) = connection::served_by(library, ssl) {
            connection::keep_policy(attachment, ssl, attachment.keyring.now());
        }
    }
}

/// The server sets a certificate callback, which may change the policy of a connection.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`.
pub unsafe fn certificate_callback(library: &'static Library, ctx: *mut SSL_CTX) {
    if guest().is_some() {
        // SAFETY: the caller vouches for `ctx`.
        let context = unsafe { state_of(library, ctx) };
        if context.is_some_and(|context| context.role != Role::Client) {
            library.note_certificate_callback();
        }
    }
}

/// As [`certificate_callback`], for one connection.
///
/// # Safety
///
/// `ssl` is a live SSL of `library` that this thread uses.
pub unsafe fn certificate_callback_of(library: &'static Library, ssl: *mut SSL) {
    // SAFETY: the caller vouches for `ssl`.
    if unsafe { connection::served_by(library, ssl) }.is_some() {
        library.note_certificate_callback_of_connection();
    }
}

/// The server sets a message callback, which the connections that are made from now on have.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`.
pub unsafe fn message_callback(library: &'static Library, ctx: *mut SSL_CTX, own: AnyFunction) {
    if messages::is_needed(library) && !messages::is_ours(own) && guest().is_some() {
        // SAFETY: the caller vouches for `ctx`.
        let context = unsafe { state_of(library, ctx) };
        if let Some(context) = context {
            let own = own.map_or(ptr::null_mut(), |own| own as *mut c_void);
            context.messages.store(own, Ordering::Relaxed);
        }
    }
}

/// As [`message_callback`], for one connection: ours calls it.
///
/// # Safety
///
/// `ssl` is a live SSL of `library` that this thread uses.
pub unsafe fn message_callback_of(
    library: &'static Library,
    ssl: *mut SSL,
    own: AnyFunction,
) -> Verdict {
    // SAFETY: the caller vouches for `ssl`.
    if unsafe { messages::replaces(library, ssl, own) } { Verdict::Swallow } else { Verdict::Pass }
}

/// The server sets callbacks of its own for sessions in tickets. Ours call them.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`, and the functions are of those types.
pub unsafe fn session_callbacks(
    library: &'static Library,
    ctx: *mut SSL_CTX,
    seals: SealsSession,
    opened: OpenedSession,
    argument: *mut c_void,
) -> Verdict {
    if guest().is_none() {
        return Verdict::Pass;
    }
    // SAFETY: the caller vouches for `ctx`.
    let Some(context) = (unsafe { state_of(library, ctx) }) else {
        return Verdict::Pass;
    };
    let SessionCallbacks { seals: own_seals, opened: own_opened, argument: own, ours } =
        &context.callbacks;
    own_seals.store(seals.map_or(ptr::null_mut(), |it| it as *mut c_void), Ordering::Relaxed);
    own_opened.store(opened.map_or(ptr::null_mut(), |it| it as *mut c_void), Ordering::Relaxed);
    own.store(argument, Ordering::Relaxed);
    if !ours.load(Ordering::Relaxed) {
        return Verdict::Pass;
    }
    // SAFETY: the caller vouches for `ctx`.
    unsafe { see_sessions(library, ctx, context) };
    Verdict::Swallow
}

/// Puts our callbacks for sessions in tickets in front of the server's own.
/// False if the library has none.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`, which the server does not change now, and `context` its state.
unsafe fn see_sessions(library: &Library, ctx: *mut SSL_CTX, context: &Context) -> bool {
    let Some(set) = library.originals.ssl_ctx_set_session_ticket_cb else { return false };
    let argument = ptr::from_ref(context).cast_mut().cast();
    // SAFETY: the caller vouches for `ctx`; the state lives as long.
    let set = unsafe { set(ctx, Some(session_is_sealed), Some(session_was_opened), argument) } == 1;
    context.callbacks.ours.store(set, Ordering::Relaxed);
    set
}

unsafe extern "C-unwind" fn session_is_sealed(ssl: *mut SSL, context: *mut c_void) -> c_int {
    // SAFETY: what `see_sessions` gave, or null while another thread sets it (libssl sets
    // the functions first); the server's function, of that type.
    unsafe {
        let Some(context) = context.cast::<Context>().as_ref() else { return 1 };
        let SessionCallbacks { seals, argument, .. } = &context.callbacks;
        let seals = mem::transmute::<*mut c_void, SealsSession>(seals.load(Ordering::Relaxed));
        let answer = seals.map_or(1, |seals| seals(ssl, argument.load(Ordering::Relaxed)));
        if let Some(attachment) = context.attachment.load(Ordering::Acquire).as_ref()
            && answer != 0
            && late::may_change_policy(attachment)
        {
            unnoticed(attachment.library, (), || context.late.state(attachment, ssl));
        }
        answer
    }
}

unsafe extern "C-unwind" fn session_was_opened(
    ssl: *mut SSL,
    session: *mut SSL_SESSION,
    name: *const c_uchar,
    name_len: usize,
    status: c_int,
    context: *mut c_void,
) -> c_int {
    // SAFETY: as above, and what libssl hands in.
    unsafe {
        let Some(context) = context.cast::<Context>().as_ref() else {
            return Found::as_told(session, status).answer();
        };
        let attachment = context.attachment.load(Ordering::Acquire).as_ref();
        let find = |attachment: &Attachment| {
            unnoticed(attachment.library, Found::as_told(session, status), || {
                Found::new((attachment, &context.late), ssl, session, status)
            })
        };
        let found = attachment.map_or(Found::as_told(session, status), find);
        let SessionCallbacks { opened, argument, .. } = &context.callbacks;
        let own = mem::transmute::<*mut c_void, OpenedSession>(opened.load(Ordering::Relaxed));
        let answer = match own {
            Some(own) => {
                let argument = argument.load(Ordering::Relaxed);
                found.allow(own(ssl, found.session, name, name_len, found.status, argument))
            }
            None => found.answer(),
        };
        if let Some(attachment) = attachment {
            unnoticed(attachment.library, (), || found.count(attachment, ssl, answer));
        }
        answer
    }
}

/// The server sets keys of its own, or with `some` false takes them away.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`.
pub unsafe fn own_keys(
    library: &'static Library,
    ctx: *mut SSL_CTX,
    own: OwnKeys,
    some: bool,
) -> Verdict {
    let Some(guest) = guest() else { return Verdict::Pass };
    // SAFETY: the caller vouches for `ctx`.
    let Some(context) = (unsafe { state_of(library, ctx) }) else {
        return Verdict::Pass;
    };
    context.own.store(if some { own as i32 } else { 0 }, Ordering::Relaxed);
    if guest.config.takeover {
        if some {
            tell_takeover(own);
        }
        // Before we are attached its own keys are set, and serve if we cannot be.
        return if context.is_attached() { Verdict::Swallow } else { Verdict::Pass };
    }
    if !context.attachment.swap(ptr::null_mut(), Ordering::AcqRel).is_null() {
        // SAFETY: the caller vouches for `ctx`.
        unsafe { attach::detach(library, ctx) };
    }
    context.decided.store(false, Ordering::Release);
    Verdict::Pass
}

/// One line per process tree, whosever keys they are.
fn tell_takeover(own: OwnKeys) {
    static SAID: OnceOnly = OnceOnly::new();
    if SAID.first() {
        let executable = program::name();
        notice!("takeover: {executable}'s own {own} is replaced; TKTROT_TAKEOVER=no keeps it");
    }
}

/// Why a connection, or a whole listener, has no tickets of ours though its
/// context is attached.
struct Unserved {
    counter: Counter,
    line: &'static str,
    said: &'static OnceOnly,
}

impl Unserved {
    const TICKETS_OFF: Unserved = Unserved {
        counter: Counter::TicketsOff,
        line: "tickets are switched off (SSL_OP_NO_TICKET) for a connection: it gets none of \
               libtktrot's",
        said: {
            static SAID: OnceOnly = OnceOnly::new();
            &SAID
        },
    };
    const ANTI_REPLAY: Unserved = Unserved {
        counter: Counter::AntiReplay,
        line: "early data is on without SSL_OP_NO_ANTI_REPLAY: TLS 1.3 tickets stay libssl's own",
        said: {
            static SAID: OnceOnly = OnceOnly::new();
            &SAID
        },
    };

    /// What a connection's settings tell right after it was made.
    ///
    /// # Safety
    ///
    /// `ssl` is a live SSL of `library`.
    unsafe fn of(library: &Library, ssl: *mut SSL) -> Option<Unserved> {
        /// `SSL_OP_NO_TICKET` and `SSL_OP_NO_ANTI_REPLAY`.
        const NO_TICKET: u64 = 1 << 14;
        const NO_ANTI_REPLAY: u64 = 1 << 24;
        let Originals { ssl_get_options, ssl_get_max_early_data, .. } = library.originals;
        // SAFETY: the caller vouches for `ssl`.
        let (options, early_data) = unsafe {
            let options = ssl_get_options.map_or_else(|| library.api.options(ssl), |get| get(ssl));
            (options, ssl_get_max_early_data.map_or(0, |get| get(ssl)))
        };
        if options & NO_TICKET != 0 {
            Some(Unserved::TICKETS_OFF)
        } else if early_data > 0 && options & NO_ANTI_REPLAY == 0 {
            Some(Unserved::ANTI_REPLAY)
        } else {
            None
        }
    }

    fn count(&self, keyring: &Keyring) {
        keyring.count_unsettled(self.counter);
        if self.said.first() {
            warning!("{}", self.line);
        }
    }
}

/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`, which the server does not change now.
unsafe fn attach<'c>(
    guest: &'static Guest,
    library: &'static Library,
    ctx: *mut SSL_CTX,
    context: &Context,
) -> Option<&'c Attachment> {
    let keyring = guest.keyring_at_use(library)?;
    let mut attachment = Attachment::new(&guest.config, library, keyring, &context.library_context);
    let connections = match context.role {
        Role::QuicListener => Connections::KeepNone,
        Role::Client | Role::Server => Connections::KeepTheirs,
    };
    // SAFETY: the caller vouches for `ctx`.
    if connections == Connections::KeepTheirs && unsafe { see_sessions(library, ctx, context) } {
        attachment = attachment.that_sees_sessions();
    }
    // SAFETY: the caller vouches for `ctx`; `connected` lets each connection
    // keep what it is then, but for those that are made out of our sight.
    match unsafe { attach::attach(ctx, attachment, connections) } {
        Ok(attachment) => Some(attachment),
        Err(why) => {
            static SAID: OnceOnly = OnceOnly::new();
            if SAID.first() {
                error!("a context keeps the ticket keys it has: {why}");
            }
            None
        }
    }
}

/// The state of a context; of one that was made out of our sight, as of a server's.
///
/// # Safety
///
/// As for [`state`].
unsafe fn state_of<'c>(library: &'static Library, ctx: *mut SSL_CTX) -> Option<&'c Context> {
    // SAFETY: passed on from the caller.
    unsafe { state(library, ctx, Role::Server, &LibraryContext::DEFAULT) }
}

/// The state of a context, made for one from that home if it has none yet;
/// `None` if it cannot have one.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`.
unsafe fn state<'c>(
    library: &'static Library,
    ctx: *mut SSL_CTX,
    role: Role,
    library_context: &LibraryContext,
) -> Option<&'c Context> {
    let api = &library.api;
    let cell = &library.indices.shim;
    // SAFETY: the caller vouches for `ctx`. Under our index there is null or a
    // Context, which lives as long as `ctx` and is only shared.
    unsafe {
        let index = cell.load(Ordering::Relaxed);
        let known =
            if index < 0 { None } else { api.ctx_data(ctx, index).cast::<Context>().as_ref() };
        known.or_else(|| {
            let _lock = process::exclusive();
            let index = Indices::get_or_make(cell, || api.new_ctx_index(Some(free)));
            if index < 0 {
                return None;
            }
            let present = api.ctx_data(ctx, index).cast::<Context>();
            if !present.is_null() {
                return present.as_ref();
            }
            let new = Box::into_raw(Box::new(Context {
                role,
                own: AtomicI32::new(0),
                decided: AtomicBool::new(false),
                attachment: AtomicPtr::new(ptr::null_mut()),
                library_context: library_context.clone(),
                callbacks: SessionCallbacks::default(),
                messages: AtomicPtr::new(ptr::null_mut()),
                late: Late::of_new_context(ctx.addr()),
            }));
            if api.set_ctx_data(ctx, index, new.cast()) {
                return new.as_ref();
            }
            drop(Box::from_raw(new));
            None
        })
    }
}

unsafe extern "C" fn free(
    _parent: *mut c_void,
    context: *mut c_void,
    _ad: *mut c_void,
    _index: c_int,
    _argl: c_long,
    _argp: *mut c_void,
) {
    if !context.is_null() {
        // SAFETY: stored by `state`, and ex_data calls this once per object.
        drop(unsafe { Box::from_raw(context.cast::<Context>()) });
    }
}
