//! `tkt_install` and `tkt_uninstall`.

use std::ffi::{c_int, c_void};

use openssl_sys::SSL_CTX;

use super::config::{first_env, from_c, tkt_config, unusable};
use super::error::{
    Error, TKT_ERR_ARGUMENT, TKT_ERR_BUSY, TKT_ERR_CONFIG, TKT_ERR_MEMORY, TKT_ERR_NOT_INSTALLED,
    TKT_ERR_POOL, TKT_ERR_RING, TKT_ERR_TLS, TKT_OK, guard,
};
use crate::config::Config;
use crate::tls::algorithms::LibraryContext;
use crate::tls::attach::{self, Connections, NotAttached};
use crate::tls::attachment::Attachment;
use crate::tls::resolve::{self, Library};
use crate::tls::{error_queue, primed};
use crate::{go_on_with_caller, keyrings, log, warning};

/// Makes the session tickets of `ctx` use rotating keys that are shared by all
/// processes with the same ring. Replaces ticket keys and ticket key callbacks
/// that were set before.
///
/// `ctx` is an `SSL_CTX` of the TLS library that the caller is linked with, and
/// stays the caller's; what belongs to it here is freed with it. `cfg` is
/// copied; NULL means the `TKTROT_*` variables as they were at the first such
/// call of the process, then defaults.
///
/// Call it before the server drops its privileges and forks its workers: the
/// ring is opened here, once per process, and inherited. Calling it again for
/// the same context replaces the settings of that context. Thread-safe.
///
/// Call it when the certificates of `ctx` and the CAs that it trusts are set,
/// under whatever lock protects `ctx` from being changed meanwhile: tickets are
/// bound to them, and an SSL is made of `ctx` to see them all, and freed. When
/// the current certificate is replaced later, that is noticed with the first
/// connection that was made with it. Call this again if another one is, or the
/// CAs are, or if every connection is switched to another SSL_CTX before its
/// ticket is seen. (In the child of a fork what was known before counts as long
/// as the current certificate is the same: no SSL is made there.)
///
/// A host that asks for client certificates sets a session id context
/// (SSL_CTX_set_session_id_context(3)); without one there are no tickets.
///
/// An SSL_CTX of a library context of its own (SSL_CTX_new_ex(3)) needs
/// `cfg->libctx` and `cfg->properties`.
///
/// Beyond 992 contexts, those with the same settings, session timeout,
/// certificate and client verification share one of 32 more callbacks; where none
/// of these is left, and none fits, the result is `TKT_ERR_POOL`.
///
/// Returns `TKT_OK`, or with nothing changed: `TKT_ERR_ARGUMENT`,
/// `TKT_ERR_CONFIG`, `TKT_ERR_TLS`, `TKT_ERR_POOL`, `TKT_ERR_MEMORY`; in strict
/// mode `TKT_ERR_RING`. tkt_last_error() has the details. Without strict mode a
/// ring that cannot be used is replaced by a private one of this server, with
/// a log line that says so.
///
/// Source: SSL_CTX_set_tlsext_ticket_key_evp_cb(3); RFC 5077 section 4.
///
/// # Safety
///
/// `ctx` is NULL or a live SSL_CTX; `cfg` is NULL or valid for `cfg->size` bytes.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn tkt_install(ctx: *mut SSL_CTX, cfg: *const tkt_config) -> c_int {
    go_on_with_caller!(2, install_from)
}

unsafe extern "C" fn install_from(
    ctx: *mut SSL_CTX,
    cfg: *const tkt_config,
    caller: *const c_void,
) -> c_int {
    // SAFETY: passed on from the caller.
    guard(|| unsafe {
        install_into(ctx, cfg, || {
            let library = resolve::library_of(caller, c"SSL_CTX_new").ok_or_else(no_library)?;
            library.api.lacks().map_or(Ok(library), |name| Err(lacking(name)))
        })
    })
}

/// # Safety
///
/// As for [`tkt_install`], with `ctx` of the library that `find` names.
pub unsafe fn install_into(
    ctx: *mut SSL_CTX,
    cfg: *const tkt_config,
    find: impl FnOnce() -> Result<&'static Library, Error>,
) -> Result<c_int, Error> {
    if ctx.is_null() {
        return Err(Error::new(TKT_ERR_ARGUMENT, "tkt_install: ctx is NULL"));
    }
    let (environment, problems) = first_env();
    let (mut config, library_context, problems) = if cfg.is_null() {
        (environment.clone(), LibraryContext::DEFAULT, problems.clone())
    } else {
        // SAFETY: not NULL, so the caller vouches for it.
        unsafe { from_c(cfg) }?
    };
    // Who starts the server can ask for strictness, or to be left alone,
    // whatever the program says.
    config.strict |= environment.strict;
    config.disabled |= environment.disabled;
    if let Err(error) = log::open(&config.log) {
        let text = format!("the log cannot be opened, stderr is used: {error}");
        warning!("{text}");
        if config.strict {
            return Err(Error::new(TKT_ERR_CONFIG, text));
        }
    }
    if config.strict && !problems.is_empty() {
        return Err(unusable(&problems));
    }
    problems.iter().for_each(|problem| warning!("{}", problem.worked_around()));
    if config.disabled {
        return Ok(TKT_OK);
    }
    let library = find()?;
    let _mark = error_queue::Mark::set(&library.api);
    // SAFETY: the caller vouches for `ctx`.
    unsafe { attach_with(ctx, library, &config, &library_context) }
}

fn no_library() -> Error {
    let text = "tkt_install: the caller is not linked with a shared TLS library; \
                use tkt_install_api with TKT_TLS_API_INIT";
    Error::new(TKT_ERR_TLS, text)
}

/// The error for a TLS library without a function that is needed.
pub fn lacking(name: &'static str) -> Error {
    Error::new(TKT_ERR_TLS, format!("tkt_install: {}", NotAttached::Lacks(name)))
}

/// # Safety
///
/// `ctx` is a live SSL_CTX of `library`.
unsafe fn attach_with(
    ctx: *mut SSL_CTX,
    library: &'static Library,
    config: &Config,
    library_context: &LibraryContext,
) -> Result<c_int, Error> {
    let opened = keyrings::open(config, library)
        .map_err(|none| Error::new(TKT_ERR_MEMORY, none.to_string()))?;
    if config.strict && !opened.problems.is_empty() {
        let problems: Vec<_> = opened.problems.iter().map(ToString::to_string).collect();
        return Err(Error::new(TKT_ERR_RING, problems.join("; ")));
    }
    let attachment = Attachment::new(config, library, opened.keyring, library_context);
    // SAFETY: the caller vouches for `ctx`.
    let attached = unsafe { attach::attach(ctx, attachment, Connections::KeepNone) };
    attached.map(|_| TKT_OK).map_err(|error| {
        let (code, hint) = match error {
            NotAttached::PoolUsedUp => (TKT_ERR_POOL, ""),
            NotAttached::LacksAlgorithm(..) if library_context.is_default() => {
                (TKT_ERR_TLS, " If the SSL_CTX has another library context, set cfg.libctx.")
            }
            NotAttached::LacksAlgorithm(..) | NotAttached::Lacks(_) | NotAttached::Refused => {
                (TKT_ERR_TLS, "")
            }
        };
        Error::new(code, format!("tkt_install: {error}{hint}"))
    })
}

/// Ends what tkt_install() began: `ctx` issues no tickets from now on, and opens
/// none; every handshake is a full one. The callback stays in place and answers
/// so, because a handshake may be on its way to it on another thread; a host that
/// wants to set ticket keys of its own after that first sets both forms of the
/// callback to NULL, while no handshake runs. After the last context of a ring,
/// its keys are erased at once, unless another process uses them for tickets;
/// the ring stays open.
///
/// Thread-safe, under load as well. `ctx` stays the caller's, and need not be
/// uninstalled before it is freed.
///
/// Returns `TKT_OK`, `TKT_ERR_ARGUMENT` if `ctx` is NULL, `TKT_ERR_NOT_INSTALLED`;
/// `TKT_ERR_BUSY` if the context is uninstalled but the keys could not be erased
/// because another process was writing the ring for two seconds.
///
/// # Safety
///
/// `ctx` is NULL or a live SSL_CTX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkt_uninstall(ctx: *mut SSL_CTX) -> c_int {
    guard(|| {
        if ctx.is_null() {
            return Err(Error::new(TKT_ERR_ARGUMENT, "tkt_uninstall: ctx is NULL"));
        }
        let missing = || Error::new(TKT_ERR_NOT_INSTALLED, "tkt_uninstall: ctx is not attached");
        // SAFETY: the caller vouches for `ctx`.
        let (library, _) = unsafe { attach::attached(ctx) }.ok_or_else(missing)?;
        let _mark = error_queue::Mark::set(&library.api);
        // SAFETY: as above; that is its library.
        let retired = unsafe { attach::retire(library, ctx) };
        let (keyring, was_the_last) = retired.ok_or_else(missing)?;
        let abandoned = if was_the_last { keyring.abandon() } else { Ok(()) };
        primed::sweep_patiently(keyring.now());
        if abandoned.is_err() {
            let text =
                "tkt_uninstall: done, but another process is writing the ring, so its keys stay";
            return Err(Error::new(TKT_ERR_BUSY, text));
        }
        Ok(TKT_OK)
    })
}
