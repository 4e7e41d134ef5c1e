//! The status of rings as people read it.

use std::fmt::Write;

use tktrot::ring::layout::MAX_CAPACITY;
use tktrot::schedule::KeyState;

use super::alarms::{Alarm, Remark, alarms, remarks, worst};
use super::counters::{Counters, Rates};
use super::ring::{KeyStatus, LockState, Maker, RingStatus, RingUser, state_name};
use super::sentence::sentence;
use crate::output::{self, in_words, percent, wrapped};
use crate::processes::Presence;

/// One ring in full, with lines broken at `width`.
pub fn full(status: &RingStatus, rates: Option<&Rates>, width: usize) -> String {
    let alarms = alarms(status);
    let mut page = Page { text: String::new(), width };
    page.line("ring", &status.path);
    page.line("exposure", &exposure(status));
    page.line("in short", &sentence(status));
    page.line("active key", &active(status));
    page.line("keys", &format!("{}{}", status.keys.len(), bound(status)));
    // The keys to come first.
    status.keys.iter().rev().for_each(|one| page.line("", &key(one)));
    page.line("governed", &governed(status));
    page.line("upkeep", &upkeep(status));
    page.line("users", &users(status));
    status.users.iter().for_each(|one| page.line("", &user(one)));
    page.line("counted", "since the ring was made");
    page.counters(&status.counters);
    if let Some(rates) = rates {
        page.line("per second", &per_second(rates));
    }
    if alarms.is_empty() {
        page.line("alarms", "none");
    }
    alarms.iter().for_each(|alarm| page.alarm(alarm));
    remarks(status).iter().for_each(|remark| page.remark(remark));
    page.text
}

/// The limit on the number of keys, if one was set.
pub fn bound(status: &RingStatus) -> String {
    match status.capacity {
        MAX_CAPACITY => String::new(),
        bound => format!(", at most {bound}"),
    }
}

/// What a theft would cost: the first thing to know.
pub fn exposure(status: &RingStatus) -> String {
    let exposure = status.exposure;
    let (r, l) = (in_words(exposure.rotate_every), in_words(exposure.lifetime));
    let span = in_words(exposure.span);
    let mut text = format!("a stolen key opens at most the sessions of the last {span}");
    if exposure.span > exposure.rotate_every.saturating_add(exposure.lifetime) {
        let _ = write!(text, "; {r} + {l} once the keys with longer lives are gone");
    } else {
        let _ = write!(text, " (R {r} + L {l})");
    }
    // Servers alone have their keys for 2 R and the lead.
    if exposure.ahead > exposure.rotate_every.saturating_mul(5) / 2 {
        let ahead = in_words(exposure.ahead);
        let _ = write!(text, "; the ring has the keys of the next {ahead}, too");
    }
    text
}

/// The active key, its age, and what comes after it.
pub fn active(status: &RingStatus) -> String {
    let Some(key) = status.active_key() else {
        return match (status.is_governed(), status.keys.is_empty()) {
            (true, _) => "none: the agent has made none".into(),
            (false, true) => "none: no client has asked for a ticket yet".into(),
            (false, false) => "none".into(),
        };
    };
    let next = status.successor().map_or("nothing yet", |next| &next.name);
    let (age, left) = (in_words(key.age), in_words(key.encrypts_for));
    format!("{}, {age} old; next rotation in {left}, to {next}", key.name)
}

/// Who makes and retires the keys.
pub fn governed(status: &RingStatus) -> String {
    match status.governed_for {
        Some(left) => format!("by an agent; its lease has {} left", in_words(left)),
        None => "no: servers rotate the keys".into(),
    }
}

/// The number of keys in each state.
pub fn key_counts(status: &RingStatus) -> String {
    let states = [KeyState::Announced, KeyState::Active, KeyState::Retired, KeyState::Expired];
    let counted = states.map(|state| (status.count(state), state_name(state)));
    let told: Vec<_> = counted
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    if told.is_empty() { "none yet".into() } else { told.join(", ") }
}

/// Several rings, one line each.
pub fn summaries(rings: &[(String, Result<RingStatus, String>)]) -> String {
    let longest = |words: &mut dyn Iterator<Item = usize>| words.max().unwrap_or(0);
    let name = longest(&mut rings.iter().map(|(name, _)| name.chars().count()));
    let mut text = String::new();
    for (ring, status) in rings {
        let line = match status {
            Ok(status) => summary(status),
            Err(error) => format!("critical  cannot be read: {error}"),
        };
        let _ = writeln!(text, "{ring:name$}  {line}");
    }
    text
}

fn summary(status: &RingStatus) -> String {
    let alarms = alarms(status);
    let told = match (alarms.first(), alarms.len()) {
        (None, _) => match &*remarks(status) {
            [] => "no alarms".into(),
            [first, ..] => format!("no alarms; remark {}", first.remark.name()),
        },
        (Some(first), 1) => first.alarm.name().to_owned(),
        (Some(first), many) => format!("{} and {} more", first.alarm.name(), many - 1),
    };
    let active = status.active_key().map_or("none    ", |key| &key.name);
    let exposure = in_words(status.exposure.span);
    let users = status.serving().count();
    let severity = worst(&alarms);
    format!("{severity:8}  exposure {exposure:<10}  key {active}  users {users:<3} {told}")
}

/// The number of processes that have the ring, in one line.
pub fn users(status: &RingStatus) -> String {
    let mut text = match status.serving().count() {
        0 => "none visible".into(),
        1 => "1 process".into(),
        number => format!("{number} processes"),
    };
    if status.hidden_processes > 0 {
        let _ = write!(
            text,
            "; {}: only root (with CAP_SYS_PTRACE) can see whether they use the ring",
            hidden(status.hidden_processes)
        );
    }
    text
}

/// The number of processes that cannot be seen.
pub fn hidden(processes: usize) -> String {
    if processes == 1 {
        "1 more is not visible".into()
    } else {
        format!("{processes} more are not visible")
    }
}

/// What a process does with the ring, and where it is.
pub fn does(user: &RingUser) -> &'static str {
    match (user.presence, user.writes, user.counts) {
        (Presence::Gone, ..) => "gone",
        (Presence::Elsewhere, _, true) => "in another container; uses tickets",
        (Presence::Elsewhere, _, false) => "in another container; no tickets yet",
        (Presence::Hidden, _, true) => "not visible; has used tickets",
        (Presence::Hidden, _, false) => "not visible; no tickets yet",
        (Presence::Maps, false, _) => "only reads",
        (Presence::Maps, true, true) => "uses tickets",
        (Presence::Maps, true, false) => "has the ring, no tickets yet",
    }
}

fn upkeep(status: &RingStatus) -> String {
    match &status.upkeep_lock {
        LockState::Held(leader) => format!("a thread of {}", leader.name()),
        LockState::Free | LockState::Dead if status.is_governed() => {
            "no thread; the agent does it".into()
        }
        LockState::Free | LockState::Dead if status.keys.is_empty() => "not needed yet".into(),
        LockState::Free | LockState::Dead => "no thread; handshakes do it".into(),
    }
}

/// A key and what is left of its life.
pub fn key(key: &KeyStatus) -> String {
    let life = match key.state {
        KeyState::Announced => format!("encrypts in {}", in_words(key.encrypts_in)),
        KeyState::Active => format!("encrypts for {}", in_words(key.encrypts_for)),
        KeyState::Retired => format!("decrypts for {}", in_words(key.decrypts_for)),
        KeyState::Expired => "to be erased".into(),
    };
    let mut marks = String::new();
    match key.maker {
        Maker::Here => {}
        Maker::Elsewhere => marks.push_str("  of another host"),
        Maker::Imported => marks.push_str("  imported"),
    }
    marks.push_str(if key.plain { "  plain" } else { "" });
    format!("{}  {:9}  {life}{marks}", key.name, state_name(key.state))
}

/// A process that has the ring.
pub fn user(user: &RingUser) -> String {
    let does = does(user);
    let bound = match &user.binds {
        _ if user.presence == Presence::Gone => String::new(),
        None if user.counts => "  bind unknown".to_owned(),
        None => String::new(),
        Some(binds) if binds.is_empty() => String::new(),
        Some(binds) => format!("  bind {}", binds.join(" and ")),
    };
    let unlocked = if user.locked == Some(false) { "  not locked in memory" } else { "" };
    format!("{:7}  {:15}  {does}{bound}{unlocked}", user.pid, user.program)
}

/// What happens per second.
pub fn per_second(rates: &Rates) -> String {
    format!(
        "{:.1} issued, {:.1} resumed, {:.1} turned away",
        rates.issued, rates.resumed, rates.refused
    )
}

struct Page {
    text: String,
    width: usize,
}

/// The column after the labels.
const INDENT: usize = 12;

impl Page {
    fn line(&mut self, what: &str, text: &str) {
        let mut first = what;
        for line in wrapped(text, self.width.saturating_sub(INDENT)) {
            let _ = writeln!(self.text, "{first:INDENT$}{line}");
            first = "";
        }
    }

    fn counters(&mut self, counters: &Counters) {
        let mut count = |number: u64, what: &str| {
            self.line("", &format!("{:>9}  {what}", output::number(number)));
        };
        count(counters.issued, "tickets issued");
        let ratio = counters.resumption_ratio();
        let ratio = ratio.map_or(String::new(), |_| {
            format!(
                " ({} of those that came back)",
                percent(counters.resumed(), counters.returned())
            )
        });
        count(counters.resumed(), &format!("tickets resumed{ratio}"));
        let (active, retired) = (counters.resumed_active, counters.resumed_retired);
        count(active, "  opened by the active key");
        count(retired, "  opened by a retired key");
        count(counters.turned_away(), "tickets turned away");
        count(counters.unknown, "  of an unknown key");
        count(counters.expired, "  of an expired key");
        count(counters.wrong_scope, "  of another scope");
        count(counters.not_resumed, "  opened, but refused by the server");
        count(counters.unsealed, "handshakes without a resumable ticket");
        count(counters.errors, "errors");
        count(counters.rotations, "keys made");
        for (number, what) in [
            (counters.repairs, "repairs after a killed writer"),
            (counters.generator_failures, "failures of the random number generator"),
            (counters.tickets_off, "connections with tickets disabled"),
            (counters.anti_replay, "connections with early data and stateful TLS 1.3 tickets"),
            (counters.left_alone, "contexts that keep ticket keys of their own"),
        ] {
            if number > 0 {
                count(number, what);
            }
        }
    }

    fn remark(&mut self, remark: &Remark) {
        self.line("remark", &format!("{}: {}", remark.remark.name(), remark.what));
        self.line("", &format!("=> {}", remark.remedy));
    }

    fn alarm(&mut self, alarm: &Alarm) {
        self.line(
            &format!("{}", alarm.severity),
            &format!("{}: {}", alarm.alarm.name(), alarm.what),
        );
        self.line("", &format!("=> {}", alarm.remedy));
    }
}

#[cfg(test)]
mod tests {

    use super::super::example::{self, MINUTE, governed, healthy, idle};
    use super::*;

    #[test]
    fn a_healthy_ring_in_full() {
        insta::assert_snapshot!(full(&healthy(), None, 100));
    }

    #[test]
    fn an_idle_ring_in_full() {
        insta::assert_snapshot!(full(&idle(), None, 100));
    }

    #[test]
    fn a_governed_ring_in_full() {
        insta::assert_snapshot!(full(&governed(), None, 100));
    }

    #[test]
    fn keys_that_an_agent_announced_far_ahead_are_part_of_the_exposure() {
        let mut status = governed();
        assert!(!exposure(&status).contains("the ring has"), "{}", exposure(&status));
        status.exposure.ahead = 168 * MINUTE;
        let text = exposure(&status);
        assert!(text.ends_with("; the ring has the keys of the next 2 h 48 min, too"), "{text}");
    }

    #[test]
    fn a_spoilt_ring_in_a_narrow_window() {
        let mut status = RingStatus { capacity: 3, hidden_processes: 9, ..healthy() };
        status.writer_lock = LockState::Dead;
        status.users[1].locked = Some(false);
        status.users[0].presence = Presence::Gone;
        status.keys[0].maker = Maker::Imported;
        status.keys[0].plain = true;
        let rates = Rates { issued: 20.0, resumed: 9.96, ..Rates::default() };
        let text = full(&status, Some(&rates), 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn who_binds_to_what_and_what_the_server_refused() {
        let mut status = healthy();
        status.counters.not_resumed = 150;
        let some = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let user = |pid, binds| RingUser { binds, ..example::user(pid) };
        status.users = vec![
            user(1, some(&["all"])),
            user(2, some(&["cert,verify", "none"])),
            user(3, some(&[])),
            user(4, None),
        ];
        let text = full(&status, None, 80);
        insta::assert_snapshot!(text.split_once("users").unwrap().1);
    }

    #[test]
    fn what_is_not_served_is_a_remark_beside_tickets_and_an_alarm_without() {
        let mut status = healthy();
        status.counters.tickets_off = 120;
        status.counters.left_alone = 1;
        let beside = full(&status, None, 80);
        status.counters = Counters { tickets_off: 1, anti_replay: 40, ..Counters::default() };
        status.users.iter_mut().for_each(|user| user.program = "haproxy".into());
        let without = full(&status, None, 80);
        let from = |text: &str| text.split_once("counted").unwrap().1.to_owned();
        insta::assert_snapshot!(format!("{}\n{}", from(&beside), from(&without)));
    }

    #[test]
    fn several_rings_a_line_each() {
        let worse = RingStatus { times_are_valid: false, capacity: 3, ..healthy() };
        let mut remarked = healthy();
        remarked.counters.left_alone = 1;
        let rings = [
            ("haproxy".to_owned(), Ok(idle())),
            ("nginx".to_owned(), Ok(healthy())),
            ("old".to_owned(), Ok(worse)),
            ("remarked".to_owned(), Ok(remarked)),
            ("x".to_owned(), Err("/run/tktrot/x.ring: it is not a ring".to_owned())),
        ];
        insta::assert_snapshot!(summaries(&rings));
    }
}
