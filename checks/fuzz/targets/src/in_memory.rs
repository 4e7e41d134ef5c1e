//! A client and a server of one process, without a socket between them; and sessions whose ticket
//! is another one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::c_long;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use openssl::ssl::{
    ErrorCode, Ssl, SslContext, SslContextBuilder, SslMethod, SslSessionCacheMode, SslStream,
};

// A public function of libssl that openssl-sys does not declare (SSL_CTX_set_timeout(3)).
unsafe extern "C" {
    fn SSL_CTX_set_timeout(context: *mut openssl_sys::SSL_CTX, seconds: c_long) -> c_long;
}

/// Sessions of this context live for so many seconds.
pub fn last_for(context: &mut SslContextBuilder, seconds: u32) {
    // SAFETY: the context is live, and nobody else's.
    unsafe { SSL_CTX_set_timeout(context.as_ptr(), c_long::from(seconds as i32)) };
}

/// What a handshake came to.
#[derive(Debug)]
pub struct Handshake {
    /// Whether a ticket took its place.
    pub resumed: bool,
    /// The last session that the client got, serialized.
    pub session: Option<Vec<u8>>,
}

thread_local! {
    /// What the client got: its callback has no other way out.
    static GOT: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// A client that trusts anybody, and tells what sessions it gets.
pub fn client() -> SslContext {
    let mut client = SslContextBuilder::new(SslMethod::tls_client()).expect("a context");
    client.set_session_cache_mode(
        SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL_STORE,
    );
    client.set_new_session_callback(|_, session| {
        GOT.set(Some(session.to_der().expect("a session")));
    });
    client.build()
}

/// Lets both talk until the handshake is done and the client has what the server sent behind it.
/// Panics if it fails, or has no end.
pub fn handshake(server: Ssl, client: Ssl) -> Handshake {
    let (near, far) = ends();
    let mut server = SslStream::new(server, near).expect("memory");
    let mut client = SslStream::new(client, far).expect("memory");
    GOT.set(None);
    // As many turns as no handshake takes: three suffice for one that asks for another key share.
    for _ in 0..10 {
        let connected = client.connect();
        let accepted = server.accept();
        for result in [&connected, &accepted] {
            if let Err(error) = result {
                assert_eq!(error.code(), ErrorCode::WANT_READ, "the handshake fails: {error}");
            }
        }
        if connected.is_ok() && accepted.is_ok() {
            let more = client.ssl_read(&mut [0; 1]).expect_err("the server says nothing");
            assert_eq!(more.code(), ErrorCode::WANT_READ, "behind the handshake: {more}");
            let resumed = server.ssl().session_reused();
            assert_eq!(resumed, client.ssl().session_reused());
            return Handshake { resumed, session: GOT.take() };
        }
    }
    panic!("a handshake without end");
}

/// One end of a connection.
struct End {
    incoming: Rc<RefCell<VecDeque<u8>>>,
    outgoing: Rc<RefCell<VecDeque<u8>>>,
}

fn ends() -> (End, End) {
    let (one, other) = <(Rc<RefCell<VecDeque<u8>>>, Rc<RefCell<VecDeque<u8>>>)>::default();
    (End { incoming: one.clone(), outgoing: other.clone() }, End { incoming: other, outgoing: one })
}

impl Read for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.incoming.borrow_mut().read(buffer)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `[10]`, which holds the ticket in a serialized session (`SSL_SESSION_ASN1` of OpenSSL).
const TICKET: u8 = 0xaa;
const OCTETS: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// The ticket in a serialized session.
pub fn ticket_of(session: &[u8]) -> Option<&[u8]> {
    let (_, fields, _) = element(session)?;
    let mut rest = fields;
    while let Some((tag, value, behind)) = element(rest) {
        if tag == TICKET {
            return element(value).map(|(_, ticket, _)| ticket);
        }
        rest = behind;
    }
    None
}

/// The same session with another ticket.
pub fn with_ticket(session: &[u8], ticket: &[u8]) -> Vec<u8> {
    let (_, mut rest, _) = element(session).expect("a sequence");
    let mut fields = Vec::new();
    while let Some((tag, value, behind)) = element(rest) {
        match tag {
            TICKET => encode(&mut fields, tag, &encoded(OCTETS, ticket)),
            _ => encode(&mut fields, tag, value),
        }
        rest = behind;
    }
    encoded(SEQUENCE, &fields)
}

/// Tag and value of the first element (X.690 §8.1), and what is behind it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match length {
        0..0x80 => (usize::from(length), rest),
        _ => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((tag, value, rest))
}

fn encoded(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut element = Vec::new();
    encode(&mut element, tag, value);
    element
}

fn encode(to: &mut Vec<u8>, tag: u8, value: &[u8]) {
    to.push(tag);
    match value.len() {
        length @ 0..0x80 => to.push(length as u8),
        length => {
            to.push(0x83);
            to.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
        }
    }
    to.extend_from_slice(value);
}
