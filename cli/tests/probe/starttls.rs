//! Servers that begin in the clear.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509;
use testbed::certificate;

use crate::Result;
use crate::program::{FINE, WRONG, count, report};
use crate::strangers::Stranger;

/// What is said in turn, beginning with the server: its lines, then what the client's line begins
/// with.
type Dialogue = &'static [(&'static str, &'static str)];

const SMTP: Dialogue = &[
    ("220-mail.example\r\n220 ESMTP\r\n", "EHLO "),
    ("250-mail.example\r\n250-SIZE\r\n250 STARTTLS\r\n", "STARTTLS"),
    ("220 go ahead\r\n", ""),
];
const IMAP: Dialogue =
    &[("* OK IMAP4rev1\r\n", "a1 STARTTLS"), ("* news\r\na1 OK go ahead\r\n", "")];
const POP3: Dialogue = &[("+OK hello\r\n", "STLS"), ("+OK go ahead\r\n", "")];
const FTP: Dialogue = &[("220 hello\r\n", "AUTH TLS"), ("234 go ahead\r\n", "")];

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
    let mut client = BufReader::new(tcp.try_clone()?);
    for (says, expects) in dialogue {
        (&tcp).write_all(says.as_bytes())?;
        if !expects.is_empty() {
            let mut line = String::new();
            client.read_line(&mut line)?;
            if !line.starts_with(expects) {
                return Err(format!("{line:?} instead of {expects:?}").into());
            }
        }
    }
    // The client must wait for us: what it has sent too early would be lost here.
    assert!(client.buffer().is_empty());
    let mut tls = acceptor.accept(tcp)?;
    let _ = tls.read(&mut [0; 512]);
    let _ = tls.write(b"bye\r\n");
    let _ = tls.shutdown();
    Ok(())
}

#[test]
fn tickets_are_measured_behind_starttls() -> Result<()> {
    for (protocol, dialogue) in [("smtp", SMTP), ("imap", IMAP), ("pop3", POP3), ("ftp", FTP)] {
        let server = server(dialogue)?;
        let report = report(&[&server.addr().to_string(), "--starttls", protocol])?;
        assert_eq!(report.status, FINE, "{protocol}: {:#}", report.value);
        for tls in ["1.2", "1.3"] {
            let seen = report.seen(server.addr(), tls)[0];
            assert_eq!(seen["ticket"], "ticket", "{protocol}: {seen:#}");
            assert_eq!(count(seen, "resumed_here"), (3, 3), "{protocol}: {seen:#}");
        }
    }
    Ok(())
}

#[test]
fn a_refusal_is_reported_in_the_servers_words() -> Result<()> {
    let refuses: Dialogue =
        &[("220 hello\r\n", "EHLO "), ("250 SIZE\r\n", "STARTTLS"), ("502 never\r\n", "")];
    let server = server(refuses)?;
    let report = report(&[&server.addr().to_string(), "--starttls", "smtp"])?;
    assert_eq!(report.status, WRONG);
    let message = report.finding("starttls-refused")["message"].as_str().ok_or("no message")?;
    assert!(message.contains("502 never"), "{message}");
    Ok(())
}
