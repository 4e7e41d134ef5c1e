//! Gets tickets and offers them: where they came from, elsewhere, under other names.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use tktrot::secret::KeyName;

use super::connection::{Connected, Connector, Session, Version};
use super::endpoint::Endpoint;
use super::failure::{Failure, FailureKind, Stage};
use super::observation::{Certificate, Crossing, Issued, KeyChange, Observation, Watch};
use super::weak;

/// To so many other endpoints each ticket is offered: with as many endpoints as a command line can name,
/// all to all would take hours.
const MAX_ELSEWHERE: usize = 16;
/// So many tickets of different keys are searched for weak ones; that takes some 100 ms for each.
const MAX_WEAK_CHECKS: usize = 8;

/// A endpoint that fails so often may take the time limit each time.
const MAX_FAILURES: u32 = 3;

/// One endpoint in one version, with what must not be shown.
pub struct Subject {
    pub observation: Observation,
    /// One of each full handshake: the first that it brought.
    pub sessions: Vec<Session>,
    /// Of every ticket, in order; those of [`super::watch`] too.
    pub marks: Vec<Mark>,
}

/// Does it all; `times` full handshakes at each endpoint.
pub fn measure(connector: &Connector, endpoints: &[Endpoint], times: u32) -> Vec<Subject> {
    let mut subjects = Vec::new();
    for endpoint in endpoints {
        let mut dead = None;
        for version in Version::ALL {
            let mut subject = Subject::new(endpoint, version);
            // What has no port open in one version has none in the other.
            match dead.clone() {
                Some(failure) => subject.observation.failure = Some(failure),
                None => subject.get_tickets(connector, times),
            }
            dead = subject.observation.failure.clone().filter(is_final);
            subjects.push(subject);
        }
    }
    for subject in &mut subjects {
        subject.return_tickets(connector);
    }
    for from in 0..subjects.len() {
        offer_elsewhere(connector, &mut subjects, from);
    }
    for subject in &mut subjects {
        subject.search_weak_keys();
    }
    subjects
}

/// Whether another version of TLS would fail alike.
fn is_final(failure: &Failure) -> bool {
    failure.step == Stage::Connect || failure.kind == FailureKind::Starttls
}

impl Subject {
    fn new(endpoint: &Endpoint, version: Version) -> Subject {
        let observation = Observation::new(endpoint, version);
        Subject { observation, sessions: Vec::new(), marks: Vec::new() }
    }

    /// A connection to this very endpoint.
    pub fn connect(
        &self,
        connector: &Connector,
        offered: Option<&Session>,
    ) -> Result<Connected, Failure> {
        connector.connect(&self.observation.endpoint, self.observation.tls, offered)
    }

    fn get_tickets(&mut self, connector: &Connector, times: u32) {
        for _ in 0..times {
            match self.connect(connector, None) {
                Ok(connected) => self.take(connected),
                Err(failure) if self.observation.handshakes == 0 => {
                    self.observation.failure = Some(failure);
                    return;
                }
                Err(_) => self.observation.failed += 1,
            }
            if self.observation.failed == MAX_FAILURES {
                return;
            }
        }
    }

    /// Takes what a full handshake brought.
    fn take(&mut self, connected: Connected) {
        self.note(&connected.sessions);
        let observation = &mut self.observation;
        observation.handshakes += 1;
        if let Some(certificate) = &connected.certificate {
            // What has dates that cannot be read is shown as none.
            observation.certificate = Certificate::of(certificate).ok();
        }
        self.sessions.extend(connected.sessions.into_iter().next());
    }

    /// Notes what new sessions show.
    pub fn note(&mut self, sessions: &[Session]) {
        let observation = &mut self.observation;
        for session in sessions {
            let lifetime = session.lifetime().map(|lifetime| lifetime.as_secs());
            observation.lifetime_hint = observation.lifetime_hint.max(lifetime);
            match session.ticket() {
                Some(ticket) => {
                    observation.ticket = Issued::Ticket;
                    self.marks.extend(mark(ticket));
                }
                None if observation.ticket == Issued::None => {
                    observation.ticket = Issued::SessionId;
                }
                None => {}
            }
        }
    }

    /// Offers each session once where it came from.
    fn return_tickets(&mut self, connector: &Connector) {
        for session in self.sessions.clone() {
            let connected = self.connect(connector, Some(&session));
            match connected {
                Ok(connected) => {
                    self.observation.resumed_here.add(connected.resumed);
                    self.note(&connected.sessions);
                }
                Err(_) => self.observation.failed += 1,
            }
            if self.observation.failed >= MAX_FAILURES {
                return;
            }
        }
    }

    fn search_weak_keys(&mut self) {
        let mut searched = Vec::new();
        let tickets = self.sessions.iter().filter_map(Session::ticket);
        for ticket in tickets {
            let beginning = &ticket[..16];
            if searched.contains(&beginning) || searched.len() == MAX_WEAK_CHECKS {
                continue;
            }
            searched.push(beginning);
            self.observation.weak_key = weak::weakness(ticket);
            if self.observation.weak_key.is_some() {
                return;
            }
        }
    }
}

/// Offers one session of a endpoint to the next endpoints of the same version.
fn offer_elsewhere(connector: &Connector, subjects: &mut [Subject], from: usize) {
    let Some(session) = subjects[from].sessions.last().cloned() else {
        return;
    };
    let (before, after) = subjects.split_at(from);
    let Some((subject, after)) = after.split_first() else {
        return;
    };
    let mut seen = subject.observation.clone();
    let others = after.iter().chain(before).map(|other| &other.observation);
    let alive = others.filter(|other| other.tls == seen.tls && other.failure.is_none());
    for other in alive.take(MAX_ELSEWHERE) {
        let resumed = match connector.connect(&other.endpoint, seen.tls, Some(&session)) {
            Ok(connected) => connected.resumed,
            Err(_) => {
                seen.failed += 1;
                continue;
            }
        };
        if other.endpoint.sni == seen.endpoint.sni {
            seen.resumed_elsewhere.add(resumed);
            continue;
        }
        seen.resumed_as_other_name.add(resumed);
        if resumed {
            let fingerprint =
                |seen: &Observation| seen.certificate.as_ref().map(|shown| shown.sha256.clone());
            seen.crossings.push(Crossing {
                to: other.endpoint.clone(),
                same_certificate: fingerprint(&seen) == fingerprint(other),
            });
        }
    }
    subjects[from].observation = seen;
}

/// Finds out which of the marks are key names, which takes all tickets of a endpoint, and lists them.
pub fn name_keys(subjects: Vec<Subject>) -> Vec<Observation> {
    let mut observations = Vec::new();
    for subject in &subjects {
        let names = names_at(&subjects, &subject.observation.endpoint);
        let mut observation = subject.observation.clone();
        for mark in subject.marks.iter().filter(|mark| names.has(&mark.name)) {
            let name = mark.name.to_string();
            if !observation.key_names.contains(&name) {
                observation.key_names.push(name);
            }
        }
        observations.push(observation);
    }
    observations
}

/// The key names at a endpoint: both versions of TLS use the same keys.
pub fn names_at(subjects: &[Subject], endpoint: &Endpoint) -> Names {
    let mut names = Names::default();
    let here = subjects.iter().filter(|subject| subject.observation.endpoint == *endpoint);
    here.flat_map(|subject| &subject.marks).for_each(|&mark| names.note(mark));
    names
}

/// Between rounds: short enough to see a rotation in time, and no load on anybody's server.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const ROUNDS: u32 = 40;

/// What was seen of one subject, with names that may turn out not to be any.
#[derive(Default)]
struct Log {
    watch: Watch,
    names: Vec<(f64, KeyName)>,
}

/// Watches all endpoints that issue tickets for so long.
pub fn watch(connector: &Connector, subjects: &mut [Subject], how_long: Duration) {
    let start = Instant::now();
    let interval = (how_long / ROUNDS).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    let mut logs: Vec<_> = subjects.iter().map(|_| Log::default()).collect();
    let mut next = start;
    while next.duration_since(start) <= how_long {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        for (subject, log) in subjects.iter_mut().zip(&mut logs) {
            if !subject.sessions.is_empty() {
                look(connector, subject, log, start);
            }
        }
        // A slow round is followed by the next one at once, but rounds do not pile up.
        next = (next + interval).max(Instant::now());
    }
    let elapsed = seconds(start.elapsed());
    for (at, log) in logs.into_iter().enumerate().filter(|(_, log)| log.watch.rounds > 0) {
        let names = names_at(subjects, &subjects[at].observation.endpoint);
        let changes = changes(log.names.into_iter().filter(|(_, name)| names.has(name)));
        let watch = Watch { seconds: elapsed, key_changes: changes, ..log.watch };
        subjects[at].observation.watch = Some(watch);
    }
}

/// One round at one endpoint: a new ticket, and the first one once more.
fn look(connector: &Connector, subject: &mut Subject, log: &mut Log, start: Instant) {
    log.watch.rounds += 1;
    match subject.connect(connector, None) {
        Ok(connected) => {
            let before = subject.marks.len();
            subject.note(&connected.sessions);
            let now = seconds(start.elapsed());
            log.names.extend(subject.marks[before..].iter().map(|mark| (now, mark.name)));
        }
        Err(_) => log.watch.failed += 1,
    }
    let Some(first) = subject.sessions.first().filter(|session| !session.is_over()) else {
        return;
    };
    // That nobody answers says nothing about the ticket.
    if let Ok(connected) = subject.connect(connector, Some(first)) {
        log.watch.first_ticket.add(connected.resumed);
        if connected.resumed {
            log.watch.first_ticket_resumed_until = Some(seconds(start.elapsed()));
        }
    }
}

/// To a tenth: no more can be known from outside.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

/// Where a name differs from the one before it.
fn changes(names: impl Iterator<Item = (f64, KeyName)>) -> Vec<KeyChange> {
    let mut current = None;
    let mut changes = Vec::new();
    for (after_seconds, name) in names {
        if current.is_some_and(|current| current != name) {
            changes.push(KeyChange { after_seconds, key_name: name.to_string() });
        }
        current = Some(name);
    }
    changes
}

/// Name, IV, at least one block, and the shortest MAC that is in use.
const SHORTEST_TICKET: usize = 16 + 16 + 16 + 20;

/// Where a ticket in the usual layout has its name and its IV.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub name: KeyName,
    iv: [u8; 16],
}

/// None for a ticket that is too short.
pub fn mark(ticket: &[u8]) -> Option<Mark> {
    if ticket.len() < SHORTEST_TICKET {
        return None;
    }
    let name = KeyName(ticket[..16].try_into().ok()?);
    Some(Mark { name, iv: ticket[16..32].try_into().ok()? })
}

/// The names among these marks: what several tickets have in common, although they were encrypted
/// apart. Layouts without a name (an IV first, say) never repeat 16 bytes.
#[derive(Default)]
pub struct Names(BTreeMap<[u8; 16], Seen>);

struct Seen {
    first_iv: [u8; 16],
    on_two_tickets: bool,
}

impl Names {
    pub fn note(&mut self, mark: Mark) {
        let seen = self.0.entry(mark.name.0);
        let seen = seen.or_insert(Seen { first_iv: mark.iv, on_two_tickets: false });
        seen.on_two_tickets |= seen.first_iv != mark.iv;
    }

    pub fn has(&self, name: &KeyName) -> bool {
        self.0.get(&name.0).is_some_and(|seen| seen.on_two_tickets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(name: u8, iv: u8) -> Vec<u8> {
        [[name; 16], [iv; 16], [0; 16], [0; 16], [0; 16]].concat()
    }

    #[test]
    fn a_name_is_what_two_tickets_share() {
        let mut names = Names::default();
        let [a, b] = [1, 2].map(|name| KeyName([name; 16]));
        names.note(mark(&ticket(1, 1)).unwrap());
        assert!(!names.has(&a), "16 bytes seen once may be anything");
        // The same ticket once more tells nothing.
        names.note(mark(&ticket(1, 1)).unwrap());
        assert!(!names.has(&a));
        names.note(mark(&ticket(1, 2)).unwrap());
        names.note(mark(&ticket(2, 3)).unwrap());
        assert!(names.has(&a) && !names.has(&b));
    }

    #[test]
    fn what_is_too_short_has_no_name() {
        assert!(mark(&[0; SHORTEST_TICKET - 1]).is_none());
        assert!(mark(&[0; SHORTEST_TICKET]).is_some());
    }

    #[test]
    fn a_change_is_a_name_that_was_not_the_last_one() {
        let names = [(0.0, 1), (0.5, 1), (1.0, 2), (1.5, 2), (2.0, 1)];
        let names = names.map(|(at, byte)| (at, KeyName([byte; 16])));
        let seen: Vec<_> = changes(names.into_iter())
            .into_iter()
            .map(|change| (change.after_seconds, change.key_name))
            .collect();
        assert_eq!(seen, [(1.0, "02020202".to_owned()), (2.0, "01010101".to_owned())]);
        assert!(changes(std::iter::empty()).is_empty());
    }
}
