//! Work for the moment in which libssl asks a server's callback: only then a connection is in the
//! state that a callback may look at.

use std::cell::RefCell;
use std::ffi::c_int;

use openssl::ssl::SslContext;
use openssl_sys as ffi;

use super::callback::Callback;
use crate::{Result, connection};

/// When libssl asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A ticket came.
    Opening,
    /// A ticket goes.
    Sealing,
}

/// A callback, and a connection that it may be asked about now.
#[derive(Clone, Copy)]
pub struct Asked {
    pub callback: Callback,
    pub ssl: *mut ffi::SSL,
}

type Work<'w> = Box<dyn FnOnce(Asked) + 'w>;

thread_local! {
    static PENDING: RefCell<Option<(Moment, Work<'static>)>> = const { RefCell::new(None) };
}

/// Does a handshake with a server, and in it this, once. The server has
/// [`super::callback::stand_in_front`] of its callback.
pub fn run<T>(
    server: &SslContext,
    client: &SslContext,
    session: Option<&[u8]>,
    moment: Moment,
    work: impl FnOnce(Asked) -> Result<T>,
) -> Result<T> {
    let mut result = None;
    let boxed: Work<'_> = Box::new(|asked| result = Some(work(asked)));
    // SAFETY: the work is done or dropped before this function returns.
    let boxed = unsafe { std::mem::transmute::<Work<'_>, Work<'static>>(boxed) };
    PENDING.with(|pending| *pending.borrow_mut() = Some((moment, boxed)));
    let outcome = connection::connect(server, client, session);
    PENDING.with(|pending| pending.borrow_mut().take());
    outcome?;
    result.ok_or("the server's callback was not asked")?
}

/// Called by libssl's callback.
pub fn run_pending(callback: Callback, ssl: *mut ffi::SSL, enc: c_int) {
    let now = if enc == 1 { Moment::Sealing } else { Moment::Opening };
    let work = PENDING.with(|pending| {
        pending.borrow_mut().take_if(|(moment, _)| *moment == now).map(|(_, work)| work)
    });
    if let Some(work) = work {
        work(Asked { callback, ssl });
    }
}
