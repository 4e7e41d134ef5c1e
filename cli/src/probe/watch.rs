//! What changes over time: whose key name new tickets have, and whether the first one still does.

use std::thread;
use std::time::{Duration, Instant};

use tktrot::secret::KeyName;

use super::connection::Connector;
use super::measure::{Subject, names_at};
use super::observation::{KeyChange, Watch};

/// Between rounds: short enough to see a rotation in time, and no load on anybody's server.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(60);
const ROUNDS: u32 = 40;

/// What was seen of one subject, with names that may turn out not to be any.
#[derive(Default)]
struct Log {
    watch: Watch,
    names: Vec<(f64, KeyName)>,
}

/// Watches all places that issue tickets for so long.
pub fn watch(connector: &Connector, subjects: &mut [Subject], how_long: Duration) {
    let start = Instant::now();
    let interval = (how_long / ROUNDS).clamp(SHORTEST, LONGEST);
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
        let names = names_at(subjects, &subjects[at].observation.place);
        let changes = changes(log.names.into_iter().filter(|(_, name)| names.has(name)));
        let watch = Watch { seconds: elapsed, key_changes: changes, ..log.watch };
        subjects[at].observation.watch = Some(watch);
    }
}

/// One round at one place: a new ticket, and the first one once more.
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

#[cfg(test)]
mod tests {
    use super::*;

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
