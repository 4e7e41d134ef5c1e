//! Which keys the server of an entry can certainly decrypt.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tktrot::clock::{BootClock, Clock};
use tktrot::secret::KeyName;
use tktrot_keyfile::files::{Format, nginx_files};
use tktrot_keyfile::lighttpd::Now;
use tktrot_keyfile::{Keys, Short, haproxy, lighttpd, nginx, raw};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::entry::Entry;

/// What a server holds. Empty at first: nothing was ever written for it, so it does not run yet, and
/// will read what it finds.
#[derive(Debug, Default)]
pub struct Holdings {
    certain: Option<Vec<KeyName>>,
    /// What it is about to read, and from when on it has done so.
    coming: Option<(Instant, Vec<KeyName>)>,
}

impl Holdings {
    /// What an agent before this one has left in the files of an entry is taken for what its server has.
    pub fn of_files(entry: &Entry) -> Holdings {
        Holdings::of(left_behind(entry))
    }

    fn of(names: Option<Vec<KeyName>>) -> Holdings {
        Holdings { certain: names, coming: None }
    }

    /// What it has for certain, in the order of its files; `None` if it does not run yet.
    pub fn certain(&self) -> Option<&[KeyName]> {
        self.certain.as_deref()
    }

    /// Whether it has the key of that name.
    pub fn has(&self, name: &KeyName, now: Instant) -> bool {
        match (&self.certain, &self.coming) {
            (_, Some((from, names))) if now >= *from => names.contains(name),
            (None, _) => true,
            (Some(names), _) => names.contains(name),
        }
    }

    /// It was told to read these, and has done so after `settling`.
    pub fn told(&mut self, names: Vec<KeyName>, settling: Duration, now: Instant) {
        let mut from = now + settling;
        match self.coming.take() {
            Some((earlier, names)) if now >= earlier => self.certain = Some(names),
            // A server that did not run may be starting, with the files of before or with these.
            _ if self.certain.is_none() => from = now,
            _ => {}
        }
        self.unsure(&names);
        self.coming = Some((from, names));
    }

    /// It was told to read these, and may have done so or not: certain is only what it has in both
    /// cases.
    pub fn maybe(&mut self, names: &[KeyName], now: Instant) {
        if let Some((earlier, coming)) = self.coming.take()
            && now >= earlier
        {
            self.certain = Some(coming);
        }
        self.unsure(names);
    }

    fn unsure(&mut self, names: &[KeyName]) {
        if let Some(certain) = &mut self.certain {
            certain.retain(|name| names.contains(name));
        }
    }
}

/// More is in no file of ours: a ring of the largest size.
const LARGEST: u64 = 16 * 1024 * 80;

/// The names of the keys in the files that an agent before this one has left; `None` if there are none.
fn left_behind(entry: &Entry) -> Option<Vec<KeyName>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLING: Duration = Duration::from_secs(2);

    fn names(numbers: &[u8]) -> Vec<KeyName> {
        numbers.iter().map(|number| KeyName([*number; 16])).collect()
    }

    fn held(holdings: &Holdings, now: Instant) -> Vec<u8> {
        (0..9).filter(|number| holdings.has(&KeyName([*number; 16]), now)).collect()
    }

    #[test]
    fn a_server_of_which_there_are_no_files_is_in_nobodys_way() {
        let now = Instant::now();
        let mut holdings = Holdings::default();
        assert_eq!(held(&holdings, now).len(), 9);
        holdings.told(names(&[1, 2]), SETTLING, now);
        assert_eq!(held(&holdings, now), [1, 2]);
    }

    #[test]
    fn while_it_reads_only_what_was_and_will_be_there_counts() {
        let now = Instant::now();
        let mut holdings = Holdings::of(Some(names(&[1, 2])));
        holdings.told(names(&[2, 3]), SETTLING, now);
        assert_eq!(held(&holdings, now), [2]);
        assert_eq!(held(&holdings, now + SETTLING), [2, 3]);
        holdings.told(names(&[3, 4]), SETTLING, now + SETTLING);
        assert_eq!(held(&holdings, now + SETTLING), [3]);
        assert_eq!(held(&holdings, now + SETTLING * 2), [3, 4]);
    }

    #[test]
    fn after_a_failure_nothing_is_added() {
        let now = Instant::now();
        let mut holdings = Holdings::of(Some(names(&[1, 2])));
        holdings.maybe(&names(&[2, 3]), now);
        assert_eq!(held(&holdings, now + SETTLING), [2]);
        holdings.told(names(&[2, 3]), SETTLING, now);
        holdings.maybe(&names(&[2, 3, 4]), now + SETTLING);
        assert_eq!(held(&holdings, now + SETTLING), [2, 3]);
    }
}
