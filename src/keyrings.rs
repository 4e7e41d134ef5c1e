//! The keyrings of this process: each ring is opened once, while the process
//! still has its privileges, and stays open for it and its children.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use crate::clock::BootClock;
use crate::config::values::Written;
use crate::config::{Bind, Config};
use crate::log::OnceOnly;
use crate::process;
use crate::ring::Ring;
use crate::ring::file::Place;
use crate::ring::refused::Refused;
use crate::ring::removal;
use crate::rotate::{Failure, Generator, Keyring};
use crate::terms::Overruled;
use crate::warning;

/// What opening a keyring came to.
pub struct Opened {
    /// The keyring; it works, whatever `problems` says.
    pub keyring: &'static Keyring,
    /// What is not as asked for: strict mode stops the server for each of
    /// these, and tells it as the reason; else it was told by a warning.
    pub problems: Vec<OpeningProblem>,
}

/// What is not as it was asked for.
#[derive(Clone, Debug)]
pub enum OpeningProblem {
    /// The ring cannot be used, and a private one serves instead.
    Refused(Arc<Refused>),
    /// Keys may be swapped out.
    NotLocked(PathBuf, Arc<io::Error>),
    /// Keys will be in core dumps.
    NotHidden(PathBuf, Arc<io::Error>),
    /// The ring could not be told the configuration.
    NotConfigured(Failure),
    /// The ring has room for so few keys that they are kept for less long.
    TooSmall {
        /// The ring.
        path: PathBuf,
        /// How many keys it may have.
        capacity: u32,
        /// How long they are kept.
        kept: Duration,
        /// How long they were to be.
        lifetime: Duration,
    },
}

impl fmt::Display for OpeningProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpeningProblem::Refused(refused) => refused.fmt(f),
            OpeningProblem::NotLocked(path, error) => write!(
                f,
                "{}: keys may be swapped out: {error}; raise RLIMIT_MEMLOCK",
                path.display()
            ),
            OpeningProblem::NotHidden(path, error) => {
                write!(f, "{}: keys will be in core dumps (MADV_DONTDUMP): {error}", path.display())
            }
            OpeningProblem::NotConfigured(failure) => {
                write!(f, "the ring could not be configured: {failure}")
            }
            OpeningProblem::TooSmall { path, capacity, kept, lifetime } => write!(
                f,
                "{} may hold only {capacity} keys, so they are kept for {} instead of {}; set \
                 TKTROT_CAPACITY higher",
                path.display(),
                Written(Duration::from_secs(kept.as_secs())),
                Written(*lifetime)
            ),
        }
    }
}

/// There is no way to have a ring.
#[derive(Debug)]
pub struct NoRing {
    /// Why not the one that was asked for.
    pub refused: Refused,
    /// Why not a private one.
    pub private: io::Error,
}

impl fmt::Display for NoRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; nor can a private ring be made: {}", self.refused, self.private)
    }
}

struct Known {
    place: Place,
    keyring: Keyring,
    /// What was wrong when it was opened, and is for as long as it is open.
    problems: Vec<OpeningProblem>,
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
/// There is no way to have a ring, not even a private one.
pub fn open(config: &Config, generator: &'static dyn Generator) -> Result<Opened, NoRing> {
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
    let ring = match opened {
        Ok(ring) => ring,
        Err(refused) => match Ring::private(config.most_keys()) {
            Ok(ring) => {
                let problem = OpeningProblem::Refused(Arc::new(refused));
                let then = "; a private ring serves instead, and ends with the server";
                problems.push(told(config, problem, then));
                ring
            }
            Err(private) => return Err(NoRing { refused, private }),
        },
    };
    let path = place.path();
    if let Err(error) = ring.lock() {
        problems.push(told(config, OpeningProblem::NotLocked(path.clone(), Arc::new(error)), ""));
    }
    if let Err(error) = ring.hide() {
        problems.push(told(config, OpeningProblem::NotHidden(path, Arc::new(error)), ""));
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
fn told(config: &Config, problem: OpeningProblem, remedy: &str) -> OpeningProblem {
    if !config.strict {
        warning!("{problem}{remedy}");
    }
    problem
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
            let then = "; until the first ticket its former settings apply, or the defaults";
            problems.push(told(config, OpeningProblem::NotConfigured(failure), then));
            Vec::new()
        });
        self.tell_what_is_overruled(&overruled);
        let is_shortened = |overruled: &Overruled| matches!(overruled, Overruled::Lifetime { .. });
        let is_shortened = overruled.iter().any(is_shortened);
        let kept = self.keyring.policy().lifetime;
        let cut = |lifetime: &Duration| !is_shortened && *lifetime > kept;
        if let Some(lifetime) = config.lifetime.filter(cut) {
            let (path, capacity) = (self.place.path(), self.keyring.ring().capacity());
            let problem = OpeningProblem::TooSmall { path, capacity, kept, lifetime };
            problems.push(told(config, problem, ""));
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
            "bind=none: a ticket opens wherever its key is and tickets are not bound, even where \
             client certificates are asked for; keys are plain if no process of the ring binds \
             its tickets"
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
