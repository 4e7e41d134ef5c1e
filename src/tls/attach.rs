//! A context is attached: it gets a place in the pool, the callback of that
//! place, and what the callback needs to answer.

use std::ffi::{c_int, c_long, c_void};
use std::fmt;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use openssl_sys::SSL_CTX;

use super::api::{AnyFunction, CTRL_SET_TICKET_KEY_CB, Door, HmacCallback, TlsApi};
use super::attachment::Attachment;
use super::pool;
use super::primed;
use super::resolve::Library;
use super::sni;
use crate::clock::Time;
use crate::process;
use crate::rotate::Keyring;

/// What a context owns of ours: stored in its ex_data, freed with it.
struct Tenancy {
    place: usize,
    installed: bool,
    /// The newest serves; callbacks under way may still use the others.
    attachments: Vec<*mut Attachment>,
}

/// Why a context could not be attached; it keeps the keys it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAttached {
    /// The TLS library lacks a function that we need.
    Lacks(&'static str),
    /// All callbacks of the pool are in use.
    PoolUsedUp,
    /// The TLS library refused to store our state or to take the callback.
    Refused,
}

impl fmt::Display for NotAttached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAttached::Lacks(name) => write!(f, "the TLS library has no {name}"),
            NotAttached::PoolUsedUp => {
                let places = pool::PLACES;
                write!(f, "{places} contexts are attached already, and there is no callback left")
            }
            NotAttached::Refused => write!(f, "the TLS library refused the ticket key callback"),
        }
    }
}

/// Attaches a context, in place of what was attached to it before. Its keys
/// are ready when this returns.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `attachment.library`.
pub unsafe fn attach(ctx: *mut SSL_CTX, mut attachment: Attachment) -> Result<(), NotAttached> {
    let (library, keyring) = (attachment.library, attachment.keyring);
    let api = &library.api;
    if let Some(name) = api.lacks() {
        return Err(NotAttached::Lacks(name));
    }
    attachment.ctx = ctx;
    keyring.expect_lifetime(attachment.timeout());
    keyring.tick_patiently();

    let _lock = process::exclusive();
    let index = index(&library.indices.tenancy, || api.new_ctx_index(Some(free_tenancy)));
    library.methods.fetch(api);
    self::index(&library.indices.name, || api.new_ssl_index(Some(sni::forget)));
    // SAFETY: the caller vouches for `ctx`; under our index there is null or a
    // Tenancy of ours, which only holders of the lock touch.
    unsafe {
        let mut tenancy = api.ctx_data(ctx, index).cast::<Tenancy>();
        if tenancy.is_null() {
            let place = pool::vacant().ok_or(NotAttached::PoolUsedUp)?;
            let new = Tenancy { place, installed: false, attachments: Vec::new() };
            tenancy = Box::into_raw(Box::new(new));
            if index < 0 || !api.set_ctx_data(ctx, index, tenancy.cast()) {
                drop(Box::from_raw(tenancy));
                return Err(NotAttached::Refused);
            }
        }
        let tenancy = &mut *tenancy;
        let same = |newest: &*mut Attachment| (**newest).is_as(&attachment);
        // Not one more for each repetition: they are kept as long as the context.
        if !tenancy.attachments.last().is_some_and(same) {
            attachment.place = tenancy.place;
            let attachment = Box::into_raw(Box::new(attachment));
            tenancy.attachments.push(attachment);
            pool::seat(tenancy.place, attachment);
        }
        if !tenancy.installed {
            // Through another table, by tkt_install before tkt_install_api or
            // the other way round: OpenSSL prefers the EVP form whoever set it.
            if let Some(former) = installed(ctx) {
                take_callback_away(former.library, ctx);
            }
            tenancy.installed = set_callback(api, ctx, Some(tenancy.place));
        }
        if tenancy.installed { Ok(()) } else { Err(NotAttached::Refused) }
    }
}

/// Takes the callback of a context away: the TLS library's own keys serve it
/// again. `None` if it had none of ours, else its keyring and whether that
/// has no other context left in this process.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`.
pub unsafe fn detach(library: &Library, ctx: *mut SSL_CTX) -> Option<(&'static Keyring, bool)> {
    let _lock = process::exclusive();
    // SAFETY: the caller vouches for `ctx`; the lock is held.
    let keyring = unsafe { take_callback_away(library, ctx) }?;
    let another = pool::find(|other| {
        // SAFETY: an attachment in the pool belongs to a context that lives.
        ptr::eq(other.keyring, keyring) && unsafe { is_installed(other) }
    });
    Some((keyring, another.is_none()))
}

/// Takes the callback of a context away; `None` if it had none of ours.
///
/// # Safety
///
/// As for [`detach`], and the caller holds [`process::exclusive`].
unsafe fn take_callback_away(library: &Library, ctx: *mut SSL_CTX) -> Option<&'static Keyring> {
    // SAFETY: the caller vouches for `ctx`; the tenancy and its attachments as in `attach`.
    unsafe {
        let tenancy = tenancy(library, ctx).filter(|tenancy| tenancy.installed)?;
        set_callback(&library.api, ctx, None);
        tenancy.installed = false;
        tenancy.attachments.last().map(|attachment| (**attachment).keyring)
    }
}

/// The library and the keys of an attached context; `None` if it is not attached.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX.
pub unsafe fn attached(ctx: *mut SSL_CTX) -> Option<(&'static Library, &'static Keyring)> {
    let _lock = process::exclusive();
    // SAFETY: the caller vouches for `ctx`; the lock is held.
    unsafe { installed(ctx) }.map(|attachment| (attachment.library, attachment.keyring))
}

/// What serves a context, through whichever table it came.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX, and the caller holds [`process::exclusive`] as
/// long as it uses the result.
unsafe fn installed<'l>(ctx: *mut SSL_CTX) -> Option<&'l Attachment> {
    pool::find(|attachment| {
        // SAFETY: an attachment in the pool belongs to a context that lives.
        ptr::eq(attachment.ctx, ctx) && unsafe { is_installed(attachment) }
    })
}

/// Sets the callback of a place, or none.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of the library that `api` is of.
unsafe fn set_callback(api: &TlsApi, ctx: *mut SSL_CTX, place: Option<usize>) -> bool {
    let hmac = place.and_then(pool::hmac_callback);
    // SAFETY: the caller vouches for `ctx`; each function takes null as "none".
    unsafe {
        match api.door() {
            Some(Door::Evp) => api
                .ssl_ctx_set_tlsext_ticket_key_evp_cb
                .is_some_and(|set| set(ctx, place.and_then(pool::evp_callback)) == 1),
            Some(Door::HmacFunction) => {
                api.ssl_ctx_set_tlsext_ticket_key_cb.is_some_and(|set| set(ctx, hmac) == 1)
            }
            Some(Door::HmacCtrl) => api.ssl_ctx_callback_ctrl.is_some_and(|ctrl| {
                // OpenSSL prefers a callback of the EVP form, whoever set it and
                // when. One that is set after ours is not ours to take away.
                if let Some(set) = api.ssl_ctx_set_tlsext_ticket_key_evp_cb
                    && place.is_some()
                {
                    set(ctx, None);
                }
                // The C API passes every callback as a plain function pointer.
                let any = mem::transmute::<HmacCallback, AnyFunction>(hmac);
                ctrl(ctx, CTRL_SET_TICKET_KEY_CB, any) == 1
            }),
            None => false,
        }
    }
}

/// True if the context of an attachment has our callback.
///
/// # Safety
///
/// That context lives, and the caller holds [`process::exclusive`].
unsafe fn is_installed(attachment: &Attachment) -> bool {
    // SAFETY: passed on.
    let tenancy = unsafe { tenancy(attachment.library, attachment.ctx.cast_mut()) };
    tenancy.is_some_and(|tenancy| tenancy.installed)
}

/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`, and the caller holds
/// [`process::exclusive`] as long as it uses the result.
unsafe fn tenancy<'t>(library: &Library, ctx: *mut SSL_CTX) -> Option<&'t mut Tenancy> {
    let index = library.indices.tenancy.load(Ordering::Relaxed);
    if index < 0 {
        return None;
    }
    // SAFETY: the caller vouches for `ctx`; null or a Tenancy, as in `attach`.
    unsafe { library.api.ctx_data(ctx, index).cast::<Tenancy>().as_mut() }
}

/// The ex_data index kept in `cell`, made at its first use; < 0 if there is
/// none. The caller holds [`process::exclusive`].
pub fn index(cell: &AtomicI32, make: impl FnOnce() -> c_int) -> c_int {
    if cell.load(Ordering::Relaxed) < 0 {
        cell.store(make(), Ordering::Relaxed);
    }
    cell.load(Ordering::Relaxed)
}

/// The context is freed: no connection of it is left, so no callback runs.
unsafe extern "C" fn free_tenancy(
    _parent: *mut c_void,
    tenancy: *mut c_void,
    _ad: *mut c_void,
    _index: c_int,
    _argl: c_long,
    _argp: *mut c_void,
) {
    if tenancy.is_null() {
        return;
    }
    let lock = process::exclusive();
    // SAFETY: stored by `attach`, and ex_data calls this once per object.
    let tenancy = unsafe { Box::from_raw(tenancy.cast::<Tenancy>()) };
    pool::seat(tenancy.place, ptr::null_mut());
    primed::sweep_under(&lock, Time(0));
    for attachment in tenancy.attachments {
        // SAFETY: made by Box::into_raw in `attach`; the last user is gone.
        drop(unsafe { Box::from_raw(attachment) });
    }
}
