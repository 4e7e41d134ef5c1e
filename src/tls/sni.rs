//! The server name that a client asked for, wherever the TLS library has it
//! at the moment, and as it was sent: servers compare names in ways of their
//! own, and one that tells two spellings apart may treat them differently.
//!
//! When a ticket is opened, only the ClientHello has the name; when one is
//! sealed, only `SSL_get_servername`; and when a TLS 1.2 ticket is renewed,
//! that returns the old session's name, so the one that was seen at the
//! opening is remembered ([`super::connection`]). (BoringSSL and AWS-LC have the name early, and no
//! other way to it. LibreSSL shows a ClientHello only as a message: [`super::messages`].)

use std::ffi::CStr;
use std::ptr;

use openssl_sys::SSL;

use super::api::{ClientHelloGet0Ext, TlsApi};

/// `TLSEXT_TYPE_server_name` (RFC 6066 §3).
pub(super) const EXTENSION: u16 = 0;
/// `TLSEXT_NAMETYPE_host_name`.
const HOST_NAME: u8 = 0;
/// A host name is no longer than this (RFC 1035 §2.3.4).
const LONGEST: usize = 255;

/// What the client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerName<'h> {
    /// No server_name extension.
    None,
    /// One host name.
    Name(&'h [u8]),
    /// An extension that does not hold one host name: its bytes as they are.
    Malformed(&'h [u8]),
}

impl<'h> ServerName<'h> {
    /// The name in a host name's bytes.
    pub fn from_host(host: &'h [u8]) -> Self {
        match host.is_empty() || host.len() > LONGEST || host.contains(&0) {
            true => ServerName::Malformed(host),
            false => ServerName::Name(host),
        }
    }

    /// The name in a server_name extension (RFC 6066 §3): a list of exactly one host name.
    pub fn from_extension(raw: &'h [u8]) -> Self {
        let host = || {
            let list = strip_length(raw)?;
            let (kind, name) = list.split_first()?;
            strip_length(name).filter(|_| *kind == HOST_NAME)
        };
        match host().map(ServerName::from_host) {
            Some(ServerName::Name(name)) => ServerName::Name(name),
            _ => ServerName::Malformed(raw),
        }
    }

    /// The name in the ClientHello of a connection whose ticket is being opened. `None` if the
    /// library has no such function.
    ///
    /// # Safety
    ///
    /// `ssl` is the connection of the callback that runs, at enc = 0, and `get` of its library.
    #[inline]
    pub unsafe fn in_client_hello(get: ClientHelloGet0Ext, ssl: *mut SSL) -> Option<Self> {
        let get = get?;
        let (mut bytes, mut len) = (ptr::null(), 0);
        // SAFETY: the caller vouches for `ssl`; on success the bytes are those
        // of the ClientHello, which outlives the callback.
        let name = unsafe {
            if get(ssl, EXTENSION.into(), &mut bytes, &mut len) != 1 {
                ServerName::None
            } else if bytes.is_null() || len == 0 {
                ServerName::Malformed(&[])
            } else {
                ServerName::from_extension(std::slice::from_raw_parts(bytes, len))
            }
        };
        Some(name)
    }

    /// The name of a connection whose ClientHello was read before now.
    ///
    /// # Safety
    ///
    /// `ssl` is a live connection of the library that `api` is of.
    pub unsafe fn negotiated(api: &TlsApi, ssl: *mut SSL) -> Self {
        // SAFETY: the caller vouches for `ssl`; the string is the library's,
        // and lives longer than the callback.
        unsafe {
            let name = api.ssl_get_servername.map(|get| get(ssl, HOST_NAME.into()));
            match name.filter(|name| !name.is_null()) {
                Some(name) => ServerName::from_host(CStr::from_ptr(name).to_bytes()),
                None => ServerName::None,
            }
        }
    }
}

/// The bytes behind a two-byte length, if they are as many as it says.
fn strip_length(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    (usize::from(u16::from_be_bytes(*length)) == rest.len()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(kind: u8, host: &[u8]) -> Vec<u8> {
        let length = |bytes: usize| (bytes as u16).to_be_bytes();
        [&length(host.len() + 3)[..], &[kind], &length(host.len()), host].concat()
    }

    #[test]
    fn a_name_is_what_was_sent() {
        let name = ServerName::from_host(b"example.org");
        assert_eq!(name, ServerName::Name(b"example.org"));
        assert_eq!(ServerName::from_extension(&extension(0, b"example.org")), name);
        // A server may tell them apart, and ask for a certificate at one of them only.
        for other in [&b"example.org."[..], b"Example.org", b"EXAMPLE.ORG"] {
            assert_ne!(ServerName::from_host(other), name);
            assert_ne!(ServerName::from_extension(&extension(0, other)), name);
        }
    }

    #[test]
    fn what_is_not_one_host_name_stays_as_it_is() {
        let good = extension(0, b"a.test");
        let two = [&[0, 18][..], &good[2..], &good[2..]].concat();
        let long = extension(0, &[b'a'; 256]);
        let bad: [&[u8]; 9] = [
            &[],
            &[0],
            &[0, 0],
            &good[..good.len() - 1],
            &[&good[..], &[0]].concat(),
            &extension(1, b"a.test"),
            &extension(0, b""),
            &extension(0, b"a\0b"),
            &two,
        ];
        for raw in bad.into_iter().chain([long.as_slice()]) {
            assert_eq!(ServerName::from_extension(raw), ServerName::Malformed(raw));
        }
        assert!(matches!(ServerName::from_host(b""), ServerName::Malformed(_)));
    }
}
