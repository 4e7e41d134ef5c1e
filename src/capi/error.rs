//! Result codes and their messages.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::unnoticed::Unnoticed;

/// Success.
pub const TKT_OK: c_int = 0;
/// An argument is NULL or invalid.
pub const TKT_ERR_ARGUMENT: c_int = -1;
/// A setting is invalid: a field of the configuration or, in strict mode, a
/// variable of the environment.
pub const TKT_ERR_CONFIG: c_int = -2;
/// No usable TLS library was found, or it refused the callback.
pub const TKT_ERR_TLS: c_int = -3;
/// Strict mode only: the ring cannot be used as configured, or its keys cannot be protected.
pub const TKT_ERR_RING: c_int = -4;
/// No callback is left for one more context: tkt_install() says how many there are.
pub const TKT_ERR_POOL: c_int = -5;
/// The context is not attached.
pub const TKT_ERR_NOT_INSTALLED: c_int = -6;
/// The TLS library's random number generator failed.
pub const TKT_ERR_GENERATOR: c_int = -7;
/// Another process is writing the ring and did not finish within two seconds,
/// or the ring's lock does not work.
pub const TKT_ERR_BUSY: c_int = -8;
/// The ring is full, or gets no memory for another key.
pub const TKT_ERR_FULL: c_int = -9;
/// Out of memory.
pub const TKT_ERR_MEMORY: c_int = -10;
/// A bug in libtktrot.
pub const TKT_ERR_INTERNAL: c_int = -11;

/// A code and what to tell the caller.
pub struct Error {
    /// `TKT_ERR_*`.
    pub code: c_int,
    /// What was tried, on what, why not, what to do.
    pub message: String,
}

impl Error {
    pub fn new(code: c_int, message: impl Into<String>) -> Self {
        Error { code, message: message.into() }
    }
}

const ROOM: usize = 1024;

thread_local! {
    /// NUL-terminated; a plain array, so that no destructor runs at thread exit.
    static LAST: RefCell<[u8; ROOM]> = const { RefCell::new([0; ROOM]) };
}

/// Runs the body of an exported function: leaves errno and cancellation as they
/// were, keeps panics in, stores the message of an error for
/// [`tkt_last_error`], returns the code.
pub fn guard(body: impl FnOnce() -> Result<c_int, Error>) -> c_int {
    let _unnoticed = Unnoticed::begin();
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        Err(Error::new(TKT_ERR_INTERNAL, "a bug in libtktrot: please report it"))
    });
    result.unwrap_or_else(|error| {
        remember(&error.message);
        error.code
    })
}

fn remember(message: &str) {
    LAST.with_borrow_mut(|last| {
        let bytes = message.bytes().filter(|byte| *byte != 0).take(ROOM - 1);
        let length = bytes.zip(last.iter_mut()).map(|(byte, room)| *room = byte).count();
        last[length] = 0;
    });
}

/// The meaning of a result code, in English.
///
/// The string is static. Never NULL: an unknown code has a string, too.
/// Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn tkt_strerror(code: c_int) -> *const c_char {
    let text: &CStr = match code {
        TKT_OK => c"success",
        TKT_ERR_ARGUMENT => c"an argument is NULL or invalid",
        TKT_ERR_CONFIG => c"a setting is invalid",
        TKT_ERR_TLS => c"no usable TLS library",
        TKT_ERR_RING => c"the ring cannot be used as configured (strict mode)",
        TKT_ERR_POOL => c"too many contexts are attached",
        TKT_ERR_NOT_INSTALLED => c"the context is not attached",
        TKT_ERR_GENERATOR => c"the random number generator failed",
        TKT_ERR_BUSY => c"the ring is being written by another process",
        TKT_ERR_FULL => c"the ring is full, or out of memory",
        TKT_ERR_MEMORY => c"out of memory",
        TKT_ERR_INTERNAL => c"a bug in libtktrot",
        _ => c"unknown result code",
    };
    text.as_ptr()
}

/// The message of this thread's last error: what was tried, on what, why it
/// failed, and what to do. Never holds a secret.
///
/// The string belongs to the library and is valid until this thread's next
/// error. Empty if there was none; never NULL. A success does not clear it.
#[unsafe(no_mangle)]
pub extern "C" fn tkt_last_error() -> *const c_char {
    LAST.with(|last| last.as_ptr().cast::<c_char>().cast_const())
}
