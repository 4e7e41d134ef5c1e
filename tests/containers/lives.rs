//! How long the keys of a ring live, as `tktrot status --json` tells it again and again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::environment::ring_status;
use testbed::{RingDir, artifacts};
use tktrot::clock::{BootClock, Clock, Time};

use crate::servers::Result;

/// How long after its end a key may be there.
const LATE: Duration = Duration::from_secs(1);
/// What is told is rounded to milliseconds.
const ROUNDED: Duration = Duration::from_millis(1);
/// Between two looks.
const NAP: Duration = Duration::from_millis(50);
const NAPS: usize = 4;

/// A moment that lies between two others.
#[derive(Clone, Copy, Debug)]
struct Between(Time, Time);

impl Between {
    /// So long after a moment between these.
    fn after(self, span: Duration) -> Between {
        let least = span.saturating_sub(ROUNDED);
        Between(self.0 + least, self.1 + span + ROUNDED)
    }

    fn before(self, span: Duration) -> Between {
        let least = span.saturating_sub(ROUNDED);
        Between(self.0 - (span + ROUNDED), self.1 - least)
    }

    /// What both tell of one moment; `None` if it cannot be the same.
    fn and(self, other: Between) -> Option<Between> {
        let both = Between(self.0.max(other.0), self.1.min(other.1));
        (both.0 <= both.1).then_some(both)
    }
}

/// When a key begins to encrypt, and when it is over.
#[derive(Clone, Copy, Debug)]
struct Life {
    from: Between,
    until: Between,
}

/// All keys that were seen, and what was wrong with them.
pub struct Lives {
    rotate: Duration,
    lifetime: Duration,
    lives: BTreeMap<String, Life>,
    /// The longest time by which a nap of ours was too long, or that a look took: so long the machine
    /// may have had no time for who erases keys, either.
    stall: Duration,
    looks: usize,
    flaws: Vec<String>,
}

impl Lives {
    pub fn new(rotate: Duration, lifetime: Duration) -> Lives {
        let (lives, stall, looks, flaws) = (BTreeMap::new(), Duration::ZERO, 0, Vec::new());
        Lives { rotate, lifetime, lives, stall, looks, flaws }
    }

    /// Looks until `done`.
    pub fn watch(&mut self, ring: &RingDir, done: &AtomicBool) -> Result<()> {
        let status = status(ring.path())?;
        // Relaxed: the flag publishes nothing but itself.
        while !done.load(Ordering::Relaxed) {
            self.look(&status)?;
            for _ in 0..NAPS {
                let began = Instant::now();
                thread::sleep(NAP);
                self.stall = self.stall.max(began.elapsed().saturating_sub(NAP));
            }
        }
        Ok(())
    }

    /// How many keys were seen.
    pub fn seen(&self) -> usize {
        self.lives.len()
    }

    /// How often it was looked.
    pub fn looks(&self) -> usize {
        self.looks
    }

    /// See [`Lives::stall`].
    pub fn stall(&self) -> Duration {
        self.stall
    }

    /// What was wrong.
    pub fn flaws(&self) -> &[String] {
        &self.flaws
    }

    fn look(&mut self, status: &impl Fn() -> Result<Value>) -> Result<()> {
        let earliest = BootClock.now();
        let ring = status()?;
        let now = Between(earliest, BootClock.now());
        let keys = ring["keys"].as_array().ok_or("no keys")?;
        self.looks += 1;
        self.stall = self.stall.max(now.0.until(now.1));
        let mut there = Vec::new();
        for key in keys {
            let name = key["name"].as_str().ok_or("no name")?;
            there.push(name);
            self.see(name, key, now)?;
        }
        for (name, life) in &self.lives {
            if !there.contains(&name.as_str()) && now.1 < life.until.0 {
                let early = now.1.until(life.until.0);
                self.flaws.push(format!("{name} was erased {early:.1?} before its end"));
            }
        }
        Ok(())
    }

    fn see(&mut self, name: &str, key: &Value, now: Between) -> Result<()> {
        let span = |member: &str| -> Result<Duration> {
            let seconds = key[member].as_f64().ok_or_else(|| format!("no {member}: {key}"))?;
            Ok(Duration::try_from_secs_f64(seconds)?)
        };
        let (until_begin, age) = (span("encrypts_in_seconds")?, span("age_seconds")?);
        let (encrypts, decrypts) = (span("encrypts_for_seconds")?, span("decrypts_for_seconds")?);
        // What is over by then is told as nothing, and nothing can be known of when.
        if !decrypts.is_zero() {
            let is_to_come = !until_begin.is_zero();
            let from = if is_to_come { now.after(until_begin) } else { now.before(age) };
            let told = Life { from, until: now.after(decrypts) };
            let known = self.lives.get(name).copied().unwrap_or(told);
            let both = known.from.and(told.from).zip(known.until.and(told.until));
            let Some((from, until)) = both else {
                self.flaws.push(format!("{name} has other times than before: {known:?} {told:?}"));
                return Ok(());
            };
            self.lives.insert(name.to_owned(), Life { from, until });
            if !encrypts.is_zero() && decrypts + 2 * ROUNDED < encrypts + self.lifetime {
                self.flaws.push(format!("{name} ends before its last ticket does: {key}"));
            }
        }
        let Some(life) = self.lives.get(name) else { return Ok(()) };
        let longest = life.from.1 + self.rotate + self.lifetime + ROUNDED;
        if life.until.0 > longest {
            self.flaws.push(format!("{name} is made to live for too long: {key}"));
        }
        if now.0 > longest + LATE + self.stall {
            let late = longest.until(now.0);
            self.flaws.push(format!("{name} is still there {late:.1?} after its end: {key}"));
        }
        Ok(())
    }
}

/// What `tktrot status --json` says of the only ring there.
fn status(dir: &Path) -> Result<impl Fn() -> Result<Value>> {
    // Before it is asked for in another namespace.
    artifacts::tktrot()?;
    let dir = dir.to_owned();
    Ok(move || Ok(ring_status(&dir)?))
}
