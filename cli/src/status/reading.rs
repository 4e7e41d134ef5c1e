//! All that is told of a ring at a moment, as plain figures.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tktrot::clock::Time;
use tktrot::ring::asks::Binds;
use tktrot::ring::asks::Trait;
use tktrot::ring::key::KeyFacts;
use tktrot::ring::layout::IMPORTED;
use tktrot::ring::lock::Holder;
use tktrot::ring::stats::Problem;
use tktrot::ring::view::{self as ring, View};
use tktrot::schedule::KeyState;
use tktrot::terms::policy_of;

use super::counters::Counters;
use super::processes::{Owner, Presence, Processes, printable};
use super::snapshot::Snapshot;
use super::span::{seconds, seconds_if_any};
use crate::rings;

/// One ring, at one moment. Spans of time are from that moment on, or back.
#[derive(Clone, Debug, Serialize)]
pub struct Reading {
    pub name: String,
    pub path: String,
    pub capacity: u32,
    /// True if its file has no name any more: who has it has it, and nobody else ever will.
    pub file_removed: bool,
    /// False if there is no clock to read its times by.
    pub times_are_valid: bool,
    pub exposure: Exposure,
    /// How much is left of the lease of the agent that governs the ring; null if none does.
    #[serde(rename = "governed_for_seconds", serialize_with = "seconds_if_any")]
    pub governed_for: Option<Duration>,
    /// First those that end first.
    pub keys: Vec<Key>,
    /// From then on there is something for a writer to do; null if never.
    #[serde(rename = "writer_due_in_seconds", serialize_with = "seconds_if_any")]
    pub writer_due_in: Option<Duration>,
    /// How long a writer has been needed that has not come.
    #[serde(rename = "overdue_seconds", serialize_with = "seconds")]
    pub overdue: Duration,
    pub writer_lock: Lock,
    /// True if one thread had the writer lock on every look.
    pub writer_is_stuck: bool,
    /// The process whose upkeep thread sees to the ring.
    pub upkeep_lock: Lock,
    /// False if the settings leave the upkeep to handshakes.
    pub upkeep_thread_expected: bool,
    pub users: Vec<User>,
    /// In what the contexts of those that deal in tickets differ: their tickets do not open at
    /// each other.
    pub contexts_differ_in: Vec<Differs>,
    /// Processes of which this user may not see whether they map the ring.
    pub hidden_processes: usize,
    /// How long sessions live, of the context whose live the longest; null if no context has told
    /// it since the processes began that have the ring.
    #[serde(rename = "promised_seconds", serialize_with = "seconds_if_any")]
    pub promised: Option<Duration>,
    pub counters: Counters,
    pub last_problem: Option<LastProblem>,
}

/// How much of recorded traffic one theft opens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Exposure {
    /// R + L; longer while keys live that were made for more.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub span: Duration,
    /// R.
    #[serde(rename = "rotate_seconds", serialize_with = "seconds")]
    pub rotate_every: Duration,
    /// L.
    #[serde(rename = "lifetime_seconds", serialize_with = "seconds")]
    pub lifetime: Duration,
}

/// What a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Announced,
    Active,
    Retired,
    /// Over, but not yet erased.
    Expired,
}

/// Who made a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Maker {
    Here,
    Elsewhere,
    /// It came out of a file.
    Imported,
}

/// All of a key but its secrets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Key {
    /// The first 8 hex digits of its name.
    pub name: String,
    pub state: State,
    pub maker: Maker,
    /// True if servers that do not run libtktrot may have it, too.
    pub plain: bool,
    /// Since when it encrypts, or did.
    #[serde(rename = "age_seconds", serialize_with = "seconds")]
    pub age: Duration,
    #[serde(rename = "encrypts_in_seconds", serialize_with = "seconds")]
    pub encrypts_in: Duration,
    #[serde(rename = "encrypts_for_seconds", serialize_with = "seconds")]
    pub encrypts_for: Duration,
    #[serde(rename = "decrypts_for_seconds", serialize_with = "seconds")]
    pub decrypts_for: Duration,
}

/// Who has a lock in the ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Lock {
    Free,
    Held(Owner),
    /// Its holder died with it.
    Dead,
}

/// A process that has the ring, or had it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// Its number in this /proc; of one that is elsewhere, that of its own PID namespace.
    pub pid: u32,
    pub program: String,
    pub presence: Presence,
    /// True if it has dealt in tickets.
    pub counts: bool,
    /// False if it only looks, as `tktrot watch` does.
    pub writes: bool,
    /// Whether it keeps the ring locked in memory; null if that cannot be seen.
    pub locked: Option<bool>,
    /// What its contexts bind their tickets to, each that there is; null if it does not tell: it
    /// is of an earlier version, or has neither opened the ring nor had a client.
    pub binds: Option<Vec<String>>,
}

/// The last thing that went wrong at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LastProblem {
    pub what: What,
    #[serde(rename = "seconds_ago", serialize_with = "seconds")]
    pub ago: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Generator,
    Full,
    Lock,
    #[serde(rename = "no-memory")]
    NoMemory,
}

/// What a ticket is bound to, and contexts can differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Differs {
    Label,
    Certificates,
    Verification,
}

impl Differs {
    fn of(one: Trait) -> Differs {
        match one {
            Trait::Label => Differs::Label,
            Trait::Certificates => Differs::Certificates,
            Trait::Verification => Differs::Verification,
        }
    }

    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Differs::Label => "label",
            Differs::Certificates => "certificates",
            Differs::Verification => "demand for client certificates",
        }
    }
}

impl Reading {
    /// Puts together what was seen of the ring at `path`.
    pub fn of(
        path: &Path,
        view: &View,
        snapshot: &Snapshot,
        processes: &Processes,
        upkeep_thread_expected: bool,
    ) -> Reading {
        let now = snapshot.now;
        let told = view.users(now);
        let owner = |process| Owner::find(process, processes, &told);
        Reading {
            name: rings::title(path),
            path: printable(&path.to_string_lossy()),
            capacity: view.capacity(),
            file_removed: view.is_removed(),
            times_are_valid: now != Time::NEVER,
            exposure: exposure(view, &snapshot.keys),
            governed_for: snapshot.governed,
            keys: snapshot.keys.iter().map(|facts| key(facts, view, now)).collect(),
            writer_due_in: (snapshot.deadline != Time::NEVER).then(|| now.until(snapshot.deadline)),
            overdue: snapshot.deadline.until(now),
            writer_lock: match snapshot.writer {
                Holder::Nobody => Lock::Free,
                Holder::Thread { process, thread } => {
                    Lock::Held(Owner { thread: Some(thread), ..owner(process) })
                }
                Holder::Dead => Lock::Dead,
            },
            writer_is_stuck: snapshot.stuck,
            upkeep_lock: view.leader(now).map_or(Lock::Free, |leader| Lock::Held(owner(leader))),
            upkeep_thread_expected,
            users: users(view, &told, processes),
            contexts_differ_in: differences(&told),
            hidden_processes: processes.hidden(),
            promised: promised(view),
            counters: Counters::of(view),
            last_problem: view
                .last_problem()
                .map(|(problem, at)| LastProblem { what: What::of(problem), ago: at.until(now) }),
        }
    }

    /// True if an agent makes and retires the keys, not the servers.
    pub fn is_governed(&self) -> bool {
        self.governed_for.is_some()
    }

    /// The key that encrypts: of several, which a rotation cut short can leave, the newest.
    pub fn active_key(&self) -> Option<&Key> {
        self.own(State::Active).min_by_key(|key| key.age)
    }

    /// The key that encrypts next.
    pub fn successor(&self) -> Option<&Key> {
        self.own(State::Announced).min_by_key(|key| key.encrypts_in)
    }

    /// How many keys are in a state.
    pub fn count(&self, state: State) -> usize {
        self.keys.iter().filter(|key| key.state == state).count()
    }

    /// The number of keys in words.
    pub fn keys_text(&self) -> String {
        match self.keys.len() {
            1 => "1 key".into(),
            number => format!("{number} keys"),
        }
    }

    /// The processes that have the ring to deal in tickets, as far as they can be seen.
    pub fn servers(&self) -> impl Iterator<Item = &User> {
        self.users.iter().filter(|user| user.presence == Presence::Maps && user.writes)
    }

    fn own(&self, state: State) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.state == state && key.maker == Maker::Here)
    }
}

impl What {
    fn of(problem: Problem) -> What {
        match problem {
            Problem::Generator => What::Generator,
            Problem::Full => What::Full,
            Problem::Lock => What::Lock,
            Problem::NoMemory => What::NoMemory,
        }
    }
}

fn exposure(view: &View, keys: &[KeyFacts]) -> Exposure {
    let policy = policy_of(&view.settings(), view.capacity());
    // How long an imported key was in use before is not known here.
    let made = keys.iter().filter(|key| key.node != IMPORTED);
    let longest = made.map(|key| key.times.encrypt_from.until(key.times.decrypt_until)).max();
    let span = policy.rotate_every.saturating_add(policy.lifetime);
    Exposure {
        span: longest.map_or(span, |longest| span.max(longest)),
        rotate_every: policy.rotate_every,
        lifetime: policy.lifetime,
    }
}

fn promised(view: &View) -> Option<Duration> {
    view.settings().seen_lifetime
}

fn key(facts: &KeyFacts, view: &View, now: Time) -> Key {
    let node = view.node();
    let times = facts.times;
    Key {
        name: facts.name.to_string(),
        state: match times.state(now) {
            KeyState::Announced => State::Announced,
            KeyState::Active => State::Active,
            KeyState::Retired => State::Retired,
            KeyState::Expired => State::Expired,
        },
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

/// Part by part.
fn differences(told: &[ring::User]) -> Vec<Differs> {
    let alive: Vec<_> = told.iter().filter(|user| user.uses_tickets && !user.is_over).collect();
    let differ = |one: Trait| {
        let pairs = alive.iter().enumerate().flat_map(|(at, user)| {
            alive[at..].iter().map(move |other| (user.traits, other.traits))
        });
        pairs.into_iter().any(|(user, other)| user.differ(other, one))
    };
    Trait::ALL.into_iter().filter(|one| differ(*one)).map(Differs::of).collect()
}

/// Those that map the ring, and those that told it of themselves.
fn users(view: &View, told: &[ring::User], processes: &Processes) -> Vec<User> {
    let deals = !Counters::of(view).are_only_of_unserved();
    let names = |user: &ring::User| user.binds.map(Binds::names);
    let mapping = processes.iter().map(|(pid, mapped)| {
        let told = told.iter().find(|user| processes.find(user.process) == Some(pid));
        User {
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
        // One that only opened it, as the parent of a daemon, is of no interest.
        Presence::Gone => user.uses_tickets,
    });
    let others = others.map(|user| User {
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
