//! Which keys the server of an entry can decrypt for certain.

use std::time::Duration;

use tktrot::secret::KeyName;
use tokio::time::Instant;

/// What a server holds. Empty at first: nothing was ever written for it, so it does not run yet, and
/// will read what it finds.
#[derive(Debug, Default)]
pub struct Holdings {
    certain: Option<Vec<KeyName>>,
    /// What it is about to read, and from when on it has done so.
    coming: Option<(Instant, Vec<KeyName>)>,
}

impl Holdings {
    /// Those of a server for which files are there already.
    pub fn of_files(names: Option<Vec<KeyName>>) -> Holdings {
        Holdings { certain: names, coming: None }
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
        let mut holdings = Holdings::of_files(Some(names(&[1, 2])));
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
        let mut holdings = Holdings::of_files(Some(names(&[1, 2])));
        holdings.maybe(&names(&[2, 3]), now);
        assert_eq!(held(&holdings, now + SETTLING), [2]);
        holdings.told(names(&[2, 3]), SETTLING, now);
        holdings.maybe(&names(&[2, 3, 4]), now + SETTLING);
        assert_eq!(held(&holdings, now + SETTLING), [2, 3]);
    }
}
