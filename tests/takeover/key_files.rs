//! Ticket key files as nginx takes them: a name of 16 bytes, then secrets. In memory, and gone with
//! the test; only root can read them.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use testbed::RingDir;
use testbed::client::Ticket;

use crate::Result;

/// What keys 80 bytes long are for: AES-256.
const KEY_FILE: usize = 80;

/// Key files, numbered from 0.
pub struct KeyFiles {
    dir: RingDir,
    names: Vec<[u8; 16]>,
}

/// Which key sealed a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealer {
    /// That of the file with this number, when it was made.
    File(usize),
    /// Some other: ours, or one that OpenSSL made for itself.
    NoFile,
}

impl KeyFiles {
    pub fn new(count: usize) -> Result<KeyFiles> {
        let mut key_files = KeyFiles { dir: RingDir::new()?, names: Vec::new() };
        for number in 0..count {
            let mut bytes = [0; KEY_FILE];
            File::open("/dev/urandom")?.read_exact(&mut bytes)?;
            key_files.names.push(bytes[..16].try_into()?);
            fs::write(key_files.path(number), bytes)?;
            fs::set_permissions(key_files.path(number), fs::Permissions::from_mode(0o600))?;
        }
        Ok(key_files)
    }

    pub fn name(&self, number: usize) -> [u8; 16] {
        self.names[number]
    }

    pub fn sealer(&self, ticket: &Ticket) -> Sealer {
        let position = self.names.iter().position(|&name| name == ticket.key_name());
        position.map_or(Sealer::NoFile, Sealer::File)
    }

    /// nginx' directive for one file.
    pub fn directive(&self, number: usize) -> String {
        format!("ssl_session_ticket_key {};", self.path(number).display())
    }

    /// What includes the list of files that [`KeyFiles::list`] writes.
    pub fn include(&self) -> String {
        format!("include {};", self.list_path().display())
    }

    /// Writes the list: the first of them is to encrypt.
    pub fn list(&self, numbers: &[usize]) -> Result<()> {
        let directives: Vec<String> =
            numbers.iter().map(|&number| self.directive(number)).collect();
        Ok(fs::write(self.list_path(), directives.join("\n"))?)
    }

    /// Puts into one file what another one holds, as an administrator who renews a key does.
    pub fn replace(&self, number: usize, by: usize) -> Result<()> {
        fs::copy(self.path(by), self.path(number))?;
        Ok(())
    }

    fn path(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("{number}.key"))
    }

    fn list_path(&self) -> PathBuf {
        self.dir.path().join("list.conf")
    }
}
