//! What the hooks know of each SSL_CTX, and what they decide for it. The state
//! lies in the context's ex_data and is freed with it.

use std::ffi::{c_int, c_long, c_void};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use openssl_sys::{SSL_CTX, SSL_METHOD};
use tktrot::log::OnceOnly;
use tktrot::tls::attach;
use tktrot::tls::attachment::Attachment;
use tktrot::tls::resolve::Library;
use tktrot::{error, notice, process};

use crate::guest::{Guest, guest};

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

/// The state of one context.
struct Context {
    /// Only makes connections: ticket keys are of no use to it.
    client: bool,
    /// The last keys that the server set, as [`OwnKeys`]; 0 for none.
    own: AtomicI32,
    /// Nothing is left to do at `SSL_new`.
    decided: AtomicBool,
    /// Our callback is installed.
    attached: AtomicBool,
}

/// A context was made: the ring is opened now, with the privileges of now.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`.
pub unsafe fn made(library: &'static Library, ctx: *mut SSL_CTX, method: *const SSL_METHOD) {
    let Some(guest) = guest() else { return };
    // SAFETY: functions of that library, without arguments.
    let (client_method, server_method) = unsafe {
        (
            library.api.tls_client_method.map(|method| method()),
            library.originals.tls_server_method.map(|method| method()),
        )
    };
    // In BoringSSL and AWS-LC both are the method for everybody.
    let client = client_method == Some(method) && server_method != Some(method);
    // SAFETY: the caller vouches for `ctx`.
    if unsafe { state(library, ctx, client) }.is_some() && !client {
        guest.keyring(library);
    }
}

/// A call came for a TLS library that the loader does not tell: it is passed on, and no more.
pub fn unknown() {
    if let Some(guest) = guest() {
        guest.library_is_unknown();
    }
}

/// A connection is about to be made of a context: if it is the first, the
/// context is attached.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`.
pub unsafe fn used(library: &'static Library, ctx: *mut SSL_CTX) {
    let Some(guest) = guest() else { return };
    // SAFETY: the caller vouches for `ctx`.
    let Some(context) = (unsafe { state(library, ctx, false) }) else { return };
    if context.decided.load(Ordering::Acquire) {
        return;
    }
    let keeps_its_own = context.own.load(Ordering::Relaxed) != 0 && !guest.config.takeover;
    // SAFETY: the caller vouches for `ctx`. A program that calls tkt_install
    // knows better than our environment how.
    let is_installed = unsafe { attach::attached(ctx) }.is_some();
    if !context.client && !keeps_its_own && !is_installed {
        // SAFETY: the caller vouches for `ctx`.
        let attached = unsafe { attach(guest, library, ctx) };
        context.attached.store(attached, Ordering::Release);
    }
    context.decided.store(true, Ordering::Release);
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
    let Some(context) = (unsafe { state(library, ctx, false) }) else { return Verdict::Pass };
    context.own.store(if some { own as i32 } else { 0 }, Ordering::Relaxed);
    if guest.config.takeover {
        if some {
            tell_takeover(own);
        }
        // Before we are attached its own keys are set, and serve if we cannot be.
        return if context.attached.load(Ordering::Acquire) {
            Verdict::Swallow
        } else {
            Verdict::Pass
        };
    }
    if context.attached.swap(false, Ordering::AcqRel) {
        // SAFETY: the caller vouches for `ctx`.
        unsafe { attach::detach(library, ctx) };
    }
    context.decided.store(false, Ordering::Release);
    Verdict::Pass
}

/// One line per process tree, whoever's keys they are.
fn tell_takeover(own: OwnKeys) {
    static SAID: OnceOnly = OnceOnly::new();
    if SAID.first() {
        let executable = process::executable();
        notice!("takeover: {executable}'s own {own} is replaced; TKTROT_TAKEOVER=no keeps it");
    }
}

/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`.
unsafe fn attach(guest: &'static Guest, library: &'static Library, ctx: *mut SSL_CTX) -> bool {
    let Some(keyring) = guest.keyring_at_use(library) else { return false };
    let attachment = Attachment::new(&guest.config, library, keyring);
    // SAFETY: the caller vouches for `ctx`.
    match unsafe { attach::attach(ctx, attachment) } {
        Ok(()) => true,
        Err(why) => {
            static SAID: OnceOnly = OnceOnly::new();
            let problem = format!("a context keeps the ticket keys it has: {why}");
            guest.stop_if_strict(&problem);
            if SAID.first() {
                error!("{problem}");
            }
            false
        }
    }
}

/// The state of a context, made if it has none yet; `None` if it cannot have one.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`.
unsafe fn state<'c>(
    library: &'static Library,
    ctx: *mut SSL_CTX,
    client: bool,
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
            let index = attach::index(cell, || api.new_ctx_index(Some(free)));
            if index < 0 {
                return None;
            }
            let present = api.ctx_data(ctx, index).cast::<Context>();
            if !present.is_null() {
                return present.as_ref();
            }
            let new = Box::into_raw(Box::new(Context {
                client,
                own: AtomicI32::new(0),
                decided: AtomicBool::new(false),
                attached: AtomicBool::new(false),
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
