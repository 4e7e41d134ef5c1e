//! A context is attached: it gets a place in the pool, the callback of that
//! place, and what the callback needs to answer. Where the places are used up,
//! contexts that are alike share one.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_long, c_void};
use std::fmt;
use std::mem;
use std::ptr;
use std::sync::atomic::Ordering;

use openssl_sys::SSL_CTX;

use super::algorithms::{Algorithms, LibraryContext};
use super::api::{AnyFunction, CTRL_SET_TICKET_KEY_CB, Door, HmacCallback, TlsApi};
use super::attachment::{self, Attachment, Whose};
use super::connection;
use super::messages;
use super::pool;
use super::primed;
use super::resolve::{Indices, Library};
use crate::clock::Time;
use crate::process::{self, Exclusive};
use crate::rotate::Keyring;
use crate::unnoticed::Unnoticed;

/// What a context owns of ours: stored in its ex_data, freed with it.
struct Tenancy {
    ctx: *const SSL_CTX,
    /// Its own place, if it has one; else it is a [`Member`] of others.
    place: Option<usize>,
    /// What serves now, and the form in which its callback is installed.
    serving: Option<(*mut Attachment, Door)>,
    /// Those of its own place: callbacks under way may still use former ones.
    attachments: Vec<*mut Attachment>,
}

/// A context that shares a place with others; until it is freed, because
/// callbacks of it may be under way.
struct Member {
    ctx: *const SSL_CTX,
    attachment: *mut Attachment,
}

struct Members(UnsafeCell<Vec<Member>>);

// SAFETY: only the holder of `process::exclusive` gets at it.
unsafe impl Sync for Members {}

static MEMBERS: Members = Members(UnsafeCell::new(Vec::new()));

/// Does something with the members of shared places; not once more inside.
fn with_members<T>(_lock: &Exclusive, act: impl FnOnce(&mut Vec<Member>) -> T) -> T {
    // SAFETY: the caller holds the lock, of which there is one, for as long.
    act(unsafe { &mut *MEMBERS.0.get() })
}

/// Why a context could not be attached; it keeps the keys it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAttached {
    /// The TLS library lacks a function that we need.
    Lacks(&'static str),
    /// The context's library context lacks an algorithm that tickets need.
    LacksAlgorithm(&'static str, LibraryContext),
    /// All callbacks of the pool are in use.
    PoolUsedUp,
    /// The TLS library refused to store our state or to take the callback.
    Refused,
}

impl fmt::Display for NotAttached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAttached::Lacks(name) => write!(f, "the TLS library has no {name}"),
            NotAttached::LacksAlgorithm(name, library_context) => {
                write!(
                    f,
                    "there is no {name} in {library_context}: is a provider loaded that has it?"
                )
            }
            NotAttached::PoolUsedUp => {
                let (places, shared) =
                    (attachment::OF_ONE, attachment::PLACES - attachment::OF_ONE);
                write!(
                    f,
                    "{places} contexts have a callback of their own, {shared} more are shared by \
                     contexts that are alike, and none of those fits this one"
                )
            }
            NotAttached::Refused => write!(f, "the TLS library refused the ticket key callback"),
        }
    }
}

/// Whether each connection keeps what its context was when it was made
/// ([`super::connection::begin`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// They do: somebody stands in front of `SSL_new`.
    KeepTheirs,
    /// What the context is now is what it is taken for.
    KeepNone,
}

/// Whether contexts of that library, and that library context, can be attached
/// as far as can be told before there is one. Fetches what they need.
pub fn is_possible(
    library: &'static Library,
    library_context: &LibraryContext,
) -> Result<(), NotAttached> {
    let api = &library.api;
    if let Some(name) = api.lacks() {
        return Err(NotAttached::Lacks(name));
    }
    let lacks = |name| NotAttached::LacksAlgorithm(name, library_context.clone());
    let _lock = process::exclusive();
    prepare(library);
    if library_context.is_default() {
        return library.algorithms.fetch(api).map_err(lacks);
    }
    let mut algorithms = Algorithms::new(library_context.clone());
    let fetched = algorithms.fetch(api);
    algorithms.free(api);
    fetched.map_err(lacks)
}

/// Makes what is needed before a context is attached. The caller holds
/// [`process::exclusive`].
fn prepare(library: &'static Library) {
    Indices::get_or_make(&library.indices.connection, || connection::new_index(library));
}

/// Attaches a context, in place of what was attached to it before. Its keys
/// are ready when this returns. What serves it then lives as long as it does.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `attachment.library`, which nobody changes now:
/// this runs inside a call of the server for it. If `connections` keep theirs,
/// all that are made of it from now on do.
pub unsafe fn attach<'c>(
    ctx: *mut SSL_CTX,
    mut attachment: Attachment,
    connections: Connections,
) -> Result<&'c Attachment, NotAttached> {
    let (library, keyring) = (attachment.library, attachment.keyring);
    let api = &library.api;
    if let Some(name) = api.lacks() {
        return Err(NotAttached::Lacks(name));
    }
    attachment.whose = Whose::Its(ctx);
    {
        let _lock = process::exclusive();
        prepare(library);
        let library_context = attachment.algorithms().library_context();
        let lacks = |name| NotAttached::LacksAlgorithm(name, library_context.clone());
        attachment.algorithms().fetch(api).map_err(lacks)?;
        if !library_context.is_default() {
            attachment::note_own_library_context();
        }
    }
    keyring.expect_lifetime_with(attachment.timeout(), &attachment);
    keyring.tick_patiently_with(&attachment);

    let now = keyring.now();
    // SAFETY: passed on from the caller; what served the context before lives as long.
    let (looked, part) = unsafe {
        let looked = match connections {
            Connections::KeepNone => attachment.look_at(ctx, self::attachment(library, ctx)),
            Connections::KeepTheirs => None,
        };
        let part = looked.as_ref().and_then(|it| attachment.scope_of_context((ctx, it), now));
        (looked, part)
    };
    let lock = process::exclusive();
    let make = || api.new_ctx_index(Some(free_tenancy));
    let index = Indices::get_or_make(&library.indices.tenancy, make);
    let is_new;
    // SAFETY: the caller vouches for `ctx`; under our index there is null or a
    // Tenancy of ours, which only holders of the lock touch.
    let serving = unsafe {
        let mut tenancy = api.ctx_data(ctx, index).cast::<Tenancy>();
        is_new = tenancy.is_null();
        if is_new {
            let (place, attachments) = (attachment::vacant(), Vec::new());
            let new = Tenancy { ctx, place, serving: None, attachments };
            tenancy = Box::into_raw(Box::new(new));
            if index < 0 || !api.set_ctx_data(ctx, index, tenancy.cast()) {
                drop(Box::from_raw(tenancy));
                return Err(NotAttached::Refused);
            }
        }
        let tenancy = &mut *tenancy;
        if tenancy.serving.is_none() {
            // Through another table, by tkt_install before tkt_install_api or
            // the other way round: OpenSSL prefers the EVP form whoever set it.
            if let Some(former) = serving(&lock, ctx) {
                take_callback_away(former.library, ctx);
            }
        }
        let new = match tenancy.place {
            Some(place) => take_place(tenancy, place, attachment),
            None => {
                let timeout = attachment.timeout();
                attachment.whose = Whose::Common { timeout, part };
                join(&lock, ctx, attachment).ok_or(NotAttached::PoolUsedUp)?
            }
        };
        (*new).set_serving(true);
        let place = (*new).place;
        let door = match tenancy.serving {
            Some((old, door)) => {
                let same = (*old).place == place || set_callback(api, ctx, door, Some(place));
                same.then_some(door)
            }
            None => {
                let mut doors = (*new).algorithms().doors(api);
                doors.find(|door| set_callback(api, ctx, *door, Some(place)))
            }
        };
        let Some(door) = door else {
            (*new).set_serving(false);
            return Err(NotAttached::Refused);
        };
        tenancy.serving = Some((new, door));
        new
    };
    drop(lock);
    // SAFETY: it lives as long as the context does.
    let serving = unsafe { &*serving };
    // The host may have set a message callback since, which hands on what it gets.
    if is_new && connections == Connections::KeepNone {
        // SAFETY: passed on from the caller.
        unsafe { messages::watch_all_of(library, ctx) };
    }
    if let Some(looked) = &looked {
        // It may be one of before, which is to know what the context is now.
        // SAFETY: passed on from the caller.
        unsafe { serving.scope_of_context((ctx, looked), now) };
    }
    Ok(serving)
}

/// Puts an attachment at the place of its context; one of before that is as
/// it, if there is one: not one more for each repetition.
///
/// # Safety
///
/// The caller holds the lock, and the tenancy's attachments live.
unsafe fn take_place(
    tenancy: &mut Tenancy,
    place: usize,
    mut attachment: Attachment,
) -> *mut Attachment {
    // SAFETY: passed on from the caller.
    let known = tenancy.attachments.iter().find(|known| unsafe { (***known).is_as(&attachment) });
    let seated = known.copied().unwrap_or_else(|| {
        attachment.place = place;
        let new = Box::into_raw(Box::new(attachment));
        tenancy.attachments.push(new);
        new
    });
    attachment::put(place, seated);
    seated
}

/// Makes a context share the attachment of those that are like it, or the
/// first of them; `None` if there is no place for that.
fn join(
    lock: &Exclusive,
    ctx: *mut SSL_CTX,
    mut attachment: Attachment,
) -> Option<*mut Attachment> {
    with_members(lock, |members| {
        // SAFETY: an attachment lives while it has a member.
        let is_as = |member: &&Member| unsafe { (*member.attachment).is_as(&attachment) };
        let shared = match members.iter().find(is_as) {
            Some(member) => member.attachment,
            None => {
                let place = attachment::vacant_for_several()?;
                attachment.place = place;
                let new = Box::into_raw(Box::new(attachment));
                attachment::put(place, new);
                new
            }
        };
        let is_member =
            |member: &Member| ptr::eq(member.ctx, ctx) && ptr::eq(member.attachment, shared);
        if !members.iter().any(is_member) {
            members.push(Member { ctx, attachment: shared });
        }
        Some(shared)
    })
}

/// Lets a context issue no tickets of ours any more, and open none. The
/// callback stays: a handshake may be on its way to it, and libssl has decided
/// by then of which form it is. `None` if it was not attached, else its keyring
/// and whether that serves no other context of this process.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`.
pub unsafe fn retire(library: &Library, ctx: *mut SSL_CTX) -> Option<(&'static Keyring, bool)> {
    let lock = process::exclusive();
    // SAFETY: the caller vouches for `ctx`; the lock is held.
    let keyring = unsafe {
        let tenancy = tenancy(library, ctx)?;
        let (attachment, door) = tenancy.serving?;
        let keyring = (*attachment).keyring;
        if tenancy.place.is_some() {
            (*attachment).set_serving(false);
        } else {
            // The others go on. Where there is no place for the retired ones, it has
            // to do without the callback.
            let retired = join(&lock, ctx, (*attachment).retired());
            set_callback(&library.api, ctx, door, retired.map(|retired| (*retired).place));
            if !is_shared_by_others(&lock, ctx, attachment) {
                (*attachment).set_serving(false);
            }
        }
        // A later installation sets the callback once more, which changes nothing.
        tenancy.serving = None;
        keyring
    };
    Some((keyring, !is_in_use(keyring)))
}

/// Takes the callback of a context away: the TLS library's own keys serve it
/// again. `None` if it had none of ours, else as for [`retire`].
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`.
pub unsafe fn detach(library: &Library, ctx: *mut SSL_CTX) -> Option<(&'static Keyring, bool)> {
    let _lock = process::exclusive();
    // SAFETY: the caller vouches for `ctx`; the lock is held.
    let keyring = unsafe { take_callback_away(library, ctx) }?;
    Some((keyring, !is_in_use(keyring)))
}

/// True if a context other than `ctx` is served by a shared attachment.
///
/// # Safety
///
/// The attachment lives.
unsafe fn is_shared_by_others(
    lock: &Exclusive,
    ctx: *mut SSL_CTX,
    attachment: *mut Attachment,
) -> bool {
    let others = with_members(lock, |members| {
        let others = members
            .iter()
            .filter(|member| ptr::eq(member.attachment, attachment) && !ptr::eq(member.ctx, ctx));
        others.map(|member| member.ctx).collect::<Vec<_>>()
    });
    // SAFETY: the caller vouches for the attachment; a member lives.
    others.into_iter().any(|other| unsafe {
        tenancy((*attachment).library, other.cast_mut())
            .and_then(|tenancy| tenancy.serving)
            .is_some_and(|(serving, _)| ptr::eq(serving, attachment))
    })
}

fn is_in_use(keyring: &Keyring) -> bool {
    attachment::find(|other| ptr::eq(other.keyring, keyring) && other.serves()).is_some()
}

/// Takes the callback of a context away; `None` if it had none of ours.
///
/// # Safety
///
/// As for [`detach`], and the caller holds [`process::exclusive`].
unsafe fn take_callback_away(library: &Library, ctx: *mut SSL_CTX) -> Option<&'static Keyring> {
    // SAFETY: the caller vouches for `ctx`; the tenancy and its attachments as in `attach`.
    unsafe {
        let tenancy = tenancy(library, ctx)?;
        let (attachment, door) = tenancy.serving.take()?;
        set_callback(&library.api, ctx, door, None);
        if tenancy.place.is_some() {
            (*attachment).set_serving(false);
        }
        Some((*attachment).keyring)
    }
}

/// The library and the keys of an attached context; `None` if it is not attached.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX.
pub unsafe fn attached(ctx: *mut SSL_CTX) -> Option<(&'static Library, &'static Keyring)> {
    let lock = process::exclusive();
    // SAFETY: the caller vouches for `ctx`; the lock is held.
    unsafe { serving(&lock, ctx) }.map(|attachment| (attachment.library, attachment.keyring))
}

/// What serves a context of that library; `None` if it is not attached.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`, and the result is used no longer.
pub unsafe fn attachment<'c>(library: &Library, ctx: *mut SSL_CTX) -> Option<&'c Attachment> {
    let _lock = process::exclusive();
    // SAFETY: the caller vouches for `ctx`; what serves it lives as long.
    unsafe { tenancy(library, ctx)?.serving.map(|(attachment, _)| &*attachment) }
}

/// What serves a context, through whichever table it came.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX.
unsafe fn serving(lock: &Exclusive, ctx: *mut SSL_CTX) -> Option<&Attachment> {
    let its = |attachment: &Attachment| match attachment.whose {
        Whose::Its(one) => ptr::eq(one, ctx) && attachment.serves(),
        Whose::Common { .. } => false,
    };
    attachment::find(its).or_else(|| {
        let libraries = with_members(lock, |members| {
            let its = members.iter().filter(|member| ptr::eq(member.ctx, ctx));
            // SAFETY: an attachment lives while it has a member, and its library for ever.
            its.map(|member| unsafe { (*member.attachment).library }).collect::<Vec<_>>()
        });
        // SAFETY: the caller vouches for `ctx`, which has a tenancy of those libraries.
        libraries.into_iter().find_map(|library| unsafe {
            tenancy(library, ctx)?.serving.map(|(attachment, _)| &*attachment)
        })
    })
}

/// Sets the callback of a place, or none.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of the library that `api` is of.
unsafe fn set_callback(api: &TlsApi, ctx: *mut SSL_CTX, door: Door, place: Option<usize>) -> bool {
    let hmac = place.and_then(pool::hmac_callback);
    // SAFETY: the caller vouches for `ctx`; each function takes null as "none".
    unsafe {
        match door {
            Door::Evp => api
                .ssl_ctx_set_tlsext_ticket_key_evp_cb
                .is_some_and(|set| set(ctx, place.and_then(pool::evp_callback)) == 1),
            Door::HmacFunction => {
                api.ssl_ctx_set_tlsext_ticket_key_cb.is_some_and(|set| set(ctx, hmac) == 1)
            }
            Door::HmacCtrl => api.ssl_ctx_callback_ctrl.is_some_and(|ctrl| {
                // The C API passes every callback as a plain function pointer.
                let any = mem::transmute::<HmacCallback, AnyFunction>(hmac);
                let done = ctrl(ctx, CTRL_SET_TICKET_KEY_CB, any) == 1;
                // OpenSSL prefers a callback of the EVP form, whoever set it and
                // when. One that is set after ours is not ours to take away.
                if let Some(set) = api.ssl_ctx_set_tlsext_ticket_key_evp_cb
                    && done
                    && place.is_some()
                {
                    set(ctx, None);
                }
                done
            }),
        }
    }
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
    let _unnoticed = Unnoticed::begin();
    let lock = process::exclusive();
    // SAFETY: stored by `attach`, and ex_data calls this once per object.
    let tenancy = unsafe { Box::from_raw(tenancy.cast::<Tenancy>()) };
    let mut unused = tenancy.attachments.clone();
    if let Some(place) = tenancy.place {
        attachment::put(place, ptr::null_mut());
    }
    with_members(&lock, |members| {
        // BoringSSL does not tell whose data are freed.
        let its = |member: &mut Member| ptr::eq(member.ctx, tenancy.ctx);
        let left: Vec<_> = members.extract_if(.., its).collect();
        for Member { attachment, .. } in left {
            if !members.iter().any(|member| ptr::eq(member.attachment, attachment)) {
                // SAFETY: its last member is gone just now.
                attachment::put(unsafe { (*attachment).place }, ptr::null_mut());
                unused.push(attachment);
            }
        }
    });
    primed::sweep_under(&lock, Time(0));
    drop(lock);
    for attachment in unused {
        // SAFETY: made by Box::into_raw in `take_place` or `join`; the last user is gone.
        drop(unsafe { Box::from_raw(attachment) });
    }
}
