//! The agent's log: lines on stderr, as text or as JSON. A key is named by 8 hex digits, a secret
//! never.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use tktrot_fleet::config::LogForm;

/// Lines go to stderr from now on, in this form.
pub fn open(form: LogForm) {
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_max_level(tracing::Level::INFO);
    // Only a second one in the same process would fail, and the first one serves on.
    let _ = match form {
        LogForm::Text => builder.try_init(),
        LogForm::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// Things that are said once, and again only after a while: what a peer does wrong, it can do a
/// thousand times a second.
pub struct Once<K> {
    said: HashMap<K, Instant>,
    /// So many things are kept in mind.
    most: usize,
}

/// After this time, what still happens is said again.
const QUIET: Duration = Duration::from_secs(600);
impl<K: Eq + Hash> Once<K> {
    /// Nothing was said. So many things are told apart; beyond that none is said until some are old.
    pub fn of_at_most(most: usize) -> Self {
        Once { said: HashMap::new(), most }
    }

    /// True if it is to be said now.
    pub fn is_news(&mut self, thing: K) -> bool {
        let now = Instant::now();
        if self.said.get(&thing).is_some_and(|then| now.duration_since(*then) < QUIET) {
            return false;
        }
        if self.said.len() >= self.most {
            self.said.retain(|_, then| now.duration_since(*then) < QUIET);
        }
        // So many different things in ten minutes: more of them tell nobody anything.
        let room = self.said.len() < self.most;
        if room {
            self.said.insert(thing, now);
        }
        room
    }

    /// It is over: the next time is the first.
    pub fn is_over<Q: Eq + Hash + ?Sized>(&mut self, thing: &Q)
    where
        K: Borrow<Q>,
    {
        self.said.remove(thing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_said_once_and_not_too_many_are() {
        let mut once = Once::of_at_most(100);
        assert!(once.is_news(1) && !once.is_news(1) && once.is_news(2));
        once.is_over(&1);
        assert!(once.is_news(1) && !once.is_news(1));
        let said = (3..1000).filter(|thing| once.is_news(*thing)).count();
        assert_eq!(said, 98);
    }
}
