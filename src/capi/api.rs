//! `tkt_install_api`: for hosts with a TLS library of their own inside.

use std::ffi::c_int;

use openssl_sys::SSL_CTX;

use super::config::tkt_config;
use super::error::{Error, TKT_ERR_ARGUMENT, guard};
use super::install::{install_into, lacking};
use crate::tls::api::TlsApi;
use crate::tls::resolve;

/// As tkt_install(), for a host that links its TLS library statically (OpenSSL,
/// LibreSSL, BoringSSL, AWS-LC): the host passes the library's functions.
///
/// `api` is filled with `TKT_TLS_API_INIT`; it is copied, and may be freed when
/// the call returns. `ctx` and `cfg` as for tkt_install(). The functions must
/// stay callable for the life of the process.
///
/// Returns `TKT_OK`, or as tkt_install(); `TKT_ERR_ARGUMENT` if `api` is NULL
/// or larger than that of this version, `TKT_ERR_TLS` if a function that is
/// needed is NULL. Members that a table of an earlier version lacks count as NULL.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of the library whose functions `api` holds; `cfg`
/// is NULL or valid for `cfg->size` bytes, `api` NULL or for `api->size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkt_install_api(
    ctx: *mut SSL_CTX,
    cfg: *const tkt_config,
    api: *const TlsApi,
) -> c_int {
    guard(|| {
        // SAFETY: the caller vouches for `api`.
        let api = unsafe { TlsApi::copy_of(api) }.ok_or_else(|| {
            let text = "tkt_install_api: api is NULL, or its size is not that of this or an earlier \
                        version; fill it with TKT_TLS_API_INIT";
            Error::new(TKT_ERR_ARGUMENT, text)
        })?;
        // SAFETY: passed on from the caller.
        unsafe {
            install_into(ctx, cfg, || match api.lacks() {
                // Before it is enlisted: what is enlisted stays for ever.
                Some(name) => Err(lacking(name)),
                None => Ok(resolve::enlist_table(&api)),
            })
        }
    })
}
