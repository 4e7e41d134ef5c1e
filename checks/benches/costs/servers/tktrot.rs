//! libtktrot as a C program uses it: loaded, and called through its C API.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use foreign_types::ForeignType;
use openssl::ssl::SslContext;
use openssl_sys::SSL_CTX;
use testbed::artifacts;
use tktrot::capi::config::tkt_config;

use crate::Result;

/// What differs from the defaults.
#[derive(Clone, Copy, Default)]
pub struct Settings {
    /// 0 for the default.
    pub capacity: u32,
    /// Seconds; 0 for the default.
    pub rotate_every: u32,
}

type Install = unsafe extern "C" fn(*mut SSL_CTX, *const tkt_config) -> c_int;
type Rotate = unsafe extern "C" fn(*mut SSL_CTX) -> c_int;
type Text = unsafe extern "C" fn() -> *const c_char;

/// The exported functions in use.
struct Library {
    install: Install,
    rotate: Rotate,
    last_error: Text,
    version: Text,
}

/// Gives a context the keys of a ring of that name.
pub fn install(context: &SslContext, dir: &Path, ring: &str, settings: Settings) -> Result<()> {
    let (dir, ring) = (c_string(dir)?, CString::new(ring)?);
    // SAFETY: all zeroes is TKT_CONFIG_INIT but for the size.
    let mut config: tkt_config = unsafe { std::mem::zeroed() };
    config.size = size_of::<tkt_config>();
    config.dir = dir.as_ptr();
    config.ring = ring.as_ptr();
    config.capacity = settings.capacity;
    config.rotate_every = settings.rotate_every;
    config.strict = 1;
    let library = library()?;
    // SAFETY: the context is live, the configuration valid, its strings live through the call.
    library.check(unsafe { (library.install)(context.as_ptr(), &config) }, "tkt_install")
}

/// Makes the ring's next key.
pub fn rotate(context: &SslContext) -> Result<()> {
    let library = library()?;
    // SAFETY: a live context.
    library.check(unsafe { (library.rotate)(context.as_ptr()) }, "tkt_rotate")
}

/// The library's version.
pub fn version() -> Result<String> {
    // SAFETY: a static string.
    Ok(unsafe { CStr::from_ptr((library()?.version)()) }.to_string_lossy().into_owned())
}

impl Library {
    fn check(&self, code: c_int, function: &str) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: a string that lives until this thread's next call.
        let message = unsafe { CStr::from_ptr((self.last_error)()) }.to_string_lossy();
        Err(format!("{function}: {code}: {message}").into())
    }
}

/// Loads what `make` has built, once.
fn library() -> Result<&'static Library> {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    if let Some(library) = LIBRARY.get() {
        return Ok(library);
    }
    let file = artifacts::library()?;
    // SAFETY: a valid string; what is loaded is of this workspace, and stays.
    let handle = unsafe { libc::dlopen(c_string(file)?.as_ptr(), libc::RTLD_NOW) };
    let find = |name: &CStr| -> Result<*mut c_void> {
        // SAFETY: dlsym(3) takes NULL for a handle, too, and a valid string.
        match unsafe { libc::dlsym(handle, name.as_ptr()) } {
            found if handle.is_null() || found.is_null() => {
                Err(format!("{} cannot be loaded, or has no {name:?}", file.display()).into())
            }
            found => Ok(found),
        }
    };
    // SAFETY: the library is of this workspace, so its functions have these types.
    let library = unsafe {
        Library {
            install: std::mem::transmute::<*mut c_void, Install>(find(c"tkt_install")?),
            rotate: std::mem::transmute::<*mut c_void, Rotate>(find(c"tkt_rotate")?),
            last_error: std::mem::transmute::<*mut c_void, Text>(find(c"tkt_last_error")?),
            version: std::mem::transmute::<*mut c_void, Text>(find(c"tkt_version")?),
        }
    };
    Ok(LIBRARY.get_or_init(|| library))
}

fn c_string(path: &Path) -> Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
