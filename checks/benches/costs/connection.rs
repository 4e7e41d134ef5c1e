//! One TLS connection in memory, client and server on this thread, with the server's share of the
//! processor time.

use std::ffi::c_int;
use std::ptr;

use foreign_types::ForeignType;
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslSession};
use openssl_sys as ffi;

use crate::Result;
use crate::clock::ThreadTime;

// Public functions of libcrypto that openssl-sys does not declare: BIO_new_bio_pair(3).
unsafe extern "C" {
    fn BIO_new_bio_pair(
        one: *mut *mut ffi::BIO,
        size_one: usize,
        other: *mut *mut ffi::BIO,
        size_other: usize,
    ) -> c_int;
}

/// Turns until a handshake must be done; it takes two.
const TURNS: usize = 8;

/// What one connection came to.
pub struct Outcome {
    /// Processor time of the server's calls into libssl, in nanoseconds.
    pub server_nanos: u64,
    /// How often the clock was read for that.
    pub steps: u32,
    /// Whether the server took the client's ticket.
    pub resumed: bool,
    /// The client's session with its newest ticket, serialized: libssl marks a session that was
    /// used, and each connection is to offer a fresh one.
    pub session: Vec<u8>,
}

/// A server, and a client that connects to it.
#[derive(Clone, Copy)]
pub struct Link<'c> {
    pub server: &'c SslContext,
    pub client: &'c SslContext,
}

impl Link<'_> {
    /// See [`connect`].
    pub fn connect(&self, offered: Option<&[u8]>) -> Result<Outcome> {
        connect(self.server, self.client, offered)
    }

    /// Connects; the session that is offered has to be taken.
    pub fn expect(&self, offered: Option<&[u8]>) -> Result<Outcome> {
        let outcome = self.connect(offered)?;
        match outcome.resumed == offered.is_some() {
            true => Ok(outcome),
            false => Err("not the handshake that was meant: a ticket was not taken".into()),
        }
    }
}

/// Connects, offers the session if there is one, and sends one byte each way, after which the
/// client has all its tickets.
pub fn connect(
    server: &SslContext,
    client: &SslContext,
    offered: Option<&[u8]>,
) -> Result<Outcome> {
    let (mut server, mut client) = (Ssl::new(server)?, Ssl::new(client)?);
    server.set_accept_state();
    client.set_connect_state();
    client.set_hostname("localhost")?;
    if let Some(der) = offered {
        // SAFETY: the session is decoded for this connection alone.
        unsafe { client.set_session(&*SslSession::from_der(der)?) }?;
    }
    join(&server, &client)?;

    let mut time = ThreadTime::default();
    shake_hands(&server, &client, &mut time)?;
    write_byte(&client)?;
    time.measure(|| server_answer(&server))?;
    read_byte(&client)?;

    let session = client.session().ok_or("the client has no session")?.to_der()?;
    let resumed = client.session_reused();
    Ok(Outcome { server_nanos: time.nanos, steps: time.steps, resumed, session })
}

/// The first thing that a client says which offers this session.
pub fn first_flight(client: &SslContext, session: &[u8]) -> Result<Vec<u8>> {
    let mut client = Ssl::new(client)?;
    client.set_connect_state();
    client.set_hostname("localhost")?;
    // SAFETY: the session is decoded for this connection alone.
    unsafe { client.set_session(&*SslSession::from_der(session)?) }?;
    let (mut near, mut far) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: two out-pointers; then one BIO passes into the ownership of the SSL, and the other one
    // is freed here after the last use.
    unsafe {
        if BIO_new_bio_pair(&mut near, 0, &mut far, 0) != 1 {
            return Err(ErrorStack::get().into());
        }
        ffi::SSL_set_bio(client.as_ptr(), near, near);
        let advanced = advance(&client);
        let mut flight = vec![0; 1 << 14];
        let got = ffi::BIO_read(far, flight.as_mut_ptr().cast(), flight.len() as c_int);
        ffi::BIO_free_all(far);
        advanced?;
        flight.truncate(usize::try_from(got)?);
        Ok(flight)
    }
}

/// Gives both a BIO of one pair; each owns its own.
fn join(server: &Ssl, client: &Ssl) -> Result<()> {
    let (mut near, mut far) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: two out-pointers; 0 asks for the default size, which holds any flight of ours.
    if unsafe { BIO_new_bio_pair(&mut near, 0, &mut far, 0) } != 1 {
        return Err(ErrorStack::get().into());
    }
    // SAFETY: each BIO is new, and passes into the ownership of one live SSL (SSL_set_bio(3): one
    // reference serves both directions when they are the same).
    unsafe {
        ffi::SSL_set_bio(server.as_ptr(), near, near);
        ffi::SSL_set_bio(client.as_ptr(), far, far);
    }
    Ok(())
}

/// Lets client and server take turns until both are done.
fn shake_hands(server: &Ssl, client: &Ssl, time: &mut ThreadTime) -> Result<()> {
    let (mut server_done, mut client_done) = (false, false);
    for _ in 0..TURNS {
        client_done = client_done || advance(client)?;
        if !server_done {
            server_done = time.measure(|| server_turn(server))?;
        }
        if server_done && client_done {
            return Ok(());
        }
    }
    Err("the handshake does not come to an end".into())
}

/// The server's part of a handshake. These two are what is counted under callgrind, which knows
/// them by their names.
#[unsafe(no_mangle)]
#[inline(never)]
fn server_turn(server: &Ssl) -> Result<bool> {
    advance(server)
}

/// The server's part after the handshake.
#[unsafe(no_mangle)]
#[inline(never)]
fn server_answer(server: &Ssl) -> Result<()> {
    read_byte(server).and_then(|()| write_byte(server))
}

/// Goes on with a handshake; true when it is done.
pub fn advance(ssl: &Ssl) -> Result<bool> {
    // SAFETY: a live SSL with both BIOs.
    let rc = unsafe { ffi::SSL_do_handshake(ssl.as_ptr()) };
    // SAFETY: as above, right after the call that it asks about.
    match unsafe { ffi::SSL_get_error(ssl.as_ptr(), rc) } {
        ffi::SSL_ERROR_NONE => Ok(true),
        ffi::SSL_ERROR_WANT_READ => Ok(false),
        _ => Err(ErrorStack::get().into()),
    }
}

fn write_byte(ssl: &Ssl) -> Result<()> {
    // SAFETY: a live SSL and one byte to read.
    match unsafe { ffi::SSL_write(ssl.as_ptr(), b"x".as_ptr().cast(), 1) } {
        1 => Ok(()),
        _ => Err(ErrorStack::get().into()),
    }
}

fn read_byte(ssl: &Ssl) -> Result<()> {
    let mut byte = 0u8;
    // SAFETY: a live SSL and one byte to write.
    match unsafe { ffi::SSL_read(ssl.as_ptr(), (&raw mut byte).cast(), 1) } {
        1 => Ok(()),
        _ => Err(ErrorStack::get().into()),
    }
}
