//! Several server blocks in one nginx, some with key files, some without.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;

use testbed::RingDir;
use testbed::client::{Client, Ticket, TlsVersion};
use testbed::nginx::Nginx;
use testbed::process::needs_root;

use crate::key_files::{KeyFiles, Sealer};
use crate::observation::Shim;
use crate::{Result, takeovers};

/// Listeners, and the file whose key nginx would use there.
type Listeners = Vec<(SocketAddr, Option<usize>)>;

fn start(shim: Shim, ring: &RingDir, key_files: &KeyFiles) -> Result<(Nginx, Listeners)> {
    let mut builder = shim.nginx(ring)?.server(&key_files.directive(0));
    let mut listeners = vec![(builder.addr()?, Some(0))];
    let ok = "return 200 ok;";
    listeners.push((builder.another_server(ok, &[])?, None));
    let two = [key_files.directive(1), key_files.directive(0)];
    listeners.push((builder.another_server(ok, &[&two[0], &two[1]])?, Some(1)));
    listeners.push((builder.another_server(ok, &["ssl_session_timeout 1h;"])?, None));
    Ok((builder.start()?, listeners))
}

/// A ticket of every listener, for one version.
fn tickets(client: &Client, listeners: &Listeners) -> Result<Vec<Ticket>> {
    let issue = |&(addr, _): &(SocketAddr, _)| -> Result<Ticket> {
        Ok(client.connect(addr, None, None)?.tickets.pop().ok_or("no ticket")?)
    };
    listeners.iter().map(issue).collect()
}

/// What became of the tickets of each version, in the order of the listeners.
struct Outcome {
    sealers: Vec<Vec<Sealer>>,
    /// Which of them a restart left good.
    kept: Vec<Vec<bool>>,
    takeovers: Vec<String>,
}

fn over_a_restart(shim: Shim) -> Result<Outcome> {
    let (key_files, ring) = (KeyFiles::new(2)?, RingDir::new()?);
    let (mut nginx, listeners) = start(shim, &ring, &key_files)?;
    for worker in nginx.worker_pids()? {
        let user = fs::metadata(format!("/proc/{worker}/task"))?.uid();
        assert_ne!(user, 0, "a worker runs as root");
    }
    let lines = takeovers(&nginx);
    let (mut sealers, mut kept) = (Vec::new(), Vec::new());
    for version in TlsVersion::ALL {
        let client = Client::new(version)?;
        let issued = tickets(&client, &listeners)?;
        sealers.push(issued.iter().map(|ticket| key_files.sealer(ticket)).collect());
        nginx.reload_by_signal()?;
        nginx.stop()?;
        nginx.start()?;
        let mut resumed = Vec::new();
        for (ticket, &(addr, _)) in issued.iter().zip(&listeners) {
            resumed.push(client.connect(addr, None, Some(ticket))?.resumed);
        }
        kept.push(resumed);
    }
    Ok(Outcome { sealers, kept, takeovers: lines })
}

#[test]
fn servers_without_a_file_get_our_keys_and_a_takeover_gives_them_to_all() -> Result<()> {
    needs_root("the ring's directory and the key files are root's, the workers are www-data's");
    for shim in Shim::ALL {
        let Outcome { sealers, kept, takeovers } = over_a_restart(shim)?;
        let own = [Sealer::File(0), Sealer::NoFile, Sealer::File(1), Sealer::NoFile];
        let (expected_sealers, expected_kept, expected_lines) = match shim {
            Shim::None => (own, [true, false, true, false], 0),
            Shim::NoTakeover => (own, [true; 4], 0),
            Shim::Takeover => ([Sealer::NoFile; 4], [true; 4], 1),
        };
        assert_eq!(sealers, vec![expected_sealers.to_vec(); 2], "{shim:?}");
        assert_eq!(kept, vec![expected_kept.to_vec(); 2], "{shim:?}");
        assert_eq!(takeovers.len(), expected_lines, "{shim:?}: {takeovers:#?}");
    }
    Ok(())
}

/// OpenSSL takes the keys of the context that a connection began with, which is the listener's
/// default server's, whatever name the client asks for.
#[test]
fn on_one_listener_the_default_server_decides() -> Result<()> {
    for file_is_the_default_servers in [true, false] {
        for shim in Shim::ALL {
            let (key_files, ring) = (KeyFiles::new(1)?, RingDir::new()?);
            let mut builder = shim.nginx(&ring)?.http("ssl_protocols TLSv1.2 TLSv1.3;");
            let (addr, file) = (builder.addr()?, key_files.directive(0));
            let (default, other) =
                if file_is_the_default_servers { (&*file, "") } else { ("", &*file) };
            let certificate = testbed::certificate::create(ring.path())?;
            let (cert, key) = (certificate.cert.display(), certificate.key.display());
            // It comes before the other one in the file, so it is the listener's default.
            let builder = builder.http(&format!(
                "server {{ listen {addr} ssl; server_name default.test; ssl_certificate {cert}; \
                 ssl_certificate_key {key}; {default} location / {{ return 200 ok; }} }}"
            ));
            let nginx = builder.certificate(&certificate).server(other).start()?;
            for version in TlsVersion::ALL {
                let client = Client::new(version)?;
                for name in ["default.test", "localhost"] {
                    let full = client.connect(addr, Some(name), None)?;
                    let ticket = full.tickets.last().ok_or("no ticket")?;
                    let files_key = file_is_the_default_servers && shim != Shim::Takeover;
                    let expected = if files_key { Sealer::File(0) } else { Sealer::NoFile };
                    let case = format!("{shim:?}, {version}, {name}\n{}", nginx.log_tail());
                    assert_eq!(key_files.sealer(ticket), expected, "{case}");
                    let again = client.connect(addr, Some(name), Some(ticket))?;
                    assert!(again.resumed, "{case}");
                }
            }
        }
    }
    Ok(())
}
