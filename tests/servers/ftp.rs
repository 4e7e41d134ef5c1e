//! ProFTPD's data connections, which must resume the session of their control connection: the server
//! requires it, as most do, so that nobody else connects to the port.

use std::error::Error;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use openssl::ssl::{Ssl, SslContext, SslSession, SslSessionCacheMode, SslStream};
use testbed::Server;
use testbed::client::{Client, TlsVersion};
use testbed::wait::{self, PATIENCE};

use crate::Result;
use crate::kind::{Asks, Kind};
use crate::proftpd::{self, PROFTPD, USER};

/// A client that is logged in.
struct Ftp {
    context: SslContext,
    version: TlsVersion,
    control: SslStream<TcpStream>,
    /// What the control connection got.
    received: Arc<Mutex<Vec<SslSession>>>,
}

fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

impl Ftp {
    /// Logs in, perhaps with the session of a former connection.
    fn login(version: TlsVersion, addr: SocketAddr, held: Option<&SslSession>) -> Result<Ftp> {
        let received = Arc::new(Mutex::new(Vec::new()));
        let mut context = version.client_context()?;
        context.set_session_cache_mode(
            SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL_STORE,
        );
        let keep = received.clone();
        context.set_new_session_callback(move |_, session| keep.lock().unwrap().push(session));
        let context = context.build();

        let mut stream = connect(addr)?;
        proftpd::ask_for_tls(&mut stream)?;
        let mut ssl = Ssl::new(&context)?;
        if let Some(held) = held {
            let held = copy(held)?;
            // SAFETY: it was decoded a moment ago, so it belongs to no other context.
            unsafe { ssl.set_session(&held)? };
        }
        let control = ssl.connect(stream)?;
        let mut ftp = Ftp { context, version, control, received };
        ftp.says(&format!("USER {USER}"), "331")?;
        ftp.says("PASS secret", "230")?;
        ftp.says("PBSZ 0", "200")?;
        ftp.says("PROT P", "200")?;
        Ok(ftp)
    }

    /// Says something, and reads the answer, which has to begin so.
    fn says(&mut self, words: &str, code: &str) -> Result<String> {
        self.control.write_all(format!("{words}\r\n").as_bytes())?;
        self.hears(code)
    }

    /// Reads an answer; of several lines, the last.
    fn hears(&mut self, code: &str) -> Result<String> {
        loop {
            let line = proftpd::line(&mut self.control)?;
            // RFC 959, 4.2: what goes on has a hyphen there.
            if line.as_bytes().get(3) != Some(&b' ') {
                continue;
            }
            return match line.starts_with(code) {
                true => Ok(line),
                false => Err(line.into()),
            };
        }
    }

    /// The session of the control connection.
    fn session(&self) -> Result<SslSession> {
        Ok(match self.version {
            TlsVersion::V12 => copy(self.control.ssl().session().ok_or("no session")?)?,
            TlsVersion::V13 => copy(self.received.lock().unwrap().last().ok_or("no ticket")?)?,
        })
    }

    /// Gets a list of files over a data connection that offers this session. Whether that was resumed;
    /// an error if the server refused it.
    fn list(&mut self, session: Option<&SslSession>) -> Result<bool> {
        let answer = self.says("EPSV", "229")?;
        let port: u16 = answer.split('|').nth(3).ok_or("no port")?.parse()?;
        let addr = SocketAddr::new(self.control.get_ref().peer_addr()?.ip(), port);
        let stream = connect(addr)?;
        self.says("NLST", "150")?;
        let mut ssl = Ssl::new(&self.context)?;
        if let Some(session) = session {
            let session = copy(session)?;
            // SAFETY: it was decoded a moment ago, so it belongs to no other context.
            unsafe { ssl.set_session(&session)? };
        }
        // A server that refuses it may end the connection before or after the handshake; the answer on
        // the control connection tells.
        let mut resumed = false;
        if let Ok(mut data) = ssl.connect(stream) {
            resumed = data.ssl().session_reused();
            let _ = data.read_to_end(&mut Vec::new());
            let _ = data.shutdown();
        }
        self.hears("226")?;
        Ok(resumed)
    }
}

fn copy(session: &openssl::ssl::SslSessionRef) -> Result<SslSession> {
    Ok(SslSession::from_der(&session.to_der()?)?)
}

fn data_connections(kind: Kind, shim: bool) -> Result {
    let mut started = kind.start(Asks::Nobody, shim)?;
    let addr = started.server.addr();
    for version in TlsVersion::ALL {
        let case = format!("{version}, shim: {shim}");
        let log = |error: Box<dyn Error>| {
            let tls = fs::read_to_string(started.site.dir.join("tls.txt"));
            format!("{case}: {error}\n{}{}", started.log(), tls.unwrap_or_default())
        };

        let mut ftp = Ftp::login(version, addr, None).map_err(log)?;
        let session = ftp.session()?;
        for _ in 0..3 {
            assert!(ftp.list(Some(&session)).map_err(log)?, "{case}");
        }
        assert!(ftp.list(None).is_err(), "{case}: it is not required");
        if shim {
            wait_for_another_key(addr)?;
            assert!(ftp.list(Some(&session)).map_err(log)?, "{case}: over a rotation");
        }

        started.restart(None)?;
        let mut again = Ftp::login(version, addr, Some(&session))?;
        assert_eq!(again.control.ssl().session_reused(), shim, "{case}: over a restart");
        let session = again.session()?;
        assert!(again.list(Some(&session))?, "{case}: after a restart");
    }
    Ok(())
}

/// Waits until another key encrypts than does now.
fn wait_for_another_key(addr: SocketAddr) -> Result {
    let client = (PROFTPD.client)(Client::new(TlsVersion::V13)?);
    let key = || -> Result<_> {
        let visit = client.connect(addr, None, None)?;
        Ok(visit.tickets.last().ok_or("no ticket")?.key_name())
    };
    let now = key()?;
    wait::until(Duration::from_secs(60), "another key", || match key() {
        Ok(name) if name == now => {
            thread::sleep(Duration::from_millis(100));
            None
        }
        other => Some(other.map(drop)),
    })?
}

#[test]
fn data_connections_resume_as_the_server_requires() -> Result {
    data_connections(PROFTPD, false)?;
    data_connections(PROFTPD, true)
}
