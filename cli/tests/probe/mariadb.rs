//! MariaDB as Debian has it: TLS begins in the middle of a login.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use testbed::{certificate, port, process};

use crate::Result;
use crate::program::{CRITICAL, OK, count, report};

/// A MariaDB that ends when dropped.
struct Mariadb {
    child: Child,
    dir: TempDir,
    addr: std::net::SocketAddr,
}

impl Mariadb {
    fn start(has_tls: bool) -> Result<Mariadb> {
        let (dir, addr) = (tempfile::tempdir()?, port::free()?);
        let files = certificate::create(dir.path())?;
        let tls = match has_tls {
            true => {
                format!("ssl-cert={}\nssl-key={}\n", files.cert.display(), files.key.display())
            }
            false => "skip-ssl\n".to_owned(),
        };
        let at = dir.path().display();
        let config = format!(
            "[mysqld]\nuser=root\nbind-address={}\nport={}\ndatadir={at}/data\nsocket={at}/socket\n\
             pid-file={at}/pid\nskip-grant-tables\nskip-networking=0\nskip-name-resolve\n\
             innodb-buffer-pool-size=8M\ninnodb-log-file-size=4M\ninnodb-flush-method=fsync\n\
             innodb-fast-shutdown=2\nlog-warnings=4\n{tls}",
            addr.ip(),
            addr.port(),
        );
        fs::create_dir_all(dir.path().join("data"))?;
        fs::write(dir.path().join("my.cnf"), config)?;
        let log = File::create(dir.path().join("log"))?;
        let child = Command::new("/usr/sbin/mariadbd")
            .arg(format!("--defaults-file={}", dir.path().join("my.cnf").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut server = Mariadb { child, dir, addr };
        process::serves(&mut server.child, addr)?;
        Ok(server)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        // It has no data that matter.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn tickets_of_mariadb_are_measured_and_it_sees_no_error() -> Result<()> {
    let server = Mariadb::start(true)?;
    let report = report(&[&server.addr.to_string(), "--starttls", "mysql", "--sni", "localhost"])?;
    assert_eq!(report.status, OK, "{:#}\n{}", report.value, server.log());
    for tls in ["1.2", "1.3"] {
        let seen = report.seen(server.addr, tls)[0];
        assert_eq!(seen["ticket"], "ticket", "{seen:#}");
        assert_eq!(count(seen, "resumed_here"), (3, 3), "{seen:#}");
    }
    // Only the one that waited for the start went away without a login.
    let log = server.log();
    assert!(log.matches("'unauthenticated'").count() <= 1, "{log}");
    assert!(!log.contains("user: 'tktrot-probe'"), "{log}");
    Ok(())
}

#[test]
fn a_mariadb_without_tls_is_told() -> Result<()> {
    let server = Mariadb::start(false)?;
    let report = report(&[&server.addr.to_string(), "--starttls", "mysql"])?;
    assert_eq!(report.status, CRITICAL);
    let message = report.finding("starttls-refused")["message"].to_string();
    assert!(message.contains("the server has no TLS"), "{message}");
    Ok(())
}
