//! The functions that stand in front of libssl's. Each finds the original
//! through its caller, passes the call on, and tells [`crate::context`] what
//! happened. They have no symbol version: a named one would keep glibc from
//! binding a versioned reference to them.
//!
//! Whatever goes wrong on our side, the server's own call is made. Around it
//! there is nothing that has to be cleaned up: a thread that is cancelled in it
//! is unwound through these functions, as if they were not there.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_long, c_void};

use openssl_sys::{SSL, SSL_CTX, SSL_METHOD};
use tktrot::tls::algorithms::LibraryContext;
use tktrot::tls::api::{
    AnyFunction, CTRL_SET_TICKET_KEY_CB, CTRL_SET_TICKET_KEYS, EvpCallback, HmacCallback,
};
use tktrot::tls::messages::CTRL_SET_MSG_CALLBACK;
use tktrot::tls::resolve::{self, Library, OpenedSession, SealsSession};
use tktrot::{go_on_with_caller, process};

use crate::context::{self, OwnKeys, Verdict};
use crate::guest::{shielded, unnoticed};

/// Passes a call on to the library's function, or where that is not known, to whatever the
/// caller would reach without us. Where there is none, `otherwise` is the result.
macro_rules! pass_on {
    (
        $library:ident.$table:ident.$field:ident($($argument:expr),+),
        $caller:ident,
        $name:literal,
        $otherwise:expr
    ) => {{
        let original = match $library {
            Some(library) => library.$table.$field,
            // SAFETY: a function of that documented name, whose type the field has; null becomes None.
            None => unsafe {
                std::mem::transmute::<*const c_void, Option<_>>(function_for($caller, $name))
            },
        };
        let outer = WITHIN.replace($library);
        let result = match original {
            // SAFETY: the server's own call.
            Some(original) => unsafe { original($($argument),+) },
            None => $otherwise,
        };
        WITHIN.set(outer);
        result
    }};
}

/// `SSL_CTX_new(3)`.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_CTX_new(method: *const SSL_METHOD) -> *mut SSL_CTX {
    go_on_with_caller!(1, ssl_ctx_new)
}

unsafe extern "C-unwind" fn ssl_ctx_new(
    method: *const SSL_METHOD,
    caller: *const c_void,
) -> *mut SSL_CTX {
    let library = library(caller, c"SSL_CTX_new");
    let ctx = pass_on!(
        library.originals.ssl_ctx_new(method),
        caller,
        c"SSL_CTX_new",
        std::ptr::null_mut()
    );
    made(library, ctx, method, (std::ptr::null_mut(), std::ptr::null()));
    ctx
}

/// `SSL_CTX_new_ex(3)`; libssl's own `SSL_CTX_new` calls it through the PLT.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_CTX_new_ex(
    libctx: *mut c_void,
    properties: *const c_char,
    method: *const SSL_METHOD,
) -> *mut SSL_CTX {
    go_on_with_caller!(3, ssl_ctx_new_ex)
}

unsafe extern "C-unwind" fn ssl_ctx_new_ex(
    libctx: *mut c_void,
    properties: *const c_char,
    method: *const SSL_METHOD,
    caller: *const c_void,
) -> *mut SSL_CTX {
    let library = library(caller, c"SSL_CTX_new_ex");
    let ctx = pass_on!(
        library.originals.ssl_ctx_new_ex(libctx, properties, method),
        caller,
        c"SSL_CTX_new_ex",
        std::ptr::null_mut()
    );
    made(library, ctx, method, (libctx, properties));
    ctx
}

/// `SSL_new(3)`.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_new(ctx: *mut SSL_CTX) -> *mut SSL {
    go_on_with_caller!(1, ssl_new)
}

unsafe extern "C-unwind" fn ssl_new(ctx: *mut SSL_CTX, caller: *const c_void) -> *mut SSL {
    let library = library(caller, c"SSL_new");
    let known = library.filter(|_| !ctx.is_null() && !process::is_looking());
    // SAFETY: not null, so the server vouches for it.
    let served = known.filter(|it| unnoticed(it, false, || unsafe { context::used(it, ctx) }));
    let ssl = pass_on!(library.originals.ssl_new(ctx), caller, c"SSL_new", std::ptr::null_mut());
    if let Some(library) = served.filter(|_| !ssl.is_null()) {
        // SAFETY: the original has just made it, of that context.
        unnoticed(library, (), || unsafe { context::connected(library, ctx, ssl) });
    }
    ssl
}

/// `SSL_new_listener(3)`, of OpenSSL 3.5 and later: libssl makes the connections of a QUIC
/// listener itself.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_new_listener(ctx: *mut SSL_CTX, flags: u64) -> *mut SSL {
    go_on_with_caller!(2, ssl_new_listener)
}

unsafe extern "C-unwind" fn ssl_new_listener(
    ctx: *mut SSL_CTX,
    flags: u64,
    caller: *const c_void,
) -> *mut SSL {
    let library = library(caller, c"SSL_new_listener");
    listens(library, ctx);
    pass_on!(
        library.originals.ssl_new_listener(ctx, flags),
        caller,
        c"SSL_new_listener",
        std::ptr::null_mut()
    )
}

/// `SSL_new_domain(3)`: `SSL_new_listener_from(3)` makes listeners of it.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_new_domain(ctx: *mut SSL_CTX, flags: u64) -> *mut SSL {
    go_on_with_caller!(2, ssl_new_domain)
}

unsafe extern "C-unwind" fn ssl_new_domain(
    ctx: *mut SSL_CTX,
    flags: u64,
    caller: *const c_void,
) -> *mut SSL {
    let library = library(caller, c"SSL_new_domain");
    listens(library, ctx);
    pass_on!(
        library.originals.ssl_new_domain(ctx, flags),
        caller,
        c"SSL_new_domain",
        std::ptr::null_mut()
    )
}

/// A context is about to have a QUIC listener.
fn listens(library: Option<&'static Library>, ctx: *mut SSL_CTX) {
    if let Some(library) = library.filter(|_| !ctx.is_null() && !process::is_looking()) {
        // SAFETY: not null, so the server vouches for it.
        unnoticed(library, false, || unsafe { context::used(library, ctx) });
    }
}

/// `SSL_CTX_callback_ctrl(3)`: among others `SSL_CTX_set_tlsext_ticket_key_cb(3)`.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_CTX_callback_ctrl(
    ctx: *mut SSL_CTX,
    command: c_int,
    callback: AnyFunction,
) -> c_long {
    go_on_with_caller!(3, ssl_ctx_callback_ctrl)
}

unsafe extern "C-unwind" fn ssl_ctx_callback_ctrl(
    ctx: *mut SSL_CTX,
    command: c_int,
    callback: AnyFunction,
    caller: *const c_void,
) -> c_long {
    let library = library(caller, c"SSL_CTX_callback_ctrl");
    if command == CTRL_SET_MSG_CALLBACK {
        message_callback(library, ctx, callback);
    }
    if command == CTRL_SET_TICKET_KEY_CB
        && own_keys(library, ctx, OwnKeys::HmacCallback, callback.is_some()) == Verdict::Swallow
    {
        return 1;
    }
    pass_on!(
        library.api.ssl_ctx_callback_ctrl(ctx, command, callback),
        caller,
        c"SSL_CTX_callback_ctrl",
        0
    )
}

/// `SSL_CTX_ctrl(3)`: among others `SSL_CTX_set_tlsext_ticket_keys(3)`.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_CTX_ctrl(
    ctx: *mut SSL_CTX,
    command: c_int,
    number: c_long,
    data: *mut c_void,
) -> c_long {
    go_on_with_caller!(4, ssl_ctx_ctrl)
}

unsafe extern "C-unwind" fn ssl_ctx_ctrl(
    ctx: *mut SSL_CTX,
    command: c_int,
    number: c_long,
    data: *mut c_void,
    caller: *const c_void,
) -> c_long {
    let library = library(caller, c"SSL_CTX_ctrl");
    // Without data it only asks for the size of the keys.
    if command == CTRL_SET_TICKET_KEYS && !data.is_null() {
        // Fixed keys never displace a callback: they can be set in any case.
        own_keys(library, ctx, OwnKeys::Fixed, true);
    }
    pass_on!(library.originals.ssl_ctx_ctrl(ctx, command, number, data), caller, c"SSL_CTX_ctrl", 0)
}

/// `SSL_CTX_set_tlsext_ticket_key_evp_cb(3)`.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_CTX_set_tlsext_ticket_key_evp_cb(
    ctx: *mut SSL_CTX,
    callback: EvpCallback,
) -> c_int {
    go_on_with_caller!(2, ssl_ctx_set_tlsext_ticket_key_evp_cb)
}

unsafe extern "C-unwind" fn ssl_ctx_set_tlsext_ticket_key_evp_cb(
    ctx: *mut SSL_CTX,
    callback: EvpCallback,
    caller: *const c_void,
) -> c_int {
    let library = library(caller, c"SSL_CTX_set_tlsext_ticket_key_evp_cb");
    if own_keys(library, ctx, OwnKeys::EvpCallback, callback.is_some()) == Verdict::Swallow {
        return 1;
    }
    pass_on!(
        library.api.ssl_ctx_set_tlsext_ticket_key_evp_cb(ctx, callback),
        caller,
        c"SSL_CTX_set_tlsext_ticket_key_evp_cb",
        0
    )
}

/// `SSL_CTX_set_tlsext_ticket_key_cb`: a real function in BoringSSL and AWS-LC,
/// a macro in OpenSSL.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_CTX_set_tlsext_ticket_key_cb(
    ctx: *mut SSL_CTX,
    callback: HmacCallback,
) -> c_int {
    go_on_with_caller!(2, ssl_ctx_set_tlsext_ticket_key_cb)
}

unsafe extern "C-unwind" fn ssl_ctx_set_tlsext_ticket_key_cb(
    ctx: *mut SSL_CTX,
    callback: HmacCallback,
    caller: *const c_void,
) -> c_int {
    let library = library(caller, c"SSL_CTX_set_tlsext_ticket_key_cb");
    if own_keys(library, ctx, OwnKeys::HmacCallback, callback.is_some()) == Verdict::Swallow {
        return 1;
    }
    pass_on!(
        library.api.ssl_ctx_set_tlsext_ticket_key_cb(ctx, callback),
        caller,
        c"SSL_CTX_set_tlsext_ticket_key_cb",
        0
    )
}

/// `SSL_CTX_set_msg_callback(3)`.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_CTX_set_msg_callback(ctx: *mut SSL_CTX, callback: AnyFunction) {
    go_on_with_caller!(2, ssl_ctx_set_msg_callback)
}

unsafe extern "C-unwind" fn ssl_ctx_set_msg_callback(
    ctx: *mut SSL_CTX,
    callback: AnyFunction,
    caller: *const c_void,
) {
    let library = library(caller, c"SSL_CTX_set_msg_callback");
    message_callback(library, ctx, callback);
    pass_on!(
        library.originals.ssl_ctx_set_msg_callback(ctx, callback),
        caller,
        c"SSL_CTX_set_msg_callback",
        ()
    );
}

/// `SSL_set_msg_callback(3)`.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_set_msg_callback(ssl: *mut SSL, callback: AnyFunction) {
    go_on_with_caller!(2, ssl_set_msg_callback)
}

unsafe extern "C-unwind" fn ssl_set_msg_callback(
    ssl: *mut SSL,
    callback: AnyFunction,
    caller: *const c_void,
) {
    let library = library(caller, c"SSL_set_msg_callback");
    if message_callback_of(library, ssl, callback) == Verdict::Pass {
        pass_on!(
            library.originals.ssl_set_msg_callback(ssl, callback),
            caller,
            c"SSL_set_msg_callback",
            ()
        );
    }
}

/// `SSL_callback_ctrl`: among others `SSL_set_msg_callback(3)` under another name.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_callback_ctrl(
    ssl: *mut SSL,
    command: c_int,
    callback: AnyFunction,
) -> c_long {
    go_on_with_caller!(3, ssl_callback_ctrl)
}

unsafe extern "C-unwind" fn ssl_callback_ctrl(
    ssl: *mut SSL,
    command: c_int,
    callback: AnyFunction,
    caller: *const c_void,
) -> c_long {
    let library = library(caller, c"SSL_callback_ctrl");
    if command == CTRL_SET_MSG_CALLBACK
        && message_callback_of(library, ssl, callback) == Verdict::Swallow
    {
        return 1;
    }
    pass_on!(
        library.originals.ssl_callback_ctrl(ssl, command, callback),
        caller,
        c"SSL_callback_ctrl",
        0
    )
}

/// `SSL_set_verify(3)`.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_set_verify(ssl: *mut SSL, mode: c_int, callback: AnyFunction) {
    go_on_with_caller!(3, ssl_set_verify)
}

unsafe extern "C-unwind" fn ssl_set_verify(
    ssl: *mut SSL,
    mode: c_int,
    callback: AnyFunction,
    caller: *const c_void,
) {
    let library = library(caller, c"SSL_set_verify");
    policy_changes(library, ssl);
    pass_on!(library.originals.ssl_set_verify(ssl, mode, callback), caller, c"SSL_set_verify", ());
}

/// `SSL_set_verify_depth(3)`.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_set_verify_depth(ssl: *mut SSL, depth: c_int) {
    go_on_with_caller!(2, ssl_set_verify_depth)
}

unsafe extern "C-unwind" fn ssl_set_verify_depth(
    ssl: *mut SSL,
    depth: c_int,
    caller: *const c_void,
) {
    let library = library(caller, c"SSL_set_verify_depth");
    policy_changes(library, ssl);
    pass_on!(
        library.originals.ssl_set_verify_depth(ssl, depth),
        caller,
        c"SSL_set_verify_depth",
        ()
    );
}

/// `SSL_set_client_CA_list(3)`.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_set_client_CA_list(ssl: *mut SSL, names: *mut c_void) {
    go_on_with_caller!(2, ssl_set_client_ca_list)
}

unsafe extern "C-unwind" fn ssl_set_client_ca_list(
    ssl: *mut SSL,
    names: *mut c_void,
    caller: *const c_void,
) {
    let library = library(caller, c"SSL_set_client_CA_list");
    policy_changes(library, ssl);
    pass_on!(
        library.originals.ssl_set_client_ca_list(ssl, names),
        caller,
        c"SSL_set_client_CA_list",
        ()
    );
}

/// `SSL_set_SSL_CTX`, with which servername and ClientHello callbacks switch
/// to the context of a name.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_set_SSL_CTX(ssl: *mut SSL, ctx: *mut SSL_CTX) -> *mut SSL_CTX {
    go_on_with_caller!(2, ssl_set_ssl_ctx)
}

unsafe extern "C-unwind" fn ssl_set_ssl_ctx(
    ssl: *mut SSL,
    ctx: *mut SSL_CTX,
    caller: *const c_void,
) -> *mut SSL_CTX {
    let library = library(caller, c"SSL_set_SSL_CTX");
    policy_changes(library, ssl);
    pass_on!(
        library.originals.ssl_set_ssl_ctx(ssl, ctx),
        caller,
        c"SSL_set_SSL_CTX",
        std::ptr::null_mut()
    )
}

/// `SSL_CTX_set_cert_cb(3)`.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_CTX_set_cert_cb(
    ctx: *mut SSL_CTX,
    callback: AnyFunction,
    argument: *mut c_void,
) {
    go_on_with_caller!(3, ssl_ctx_set_cert_cb)
}

unsafe extern "C-unwind" fn ssl_ctx_set_cert_cb(
    ctx: *mut SSL_CTX,
    callback: AnyFunction,
    argument: *mut c_void,
    caller: *const c_void,
) {
    let library = library(caller, c"SSL_CTX_set_cert_cb");
    if let Some(library) = library.filter(|_| !ctx.is_null() && callback.is_some()) {
        // SAFETY: not null, so the server vouches for it.
        unnoticed(library, (), || unsafe { context::certificate_callback(library, ctx) });
    }
    pass_on!(
        library.originals.ssl_ctx_set_cert_cb(ctx, callback, argument),
        caller,
        c"SSL_CTX_set_cert_cb",
        ()
    );
}

/// `SSL_set_cert_cb(3)`.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_set_cert_cb(
    ssl: *mut SSL,
    callback: AnyFunction,
    argument: *mut c_void,
) {
    go_on_with_caller!(3, ssl_set_cert_cb)
}

unsafe extern "C-unwind" fn ssl_set_cert_cb(
    ssl: *mut SSL,
    callback: AnyFunction,
    argument: *mut c_void,
    caller: *const c_void,
) {
    let library = library(caller, c"SSL_set_cert_cb");
    if let Some(library) = library.filter(|_| !ssl.is_null() && callback.is_some()) {
        // SAFETY: not null, so the server vouches for it.
        unnoticed(library, (), || unsafe { context::certificate_callback_of(library, ssl) });
    }
    pass_on!(
        library.originals.ssl_set_cert_cb(ssl, callback, argument),
        caller,
        c"SSL_set_cert_cb",
        ()
    );
}

/// `SSL_CTX_set_session_ticket_cb(3)`.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C-unwind" fn SSL_CTX_set_session_ticket_cb(
    ctx: *mut SSL_CTX,
    seals: SealsSession,
    opened: OpenedSession,
    argument: *mut c_void,
) -> c_int {
    go_on_with_caller!(4, ssl_ctx_set_session_ticket_cb)
}

unsafe extern "C-unwind" fn ssl_ctx_set_session_ticket_cb(
    ctx: *mut SSL_CTX,
    seals: SealsSession,
    opened: OpenedSession,
    argument: *mut c_void,
    caller: *const c_void,
) -> c_int {
    let library = library(caller, c"SSL_CTX_set_session_ticket_cb");
    if let Some(library) = library.filter(|_| !ctx.is_null()) {
        // SAFETY: not null, so the server vouches for it, and for its functions.
        let verdict = unnoticed(library, Verdict::Pass, || unsafe {
            context::session_callbacks(library, ctx, seals, opened, argument)
        });
        if verdict == Verdict::Swallow {
            return 1;
        }
    }
    pass_on!(
        library.originals.ssl_ctx_set_session_ticket_cb(ctx, seals, opened, argument),
        caller,
        c"SSL_CTX_set_session_ticket_cb",
        0
    )
}

/// The TLS library whose function of that name the caller means.
fn library(caller: *const c_void, function: &CStr) -> Option<&'static Library> {
    shielded(None, || match WITHIN.get() {
        // An original ended with a jump to another function that we stand in
        // front of (SSL_CTX_new to SSL_CTX_new_ex): our own call of it is what
        // the return address tells, not the library.
        Some(outer) if resolve::is_ours(caller) => Some(outer),
        _ => resolve::library_at(caller, function),
    })
}

/// The function of that name that the caller means, of a library that we do not know; null if there
/// is none.
#[cold]
fn function_for(caller: *const c_void, name: &CStr) -> *const c_void {
    shielded(std::ptr::null(), || {
        context::unknown();
        resolve::function_for(caller, name).unwrap_or(std::ptr::null())
    })
}

thread_local! {
    /// The library whose original a hook on this thread is calling. Stays as it
    /// is on a thread that was cancelled there, and ends.
    static WITHIN: Cell<Option<&'static Library>> = const { Cell::new(None) };
}

fn made(
    library: Option<&'static Library>,
    ctx: *mut SSL_CTX,
    method: *const SSL_METHOD,
    (libctx, properties): (*mut c_void, *const c_char),
) {
    if let Some(library) = library.filter(|_| !ctx.is_null()) {
        unnoticed(library, (), || {
            // SAFETY: null, or a query that the original has just read.
            let properties = (!properties.is_null())
                .then(|| unsafe { CStr::from_ptr(properties) }.to_owned())
                .filter(|query| !query.is_empty());
            // SAFETY: the original has just made it.
            unsafe { context::made(library, ctx, method, LibraryContext { libctx, properties }) };
        });
    }
}

fn own_keys(
    library: Option<&'static Library>,
    ctx: *mut SSL_CTX,
    own: OwnKeys,
    some: bool,
) -> Verdict {
    library.filter(|_| !ctx.is_null()).map_or(Verdict::Pass, |library| {
        // SAFETY: not null, so the server vouches for it.
        unnoticed(library, Verdict::Pass, || unsafe { context::own_keys(library, ctx, own, some) })
    })
}

fn message_callback(library: Option<&'static Library>, ctx: *mut SSL_CTX, callback: AnyFunction) {
    if let Some(library) = library.filter(|_| !ctx.is_null()) {
        // SAFETY: not null, so the server vouches for it.
        unnoticed(library, (), || unsafe { context::message_callback(library, ctx, callback) });
    }
}

fn message_callback_of(
    library: Option<&'static Library>,
    ssl: *mut SSL,
    callback: AnyFunction,
) -> Verdict {
    library.filter(|_| !ssl.is_null()).map_or(Verdict::Pass, |library| {
        // SAFETY: not null, so the server vouches for it.
        unnoticed(library, Verdict::Pass, || unsafe {
            context::message_callback_of(library, ssl, callback)
        })
    })
}

fn policy_changes(library: Option<&'static Library>, ssl: *mut SSL) {
    if let Some(library) = library.filter(|_| !ssl.is_null()) {
        // SAFETY: not null, so the server vouches for it.
        unnoticed(library, (), || unsafe { context::policy_changes(library, ssl) });
    }
}
