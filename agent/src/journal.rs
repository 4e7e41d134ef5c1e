//! What the operator is told: lines on stderr, as text or as JSON. A key is named by 8 hex digits,
//! and a secret never.

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
}

/// After this time, what still happens is said again.
const QUIET: Duration = Duration::from_secs(600);
/// So many things are kept in mind.
const KEPT: usize = 1000;

impl<K: Eq + Hash> Once<K> {
    /// Nothing was said.
    pub fn new() -> Self {
        Once { said: HashMap::new() }
    }

    /// True if it is to be said now.
    pub fn is_news(&mut self, thing: K) -> bool {
        let now = Instant::now();
        if self.said.get(&thing).is_some_and(|then| now.duration_since(*then) < QUIET) {
            return false;
        }
        if self.said.len() >= KEPT {
            self.said.retain(|_, then| now.duration_since(*then) < QUIET);
        }
        // So many different things in ten minutes: more of them tell nobody anything.
        let room = self.said.len() < KEPT;
        if room {
            self.said.insert(thing, now);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_said_once_and_not_too_many_are() {
        let mut once = Once::new();
        assert!(once.is_news(1) && !once.is_news(1) && once.is_news(2));
        let said = (0..10 * KEPT).filter(|thing| once.is_news(*thing)).count();
        assert!(said < KEPT, "{said}");
    }
}
