//! What a connection keeps of ours, in its ex_data: what its context was when
//! it was made, and between the opening and the renewal of a ticket, the
//! server name.

use std::ffi::{c_int, c_long, c_void};
use std::ptr;
use std::sync::Arc;

use openssl_sys::SSL;

use super::api::TlsApi;
use super::resolve::Library;
use super::scope::ContextPart;
use super::sni::{HostName, ServerName};

/// One connection's.
#[derive(Default)]
struct Connection {
    part: Option<Arc<ContextPart>>,
    opened: Option<Box<Opened>>,
}

/// A ticket was opened, and is to be renewed.
struct Opened {
    /// The ClientHello's random bytes: another handshake of the same connection
    /// (SSL_clear(3)) has others.
    random: [u8; 32],
    /// The name that the client asked for; `None` if it asked for none.
    host: Option<HostName>,
}

/// Keeps, with a connection that was made just now, what its context was then.
///
/// # Safety
///
/// `ssl` is a live SSL of `library` that no other thread has yet.
pub unsafe fn begin(library: &'static Library, ssl: *mut SSL, part: Arc<ContextPart>) {
    // SAFETY: passed on from the caller.
    unsafe { with(library, ssl, |connection| connection.part = Some(part)) };
}

/// What the context of a connection was when that was made; `None` if it was
/// made out of our sight.
///
/// # Safety
///
/// `ssl` is the connection of the callback that runs, and the result is not
/// used when that has ended.
pub unsafe fn part<'c>(library: &Library, ssl: *mut SSL) -> Option<&'c Arc<ContextPart>> {
    // SAFETY: passed on from the caller.
    unsafe { of(library, ssl) }?.part.as_ref()
}

/// Keeps the name of a connection whose ticket is being opened, for its
/// renewal. A malformed one is not kept: such a handshake ends before that.
///
/// # Safety
///
/// `ssl` is the connection of the callback that runs.
pub unsafe fn remember(library: &'static Library, ssl: *mut SSL, name: &ServerName<'_>) {
    let host = match name {
        ServerName::None => None,
        ServerName::Name(name) => Some(name.clone()),
        ServerName::Malformed(_) => return,
    };
    // SAFETY: passed on from the caller.
    unsafe {
        let Some(random) = client_random(&library.api, ssl) else { return };
        let opened = Some(Box::new(Opened { random, host }));
        with(library, ssl, |connection| connection.opened = opened);
    }
}

/// The name that was kept in this handshake, once. `None` if there is none.
///
/// # Safety
///
/// `ssl` is the connection of the callback that runs.
pub unsafe fn recall(library: &Library, ssl: *mut SSL) -> Option<ServerName<'static>> {
    // SAFETY: passed on from the caller.
    unsafe {
        let opened = of(library, ssl)?.opened.take()?;
        let same = client_random(&library.api, ssl) == Some(opened.random);
        same.then(|| opened.host.map_or(ServerName::None, ServerName::Name))
    }
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

/// # Safety
///
/// As for [`of`].
unsafe fn with(library: &'static Library, ssl: *mut SSL, then: impl FnOnce(&mut Connection)) {
    // SAFETY: passed on from the caller.
    if let Some(connection) = unsafe { of(library, ssl) } {
        return then(connection);
    }
    let (index, Some(set)) = (library.indices.connection(), library.api.ssl_set_ex_data) else {
        return;
    };
    let mut new = Box::<Connection>::default();
    then(&mut new);
    let new = Box::into_raw(new);
    // SAFETY: the caller vouches for `ssl`; a box of ours for the index's free function.
    unsafe {
        if index < 0 || set(ssl, index, new.cast()) != 1 {
            drop(Box::from_raw(new));
        }
    }
}

/// Makes the index for [`Connection`]s; < 0 if there is none.
pub fn new_index(library: &'static Library) -> c_int {
    let argument = ptr::from_ref(library).cast_mut().cast();
    library.api.new_ssl_index(argument, Some(duplicate), Some(free))
}

/// A duplicate (SSL_dup(3)) is made of the same context, and opened nothing.
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
        // One that was made in our sight has its own.
        let own = library.api.crypto_get_ex_data.map(|get| get(to, index).cast::<Connection>());
        if let Some(own) = own.filter(|own| !own.is_null()) {
            from.write(own);
            return 1;
        }
        let part = from.read().as_ref().and_then(|connection| connection.part.clone());
        let same = part.map(|part| Box::new(Connection { part: Some(part), opened: None }));
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
