//! A line for each look, where there is no terminal.

use std::io::{self, Write};
use std::thread;

use anyhow::Result;

use super::Rounds;
use crate::severity::Severity;
use crate::status::alarms::{alarms, remarks, worst};
use crate::status::observer::Observer;
use crate::status::rates::Rates;
use crate::status::reading::Reading;
use crate::status::span::words;
use crate::status::text::per_second;

/// Prints until it was enough, or nobody reads any more.
pub fn print(mut observer: Observer, rounds: &Rounds) -> Result<Severity> {
    let mut looks = 0;
    loop {
        // Kept on, because a server that starts anew makes the ring anew.
        let (line, severity) = match observer.read() {
            Ok(reading) => line(&reading, &observer.rates()),
            Err(error) => (format!("WRONG  {error:#}"), Severity::Wrong),
        };
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(severity),
            other => other?,
        }
        looks += 1;
        if rounds.are_over(looks) {
            return Ok(severity);
        }
        thread::sleep(rounds.interval);
    }
}

fn line(reading: &Reading, rates: &Rates) -> (String, Severity) {
    let alarms = alarms(reading);
    let severity = worst(&alarms);
    let active = reading.active_key();
    let key =
        active.map_or("none".into(), |key| format!("{} for {}", key.name, words(key.encrypts_for)));
    let names: Vec<_> = alarms.iter().map(|alarm| alarm.alarm.name()).collect();
    let mut names = if names.is_empty() { "no alarms".into() } else { names.join(" ") };
    for remark in remarks(reading) {
        names = format!("{names}  remark {}", remark.remark.name());
    }
    let line = format!(
        "{severity:5}  key {key}  users {}  per second {}  {names}",
        reading.servers().count(),
        per_second(rates)
    );
    (line, severity)
}

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
            "ok     key 22222222 for 48 min  users 2  per second 2.0 issued, 1.5 resumed, \
             0.0 turned away  no alarms"
        );
        assert_eq!(severity, Severity::Fine);
        let (text, severity) = line(&Reading { capacity: 3, ..healthy() }, &rates);
        assert!(text.starts_with("look ") && text.ends_with("  ring-full"), "{text}");
        assert_eq!(severity, Severity::Doubtful);
        assert!(line(&idle(), &rates).0.contains("key none  users 1"));
        let mut reading = healthy();
        reading.counters.quic = 1;
        let (text, severity) = line(&reading, &rates);
        assert!(text.ends_with("  no alarms  remark quic-listener"), "{text}");
        assert_eq!(severity, Severity::Fine);
    }
}
