//! `tkt_message`: for hosts with a message callback of their own.

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use openssl_sys::SSL;

use crate::tls::messages;
use crate::unnoticed::Unnoticed;

/// What a message callback of a host's own (SSL_set_msg_callback(3)) calls, with the arguments that
/// it got, if the host's TLS library is LibreSSL; `arg` is ignored. Others need no such call, and
/// nothing comes of it there.
///
/// LibreSSL tells the server name of a connection only in its ClientHello while a ticket is opened.
/// tkt_install() sets this function as the message callback of `ctx`, in place of one that was set
/// before. A host that sets one of its own, later or for a connection, calls this first in it;
/// where nobody does, tickets that are bound to the server name are not opened.
///
/// `buf` is valid for `len` bytes during the call, and is not kept. Thread-safe. Returns nothing,
/// and fails silently: the handshake becomes a full one then. With more than one LibreSSL in a
/// process nothing comes of it.
///
/// # Safety
///
/// The arguments are those of a message callback that runs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkt_message(
    is_sent: c_int,
    version: c_int,
    content_type: c_int,
    buf: *const c_void,
    len: usize,
    ssl: *mut SSL,
    arg: *mut c_void,
) {
    let _ = (version, arg);
    let _unnoticed = Unnoticed::begin();
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the caller vouches for them.
        unsafe { messages::handed_on(is_sent != 0, content_type, (buf, len), ssl) };
    }));
}
