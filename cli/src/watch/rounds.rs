//! Looks again and again: draws each look on a terminal, and prints a line for it elsewhere.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};

use super::screen::{self, History, Shown};
use super::terminal::{Event, Terminal};
use crate::output::{in_words, timestamp};
use crate::severity::Severity;
use crate::status::alarms::{alarms, remarks, worst};
use crate::status::counters::Rates;
use crate::status::observer::Observer;
use crate::status::ring::RingStatus;
use crate::status::text::per_second;

/// How often to look, and how many times.
pub struct Rounds {
    pub interval: Duration,
    pub count: Option<u64>,
}

impl Rounds {
    /// True after so many looks.
    fn are_over(&self, looks: u64) -> bool {
        self.count.is_some_and(|count| looks >= count)
    }
}

/// Prints until the last round, or until nobody reads any more.
pub fn print(mut observer: Observer, rounds: &Rounds) -> Result<Severity> {
    let mut looks = 0;
    loop {
        // It goes on, because a server that restarts may make a new ring.
        let (line, severity) = match observer.read() {
            Ok(status) => line(&status, &observer.rates()),
            Err(error) => (format!("critical  {error:#}"), Severity::Critical),
        };
        let mut stdout = io::stdout().lock();
        let at = timestamp(SystemTime::now());
        match writeln!(stdout, "{at}  {line}").and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(severity),
            other => other.context("some output could not be written")?,
        }
        looks += 1;
        if rounds.are_over(looks) {
            return Ok(severity);
        }
        thread::sleep(rounds.interval);
    }
}

fn line(status: &RingStatus, rates: &Rates) -> (String, Severity) {
    let alarms = alarms(status);
    let severity = worst(&alarms);
    let active = status.active_key();
    let key = active
        .map_or("none".into(), |key| format!("{} for {}", key.name, in_words(key.encrypts_for)));
    let names: Vec<_> = alarms.iter().map(|alarm| alarm.alarm.name()).collect();
    let mut names = if names.is_empty() { "no alarms".into() } else { names.join(" ") };
    for remark in remarks(status) {
        names = format!("{names}  remark {}", remark.remark.name());
    }
    let line = format!(
        "{severity:8}  key {key}  users {}  per second {}  {names}",
        status.serving().count(),
        per_second(rates)
    );
    (line, severity)
}

/// A ring that can be shown, and what was seen of it before.
struct Watched {
    observer: Observer,
    history: History,
}

/// Draws one of the rings until q, Ctrl-C, a signal, or the end of the terminal.
pub fn draw(observers: Vec<Observer>, rounds: &Rounds) -> Result<Severity> {
    let mut terminal = Terminal::enter()?;
    let watched = observers.into_iter();
    let mut watched: Vec<_> =
        watched.map(|observer| Watched { observer, history: History::default() }).collect();
    let rings = watched.len();
    let (mut at, mut help, mut is_first_look) = (0, false, true);
    for looks in 1.. {
        let Watched { observer, history } = &mut watched[at];
        let status = observer.read().map_err(|error| format!("{error:#}"));
        // The first look has nothing to compare with, or something of long ago.
        if !is_first_look && status.is_ok() {
            history.add(observer.rates());
        }
        is_first_look = false;
        let next = Instant::now() + rounds.interval;
        loop {
            let interval = rounds.interval;
            let shown = Shown { status: &status, history, interval, help, rings };
            if !terminal.draw(|frame| screen::draw(frame, &shown))? {
                return Ok(Severity::Ok);
            }
            if rounds.are_over(looks) {
                return Ok(Severity::Ok);
            }
            match terminal.wait(next)? {
                None => break,
                Some(Event::End) => return Ok(Severity::Ok),
                Some(Event::Typed(key)) if LEAVE.contains(&key) => return Ok(Severity::Ok),
                Some(Event::Typed(key)) if NEXT.contains(&key) && rings > 1 => {
                    (at, is_first_look) = ((at + 1) % rings, true);
                    break;
                }
                Some(Event::Typed(key)) => help = [b'?', b'h'].contains(&key) && !help,
                Some(Event::Redraw) => {}
            }
        }
    }
    Ok(Severity::Ok)
}

/// Tab and n.
const NEXT: [u8; 2] = [b'\t', b'n'];

/// q, Ctrl-C, Ctrl-D and Esc.
const LEAVE: [u8; 4] = [b'q', 0x03, 0x04, 0x1b];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::example::{healthy, idle};

    #[test]
    fn a_line_tells_the_key_the_rates_and_the_alarms() {
        let rates = Rates { issued: 2.0, resumed: 1.5, ..Rates::default() };
        let (text, severity) = line(&healthy(), &rates);
        assert_eq!(
            text,
            "ok        key 22222222 for 48 min  users 2  per second 2.0 issued, 1.5 resumed, \
             0.0 turned away  no alarms"
        );
        assert_eq!(severity, Severity::Ok);
        let (text, severity) = line(&RingStatus { capacity: 3, ..healthy() }, &rates);
        assert!(text.starts_with("warning ") && text.ends_with("  ring-full"), "{text}");
        assert_eq!(severity, Severity::Warning);
        assert!(line(&idle(), &rates).0.contains("key none  users 1"));
        let mut status = healthy();
        status.counters.left_alone = 1;
        let (text, severity) = line(&status, &rates);
        assert!(text.ends_with("  no alarms  remark own-keys"), "{text}");
        assert_eq!(severity, Severity::Ok);
    }
}
