//! All that is said of a ring at one moment, as plain figures.

use std::time::Duration;

use serde::{Serialize, Serializer};
use tktrot::ring::asks::Trait;
use tktrot::ring::stats::Problem;
use tktrot::schedule::KeyState;

use super::counters::Counters;
use crate::output::{seconds, seconds_if_any};
use crate::processes::{LockHolder, Presence};

/// A ring at one moment, from which durations are counted forward or back.
#[derive(Clone, Debug, Serialize)]
pub struct RingStatus {
    pub name: String,
    pub path: String,
    pub capacity: u32,
    /// True if the file no longer has a name: no process that starts later can open this ring.
    pub file_removed: bool,
    /// False if the clock cannot be read.
    pub times_are_valid: bool,
    pub exposure: Exposure,
    /// What is left of the lease of the agent that governs the ring; null if no agent does.
    #[serde(rename = "governed_for_seconds", serialize_with = "seconds_if_any")]
    pub governed_for: Option<Duration>,
    /// What is wrong between this host and others, as its agent says.
    pub fleet_problems: Vec<String>,
    /// Why its agent does not do its work, as far as can be known without it.
    pub agent_problem: Option<String>,
    /// The keys, ordered by their end.
    pub keys: Vec<KeyStatus>,
    /// When a writer is next needed; null if never, or if only a client makes one needed.
    #[serde(rename = "writer_due_in_seconds", serialize_with = "seconds_if_any")]
    pub writer_due_in: Option<Duration>,
    /// For how long a writer has been needed.
    #[serde(rename = "overdue_seconds", serialize_with = "seconds")]
    pub overdue: Duration,
    pub writer_lock: LockState,
    /// True if one thread held the writer lock on every look.
    pub writer_is_stuck: bool,
    /// The process whose thread does the upkeep of the ring.
    pub upkeep_lock: LockState,
    /// False if the settings leave the upkeep to handshakes.
    pub upkeep_thread_expected: bool,
    pub users: Vec<RingUser>,
    /// How the contexts that use tickets differ, so that one cannot open the tickets of another.
    #[serde(serialize_with = "parts")]
    pub contexts_differ_in: Vec<Trait>,
    /// Processes of which this user may not see whether they map the ring.
    pub hidden_processes: usize,
    /// The longest session timeout of any context; null if no context has reported one since the
    /// processes that have the ring were started.
    #[serde(rename = "promised_seconds", serialize_with = "seconds_if_any")]
    pub promised: Option<Duration>,
    pub counters: Counters,
    pub last_problem: Option<LastProblem>,
}

/// How much of recorded traffic one theft opens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Exposure {
    /// R + L, or longer while there are keys that were made with longer settings.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub span: Duration,
    /// R.
    #[serde(rename = "rotate_seconds", serialize_with = "seconds")]
    pub rotate_every: Duration,
    /// L.
    #[serde(rename = "lifetime_seconds", serialize_with = "seconds")]
    pub lifetime: Duration,
    /// For how long from now there are keys to encrypt with, which a thief of the ring has, too.
    #[serde(rename = "ahead_seconds", serialize_with = "seconds")]
    pub ahead: Duration,
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
pub struct KeyStatus {
    /// The first 8 hex digits of its name.
    pub name: String,
    #[serde(serialize_with = "state")]
    pub state: KeyState,
    pub maker: Maker,
    /// True if servers that do not run libtktrot may have the key, too.
    pub plain: bool,
    /// Time since it began to encrypt.
    #[serde(rename = "age_seconds", serialize_with = "seconds")]
    pub age: Duration,
    #[serde(rename = "encrypts_in_seconds", serialize_with = "seconds")]
    pub encrypts_in: Duration,
    #[serde(rename = "encrypts_for_seconds", serialize_with = "seconds")]
    pub encrypts_for: Duration,
    #[serde(rename = "decrypts_for_seconds", serialize_with = "seconds")]
    pub decrypts_for: Duration,
}

/// A lock in the ring, and who holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum LockState {
    Free,
    Held(LockHolder),
    /// Its holder died with it.
    Dead,
}

/// A process that has the ring, or had it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RingUser {
    /// Its PID in this /proc; of a process in another container, its PID there.
    pub pid: u32,
    pub program: String,
    pub presence: Presence,
    /// True if it has sealed or opened tickets.
    pub counts: bool,
    /// False if it only reads the ring, as `tktrot watch` does.
    pub writes: bool,
    /// Whether it keeps the ring locked in memory; null if that cannot be seen.
    pub locked: Option<bool>,
    /// What its contexts bind their tickets to, one text for each binding in use; null if it has not
    /// said: it is of an earlier version, or has neither opened the ring nor had a client.
    pub binds: Option<Vec<String>>,
}

/// The last thing that went wrong at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LastProblem {
    #[serde(serialize_with = "problem")]
    pub what: Problem,
    #[serde(rename = "seconds_ago", serialize_with = "seconds")]
    pub ago: Duration,
}

impl RingStatus {
    /// True if an agent makes and retires the keys, not the servers.
    pub fn is_governed(&self) -> bool {
        self.governed_for.is_some()
    }

    /// The key that encrypts; the newest, if a rotation that was cut short has left several.
    pub fn active_key(&self) -> Option<&KeyStatus> {
        self.own(KeyState::Active).min_by_key(|key| key.age)
    }

    /// The key that encrypts next.
    pub fn successor(&self) -> Option<&KeyStatus> {
        self.own(KeyState::Announced).min_by_key(|key| key.encrypts_in)
    }

    /// The number of keys in a state.
    pub fn count(&self, state: KeyState) -> usize {
        self.keys.iter().filter(|key| key.state == state).count()
    }

    /// The number of keys, in words.
    pub fn keys_text(&self) -> String {
        match self.keys.len() {
            1 => "1 key".into(),
            number => format!("{number} keys"),
        }
    }

    /// The visible processes that have the ring to seal and open tickets.
    pub fn servers(&self) -> impl Iterator<Item = &RingUser> {
        self.users.iter().filter(|user| user.presence == Presence::Maps && user.writes)
    }

    /// Those among them that serve: the agent, which is this program, does not.
    pub fn serving(&self) -> impl Iterator<Item = &RingUser> {
        self.servers().filter(|user| user.program != "tktrot")
    }

    fn own(&self, state: KeyState) -> impl Iterator<Item = &KeyStatus> {
        self.keys.iter().filter(move |key| key.state == state && key.maker == Maker::Here)
    }
}

/// A key's state in JSON and in metrics.
pub fn state_name(state: KeyState) -> &'static str {
    match state {
        KeyState::Announced => "announced",
        KeyState::Active => "active",
        KeyState::Retired => "retired",
        // Its time is over, and it is not erased yet.
        KeyState::Expired => "expired",
    }
}

fn state<S: Serializer>(state: &KeyState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state_name(*state))
}

fn problem<S: Serializer>(problem: &Problem, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match problem {
        Problem::Generator => "generator",
        Problem::Full => "full",
        Problem::Lock => "lock",
        Problem::NoMemory => "no-memory",
    })
}

fn parts<S: Serializer>(parts: &[Trait], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(parts.iter().map(|part| match part {
        Trait::Label => "label",
        Trait::Certificates => "certificates",
        Trait::Verification => "verification",
    }))
}
