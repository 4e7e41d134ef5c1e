//! The callback of a context: which it is, and another one in its place that calls it.

use std::ffi::{c_int, c_uchar};
use std::sync::Mutex;

use foreign_types::ForeignType;
use openssl::ssl::{SslContext, SslMethod};
use openssl_sys as ffi;

use super::form::{self, Form, Mac};
use super::in_handshake;
use crate::Result;

/// A callback, and its form.
#[derive(Clone, Copy)]
pub struct Callback {
    pub form: &'static Form,
    pub function: form::Callback,
}

/// The callbacks that [`front`] stands in front of, by address of the context.
static BEHIND: Mutex<Vec<(usize, Callback)>> = Mutex::new(Vec::new());

/// Puts a function in front of a context's callback through which [`in_handshake`] can use it.
pub fn stand_in_front(context: &SslContext) -> Result<()> {
    let callback = of(context)?;
    (callback.form.set)(context, Some(front))?;
    let address = context.as_ptr().addr();
    let mut known = BEHIND.lock().map_err(|_| "a panic while the lock was held")?;
    // A context that is gone may have been there.
    known.retain(|(other, _)| *other != address);
    known.push((address, callback));
    Ok(())
}

fn behind(ssl: *mut ffi::SSL) -> Option<Callback> {
    // SAFETY: a live connection, of which libssl runs the callback.
    let context = unsafe { ffi::SSL_get_SSL_CTX(ssl) }.addr();
    let known = BEHIND.lock().ok()?;
    known.iter().find(|(address, _)| *address == context).map(|(_, callback)| *callback)
}

unsafe extern "C" fn front(
    ssl: *mut ffi::SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    cipher: *mut ffi::EVP_CIPHER_CTX,
    mac: *mut Mac,
    enc: c_int,
) -> c_int {
    let Some(callback) = behind(ssl) else { return -1 };
    in_handshake::run_pending(callback, ssl, enc);
    // SAFETY: what libssl handed in, to a callback of the form in which this one was set.
    unsafe { (callback.function)(ssl, name, iv, cipher, mac, enc) }
}

/// The callback that a context has. libssl has no getter for it; so a callback of our own in
/// another context tells in which word of a context it is.
fn of(context: &SslContext) -> Result<Callback> {
    let scratch = SslContext::builder(SslMethod::tls_server())?.build();
    let words_of_context = words(context);
    for form in form::ALL {
        (form.set)(&scratch, Some(front))?;
        let place = words(&scratch).iter().position(|&word| word == front as *const () as usize);
        (form.set)(&scratch, None)?;
        let place = place.ok_or("this libssl keeps callbacks elsewhere than in the context")?;
        let function = words_of_context[place];
        // SAFETY: the word of an SSL_CTX where callbacks of this form are; zero is none.
        let function = unsafe { std::mem::transmute::<usize, Option<form::Callback>>(function) };
        if let Some(function) = function {
            return Ok(Callback { form, function });
        }
    }
    Err("a context without callback".into())
}

/// What is in a context, as numbers.
fn words(context: &SslContext) -> Vec<usize> {
    let start = context.as_ptr().cast::<usize>();
    // SAFETY: libssl made the context with malloc, whose size is asked for; it lives.
    unsafe {
        let count = libc::malloc_usable_size(start.cast()) / size_of::<usize>();
        (0..count).map(|place| start.add(place).read_volatile()).collect()
    }
}
