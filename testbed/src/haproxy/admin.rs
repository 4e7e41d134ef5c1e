//! HAProxy's admin socket, and what an administrator changes through it at run time.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Haproxy;
use crate::wait::PATIENCE;

impl Haproxy {
    /// Sends one command over the admin socket, and returns the answer. It can be an error: HAProxy
    /// says so in words.
    pub fn admin(&self, command: &str) -> Result<String> {
        let path = self.dir().join("admin.sock");
        let mut socket = UnixStream::connect(&path)
            .with_context(|| format!("no admin socket at {}", path.display()))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.write_all(format!("{command}\n").as_bytes())?;
        socket.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Replaces the certificate that was loaded from the file `loaded` by that in `replacement`,
    /// without a reload. The files stay as they are.
    pub fn update_certificate(&self, loaded: &Path, replacement: &Path) -> Result<()> {
        let loaded = loaded.display();
        let pem = fs::read_to_string(replacement)?;
        // An empty line ends the payload.
        let lines: Vec<&str> = pem.lines().filter(|line| !line.is_empty()).collect();
        let set = self.admin(&format!("set ssl cert {loaded} <<\n{}\n", lines.join("\n")))?;
        ensure!(set.contains("Transaction created"), "set ssl cert: {set}");
        let committed = self.admin(&format!("commit ssl cert {loaded}"))?;
        ensure!(committed.contains("Success!"), "commit ssl cert: {committed}");
        Ok(())
    }
}
