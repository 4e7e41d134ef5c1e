//! The ClientHello, of a TLS library that shows the server name nowhere else while a ticket is
//! opened ([`NameSource::Message`]): LibreSSL. Its message callback (SSL_set_msg_callback(3)) is
//! shown every message that was read, before anything is made of it.
//!
//! There is one such callback. Under the shim each connection has ours, and the server's own,
//! which [`super::connection`] keeps, is called by it with what it would have got: nobody touches the
//! argument that the server set, so what libssl hands in is that. A host that is linked with us
//! hands on what its own callback gets (`tkt_message`), or has none.

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use openssl_sys::{SSL, SSL_CTX};

use super::api::{AnyFunction, NameSource};
use super::client_hello::{self, ClientHello};
use super::connection;
use super::error_queue::Mark;
use super::resolve::{self, Library};
use crate::unnoticed::Unnoticed;

/// What `SSL_set_msg_callback` takes: whether it was sent, the version, the type of its record,
/// the message, the connection, and the server's argument.
pub type MessageCallback =
    unsafe extern "C-unwind" fn(c_int, c_int, c_int, *const c_void, usize, *mut SSL, *mut c_void);

/// `SSL_CTRL_SET_MSG_CALLBACK`: the same by `SSL_callback_ctrl` and `SSL_CTX_callback_ctrl`.
pub const CTRL_SET_MSG_CALLBACK: c_int = 15;
/// `SSL3_RT_HANDSHAKE`.
const HANDSHAKE: c_int = 22;

/// Nothing tells a callback which TLS library called it but which function it is. So many of one
/// process can have one.
const CALLERS: usize = 4;
/// One table of each; there may be more of the same ([`is_same`]).
static OF: [AtomicPtr<Library>; CALLERS] = [const { AtomicPtr::new(ptr::null_mut()) }; CALLERS];
static CALLBACKS: [MessageCallback; CALLERS] =
    [message::<0>, message::<1>, message::<2>, message::<3>];

/// Has our callback called for a connection that was made just now, whose server's own callback
/// is that one.
///
/// # Safety
///
/// `ssl` is a live SSL of `library` that no other thread has yet; `own` is what is set for it.
pub unsafe fn watch(library: &'static Library, ssl: *mut SSL, own: AnyFunction) {
    let control = library.api.ssl_callback_ctrl.filter(|_| is_needed(library));
    let Some((control, ours)) = control.zip(callback_of(library)) else { return };
    // SAFETY: passed on from the caller; ours takes what libssl hands in.
    unsafe {
        if connection::keep_messages(library, ssl, own) {
            control(ssl, CTRL_SET_MSG_CALLBACK, Some(ours));
        }
    }
}

/// Has our callback called for all connections of a context from now on, in place of another.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`, which nobody uses meanwhile.
pub unsafe fn watch_all_of(library: &'static Library, ctx: *mut SSL_CTX) {
    let control = library.api.ssl_ctx_callback_ctrl.filter(|_| is_needed(library));
    if let Some((control, ours)) = control.zip(callback_of(library)) {
        // SAFETY: passed on from the caller; ours takes what libssl hands in.
        unsafe { control(ctx, CTRL_SET_MSG_CALLBACK, Some(ours)) };
    }
}

/// The server sets a message callback of a connection. True if that is done by keeping it,
/// because ours calls it.
///
/// # Safety
///
/// `ssl` is a live SSL of `library` that this thread uses.
pub unsafe fn replaces(library: &'static Library, ssl: *mut SSL, own: AnyFunction) -> bool {
    // SAFETY: passed on from the caller.
    unsafe {
        is_needed(library)
            && !is_ours(own)
            && connection::own_messages(library, ssl).is_some()
            && connection::keep_messages(library, ssl, own)
    }
}

/// True for a callback of ours, which libssl has from us and nobody else.
pub fn is_ours(callback: AnyFunction) -> bool {
    let is = |ours: MessageCallback| callback.is_some_and(|it| it as usize == ours as usize);
    CALLBACKS.into_iter().any(is)
}

/// True if a library shows the name in a message only.
pub fn is_needed(library: &Library) -> bool {
    library.api.name_source() == NameSource::Message
}

/// All tables of that TLS library: a host may have passed one, and have another found.
fn tables_of(library: &Library) -> impl Iterator<Item = &'static Library> {
    resolve::all().filter(|table| is_same(table, library))
}

/// True if two tables are of one TLS library.
fn is_same(one: &Library, other: &Library) -> bool {
    let identity = |library: &Library| library.api.ssl_set_ex_data.map(|set| set as usize);
    identity(one) == identity(other)
}

/// A message was read: what is needed of a ClientHello is kept.
///
/// # Safety
///
/// What the library's message callback got, of a connection of it.
unsafe fn read(caller: &'static Library, ssl: *mut SSL, message: &[u8]) {
    if !client_hello::is_one(message) {
        return;
    }
    let _mark = Mark::set(&caller.api);
    let hello = ClientHello::read(message);
    for table in tables_of(caller) {
        // SAFETY: passed on from the caller.
        unsafe { connection::note_hello(table, ssl, hello.as_ref()) };
    }
}

/// As [`read`], for what a host hands on: of the TLS library that needs it, if that is one only.
///
/// # Safety
///
/// As for [`MessageCallback`], of a connection of the TLS library that the host is linked with.
pub unsafe fn handed_on(
    is_sent: bool,
    kind: c_int,
    message: (*const c_void, usize),
    ssl: *mut SSL,
) {
    let [first, second, ..] = &OF;
    if !second.load(Ordering::Acquire).is_null() {
        return;
    }
    // SAFETY: null or a leaked Library; the rest is passed on from the caller.
    unsafe {
        if let Some(library) = first.load(Ordering::Acquire).as_ref()
            && let Some(message) = shown(is_sent, kind, message)
        {
            read(library, ssl, message);
        }
    }
}

/// The handshake message that was read, if it is one.
///
/// # Safety
///
/// A message is null or valid for its length.
unsafe fn shown<'m>(
    is_sent: bool,
    kind: c_int,
    (data, len): (*const c_void, usize),
) -> Option<&'m [u8]> {
    let is_it = !is_sent && kind == HANDSHAKE && !data.is_null();
    // SAFETY: passed on from the caller.
    is_it.then(|| unsafe { std::slice::from_raw_parts(data.cast(), len) })
}

/// The callback for a TLS library, if it can have one.
fn callback_of(library: &'static Library) -> Option<unsafe extern "C" fn()> {
    let this = ptr::from_ref(library).cast_mut();
    let mut places = OF.iter().zip(CALLBACKS);
    let (_, callback) = places.find(|(place, _)| {
        let taken =
            place.compare_exchange(ptr::null_mut(), this, Ordering::AcqRel, Ordering::Acquire);
        // SAFETY: not null, and so a leaked Library.
        taken.map_or_else(|by| is_same(unsafe { &*by }, library), |_| true)
    })?;
    // SAFETY: the C API passes every callback as a plain function pointer.
    Some(unsafe { std::mem::transmute::<MessageCallback, unsafe extern "C" fn()>(callback) })
}

/// Nothing here has to be cleaned up when the server's own callback is called: a thread that is
/// cancelled in it is unwound through this, as if it were not there.
unsafe extern "C-unwind" fn message<const CALLER: usize>(
    is_sent: c_int,
    version: c_int,
    kind: c_int,
    data: *const c_void,
    len: usize,
    ssl: *mut SSL,
    argument: *mut c_void,
) {
    // SAFETY: what the library at this place handed in; the server's own function, of that type.
    unsafe {
        let Some(library) = OF[CALLER].load(Ordering::Acquire).as_ref() else { return };
        if let Some(message) = shown(is_sent != 0, kind, (data, len)) {
            let _unnoticed = Unnoticed::begin();
            let _ = catch_unwind(AssertUnwindSafe(|| read(library, ssl, message)));
        }
        let own = tables_of(library).find_map(|table| connection::own_messages(table, ssl));
        if let Some(own) = own.flatten() {
            let own = std::mem::transmute::<unsafe extern "C" fn(), MessageCallback>(own);
            own(is_sent, version, kind, data, len, ssl, argument);
        }
    }
}
