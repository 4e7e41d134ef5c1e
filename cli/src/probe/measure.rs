//! Obtains tickets and offers them: where they were issued, at other addresses, under other names, and
//! again and again over time.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use tktrot::secret::KeyName;

use super::connection::{Connected, Connector, Session, Version};
use super::endpoint::Endpoint;
use super::failure::{Failure, FailureKind, Stage};
use super::observation::{Certificate, Crossing, Issued, KeyChange, Observation, Refusal, Watch};
use super::weak;

/// Each ticket is offered to at most this many other endpoints: with as many as a command line can
/// name, all to all would take hours.
const MAX_ELSEWHERE: usize = 16;
/// At most this many tickets of different keys are searched for weak ones, at some 100 ms each.
const MAX_WEAK_CHECKS: usize = 8;

/// An endpoint that fails this often is given up: it may take the whole time limit each time.
const MAX_FAILURES: u32 = 3;

/// One endpoint in one version of TLS, with what must not be shown.
pub struct Subject {
    pub observation: Observation,
    /// The first session of each full handshake.
    pub sessions: Vec<Session>,
    /// The marks of all tickets, in order, including those of [`watch`].
    pub marks: Vec<Mark>,
}

/// Tests all endpoints, with `times` full handshakes at each.
pub fn measure(connector: &Connector, endpoints: &[Endpoint], times: u32) -> Vec<Subject> {
    let mut subjects = Vec::new();
    for endpoint in endpoints {
        let mut dead = None;
        for version in Version::ALL {
            let mut subject = Subject::new(endpoint, version);
            // A port that is closed is so for all versions.
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

/// True if another version of TLS would fail alike.
fn is_final(failure: &Failure) -> bool {
    failure.step == Stage::Connect || failure.kind == FailureKind::Starttls
}

impl Subject {
    fn new(endpoint: &Endpoint, version: Version) -> Subject {
        let observation = Observation::new(endpoint, version);
        Subject { observation, sessions: Vec::new(), marks: Vec::new() }
    }

    /// Connects to this endpoint.
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

    /// Keeps what a full handshake brought.
    fn take(&mut self, connected: Connected) {
        self.note(&connected.sessions);
        let observation = &mut self.observation;
        observation.handshakes += 1;
        if let Some(certificate) = &connected.certificate {
            // A certificate whose dates cannot be read is left out.
            observation.certificate = Certificate::of(certificate).ok();
        }
        self.sessions.extend(connected.sessions.into_iter().next());
    }

    /// Notes what new sessions tell.
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

    /// Offers each session once where it was issued.
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

/// Offers one session of an endpoint to the next endpoints of the same version.
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
        let fingerprint =
            |seen: &Observation| seen.certificate.as_ref().map(|shown| shown.sha256.clone());
        let same_certificate = fingerprint(&seen) == fingerprint(other);
        let to = other.endpoint.clone();
        if !resumed {
            // Which keys there are is known at the end.
            let refusal = Refusal { to: to.clone(), same_certificate, same_key: false };
            seen.refusals.push(refusal);
        }
        if other.endpoint.sni == seen.endpoint.sni {
            seen.resumed_elsewhere.add(resumed);
            continue;
        }
        seen.resumed_as_other_name.add(resumed);
        if resumed {
            seen.crossings.push(Crossing { to, same_certificate });
        }
    }
    subjects[from].observation = seen;
}

/// Lists the key names. Which marks are key names follows from all tickets of an endpoint.
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
    mark_same_keys(&mut observations);
    observations
}

/// Says of each refusal whether it was of a ticket whose key the other has, too.
fn mark_same_keys(observations: &mut [Observation]) {
    let keys: Vec<_> =
        observations.iter().map(|seen| (seen.endpoint.clone(), seen.key_names.clone())).collect();
    for seen in observations {
        let Observation { refusals, key_names, .. } = seen;
        for refusal in refusals {
            let of_other = keys.iter().filter(|(endpoint, _)| *endpoint == refusal.to);
            let mut of_other = of_other.flat_map(|(_, names)| names);
            refusal.same_key = of_other.any(|name| key_names.contains(name));
        }
    }
}

/// The key names at an endpoint: both versions of TLS use the same keys.
fn names_at(subjects: &[Subject], endpoint: &Endpoint) -> Names {
    let mut names = Names::default();
    let here = subjects.iter().filter(|subject| subject.observation.endpoint == *endpoint);
    here.flat_map(|subject| &subject.marks).for_each(|&mark| names.note(mark));
    names
}

/// Bounds of the pause between rounds: short enough to see a rotation, and no load on a server.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const ROUNDS: u32 = 40;

/// What was seen of one subject, with marks that may turn out not to be key names.
#[derive(Default)]
struct Log {
    watch: Watch,
    names: Vec<(f64, KeyName)>,
}

/// Watches all endpoints that issue tickets, for `how_long`: when their key changes, and whether the
/// first ticket is still resumed.
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
        // After a slow round the next one follows at once, but rounds do not pile up.
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

/// One round at one endpoint: gets a new ticket, and offers the first one again.
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
    // A failed connection says nothing about the ticket.
    if let Ok(connected) = subject.connect(connector, Some(first)) {
        log.watch.first_ticket.add(connected.resumed);
        if connected.resumed {
            log.watch.first_ticket_resumed_until = Some(seconds(start.elapsed()));
        }
    }
}

/// Rounded to a tenth of a second; more cannot be known from outside.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

/// The names that differ from the one before them.
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

/// The beginning of a ticket: key name and IV, if it is in the usual layout (RFC 5077, section 4).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub name: KeyName,
    iv: [u8; 16],
}

/// `None` for a ticket that is too short.
pub fn mark(ticket: &[u8]) -> Option<Mark> {
    if ticket.len() < SHORTEST_TICKET {
        return None;
    }
    let name = KeyName(ticket[..16].try_into().ok()?);
    Some(Mark { name, iv: ticket[16..32].try_into().ok()? })
}

/// The key names among marks: what tickets with different IVs have in common. Layouts without a name
/// (an IV first, say) never repeat 16 bytes.
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
