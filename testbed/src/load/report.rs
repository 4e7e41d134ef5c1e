use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::client::{Error, ErrorKind, Ticket, TlsVersion, hex8};
use crate::visit::{Due, Promise, Visit};

/// Enough to see what happened, without a flood.
const MAX_NOTES: usize = 20;

/// What a load has seen, for each protocol version.
#[derive(Clone, Debug, Default)]
pub struct Report {
    versions: BTreeMap<TlsVersion, Counts>,
}

/// Handshakes by outcome.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Handshakes that went well, full or resumed.
    pub handshakes: u64,
    /// Full, no ticket offered.
    pub first_full: u64,
    /// Resumed.
    pub resumed: u64,
    /// Of those, resumed with a ticket from an earlier run of the load.
    pub carried: u64,
    /// Of those, resumed with a ticket of another key than the last one that was seen to encrypt:
    /// across a rotation.
    pub across_keys: u64,
    /// A ticket within its lifetime was offered, yet the handshake was full: a lost ticket.
    pub unexpected_full: u64,
    /// A ticket after its lifetime was offered and the handshake was full.
    pub expected_full: u64,
    /// Resumed after the end of the ticket's key, which had to be gone.
    pub overdue: u64,
    /// Full, and the server sent no ticket.
    pub without_ticket: u64,
    /// Connections that failed.
    pub failures: BTreeMap<ErrorKind, u64>,
    /// Names of the keys that sealed a new ticket or opened an offered one, the oldest key first.
    pub keys: Vec<[u8; 16]>,
    /// The greatest age at which a ticket resumed.
    pub oldest_resumed: Duration,
    /// Details about the first things that went wrong.
    pub notes: Vec<String>,
}

impl Report {
    /// The counts of one version.
    pub fn of(&self, version: TlsVersion) -> Counts {
        self.versions.get(&version).cloned().unwrap_or_default()
    }

    /// The counts of all versions together.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.versions.values().for_each(|counts| total.add(counts));
        total
    }

    /// Adds another report to this one.
    pub fn add(&mut self, other: &Report) {
        for (version, counts) in &other.versions {
            self.versions.entry(*version).or_default().add(counts);
        }
    }

    /// Sorts the keys of each version by the order in which the load came to know them.
    pub(super) fn sort_keys(&mut self, order: &[[u8; 16]]) {
        for counts in self.versions.values_mut() {
            counts.keys.sort_by_key(|key| order.iter().position(|known| known == key));
        }
    }

    pub(crate) fn counts(&mut self, version: TlsVersion) -> &mut Counts {
        self.versions.entry(version).or_default()
    }
}

impl Counts {
    /// Connections that failed, whatever the kind.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Connections that failed in any other way than by the death of the server's process.
    pub fn failed_alive(&self) -> u64 {
        self.failed() - self.failures.get(&ErrorKind::Killed).copied().unwrap_or(0)
    }

    /// Adds other counts to these.
    pub fn add(&mut self, other: &Counts) {
        self.handshakes += other.handshakes;
        self.first_full += other.first_full;
        self.resumed += other.resumed;
        self.carried += other.carried;
        self.across_keys += other.across_keys;
        self.unexpected_full += other.unexpected_full;
        self.expected_full += other.expected_full;
        self.overdue += other.overdue;
        self.without_ticket += other.without_ticket;
        for (kind, count) in &other.failures {
            *self.failures.entry(*kind).or_default() += count;
        }
        other.keys.iter().for_each(|key| self.see_key(*key));
        self.oldest_resumed = self.oldest_resumed.max(other.oldest_resumed);
        other.notes.iter().for_each(|note| self.note(|| note.clone()));
    }

    /// Adds a visit with a ticket that was issued in that run, while another one is on. `latest` is
    /// the last key that was seen to seal a ticket.
    pub(crate) fn visit(
        &mut self,
        visit: &Visit,
        promise: &Promise,
        is_carried: bool,
        latest: Option<[u8; 16]>,
    ) {
        let handshake = match &visit.result {
            Ok(handshake) => handshake,
            Err(error) => return self.fail(error),
        };
        self.handshakes += 1;
        if !handshake.resumed && handshake.tickets.is_empty() {
            self.without_ticket += 1;
        }
        let Some((ticket, due)) = visit.offered.as_ref().zip(visit.due(promise)) else {
            self.first_full += 1;
            visit.new_keys().for_each(|key| self.see_key(key));
            return;
        };
        if handshake.resumed {
            self.see_key(ticket.key_name());
            self.resumed += 1;
            self.carried += u64::from(is_carried);
            self.across_keys += u64::from(latest.is_some_and(|latest| latest != ticket.key_name()));
            let age = visit.began.saturating_duration_since(ticket.received());
            self.oldest_resumed = self.oldest_resumed.max(age);
            if due == Due::FullHandshake {
                self.overdue += 1;
                self.note_ticket("resumed after the end of its key", ticket);
            }
        } else if due == Due::Resumption {
            self.unexpected_full += 1;
            self.note_ticket("refused within its lifetime", ticket);
        } else {
            self.expected_full += 1;
        }
        visit.new_keys().for_each(|key| self.see_key(key));
    }

    fn see_key(&mut self, key: [u8; 16]) {
        // Most are among the last.
        if !self.keys.iter().rev().any(|known| *known == key) {
            self.keys.push(key);
        }
    }

    fn fail(&mut self, error: &Error) {
        *self.failures.entry(error.kind).or_default() += 1;
        self.note(|| error.to_string());
    }

    fn note_ticket(&mut self, what: &str, ticket: &Ticket) {
        self.note(|| format!("{what}: {ticket:?}"));
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(text());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (version, counts) in &self.versions {
            writeln!(f, "{version}: {counts}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(hex8).collect();
        write!(
            f,
            "{} handshakes: {} resumed ({} carried, {} across keys, oldest {:.1} s), {} first full, \
             {} unexpected full, {} expected full, {} overdue, {} without ticket, \
             failures {:?}, keys {}",
            self.handshakes,
            self.resumed,
            self.carried,
            self.across_keys,
            self.oldest_resumed.as_secs_f32(),
            self.first_full,
            self.unexpected_full,
            self.expected_full,
            self.overdue,
            self.without_ticket,
            self.failures,
            keys.join(" "),
        )?;
        self.notes.iter().try_for_each(|note| write!(f, "\n  {note}"))
    }
}
