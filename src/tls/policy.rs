//! A client-verification policy: whether a certificate is asked for, how deep
//! its chain may be, and which CAs are told to be accepted.

use std::ffi::{c_int, c_void};
use std::ptr;

use openssl_sys::{SSL, SSL_CTX};

use super::api::TlsApi;
use super::source::Source;

/// `SSL_VERIFY_NONE`: no client certificate is asked for.
const NONE: c_int = 0;
/// `SSL_VERIFY_POST_HANDSHAKE`.
const LATER: c_int = 8;

/// What a context or a connection has of it. The list of names cannot be held:
/// where it is freed and another one made, the same address says little.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    mode: c_int,
    depth: c_int,
    client_cas: *const c_void,
    client_ca_count: c_int,
}

impl Policy {
    /// Nobody is asked.
    pub const NONE: Self =
        Policy { mode: NONE, depth: 0, client_cas: ptr::null(), client_ca_count: 0 };

    /// What a context has now.
    ///
    /// # Safety
    ///
    /// `ctx` is a live SSL_CTX of the library that `api` is of.
    pub unsafe fn of_context(api: &TlsApi, ctx: *const SSL_CTX) -> Self {
        // SAFETY: the caller vouches for `ctx`.
        unsafe {
            Self::new(
                api,
                api.ssl_ctx_get_verify_mode.map(|get| get(ctx)),
                || api.ssl_ctx_get_verify_depth.map(|get| get(ctx)),
                || api.ssl_ctx_get_client_ca_list.map(|get| get(ctx)),
            )
        }
    }

    /// What a connection has now.
    ///
    /// # Safety
    ///
    /// `ssl` is a live connection of the library that `api` is of.
    pub unsafe fn of_connection(api: &TlsApi, ssl: *const SSL) -> Self {
        // SAFETY: the caller vouches for `ssl`.
        unsafe {
            Self::new(
                api,
                api.ssl_get_verify_mode.map(|get| get(ssl)),
                || api.ssl_get_verify_depth.map(|get| get(ssl)),
                || api.ssl_get_client_ca_list.map(|get| get(ssl)),
            )
        }
    }

    /// # Safety
    ///
    /// `client_cas` gives null or a live list of the library that `api` is of.
    unsafe fn new(
        api: &TlsApi,
        mode: Option<c_int>,
        depth: impl FnOnce() -> Option<c_int>,
        client_cas: impl FnOnce() -> Option<*const c_void>,
    ) -> Self {
        let mode = mode.unwrap_or(NONE);
        if mode == NONE {
            // nginx sets the depth everywhere; nobody is told the names.
            return Self::NONE;
        }
        let client_cas = client_cas().unwrap_or(ptr::null());
        let count = api.sk_num.filter(|_| !client_cas.is_null());
        Policy {
            mode,
            depth: depth().unwrap_or(0),
            client_cas,
            // SAFETY: the caller vouches for the list.
            client_ca_count: count.map_or(0, |num| unsafe { num(client_cas) }),
        }
    }

    /// True if a certificate is asked for.
    pub fn asks(&self) -> bool {
        self.mode != NONE
    }

    /// True if one is asked for in the handshake: from TLS 1.3 on that may come later.
    pub fn asks_in_handshake(&self, in_1_3: bool) -> bool {
        self.asks() && !(in_1_3 && self.mode & LATER != 0)
    }

    /// True if the handshake does not end well without one.
    pub fn requires(&self) -> bool {
        /// `SSL_VERIFY_FAIL_IF_NO_PEER_CERT`.
        const FAIL_IF_NONE: c_int = 2;
        self.mode & (FAIL_IF_NONE | LATER) == FAIL_IF_NONE
    }

    /// True if whoever has an equal one has the same.
    pub fn is_all_in_itself(&self) -> bool {
        self.client_ca_count == 0
    }

    /// Mode, depth, and a digest of each name. `None` if the TLS library fails.
    ///
    /// # Safety
    ///
    /// The list of names is alive.
    pub unsafe fn encode(&self, api: &TlsApi, source: &Source) -> Option<Vec<u8>> {
        let mut encoded = [self.mode.to_be_bytes(), self.depth.to_be_bytes()].concat();
        for index in 0..usize::try_from(self.client_ca_count).unwrap_or(0) {
            // SAFETY: the caller vouches for the list, which has so many names.
            encoded.extend(source.digest_with(api, |md, out, len| unsafe {
                let name = api.sk_value.map(|value| value(self.client_cas, index));
                let name = name.filter(|name| !name.is_null());
                name.zip(api.x509_name_digest)
                    .is_some_and(|(name, digest)| digest(name.cast(), md, out, len) == 1)
            })?);
        }
        Some(encoded)
    }

    #[cfg(test)]
    pub fn of_mode(mode: c_int, depth: c_int) -> Self {
        Policy { mode, depth, ..Self::NONE }
    }
}
