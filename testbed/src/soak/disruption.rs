//! When something was done to a server that ends connections of its own accord. A connection that
//! breaks then is nobody's failure; any other is.

use std::sync::Mutex;
use std::time::Instant;

use super::servers::Which;

/// A stretch of time in which a server was being disrupted.
struct Disruption {
    server: Which,
    began: Instant,
    /// None while it lasts.
    ended: Option<Instant>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Disruptions(Mutex<Vec<Disruption>>);

/// One that has begun; lasts until this is dropped.
pub(super) struct Lasting<'a> {
    all: &'a Disruptions,
    number: usize,
}

impl Disruptions {
    /// Notes that one begins. To be called before the deed.
    pub fn begin(&self, server: Which) -> Lasting<'_> {
        let mut all = self.0.lock().unwrap();
        all.push(Disruption { server, began: Instant::now(), ended: None });
        Lasting { all: self, number: all.len() - 1 }
    }

    /// Whether a connection that lasted from one moment to the other met one.
    pub fn met(&self, server: Which, from: Instant, to: Instant) -> bool {
        let all = self.0.lock().unwrap();
        all.iter().rev().any(|it| {
            it.server == server && it.began <= to && it.ended.is_none_or(|ended| ended >= from)
        })
    }
}

impl Drop for Lasting<'_> {
    fn drop(&mut self) {
        self.all.0.lock().unwrap()[self.number].ended = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connections_that_overlap_are_excused() {
        let all = Disruptions::default();
        let before = Instant::now();
        let lasting = all.begin(Which::Nginx);
        let during = Instant::now();
        drop(lasting);
        let after = Instant::now();
        assert!(all.met(Which::Nginx, before, during));
        assert!(all.met(Which::Nginx, during, after));
        assert!(!all.met(Which::Haproxy, before, after));
        let later = Instant::now() + std::time::Duration::from_nanos(1);
        assert!(!all.met(Which::Nginx, later, later));
    }
}
