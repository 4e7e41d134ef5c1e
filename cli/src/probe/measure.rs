//! Gets tickets and offers them: where they came from, elsewhere, under other names.

use super::certificate;
use super::connection::{Connected, Connector, Version};
use super::failure::{Failure, Kind, Step};
use super::key_name::{self, Mark, Names};
use super::observation::{Crossing, Issued, Observation};
use super::session::Session;
use super::target::Place;
use super::weak;

/// To so many other places each ticket is offered: with as many places as a command line can name,
/// all to all would take hours.
const MAX_ELSEWHERE: usize = 16;
/// So many tickets of different keys are searched for weak ones; that takes some 100 ms for each.
const MAX_WEAK_CHECKS: usize = 8;

/// A place that fails so often may take the time limit each time.
const MAX_FAILURES: u32 = 3;

/// One place in one version, with what must not be shown.
pub struct Subject {
    pub observation: Observation,
    /// One of each full handshake: the first that it brought.
    pub sessions: Vec<Session>,
    /// Of every ticket, in order; those of [`super::watch`] too.
    pub marks: Vec<Mark>,
}

/// Does it all; `times` full handshakes at each place.
pub fn measure(connector: &Connector, places: &[Place], times: u32) -> Vec<Subject> {
    let mut subjects = Vec::new();
    for place in places {
        let mut dead = None;
        for version in Version::ALL {
            let mut subject = Subject::new(place, version);
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
    failure.step == Step::Connect || failure.kind == Kind::Starttls
}

impl Subject {
    fn new(place: &Place, version: Version) -> Subject {
        let observation = Observation::new(place, version);
        Subject { observation, sessions: Vec::new(), marks: Vec::new() }
    }

    /// A connection to this very place.
    pub fn connect(
        &self,
        connector: &Connector,
        offered: Option<&Session>,
    ) -> Result<Connected, Failure> {
        connector.connect(&self.observation.place, self.observation.tls, offered)
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
            observation.certificate = certificate::describe(certificate).ok();
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
                    self.marks.extend(key_name::mark(ticket));
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

/// Offers one session of a place to the next places of the same version.
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
        let resumed = match connector.connect(&other.place, seen.tls, Some(&session)) {
            Ok(connected) => connected.resumed,
            Err(_) => {
                seen.failed += 1;
                continue;
            }
        };
        if other.place.sni == seen.place.sni {
            seen.resumed_elsewhere.add(resumed);
            continue;
        }
        seen.resumed_as_other_name.add(resumed);
        if resumed {
            let fingerprint =
                |seen: &Observation| seen.certificate.as_ref().map(|shown| shown.sha256.clone());
            seen.crossings.push(Crossing {
                to: other.place.clone(),
                same_certificate: fingerprint(&seen) == fingerprint(other),
            });
        }
    }
    subjects[from].observation = seen;
}

/// Finds out which of the marks are key names, which takes all tickets of a place, and lists them.
pub fn name_keys(subjects: Vec<Subject>) -> Vec<Observation> {
    let mut observations = Vec::new();
    for subject in &subjects {
        let names = names_at(&subjects, &subject.observation.place);
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

/// The key names at a place: both versions of TLS use the same keys.
pub fn names_at(subjects: &[Subject], place: &Place) -> Names {
    let mut names = Names::default();
    let here = subjects.iter().filter(|subject| subject.observation.place == *place);
    here.flat_map(|subject| &subject.marks).for_each(|&mark| names.note(mark));
    names
}
