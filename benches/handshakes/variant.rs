//! The servers that are compared: they differ in nothing but their ticket keys.

use std::ffi::{CStr, CString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use foreign_types::ForeignType;
use openssl::ssl::{
    SslContext, SslFiletype, SslMethod, SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use openssl_sys::SSL_CTX;
use testbed::certificate::Certificate;
use testbed::client::TlsVersion;
use testbed::{RingDir, artifacts};
use tktrot::capi::config::tkt_config;

use crate::{Result, plain};

/// Whose ticket keys a server uses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// OpenSSL's own: what everything is compared to.
    BuiltIn,
    /// The same again: what differs here is noise.
    BuiltInAgain,
    /// See [`plain`].
    PlainCallback,
    /// libtktrot through its C API, as a C program uses it.
    Tktrot,
}

impl Variant {
    /// All; the first is what the others are compared to.
    pub const ALL: [Variant; 4] =
        [Variant::BuiltIn, Variant::BuiltInAgain, Variant::PlainCallback, Variant::Tktrot];

    /// What the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Variant::BuiltIn => "built-in keys",
            Variant::BuiltInAgain => "built-in keys, again",
            Variant::PlainCallback => "plain EVP callback",
            Variant::Tktrot => "libtktrot",
        }
    }

    /// A server, without a session cache, as nginx has it.
    pub fn server(self, certificate: &Certificate, ring: &RingDir) -> Result<SslContext> {
        let mut context = SslContext::builder(SslMethod::tls_server())?;
        context.set_certificate_chain_file(&certificate.cert)?;
        context.set_private_key_file(&certificate.key, SslFiletype::PEM)?;
        context.set_session_id_context(b"bench")?;
        context.set_session_cache_mode(SslSessionCacheMode::OFF);
        let context = context.build();
        match self {
            Variant::BuiltIn | Variant::BuiltInAgain => {}
            Variant::PlainCallback => plain::install(&context)?,
            Variant::Tktrot => install_tktrot(&context, ring)?,
        }
        Ok(context)
    }
}

/// A client that speaks this version and verifies nothing.
pub fn client(version: TlsVersion) -> Result<SslContext> {
    let protocol = match version {
        TlsVersion::V12 => SslVersion::TLS1_2,
        TlsVersion::V13 => SslVersion::TLS1_3,
    };
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    context.set_min_proto_version(Some(protocol))?;
    context.set_max_proto_version(Some(protocol))?;
    context.set_verify(SslVerifyMode::NONE);
    Ok(context.build())
}

/// Loads the library that `make` has built and calls it.
fn install_tktrot(context: &SslContext, ring: &RingDir) -> Result<()> {
    type Install = unsafe extern "C" fn(*mut SSL_CTX, *const tkt_config) -> c_int;
    type LastError = unsafe extern "C" fn() -> *const c_char;

    let library = artifacts::library()?;
    let dir = c_string(ring.path())?;
    // SAFETY: all zeroes is TKT_CONFIG_INIT but for the size.
    let mut config: tkt_config = unsafe { std::mem::zeroed() };
    config.size = size_of::<tkt_config>();
    config.dir = dir.as_ptr();
    config.strict = 1;
    // SAFETY: the library is of this workspace, so its functions have these types; it stays
    // loaded. The context is live, the configuration valid, its string lives through the call.
    unsafe {
        let handle = libc::dlopen(c_string(library)?.as_ptr(), libc::RTLD_NOW);
        let install = libc::dlsym(handle, c"tkt_install".as_ptr());
        let last_error = libc::dlsym(handle, c"tkt_last_error".as_ptr());
        if handle.is_null() || install.is_null() || last_error.is_null() {
            return Err(format!("{} cannot be loaded", library.display()).into());
        }
        let install: Install = std::mem::transmute(install);
        let last_error: LastError = std::mem::transmute(last_error);
        match install(context.as_ptr(), &config) {
            0 => Ok(()),
            code => {
                let message = CStr::from_ptr(last_error()).to_string_lossy();
                Err(format!("tkt_install: {code}: {message}").into())
            }
        }
    }
}

fn c_string(path: &Path) -> Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
