//! The keyrings of this process: each ring is opened once, while the process
//! still has its privileges, and stays open for it and its children.

use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use crate::clock::BootClock;
use crate::config::{Bind, Config};
use crate::log::OnceOnly;
use crate::process;
use crate::ring::Ring;
use crate::ring::file::Place;
use crate::ring::removal;
use crate::rotate::{Generator, Keyring};
use crate::terms::Overruled;
use crate::warning;

/// What opening a keyring came to.
pub struct Opened {
    /// The keyring; it works, whatever `problems` says.
    pub keyring: &'static Keyring,
    /// What is not as asked for: strict mode stops the server for each of
    /// these, and tells it as the reason; else it was told by a warning.
    pub problems: Vec<String>,
}

struct Known {
    place: Place,
    keyring: Keyring,
    /// What was wrong when it was opened, and is for as long as it is open.
    problems: Vec<String>,
    /// The [`process::generation`] that opened it.
    opened_by: u32,
    /// What [`Overruled`] was told of already.
    said: [OnceOnly; 4],
    next: *const Known,
}

/// Newest first; pushed under [`process::exclusive`], never removed.
static KNOWN: AtomicPtr<Known> = AtomicPtr::new(std::ptr::null_mut());

/// The keyring that the configuration names, opened if it is not yet. A ring
/// that cannot be used is replaced by a private one.
///
/// # Errors
///
/// There is no way to have a ring, a private one neither: what failed, in words.
pub fn open(config: &Config, generator: &'static dyn Generator) -> Result<Opened, String> {
    process::watch();
    process::in_each_child(lock_again);
    process::at_the_end(leave_no_trace);
    let place = config.place();
    let _lock = process::exclusive();
    let known = every().find(|known| known.place == place);
    if let Some(known) = known.filter(|known| !known.keyring.ring().lost_its_file()) {
        return Ok(known.configured(config));
    }
    // After a reload, as a new server: with the ring that new servers share. But who may
    // open none has a better one than a private one.
    let opened = place.open(config.most_keys());
    if let (Some(known), Err(_)) = (known, &opened) {
        return Ok(known.configured(config));
    }

    let mut problems = Vec::new();
    let ring = opened.or_else(|refused| {
        let problem = refused.to_string();
        let ring = Ring::private(config.most_keys())
            .map_err(|error| format!("{problem}; nor can a private ring be made: {error}"))?;
        tell(config, &problem, "; a private ring serves instead, and ends with the server");
        problems.push(problem);
        Ok::<Ring, String>(ring)
    })?;
    let path = place.path();
    let mut unprotected = |what: String| {
        let problem = format!("{}: keys {what}", path.display());
        tell(config, &problem, "");
        problems.push(problem);
    };
    if let Err(error) = ring.lock() {
        unprotected(format!("may be swapped out: {error}; raise RLIMIT_MEMLOCK"));
    }
    if let Err(error) = ring.hide() {
        unprotected(format!("will be in core dumps (MADV_DONTDUMP): {error}"));
    }
    let keyring = Keyring::new(ring, BootClock, generator);
    let next = KNOWN.load(Ordering::Relaxed);
    let opened_by = process::generation();
    let said = std::array::from_fn(|_| OnceOnly::new());
    let known = Known { place, keyring, problems, opened_by, said, next };
    let known = Box::leak(Box::new(known));
    known.keyring.ring().follow_older(known.keyring.now());
    KNOWN.store(known, Ordering::Release);
    Ok(known.configured(config))
}

/// Warns of a problem and what was done about it, unless the caller is strict
/// and will stop with it.
fn tell(config: &Config, problem: &str, remedy: &str) {
    if !config.strict {
        warning!("{problem}{remedy}");
    }
}

/// A fork keeps pages out of core dumps, but does not keep them locked, and the
/// process that locked them may end at once: a daemon's parent does. That it
/// can fail is said where the ring is opened.
fn lock_again() {
    for keyring in all() {
        let _ = keyring.ring().lock();
    }
}

/// At exit: what this process asked for no longer counts. And a program that only
/// looked at its configuration made its rings in vain.
fn leave_no_trace() {
    for known in every() {
        known.keyring.ring().forget(process::id());
        if known.opened_by == process::generation() && !process::has_forked() {
            removal::remove_unused(&known.place, known.keyring.ring());
        }
    }
}

/// All keyrings of this process.
pub fn all() -> impl Iterator<Item = &'static Keyring> {
    every().map(|known| &known.keyring)
}

impl Known {
    fn configured(&'static self, config: &Config) -> Opened {
        let mut problems = self.problems.clone();
        let overruled = self.keyring.configure(config).unwrap_or_else(|failure| {
            let problem = format!("the ring could not be configured: {failure}");
            tell(
                config,
                &problem,
                "; until the first ticket what it was told before applies, or the defaults",
            );
            problems.push(problem);
            Vec::new()
        });
        self.tell_what_is_overruled(&overruled);
        let is_shortened = |overruled: &Overruled| matches!(overruled, Overruled::Lifetime { .. });
        let is_shortened = overruled.iter().any(is_shortened);
        let kept = self.keyring.policy().lifetime;
        let cut = |lifetime: &Duration| !is_shortened && *lifetime > kept;
        if let Some(lifetime) = config.lifetime.filter(cut) {
            let problem = format!(
                "{} may have {} keys only, which keeps them for {}s instead of {}s; set \
                 TKTROT_CAPACITY higher",
                self.place.path().display(),
                self.keyring.ring().capacity(),
                kept.as_secs(),
                lifetime.as_secs()
            );
            tell(config, &problem, "");
            problems.push(problem);
        }
        warn_of_what_is_not_bound(config.bind.unwrap_or(Bind::ALL));
        Opened { keyring: &self.keyring, problems }
    }

    /// Each kind once. Strict mode stops for none of it: a server that is reloaded
    /// with a longer R meets itself.
    fn tell_what_is_overruled(&self, overruled: &[Overruled]) {
        for one in overruled {
            let said = match one {
                Overruled::Rotate { .. } => &self.said[0],
                Overruled::Lifetime { .. } => &self.said[1],
                Overruled::NotPlain { .. } => &self.said[2],
                Overruled::NoLongerPlain => &self.said[3],
            };
            if said.first() {
                warning!("{}: {one}", self.place.path().display());
            }
        }
    }
}

fn warn_of_what_is_not_bound(bind: Bind) {
    static SAID: OnceOnly = OnceOnly::new();
    if bind == Bind::NONE && SAID.first() {
        warning!(
            "bind=none: a ticket opens wherever its key is and nothing binds tickets, whatever \
             client certificates are asked for there; keys are plain if no process of the ring \
             binds its tickets"
        );
    } else if !bind.verify && SAID.first() {
        warning!(
            "bind without verify: a ticket issued without a client certificate opens where one is \
             asked for, if certificate, server name and label are the same or not bound"
        );
    }
}

fn every() -> impl Iterator<Item = &'static Known> {
    // SAFETY: null or a leaked Known, complete before it was published
    // (Acquire pairs with the Release in `open`); so is each `next`.
    let first = unsafe { KNOWN.load(Ordering::Acquire).as_ref() };
    // SAFETY: as above.
    std::iter::successors(first, |known| unsafe { known.next.as_ref() })
}
