//! Servers that begin without TLS (STARTTLS), and what is no TLS server or does not answer: reported
//! as what it is, and soon.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509;
use testbed::solo::Solo;
use testbed::{certificate, port};

use crate::Result;
use crate::program::{CRITICAL, OK, USAGE, count, report, run};

/// A server that does one thing with each connection; it ends when dropped.
pub struct Stranger {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stranger {
    pub fn start(serve: impl Fn(TcpStream) + Send + 'static) -> Result<Stranger> {
        let listener = TcpListener::bind(port::free()?)?;
        let addr = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            // Relaxed: a flag on its own, nothing is published with it.
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((tcp, _)) => {
                        let limit = Some(Duration::from_secs(5));
                        let prepared = tcp
                            .set_nonblocking(false)
                            .and_then(|()| tcp.set_read_timeout(limit))
                            .and_then(|()| tcp.set_write_timeout(limit));
                        if prepared.is_ok() {
                            serve(tcp);
                        }
                    }
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Ok(Stranger { addr, stop, thread: Some(thread) })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed; the test fails by what it asserts.
            let _ = thread.join();
        }
    }
}

/// The only finding, and how the observations of both versions call it.
fn assert_told(addr: SocketAddr, code: &str, kind: &str) -> Result<()> {
    assert_told_within("5s", addr, code, kind)
}

fn assert_told_within(limit: &str, addr: SocketAddr, code: &str, kind: &str) -> Result<()> {
    let report = report(&[&addr.to_string(), "--timeout", limit])?;
    assert_eq!(report.status, CRITICAL);
    assert_eq!(report.codes(), [code], "{:#}", report.value);
    for tls in ["1.2", "1.3"] {
        let seen = report.seen(addr, tls)[0];
        assert_eq!(seen["failure"]["kind"], kind, "{seen:#}");
        assert_eq!(seen["handshakes"], 0);
    }
    Ok(())
}

#[test]
fn a_server_without_tls() -> Result<()> {
    let stranger = Stranger::start(|mut tcp| {
        let _ = tcp.read(&mut [0; 512]);
        let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    })?;
    assert_told(stranger.addr(), "not-tls", "not-tls")
}

#[test]
fn a_server_that_never_stops_talking() -> Result<()> {
    let stranger = Stranger::start(|mut tcp| {
        // Bounded all the same, should nobody hang up.
        for _ in 0..1000 {
            if tcp.write_all(&[b'x'; 16 * 1024]).is_err() {
                return;
            }
        }
    })?;
    assert_told(stranger.addr(), "not-tls", "not-tls")?;
    // In a protocol of lines it is a line without an end.
    let report = report(&[&stranger.addr().to_string(), "--starttls", "smtp"])?;
    assert_eq!(report.codes(), ["starttls-refused"], "{:#}", report.value);
    Ok(())
}

#[test]
fn a_closed_port() -> Result<()> {
    assert_told(port::free()?, "closed-port", "refused")
}

#[test]
fn a_server_that_says_nothing() -> Result<()> {
    // The kernel accepts for it.
    let listener = TcpListener::bind(port::free()?)?;
    assert_told_within("300ms", listener.local_addr()?, "timeout", "timeout")
}

/// Each byte comes in time, but the step as a whole has a limit.
#[test]
fn a_server_that_answers_byte_by_byte() -> Result<()> {
    let stranger = Stranger::start(|mut tcp| {
        // A TLS record of 8 KiB begins, with a ServerHello. Bounded, should nobody hang up.
        let record = [&[0x16, 3, 3, 0x20, 0, 2, 0, 0x1f, 0xfc][..], &[3; 200]].concat();
        for byte in record {
            thread::sleep(Duration::from_millis(50));
            if tcp.write_all(&[byte]).is_err() {
                return;
            }
        }
    })?;
    assert_told_within("500ms", stranger.addr(), "timeout", "timeout")
}

#[test]
fn a_server_that_hangs_up() -> Result<()> {
    let politely = Stranger::start(drop)?;
    assert_told(politely.addr(), "connection-closed", "closed")?;
    let rudely = Stranger::start(|tcp| {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: the descriptor is open, the option is a struct linger, which is read only.
        let set = unsafe {
            libc::setsockopt(
                tcp.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size_of::<libc::linger>() as libc::socklen_t,
            )
        };
        assert_eq!(set, 0);
    })?;
    assert_told(rudely.addr(), "connection-closed", "closed")
}

#[test]
fn a_dead_host_does_not_keep_the_others_from_being_measured() -> Result<()> {
    let server = Solo::openssl().start()?;
    let dead = port::free()?;
    // RFC 6761: this name never resolves.
    let report = report(&["name.invalid:443", &dead.to_string(), &server.addr().to_string()])?;
    assert_eq!(report.status, CRITICAL);
    let told = report.codes();
    assert!(told.contains(&"no-address") && told.contains(&"closed-port"), "{told:?}");
    assert_eq!(count(report.seen(server.addr(), "1.3")[0], "resumed_here"), (3, 3));
    assert!(report.value["targets"][0]["error"].is_string());
    Ok(())
}

#[test]
fn what_cannot_be_asked_is_told_with_what_can() -> Result<()> {
    for (arguments, accepted) in [
        (&["localhost", "--starttls", "gopher"][..], "ldap, xmpp, xmpp-server, mysql, postgres"),
        (&["localhost:http"], "HOST:PORT"),
        (&["localhost", "--times", "0"], "1..=1000"),
        (&["localhost", "--timeout", "1w"], "500ms"),
        (&["localhost", "--sni", "a b"], "host name"),
        (&[], "HOST[:PORT]"),
    ] {
        let output = run(arguments)?;
        assert_eq!(output.status, USAGE, "{arguments:?}");
        assert!(output.stderr.contains(accepted), "{arguments:?}: {}", output.stderr);
        assert!(output.stdout.is_empty());
    }
    Ok(())
}

/// What is said in turn: by the server, and then by the client.
type Dialogue = &'static [(&'static [u8], &'static [u8])];

const SMTP: Dialogue = &[
    (b"220-mail.example\r\n220 ESMTP\r\n", b"EHLO [127.0.0.1]\r\n"),
    (b"250-mail.example\r\n250-SIZE\r\n250 STARTTLS\r\n", b"STARTTLS\r\n"),
    (b"220 go ahead\r\n", b""),
];
const LMTP: Dialogue = &[
    (b"220 LMTP\r\n", b"LHLO [127.0.0.1]\r\n"),
    (b"250-mail.example\r\n250 STARTTLS\r\n", b"STARTTLS\r\n"),
    (b"220 go ahead\r\n", b""),
];
const IMAP: Dialogue =
    &[(b"* OK IMAP4rev1\r\n", b"a1 STARTTLS\r\n"), (b"* news\r\na1 OK go ahead\r\n", b"")];
const POP3: Dialogue = &[(b"+OK hello\r\n", b"STLS\r\n"), (b"+OK go ahead\r\n", b"")];
const SIEVE: Dialogue = &[
    (b"\"SIEVE\" \"fileinto\"\r\n\"STARTTLS\"\r\nOK \"hello\"\r\n", b"STARTTLS\r\n"),
    (b"OK \"go ahead\"\r\n", b""),
];
const NNTP: Dialogue = &[(b"201 news\r\n", b"STARTTLS\r\n"), (b"382 go ahead\r\n", b"")];
const FTP: Dialogue = &[(b"220 hello\r\n", b"AUTH TLS\r\n"), (b"234 go ahead\r\n", b"")];
/// The answer's lengths are of the long form, as Active Directory writes them.
const LDAP: Dialogue = &[
    (b"", b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"),
    (b"\x30\x84\0\0\0\x10\x02\x01\x01\x78\x84\0\0\0\x07\x0a\x01\0\x04\0\x04\0", b""),
];
const XMPP: Dialogue = &[
    (
        b"",
        b"<?xml version='1.0'?><stream:stream to='a.example' xmlns='jabber:client' \
        xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>",
    ),
    (
        b"<?xml version='1.0'?><stream:stream id='1' version='1.0'><stream:features>\
        <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>\
        <mechanisms/></stream:features>",
        b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    ),
    (b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", b""),
];
const XMPP_SERVER: Dialogue = &[
    (
        b"",
        b"<?xml version='1.0'?><stream:stream to='a.example' xmlns='jabber:server' \
        xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>",
    ),
    (
        b"<stream:stream id='1'><stream:features><starttls \
        xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>",
        b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    ),
    (b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'></proceed>", b""),
];
/// A greeting, with CLIENT_SSL among the capabilities; the client's login as far as an SSLRequest.
const MYSQL: Dialogue = &[(
    b"\x15\0\0\0\x0a8.0\0\x01\0\0\0saltsalt\0\x00\x8a\x2d",
    b"\x20\0\0\x01\x00\x8a\0\0\0\0\0\x01\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
)];
const POSTGRES: Dialogue = &[(b"", b"\0\0\0\x08\x04\xd2\x16\x2f"), (b"S", b"")];

/// Speaks a dialogue, then TLS.
fn server(dialogue: Dialogue) -> Result<Stranger> {
    let dir = tempfile::tempdir()?;
    let files = certificate::create(dir.path())?;
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
    acceptor.set_private_key(&*PKey::private_key_from_pem(&std::fs::read(&files.key)?)?)?;
    acceptor.set_certificate(&*X509::from_pem(&std::fs::read(&files.cert)?)?)?;
    acceptor.set_session_id_context(b"probe")?;
    let acceptor = acceptor.build();
    Stranger::start(move |tcp| {
        // A client that goes away is none of our business here.
        let _ = serve(&acceptor, dialogue, tcp);
    })
}

fn serve(acceptor: &SslAcceptor, dialogue: Dialogue, tcp: TcpStream) -> Result<()> {
    for (says, expects) in dialogue {
        if !says.is_empty() {
            // The client must wait for us.
            tcp.set_nonblocking(true)?;
            assert!(tcp.peek(&mut [0]).is_err(), "{}", String::from_utf8_lossy(says));
            tcp.set_nonblocking(false)?;
            (&tcp).write_all(says)?;
        }
        let mut heard = vec![0; expects.len()];
        (&tcp).read_exact(&mut heard)?;
        if heard != *expects {
            let [heard, expected] = [&heard, *expects].map(String::from_utf8_lossy);
            return Err(format!("{heard:?} instead of {expected:?}").into());
        }
    }
    let mut tls = acceptor.accept(tcp)?;
    let _ = tls.read(&mut [0; 512]);
    let _ = tls.write(b"bye\r\n");
    let _ = tls.shutdown();
    Ok(())
}

#[test]
fn tickets_are_measured_behind_starttls() -> Result<()> {
    for (protocol, dialogue) in [
        ("smtp", SMTP),
        ("lmtp", LMTP),
        ("imap", IMAP),
        ("pop3", POP3),
        ("sieve", SIEVE),
        ("nntp", NNTP),
        ("ftp", FTP),
        ("ldap", LDAP),
        ("xmpp", XMPP),
        ("xmpp-server", XMPP_SERVER),
        ("mysql", MYSQL),
        ("postgres", POSTGRES),
    ] {
        let server = server(dialogue)?;
        let address = server.addr().to_string();
        let report = report(&[&address, "--starttls", protocol, "--sni", "a.example"])?;
        assert_eq!(report.status, OK, "{protocol}: {:#}", report.value);
        for tls in ["1.2", "1.3"] {
            let seen = report.seen(server.addr(), tls)[0];
            assert_eq!(seen["ticket"], "ticket", "{protocol}: {seen:#}");
            assert_eq!(count(seen, "resumed_here"), (3, 3), "{protocol}: {seen:#}");
        }
    }
    Ok(())
}

/// Refusals, and what is told of them.
const REFUSALS: [(&str, Dialogue, &str); 10] = [
    ("smtp", &[SMTP[0], SMTP[1], (b"502 never\r\n", b"")], "refused: \"502 never\""),
    ("lmtp", &[LMTP[0], LMTP[1], (b"454 not now\r\n", b"")], "refused: \"454 not now\""),
    ("sieve", &[SIEVE[0], (b"NO \"never\"\r\n", b"")], "refused: \"NO \"never\"\""),
    ("nntp", &[NNTP[0], (b"580 never\r\n", b"")], "refused: \"580 never\""),
    (
        "ldap",
        &[LDAP[0], (b"\x30\x11\x02\x01\x01\x78\x0c\x0a\x01\x02\x04\0\x04\x05never", b"")],
        "refused: \"LDAP result 2: never\"",
    ),
    (
        "xmpp",
        &[XMPP[0], (b"<stream:stream><stream:error><host-unknown/></stream:error>", b"")],
        "refused: \"<stream:error><host-unknown/>",
    ),
    (
        "xmpp",
        &[XMPP[0], (b"<stream:stream><stream:features/>", b"")],
        "no STARTTLS among its features",
    ),
    (
        "xmpp-server",
        &[XMPP_SERVER[0], XMPP_SERVER[1], (b"<failure xmlns='never'/>", b"")],
        "refused: \"<failure xmlns='never'/>\"",
    ),
    (
        "mysql",
        &[(b"\x15\0\0\0\x0a8.0\0\x01\0\0\0saltsalt\0\x00\x82\x2d", b"")],
        "the server has no TLS",
    ),
    ("mysql", &[(b"\x0a\0\0\0\xff\x69\x04blocked", b"")], "refused: \"blocked\""),
];

#[test]
fn a_refusal_is_reported_in_the_servers_words() -> Result<()> {
    for (protocol, dialogue, told) in REFUSALS {
        let server = server(dialogue)?;
        let address = server.addr().to_string();
        let report = report(&[&address, "--starttls", protocol, "--sni", "a.example"])?;
        assert_eq!(report.status, CRITICAL);
        let message = report.finding("starttls-refused")["message"].as_str().ok_or("no message")?;
        assert!(message.contains(told), "{protocol}: {message}");
    }
    Ok(())
}
