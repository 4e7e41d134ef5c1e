//! How a ring is, in one sentence: for whoever reads no further.

use tktrot::schedule::KeyState;

use super::alarms::{alarms, worst};
use super::ring::RingStatus;
use crate::output::{in_words, percent};
use crate::severity::Severity;

/// The sentence: how bad it is, who uses the ring, who was resumed, what comes next.
pub fn sentence(status: &RingStatus) -> String {
    let parts = [Some(how_bad(status)), visitors(status), next(status)];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    parts.join("; ")
}

fn how_bad(status: &RingStatus) -> String {
    let alarms = alarms(status);
    let count = |severity| alarms.iter().filter(|alarm| alarm.severity == severity).count();
    let users = users(status);
    match (worst(&alarms), count(Severity::Critical), count(Severity::Warning)) {
        (Severity::Ok, ..) if status.keys.is_empty() => {
            format!("All well, nothing to do yet: {users}")
        }
        (Severity::Ok, ..) => format!("All well: {users}"),
        (_, 0, 1) => format!("1 warning, see below: {users}"),
        (_, 0, warnings) => format!("{warnings} warnings, see below: {users}"),
        (_, critical, 0) => format!("Not well, {critical} critical, see below: {users}"),
        (_, critical, 1) => {
            format!("Not well, {critical} critical and 1 warning, see below: {users}")
        }
        (_, critical, warnings) => {
            format!("Not well, {critical} critical and {warnings} warnings, see below: {users}")
        }
    }
}

/// More programs than this are counted.
const NAMED: usize = 3;

/// The programs that serve with the ring, and how many processes each has.
fn users(status: &RingStatus) -> String {
    let mut programs: Vec<(&str, usize)> = Vec::new();
    for user in status.serving() {
        match programs.iter_mut().find(|(name, _)| *name == user.program) {
            Some((_, processes)) => *processes += 1,
            None => programs.push((&user.program, 1)),
        }
    }
    let mut names: Vec<_> = programs
        .iter()
        .take(NAMED)
        .map(|(name, processes)| match processes {
            1 => format!("{name} (1 process)"),
            many => format!("{name} ({many} processes)"),
        })
        .collect();
    match programs.len().saturating_sub(NAMED) {
        0 => {}
        1 => names.push("1 other program".into()),
        others => names.push(format!("{others} other programs")),
    }
    match &*names {
        [] if status.hidden_processes > 0 => "no process is seen to use this ring".into(),
        [] => "no process uses this ring".into(),
        [one] => format!("{one} uses this ring"),
        [first @ .., last] => format!("{} and {last} use this ring", first.join(", ")),
    }
}

fn visitors(status: &RingStatus) -> Option<String> {
    let counters = &status.counters;
    Some(match counters.resumption_ratio() {
        Some(_) => {
            let (resumed, all) = (counters.resumed(), counters.returned());
            format!("{} of returning visitors resumed so far", percent(resumed, all))
        }
        None if counters.issued > 0 => "no visitor has returned yet".into(),
        None => "no ticket was issued yet".into(),
    })
}

fn next(status: &RingStatus) -> Option<String> {
    if !status.times_are_valid {
        return None;
    }
    match status.active_key() {
        Some(key) => Some(format!("next key in {}", in_words(key.encrypts_for))),
        None if status.count(KeyState::Retired) > 0 => Some("no key encrypts".into()),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::{governed, healthy, idle, user};
    use super::super::ring::RingUser;
    use super::*;

    #[test]
    fn it_says_how_bad_who_and_what_comes_next() {
        let mut agent = governed();
        agent.users.push(RingUser { program: "tktrot".into(), counts: false, ..user(9) });
        let mut mixed = RingStatus { capacity: 3, ..healthy() };
        for (pid, program) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
            mixed.users.push(RingUser { program: program.into(), ..user(pid) });
        }
        let both = RingStatus { times_are_valid: false, ..mixed.clone() };
        let mut fresh = healthy();
        fresh.counters = super::super::counters::Counters { issued: 7, ..Default::default() };
        let mut imported = idle();
        imported.keys = vec![healthy().keys[0].clone()];
        imported.users.clear();
        let cases = [
            (
                healthy(),
                "All well: nginx (2 processes) uses this ring; 75 % of returning visitors resumed so far; \
                 next key in 48 min",
            ),
            (
                agent,
                "All well: nginx (2 processes) uses this ring; 75 % of returning visitors resumed so far; \
                 next key in 48 min",
            ),
            (
                idle(),
                "All well, nothing to do yet: nginx (1 process) uses this ring; no ticket was \
                 issued yet",
            ),
            (
                fresh,
                "All well: nginx (2 processes) uses this ring; no visitor has returned yet; next \
                 key in 48 min",
            ),
            (
                mixed,
                "1 warning, see below: nginx (2 processes), a (1 process), b (1 process) and 2 \
                 other programs use this ring; 75 % of returning visitors resumed so far; next key in 48 \
                 min",
            ),
            (
                both,
                "Not well, 1 critical and 1 warning, see below: nginx (2 processes), a (1 \
                 process), b (1 process) and 2 other programs use this ring; 75 % of returning \
                 visitors resumed so far",
            ),
            (
                imported,
                "1 warning, see below: no process uses this ring; no ticket was issued yet; no \
                 key encrypts",
            ),
        ];
        for (status, expected) in cases {
            assert_eq!(sentence(&status), expected);
        }
    }
}
