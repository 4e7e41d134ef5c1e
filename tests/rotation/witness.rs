//! Remembers every key and every ticket, and holds the ring to what was
//! promised of them.

use std::collections::HashMap;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::ring::key::Key;
use tktrot::ring::key::KeyFacts;
use tktrot::ring::view::View;
use tktrot::schedule::{KeyState, KeyTimes, Policy};
use tktrot::secret::KeyName;

/// What was done to the ring since the witness looked last.
#[derive(Default)]
pub struct Deed {
    /// Somebody came by who sees to what is due, at this time.
    pub came_by: Option<Time>,
    /// A key had to be made if one was missing.
    pub wanted: bool,
    /// A ticket was asked for: what sealed it, if anything did, and when.
    pub sealed: Option<Option<(KeyName, Time)>>,
    /// Keys that were revoked.
    pub revoked: Vec<KeyName>,
    /// All of them were.
    pub erased_all: bool,
    /// Keys whose ends an agent made earlier.
    pub shortened: Vec<KeyName>,
    /// Somebody asked for more than the schedule does: a ring may be full after that.
    pub by_hand: bool,
}

impl Deed {
    /// After it, the keys are as the schedule wants them.
    fn settles(&self) -> bool {
        self.came_by.is_some() && self.wanted
    }
}

struct Known {
    published: KeyTimes,
    seen: KeyTimes,
    gone: bool,
}

struct Ticket {
    key: KeyName,
    opens_until: Time,
}

#[derive(Default)]
pub struct Witness {
    known: HashMap<KeyName, Known>,
    tickets: Vec<Ticket>,
    ever_by_hand: bool,
    may_overlap: bool,
}

impl Witness {
    pub fn judge(&mut self, view: &View, policy: &Policy, now: Time, deed: &Deed) {
        let keys = view.keys();
        self.ever_by_hand |= deed.by_hand;
        let free = view.capacity() as usize - self.known.values().filter(|key| !key.gone).count();
        let new = self.meet(&keys, policy);
        self.part(&keys, now, deed, new.saturating_sub(free));
        // Who asks for a key while an agent governs gets one beside the agent's own.
        self.may_overlap |= view.governed(now).is_some();
        self.may_overlap &= !deed.settles();
        one_encrypts(view, &keys, now, deed, self.may_overlap);
        if let Some(came) = deed.came_by {
            let expired = |key: &KeyFacts| key.times.state(came) == KeyState::Expired;
            assert!(!keys.iter().any(expired), "a key that is over is still there");
        }
        if let Some(sealed) = deed.sealed {
            assert!(sealed.is_some() || !deed.wanted, "no ticket, though a key could be made");
            if let Some((key, at)) = sealed {
                self.issue(key, at, policy, deed.wanted);
            }
        }
        for ticket in &mut self.tickets {
            if deed.shortened.contains(&ticket.key) {
                let ends = self.known[&ticket.key].seen.decrypt_until;
                ticket.opens_until = ticket.opens_until.min(ends);
            }
        }
        self.tickets.retain(|ticket| now < ticket.opens_until);
        for ticket in &self.tickets {
            let opens = |key: &KeyFacts| {
                key.name == ticket.key && key.times.state(now) != KeyState::Expired
            };
            assert!(keys.iter().any(opens), "a ticket does not open within its lifetime");
        }
    }

    /// At every moment between two visits that are in time: a key encrypts, and
    /// the next one is there.
    pub fn expect_line(&self, view: &View, now: Time) {
        let keys = view.keys();
        let mut active = keys.iter().filter(|key| key.times.state(now) == KeyState::Active);
        let key = active.next().expect("nothing encrypts between two visits");
        let follows = |next: &KeyFacts| next.times.encrypt_from == key.times.encrypt_until;
        assert!(keys.iter().any(follows), "an active key without a successor");
        assert!(view.encrypting(now, &mut Key::blank()), "readers do not find the active key");
    }

    /// Keys that are seen for the first time, and what became of the others.
    /// Returns how many are new.
    fn meet(&mut self, keys: &[KeyFacts], policy: &Policy) -> usize {
        let mut new = 0;
        for key in keys {
            let times = key.times;
            assert!(times.are_ordered(), "{times:?}");
            let known = self.known.entry(key.name).or_insert_with(|| {
                new += 1;
                let encrypts = span(&times);
                assert!(encrypts <= policy.rotate_every, "made to encrypt for {encrypts:?}");
                let lives = times.encrypt_from.until(times.decrypt_until);
                assert!(
                    lives <= policy.rotate_every + policy.lifetime,
                    "made to live for {lives:?}"
                );
                Known { published: times, seen: times, gone: false }
            });
            assert!(!known.gone, "a key that was erased is back");
            assert_eq!(
                times.shortened(&known.seen),
                times,
                "a key was lengthened: {:?}",
                known.seen
            );
            assert!(span(&times) <= span(&known.published), "it encrypts for longer");
            known.seen = times;
        }
        new
    }

    /// Keys that are there no longer, each for a reason; at most so many made
    /// room for others.
    fn part(&mut self, keys: &[KeyFacts], now: Time, deed: &Deed, mut evictions: usize) {
        if !self.ever_by_hand {
            evictions = 0;
        }
        let mut lost = Vec::new();
        for (name, known) in self.known.iter_mut().filter(|(_, known)| !known.gone) {
            if keys.iter().any(|key| key.name == *name) {
                continue;
            }
            known.gone = true;
            let over = known.seen.state(now) == KeyState::Expired;
            let revoked = deed.erased_all || deed.revoked.contains(name);
            let sealed_nothing = self.tickets.iter().all(|ticket| ticket.key != *name)
                && known.seen.encrypt_from > deed.came_by.unwrap_or(now);
            if !over && !revoked && !sealed_nothing {
                evictions = evictions.checked_sub(1).expect("a key is gone, and nobody asked");
            }
            if !over {
                lost.push(*name);
            }
        }
        self.tickets.retain(|ticket| !lost.contains(&ticket.key));
    }

    fn issue(&mut self, key: KeyName, at: Time, policy: &Policy, wanted: bool) {
        let known = &self.known[&key];
        // As it was published: nothing that happened since makes it encrypt longer.
        assert!(at < known.published.encrypt_until, "sealed outside of R");
        assert_eq!(
            known.seen.state(at),
            KeyState::Active,
            "sealed with a key that does not encrypt"
        );
        // While no key can be made, one that is too short for a new policy goes on.
        let retention = known.seen.retention();
        let lifetime = if wanted { policy.lifetime } else { policy.lifetime.min(retention) };
        self.tickets.push(Ticket { key, opens_until: at + lifetime });
    }
}

/// How long it may encrypt.
fn span(times: &KeyTimes) -> Duration {
    times.encrypt_from.until(times.encrypt_until)
}

/// At most one key encrypts, and it is the one that readers find.
fn one_encrypts(view: &View, keys: &[KeyFacts], now: Time, deed: &Deed, may_overlap: bool) {
    let active: Vec<_> =
        keys.iter().filter(|key| key.times.state(now) == KeyState::Active).collect();
    assert!(active.len() <= 1 || may_overlap, "{} keys encrypt at once", active.len());
    let mut found = Key::blank();
    let found = view.encrypting(now, &mut found).then_some(found.name);
    let agree = match found {
        Some(name) => active.iter().any(|key| key.name == name),
        None => active.is_empty(),
    };
    assert!(agree, "readers and keys disagree");
    if deed.settles() {
        let key = active.first().expect("no key encrypts, though one could be made");
        let follows = |next: &&KeyFacts| next.times.encrypt_from == key.times.encrypt_until;
        assert!(keys.iter().any(|next| follows(&next)), "an active key without a successor");
    }
}
