//! What is wrong with others is logged once, however often they try.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// It is worth saying again after so long.
const AGAIN: Duration = Duration::from_secs(600);

/// So many are told apart; beyond that nothing is logged until some are old.
const MOST: usize = 256;

/// What was said when.
#[derive(Default)]
pub struct Complaints {
    said: HashMap<String, Instant>,
}

impl Complaints {
    /// True if this is to be said now.
    pub fn is_new(&mut self, what: String) -> bool {
        let now = Instant::now();
        self.said.retain(|_, said| now.duration_since(*said) < AGAIN);
        if self.said.contains_key(&what) || self.said.len() >= MOST {
            return false;
        }
        self.said.insert(what, now);
        true
    }

    /// It is over: the next time is the first.
    pub fn is_over(&mut self, what: &str) {
        self.said.remove(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_and_there_is_an_end_to_it() {
        let mut complaints = Complaints::default();
        assert!(complaints.is_new("a".into()));
        assert!(!complaints.is_new("a".into()));
        assert!(complaints.is_new("b".into()));
        complaints.is_over("a");
        assert!(complaints.is_new("a".into()));
        let said = (0..1000).filter(|number| complaints.is_new(number.to_string())).count();
        assert_eq!(said, MOST - 2);
    }
}
