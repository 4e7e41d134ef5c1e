//! Which keys are in the files that an agent before this one has left.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use tktrot::clock::{BootClock, Clock};
use tktrot::secret::KeyName;
use zeroize::Zeroizing;

use super::entry::Entry;
use tktrot_keyfile::files::{Format, nginx_files};
use tktrot_keyfile::lighttpd::Now;
use tktrot_keyfile::{Keys, Short, haproxy, lighttpd, nginx, raw};

/// More is in no file of ours: a ring of the largest size.
const LARGEST: u64 = 16 * 1024 * 80;

/// Their names; `None` if there are none.
pub fn names(entry: &Entry) -> Option<Vec<KeyName>> {
    let output = &entry.setting.output;
    let now = Now { ring: BootClock.now(), wall: SystemTime::now() };
    let keys = match entry.format {
        Format::Nginx80 => {
            let files = nginx_files(output).unwrap_or_default();
            let files = files.iter().filter_map(|path| read(path));
            let keys: Keys =
                files.filter_map(|file| nginx::parse_80(&file).ok()).flatten().collect();
            Some(keys).filter(|keys| !keys.is_empty())
        }
        Format::Haproxy => haproxy::parse(&read(output)?, Short::Refused).ok(),
        Format::Lighttpd => lighttpd::parse(&read(output)?, now).ok(),
        Format::Raw => raw::parse(&read(output)?).ok(),
        // Its key is nobody else's.
        Format::Apache => None,
    };
    Some(keys?.iter().map(|key| key.name).collect())
}

/// A file that is there and of a size that ours may have.
fn read(path: &Path) -> Option<Zeroizing<Vec<u8>>> {
    let len = fs::metadata(path).ok().filter(|facts| facts.is_file() && facts.len() <= LARGEST)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(len.len() as usize + 1));
    std::io::Read::read_to_end(&mut fs::File::open(path).ok()?, &mut bytes).ok()?;
    Some(bytes)
}
