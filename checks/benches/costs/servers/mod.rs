//! The servers that are compared: they differ in nothing but their ticket keys.

mod haproxy_shape;
mod key;
mod nginx_shape;
mod plain;
pub mod tktrot;

use std::path::Path;

use openssl::ssl::{SslContext, SslFiletype, SslMethod, SslSessionCacheMode};
use testbed::certificate::Certificate;
use testbed::client::TlsVersion;
use testbed::{RingDir, certificate};

use crate::Result;

/// Whose ticket keys a server uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// OpenSSL's own: what everything is compared to.
    BuiltIn,
    /// The same again: what differs here is noise.
    BuiltInAgain,
    /// See [`plain`].
    Plain,
    /// See [`haproxy_shape`].
    LockedList,
    /// See [`nginx_shape`].
    MutexAndThree,
    /// libtktrot, everything on.
    Tktrot,
}

impl Keys {
    /// All; the first is what the others are compared to.
    pub const ALL: [Keys; 6] = [
        Keys::BuiltIn,
        Keys::BuiltInAgain,
        Keys::Plain,
        Keys::LockedList,
        Keys::MutexAndThree,
        Keys::Tktrot,
    ];

    /// Those with a callback.
    pub const CALLBACKS: [Keys; 4] =
        [Keys::Plain, Keys::LockedList, Keys::MutexAndThree, Keys::Tktrot];

    /// What the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Keys::BuiltIn => "built-in keys",
            Keys::BuiltInAgain => "built-in keys, again",
            Keys::Plain if cfg!(openssl_3) => "plain EVP callback",
            Keys::Plain => "plain HMAC callback",
            Keys::LockedList => "reader-writer lock, list",
            Keys::MutexAndThree => "mutex, 3 keys",
            Keys::Tktrot => "libtktrot",
        }
    }

    /// Those that the table calls so.
    pub fn named(name: &str) -> Result<Keys> {
        let found = Keys::ALL.into_iter().find(|keys| keys.name() == name);
        Ok(found.ok_or_else(|| format!("no ticket keys are called {name:?}"))?)
    }
}

/// What servers are made of: a certificate, and a directory for rings.
pub struct Workshop {
    certificate: Certificate,
    rings: RingDir,
    _files: tempfile::TempDir,
}

impl Workshop {
    pub fn new() -> Result<Workshop> {
        let files = tempfile::tempdir()?;
        let certificate = certificate::create(files.path())?;
        Ok(Workshop { certificate, rings: RingDir::new()?, _files: files })
    }

    /// A server of libtktrot with the ring that is in a directory.
    pub fn with_ring(&self, dir: &Path) -> Result<SslContext> {
        let context = self.context()?;
        tktrot::install(&context, dir, "bench", tktrot::Settings::default())?;
        Ok(context)
    }

    /// A server with those keys.
    pub fn server(&self, keys: Keys) -> Result<SslContext> {
        let context = self.context()?;
        match keys {
            Keys::BuiltIn | Keys::BuiltInAgain => {}
            Keys::Plain => plain::install(&context)?,
            Keys::LockedList => haproxy_shape::install(&context)?,
            Keys::MutexAndThree => nginx_shape::install(&context)?,
            Keys::Tktrot => {
                tktrot::install(&context, self.rings.path(), "bench", tktrot::Settings::default())?;
            }
        }
        Ok(context)
    }

    /// A server of libtktrot with a ring of its own.
    pub fn tktrot(&self, ring: &str, settings: tktrot::Settings) -> Result<SslContext> {
        let context = self.context()?;
        tktrot::install(&context, self.rings.path(), ring, settings)?;
        Ok(context)
    }

    /// Without a session cache, as nginx has it.
    fn context(&self) -> Result<SslContext> {
        let mut context = SslContext::builder(SslMethod::tls_server())?;
        context.set_certificate_chain_file(&self.certificate.cert)?;
        context.set_private_key_file(&self.certificate.key, SslFiletype::PEM)?;
        context.set_session_id_context(b"bench")?;
        context.set_session_cache_mode(SslSessionCacheMode::OFF);
        Ok(context.build())
    }
}

/// A client that speaks this version and verifies nothing.
pub fn client(version: TlsVersion) -> Result<SslContext> {
    Ok(version.client_context()?.build())
}
