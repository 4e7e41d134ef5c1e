//! Looks at a ring, once or again and again, and makes a [`RingStatus`] of what it sees: in the ring
//! at a moment at which nobody writes it, and in /proc.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tktrot::clock::{BootClock, Clock, Time};
use tktrot::config::Upkeep;
use tktrot::ring::asks::Binds;
use tktrot::ring::asks::Trait;
use tktrot::ring::file::Place;
use tktrot::ring::key::KeyFacts;
use tktrot::ring::layout::IMPORTED;
use tktrot::ring::lock::Holder;
use tktrot::ring::view::{self, View};
use tktrot::terms::policy_of;
use tktrot_agent::control::{self, AskError, Question};
use tktrot_agent::figures::Figures;

use super::counters::{Counters, Rates};
use super::ring::{Exposure, KeyStatus, LastProblem, LockState, Maker, RingStatus, RingUser};
use crate::output::{in_words, printable};
use crate::processes::{FileId, LockHolder, Presence, Processes};
use crate::rings;
use crate::settings::Settings;

/// Looking at all processes costs something on a host with thousands of them.
const PROCESSES_KEPT: Duration = Duration::from_secs(5);

/// Looks at one ring.
pub struct Observer {
    access: Access,
    upkeep_thread_expected: bool,
    processes: Option<(Instant, FileId, Processes)>,
    last: Option<(Instant, Counters)>,
    rates: Rates,
}

/// How the ring is reached.
enum Access {
    /// By its place: the file is opened again each time, because servers may replace it.
    At(Place),
    /// Opened before, by a process that may no longer open it.
    Open(PathBuf, Arc<View>),
}

impl Observer {
    /// An observer that has not looked yet.
    pub fn new(place: Place, settings: &Settings) -> Observer {
        Self::of(Access::At(place), settings.config.upkeep == Upkeep::Thread)
    }

    /// An observer of a ring that is open. An agent governs it, so no upkeep thread is expected.
    pub fn of_open(path: PathBuf, view: Arc<View>) -> Observer {
        Self::of(Access::Open(path, view), false)
    }

    /// An observer of an open ring whose file was removed.
    pub fn of_removed(path: PathBuf, view: View, settings: &Settings) -> Observer {
        let expected = settings.config.upkeep == Upkeep::Thread;
        Self::of(Access::Open(path, Arc::new(view)), expected)
    }

    fn of(access: Access, upkeep_thread_expected: bool) -> Observer {
        Observer {
            access,
            upkeep_thread_expected,
            processes: None,
            last: None,
            rates: Rates::default(),
        }
    }

    /// The ring's name.
    pub fn name(&self) -> String {
        rings::title(&self.path())
    }

    fn path(&self) -> PathBuf {
        match &self.access {
            Access::At(place) => place.path(),
            Access::Open(path, _) => path.clone(),
        }
    }

    /// Opens the ring to look at it.
    ///
    /// # Errors
    ///
    /// There is no ring, or it cannot be read; the error says where, why, and which right is missing.
    pub fn look(&self) -> Result<Arc<View>> {
        match &self.access {
            Access::At(place) => rings::look_at(place).map(Arc::new),
            Access::Open(_, view) => Ok(Arc::clone(view)),
        }
    }

    /// The status of the ring now.
    ///
    /// # Errors
    ///
    /// As for [`Observer::look`]; or /proc cannot be read.
    pub fn read(&mut self) -> Result<RingStatus> {
        let view = self.look()?;
        self.look_at_processes(FileId::of(view.file())?)?;
        let (_, _, processes) = self.processes.as_ref().context("looked at above")?;
        let snapshot = Snapshot::take(&view, &BootClock);
        let path = self.path();
        let mut status = status_of(&path, &view, &snapshot, processes, self.upkeep_thread_expected);
        // Not of an open ring: the agent itself looks at that one.
        if let (Access::At(place), true) = (&self.access, status.is_governed()) {
            match control::ask::<Figures>(place, &Question::Peers {}) {
                Ok(figures) => {
                    let complaints = figures.complaints();
                    status.fleet_problems = complaints.iter().map(|it| printable(it)).collect();
                }
                // It ends just now, or this user may not ask.
                Err(AskError::NoAgent | AskError::HungUp | AskError::NotAllowed) => {}
                Err(error) => status.agent_problem = Some(printable(&error.to_string())),
            }
        }
        let now = Instant::now();
        self.rates = match &self.last {
            Some((then, counters)) => {
                Rates::between(counters, &status.counters, now.duration_since(*then))
            }
            None => Rates::default(),
        };
        self.last = Some((now, status.counters));
        Ok(status)
    }

    /// What happened per second between the last two looks.
    pub fn rates(&self) -> Rates {
        self.rates
    }

    fn look_at_processes(&mut self, file: FileId) -> Result<()> {
        let fresh = self
            .processes
            .as_ref()
            .is_some_and(|(at, of, _)| at.elapsed() < PROCESSES_KEPT && *of == file);
        if !fresh {
            self.processes = Some((Instant::now(), file, Processes::mapping(file)?));
        }
        Ok(())
    }
}

/// How often to look at a ring that is being written. A writer takes microseconds, unless it is stopped.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);

/// A ring at a moment at which nobody writes it.
struct Snapshot {
    /// When it was taken.
    now: Time,
    /// The keys in the ring.
    keys: Vec<KeyFacts>,
    /// When a writer is next needed.
    deadline: Time,
    /// What is left of the lease of an agent that governs the ring.
    governed: Option<Duration>,
    /// Who holds the writer lock.
    writer: Holder,
    /// True if the ring was being written meanwhile.
    between: bool,
    /// True if one thread held the writer lock on every look, and nothing changed.
    stuck: bool,
}

impl Snapshot {
    /// When a writer is, or was, needed. A deadline of 0 says "as soon as one comes", and not since
    /// when: since the first key ended that nobody has erased or followed, if there is one.
    fn due(&self) -> Option<Time> {
        match self.deadline {
            Time::NEVER => None,
            Time(0) => {
                let all = self.keys.iter().map(|key| key.times.decrypt_until);
                let of_servers = self.keys.iter().filter(|key| key.node != IMPORTED);
                let last = of_servers.map(|key| key.times.encrypt_until).max();
                all.chain(last).min()
            }
            deadline => Some(deadline),
        }
    }

    /// Looks until nobody writes, a limited number of times.
    fn take(view: &View, clock: &impl Clock) -> Snapshot {
        let mut last = look(view, clock);
        let mut stuck = true;
        for _ in 1..LOOKS {
            if !last.between {
                return last;
            }
            thread::sleep(BETWEEN_LOOKS);
            let next = look(view, clock);
            stuck &= next.writer == last.writer && next.deadline == last.deadline;
            last = next;
        }
        let stuck = stuck && matches!(last.writer, Holder::Thread { .. });
        Snapshot { stuck, ..last }
    }
}

fn look(view: &View, clock: &impl Clock) -> Snapshot {
    let seen = || (view.writer(), view.deadline(), view.rotations());
    let before = seen();
    let keys = view.keys();
    let after = seen();
    let now = clock.now();
    let snapshot = Snapshot {
        now,
        keys,
        deadline: after.1,
        governed: view.governed(now),
        writer: after.0,
        between: false,
        stuck: false,
    };
    // A writer may have come and gone in between, and some of the keys be older than the others.
    Snapshot { between: before != after || matches!(after.0, Holder::Thread { .. }), ..snapshot }
}

/// The status of the ring at `path`, from what was seen of it.
fn status_of(
    path: &Path,
    view: &View,
    snapshot: &Snapshot,
    processes: &Processes,
    upkeep_thread_expected: bool,
) -> RingStatus {
    let now = snapshot.now;
    let told = view.users(now);
    let owner = |process| LockHolder::find(process, processes, &told);
    RingStatus {
        name: rings::title(path),
        path: printable(&path.to_string_lossy()),
        capacity: view.capacity(),
        file_removed: view.is_removed(),
        times_are_valid: now != Time::NEVER,
        exposure: exposure(view, &snapshot.keys, now),
        governed_for: snapshot.governed,
        fleet_problems: Vec::new(),
        agent_problem: view.forsaken_for(now).map(|time| {
            format!(
                "its agent has shown no sign of life for {}: it was killed, it crashed, or it hangs",
                in_words(time)
            )
        }),
        keys: snapshot.keys.iter().map(|facts| key(facts, view, now)).collect(),
        writer_due_in: snapshot.due().map(|due| now.until(due)),
        overdue: snapshot.due().map_or(Duration::ZERO, |due| due.until(now)),
        writer_lock: match snapshot.writer {
            Holder::Nobody => LockState::Free,
            Holder::Thread { process, thread } => {
                LockState::Held(LockHolder { thread: Some(thread), ..owner(process) })
            }
            Holder::Dead => LockState::Dead,
        },
        writer_is_stuck: snapshot.stuck,
        upkeep_lock: view
            .leader(now)
            .map_or(LockState::Free, |leader| LockState::Held(owner(leader))),
        upkeep_thread_expected,
        users: users(view, &told, processes),
        contexts_differ_in: differences(&told),
        hidden_processes: processes.hidden(),
        promised: promised(view),
        counters: Counters::of(view),
        last_problem: view
            .last_problem()
            .map(|(problem, at)| LastProblem { what: problem, ago: at.until(now) }),
    }
}

fn exposure(view: &View, keys: &[KeyFacts], now: Time) -> Exposure {
    let policy = policy_of(&view.settings(), view.capacity());
    // It is unknown how long an imported key was in use before.
    let made = keys.iter().filter(|key| key.node != IMPORTED);
    let longest = made.map(|key| key.times.encrypt_from.until(key.times.decrypt_until)).max();
    let span = policy.rotate_every.saturating_add(policy.lifetime);
    Exposure {
        span: longest.map_or(span, |longest| span.max(longest)),
        rotate_every: policy.rotate_every,
        lifetime: policy.lifetime,
        ahead: keys.iter().map(|key| now.until(key.times.encrypt_until)).max().unwrap_or_default(),
    }
}

fn promised(view: &View) -> Option<Duration> {
    view.settings().seen_lifetime
}

fn key(facts: &KeyFacts, view: &View, now: Time) -> KeyStatus {
    let node = view.node();
    let times = facts.times;
    KeyStatus {
        name: facts.name.to_string(),
        state: times.state(now),
        maker: match facts.node {
            IMPORTED => Maker::Imported,
            other if other == node => Maker::Here,
            _ => Maker::Elsewhere,
        },
        plain: facts.plain,
        age: times.encrypt_from.until(now),
        encrypts_in: now.until(times.encrypt_from),
        encrypts_for: now.until(times.encrypt_until),
        decrypts_for: now.until(times.decrypt_until),
    }
}

/// The parts in which contexts differ that use tickets and are alive.
fn differences(told: &[view::User]) -> Vec<Trait> {
    let alive: Vec<_> = told.iter().filter(|user| user.uses_tickets && !user.is_over).collect();
    let differ = |one: Trait| {
        let pairs = alive.iter().enumerate().flat_map(|(at, user)| {
            alive[at..].iter().map(move |other| (user.traits, other.traits))
        });
        pairs.into_iter().any(|(user, other)| user.differ(other, one))
    };
    Trait::ALL.into_iter().filter(|one| differ(*one)).collect()
}

/// The processes that map the ring, and those that have registered in it.
fn users(view: &View, told: &[view::User], processes: &Processes) -> Vec<RingUser> {
    let deals = !Counters::of(view).are_only_of_unserved();
    let names = |user: &view::User| user.binds.map(Binds::names);
    let mapping = processes.iter().map(|(pid, mapped)| {
        let told = told.iter().find(|user| processes.find(user.process) == Some(pid));
        RingUser {
            pid,
            program: mapped.program.clone(),
            presence: Presence::Maps,
            counts: deals && told.is_some_and(|user| user.uses_tickets),
            writes: mapped.writes,
            locked: mapped.locked,
            binds: told.and_then(names),
        }
    });
    let others = told.iter().filter(|user| match processes.presence(user) {
        Presence::Maps => false,
        Presence::Hidden | Presence::Elsewhere => true,
        // A process that only opened it, like the parent of a daemon, is of no interest.
        Presence::Gone => user.uses_tickets,
    });
    let others = others.map(|user| RingUser {
        pid: user.process.pid(),
        program: printable(&user.program),
        presence: processes.presence(user),
        counts: deals && user.uses_tickets,
        writes: true,
        locked: None,
        binds: names(user),
    });
    let mut users: Vec<_> = mapping.chain(others).collect();
    users.sort_by_key(|user| user.pid);
    users
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tktrot::clock::{BootClock, VirtualClock};
    use tktrot::config::Config;
    use tktrot::ring::file::Place;
    use tktrot::ring::layout::Capacity;
    use tktrot::rotate::Keyring;
    use tktrot::schedule::KeyState;

    use super::*;
    use tktrot_keyfile::generator::OpenSsl;

    fn keyring() -> (tempfile::TempDir, Place, Keyring) {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let place = Place { dir: dir.path().into(), file: "some.ring".into(), dir_mode: 0o700 };
        let ring = place.open(Capacity::new(64).unwrap()).unwrap();
        let keyring = Keyring::new(ring, BootClock, &OpenSsl);
        keyring.configure(&Config::default()).unwrap();
        keyring.rotate().unwrap();
        (dir, place, keyring)
    }

    #[test]
    fn keys_that_are_just_being_changed_are_never_half_told() {
        let (_dir, place, keyring) = keyring();
        let view = place.look().unwrap().unwrap();
        let enough = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    keyring.rotate().unwrap();
                    thread::sleep(Duration::from_micros(200));
                }
            });
            for _ in 0..300 {
                let snapshot = Snapshot::take(&view, &BootClock);
                let active = |key: &&KeyFacts| key.times.state(snapshot.now) == KeyState::Active;
                if !snapshot.between {
                    assert_eq!(snapshot.keys.iter().filter(active).count(), 1);
                }
                assert!(!snapshot.stuck);
            }
            enough.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn what_is_due_as_soon_as_somebody_comes_is_not_overdue_since_the_boot() {
        let (_dir, place, keyring) = keyring();
        let view = place.look().unwrap().unwrap();
        let mut snapshot = Snapshot::take(&view, &BootClock);
        assert_eq!(snapshot.due(), Some(snapshot.deadline));
        snapshot.deadline = Time(0);
        let ends = |key: &KeyFacts| key.times.encrypt_until;
        let last = snapshot.keys.iter().map(ends).max();
        assert!(snapshot.due() == last && last > Some(snapshot.now));
        // Of those that were imported none encrypts.
        snapshot.keys.iter_mut().for_each(|key| key.node = IMPORTED);
        assert_eq!(snapshot.due(), snapshot.keys.iter().map(|key| key.times.decrypt_until).min());
        snapshot.keys.clear();
        assert_eq!(snapshot.due(), None);
        snapshot.deadline = Time::NEVER;
        assert_eq!(snapshot.due(), None);
        drop(keyring);
    }

    #[test]
    fn a_lock_that_is_not_given_back_is_stuck() {
        let (_dir, place, keyring) = keyring();
        let view = place.look().unwrap().unwrap();
        let clock = VirtualClock::new(Time(7));
        let writer = keyring.ring().try_write().unwrap();
        let snapshot = Snapshot::take(&view, &clock);
        assert!(snapshot.stuck);
        assert_eq!((snapshot.now, snapshot.keys.len()), (Time(7), 2));
        drop(writer);
        assert!(!Snapshot::take(&view, &clock).stuck);
    }
}
