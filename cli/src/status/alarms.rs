//! What is wrong with a ring, how bad that is, and what to do about it.
//!
//! Pure: a [`Reading`] gives its alarms. A ring for which no client has come
//! yet gives none. Remarks are what is worth knowing and no reason for alarm.

use std::time::Duration;

use serde::Serialize;
use tktrot::ring::layout::MAX_CAPACITY;
use tktrot::schedule::Policy;

use super::processes::Presence;
use super::reading::{Key, Lock, Maker, Reading, State, User, What};
use super::span::words;
use super::unserved::{Unserved, unserved};
use crate::severity::Severity;

/// The upkeep thread wakes at least once a second; a machine that is very busy gets some more.
const LATE: Duration = Duration::from_secs(5);
/// A generator that fails is tried again at least once a second.
const FAILS_NOW: Duration = Duration::from_secs(10);

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alarm {
    pub alarm: Kind,
    pub severity: Severity,
    /// What is so.
    pub what: String,
    /// What to do about it.
    #[serde(rename = "do")]
    pub remedy: String,
}

/// One thing that is worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    pub remark: Kind,
    /// What is so.
    pub what: String,
    /// What can be done about it.
    #[serde(rename = "do")]
    pub remedy: String,
}

/// The alarms and remarks there are. Their names are part of the JSON and of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    TimesInvalid,
    WriterStuck,
    WriterDead,
    RotationOverdue,
    GeneratorFailing,
    LockBroken,
    NoSuccessor,
    RingFull,
    NoMemory,
    NoUpkeep,
    MemoryUnlocked,
    NobodyUses,
    PlainKeys,
    TicketsOff,
    EarlyData,
    QuicListener,
    OwnKeys,
    Unbound,
    NotResumed,
    TicketsOutliveKeys,
    FileRemoved,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 21] = [
        Kind::TimesInvalid,
        Kind::WriterStuck,
        Kind::WriterDead,
        Kind::RotationOverdue,
        Kind::GeneratorFailing,
        Kind::LockBroken,
        Kind::NoSuccessor,
        Kind::RingFull,
        Kind::NoMemory,
        Kind::NoUpkeep,
        Kind::MemoryUnlocked,
        Kind::NobodyUses,
        Kind::PlainKeys,
        Kind::TicketsOff,
        Kind::EarlyData,
        Kind::QuicListener,
        Kind::OwnKeys,
        Kind::Unbound,
        Kind::NotResumed,
        Kind::TicketsOutliveKeys,
        Kind::FileRemoved,
    ];

    /// As JSON and metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::TimesInvalid => "times-invalid",
            Kind::WriterStuck => "writer-stuck",
            Kind::WriterDead => "writer-dead",
            Kind::RotationOverdue => "rotation-overdue",
            Kind::GeneratorFailing => "generator-failing",
            Kind::LockBroken => "lock-broken",
            Kind::NoSuccessor => "no-successor",
            Kind::RingFull => "ring-full",
            Kind::NoMemory => "no-memory",
            Kind::NoUpkeep => "no-upkeep",
            Kind::MemoryUnlocked => "memory-unlocked",
            Kind::NobodyUses => "nobody-uses",
            Kind::PlainKeys => "plain-keys",
            Kind::TicketsOff => "tickets-off",
            Kind::EarlyData => "early-data",
            Kind::QuicListener => "quic-listener",
            Kind::OwnKeys => "own-keys",
            Kind::Unbound => "unbound",
            Kind::NotResumed => "not-resumed",
            Kind::TicketsOutliveKeys => "tickets-outlive-keys",
            Kind::FileRemoved => "file-removed",
        }
    }

    fn doubtful(self, what: impl Into<String>, remedy: impl Into<String>) -> Option<Alarm> {
        let (what, remedy) = (what.into(), remedy.into());
        Some(Alarm { alarm: self, severity: Severity::Doubtful, what, remedy })
    }

    fn wrong(self, what: impl Into<String>, remedy: impl Into<String>) -> Option<Alarm> {
        let alarm = self.doubtful(what, remedy)?;
        Some(Alarm { severity: Severity::Wrong, ..alarm })
    }
}

/// All that is wrong, the worst first.
pub fn alarms(reading: &Reading) -> Vec<Alarm> {
    const CHECKS: [fn(&Reading) -> Option<Alarm>; 16] = [
        times,
        removed,
        writer,
        overdue,
        generator,
        lock_broken,
        successor,
        full,
        no_memory,
        upkeep,
        memory,
        users,
        plain,
        unbound,
        not_resumed,
        outlived,
    ];
    let mut found: Vec<_> = CHECKS.iter().filter_map(|check| check(reading)).collect();
    if !reading.counters.has_served() {
        found.extend(unserved(reading).into_iter().filter_map(|why| {
            let Unserved { kind, what, remedy } = why;
            kind.doubtful(what, remedy)
        }));
    }
    found.sort_by_key(|alarm| std::cmp::Reverse(alarm.severity));
    found
}

/// What is worth knowing beside the alarms.
pub fn remarks(reading: &Reading) -> Vec<Remark> {
    if !reading.counters.has_served() {
        return Vec::new();
    }
    let remark = |Unserved { kind, what, remedy }| Remark { remark: kind, what, remedy };
    unserved(reading).into_iter().map(remark).collect()
}

/// The worst of them.
pub fn worst(alarms: &[Alarm]) -> Severity {
    alarms.iter().map(|alarm| alarm.severity).max().unwrap_or(Severity::Fine)
}

fn times(reading: &Reading) -> Option<Alarm> {
    if reading.times_are_valid {
        return None;
    }
    Kind::TimesInvalid.wrong(
        "the clock (CLOCK_BOOTTIME) cannot be read: nobody knows how old the ring's keys are",
        "look at what confines this program and the servers",
    )
}

fn removed(reading: &Reading) -> Option<Alarm> {
    if !reading.file_removed {
        return None;
    }
    let who = reading.servers().map(|user| user.pid.to_string()).collect::<Vec<_>>().join(", ");
    Kind::FileRemoved.wrong(
        format!(
            "the ring's file was removed: the processes that have it ({who}) share its keys with \
             nobody that started later, and no ticket of theirs opens there"
        ),
        "restart their servers; find out what removes the file (RemoveIPC= of logind or of a unit, \
         RuntimeDirectory=, a clean-up of /dev/shm), and set TKTROT_DIR where it does not",
    )
}

fn writer(reading: &Reading) -> Option<Alarm> {
    match &reading.writer_lock {
        Lock::Free => None,
        Lock::Dead => Kind::WriterDead.doubtful(
            "a process was killed while it wrote; readers are not harmed",
            "nothing: the next writer repairs the ring; `tktrot rotate` is one, if none comes",
        ),
        Lock::Held(_) if !reading.writer_is_stuck => None,
        Lock::Held(holder) => Kind::WriterStuck.wrong(
            format!(
                "{} holds the writer lock and does not give it back{}: nobody else can rotate or \
                 erase keys",
                holder.name(),
                if holder.stopped { ", because it is stopped" } else { "" }
            ),
            match holder.process {
                Some(pid) if holder.stopped => {
                    format!("kill -CONT {pid}; or kill -KILL {pid}: the lock survives it")
                }
                Some(pid) => {
                    format!("find out what it waits for, or kill -KILL {pid}: the lock survives it")
                }
                None => "look for it in the containers that share the ring: it may be paused; the \
                         lock survives its end"
                    .into(),
            },
        ),
    }
}

fn overdue(reading: &Reading) -> Option<Alarm> {
    if !counts_time(reading) || reading.overdue <= LATE {
        return None;
    }
    let late = words(reading.overdue);
    let over = match reading.count(State::Expired) {
        0 => String::new(),
        1 => "; 1 key is over and not erased".into(),
        number => format!("; {number} keys are over and not erased"),
    };
    if matches!(reading.upkeep_lock, Lock::Held(_)) {
        Kind::RotationOverdue.wrong(
            format!(
                "the keys have needed a writer for {late}, and the upkeep thread does nothing{over}"
            ),
            "look whether its process is stopped, and at the other alarms; `tktrot rotate` brings \
             the ring up to date now",
        )
    } else {
        Kind::RotationOverdue.doubtful(
            format!("the keys have needed a writer for {late}, and none has come{over}"),
            "the next handshake is one; without handshakes, run `tktrot rotate`, or \
             `tktrot revoke --all` if the servers are gone for good",
        )
    }
}

fn generator(reading: &Reading) -> Option<Alarm> {
    let last = reading.last_problem.filter(|last| last.what == What::Generator)?;
    let failures = reading.counters.generator_failures;
    let remedy = "look at the server's log and at its TLS library's configuration (FIPS, engine, \
                  provider)";
    if last.ago <= FAILS_NOW {
        let until = reading.active_key().map(|key| words(key.encrypts_for));
        let then = until.map_or("there is no active key: no tickets that resume".into(), |until| {
            format!("the active key serves for {until} more at most")
        });
        Kind::GeneratorFailing.wrong(
            format!("the random number generator fails ({failures} times so far); {then}"),
            remedy,
        )
    } else if last.ago <= reading.exposure.rotate_every {
        let ago = words(last.ago);
        Kind::GeneratorFailing.doubtful(
            format!("the random number generator failed {ago} ago ({failures} times so far)"),
            remedy,
        )
    } else {
        None
    }
}

fn lock_broken(reading: &Reading) -> Option<Alarm> {
    let last = reading.last_problem.filter(|last| last.what == What::Lock)?;
    if last.ago > reading.exposure.rotate_every {
        return None;
    }
    Kind::LockBroken.wrong(
        format!("the writer lock did not work {} ago: keys may no longer rotate", words(last.ago)),
        "stop the servers that use the ring, remove it and start them",
    )
}

fn successor(reading: &Reading) -> Option<Alarm> {
    if !counts_time(reading) || reading.overdue > LATE || writes_now(reading) {
        return None;
    }
    // It announces one when it is time, and knows whether its fleet has it.
    if reading.is_governed() {
        return None;
    }
    let active = reading.active_key()?;
    if reading.successor().is_some() {
        return None;
    }
    Kind::NoSuccessor.doubtful(
        format!("no key is announced to follow {}", active.name),
        format!(
            "if there is none in {} either, tickets stop; see the other alarms",
            words(active.encrypts_for)
        ),
    )
}

fn full(reading: &Reading) -> Option<Alarm> {
    let last = reading.last_problem.filter(|last| last.what == What::Full);
    let lately = last.is_some_and(|last| last.ago <= reading.exposure.rotate_every);
    let is_full = reading.keys.len() >= reading.capacity as usize;
    if !lately && !is_full {
        return None;
    }
    Kind::RingFull.doubtful(
        format!(
            "the ring {} its {} keys: retired keys end before their tickets do",
            if is_full { "is full with" } else { "was full with" },
            reading.capacity
        ),
        if reading.capacity < MAX_CAPACITY {
            "set TKTROT_CAPACITY higher and restart a server, or TKTROT_ROTATE longer for all"
        } else {
            "set TKTROT_ROTATE longer"
        },
    )
}

fn no_memory(reading: &Reading) -> Option<Alarm> {
    let last = reading.last_problem.filter(|last| last.what == What::NoMemory)?;
    if last.ago > reading.exposure.rotate_every {
        return None;
    }
    Kind::NoMemory.doubtful(
        format!(
            "there was no memory for another key {} ago: where none encrypts any more, retired keys \
             end before their tickets do",
            words(last.ago)
        ),
        "make room on the tmpfs of the ring, or mount a larger one; a ring takes 128 bytes for each \
         key; a server that has confined itself takes none for it",
    )
}

fn upkeep(reading: &Reading) -> Option<Alarm> {
    let deals = |user: &User| user.counts;
    let is_led = matches!(reading.upkeep_lock, Lock::Held(_));
    let is_seen_to = is_led || reading.is_governed();
    if is_seen_to || !reading.upkeep_thread_expected || !counts_time(reading) {
        return None;
    }
    if !reading.servers().any(deals) {
        return None;
    }
    Kind::NoUpkeep.doubtful(
        "no upkeep thread works: keys are made and erased only when handshakes come",
        "set upkeep = \"callback\" in the settings file if that is meant; else see in the \
         server's log and limits (RLIMIT_NPROC) why it has no thread",
    )
}

fn memory(reading: &Reading) -> Option<Alarm> {
    let unlocked: Vec<_> =
        reading.servers().filter(|user| user.locked == Some(false)).map(|user| user.pid).collect();
    if unlocked.is_empty() || reading.keys.is_empty() {
        return None;
    }
    let remedy = "raise RLIMIT_MEMLOCK for the servers (LimitMEMLOCK= in their units) and restart \
                  them";
    let list = unlocked.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    if reading.servers().any(|user| user.locked == Some(true)) {
        Kind::MemoryUnlocked.doubtful(
            format!("these processes do not keep the ring locked in memory, others do: {list}"),
            remedy,
        )
    } else {
        Kind::MemoryUnlocked.wrong(
            format!(
                "no process keeps the ring locked in memory, so keys can reach the swap: {list}"
            ),
            remedy,
        )
    }
}

fn users(reading: &Reading) -> Option<Alarm> {
    let may_be = |user: &User| matches!(user.presence, Presence::Hidden | Presence::Elsewhere);
    let may_be_hidden = reading.hidden_processes > 0 || reading.users.iter().any(may_be);
    if reading.keys.is_empty() || may_be_hidden || reading.servers().next().is_some() {
        return None;
    }
    Kind::NobodyUses.doubtful(
        format!(
            "{} lie here, and no process has the ring: nobody erases them",
            reading.keys_text()
        ),
        "start the server, or `tktrot revoke --all`",
    )
}

fn plain(reading: &Reading) -> Option<Alarm> {
    let plain: Vec<_> = reading.keys.iter().filter(|key| is_plain(key)).collect();
    if plain.is_empty() {
        return None;
    }
    let names = plain.iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(", ");
    if plain.iter().all(|key| key.maker == Maker::Imported) {
        return Kind::PlainKeys.doubtful(
            format!(
                "tickets of imported keys open at every service that has the keys, whatever its \
                 label, certificate or demand for client certificates: {names}"
            ),
            "nothing, if they were imported on purpose: they end by themselves",
        );
    }
    Kind::PlainKeys.doubtful(
        format!(
            "nothing binds tickets here (TKTROT_BIND=none), and keys are plain, for servers \
             without libtktrot: a ticket opens at every service that has its key, whatever its \
             label, certificate or demand for client certificates: {names}"
        ),
        "unset TKTROT_BIND=none, unless servers without libtktrot share the keys",
    )
}

fn is_plain(key: &Key) -> bool {
    key.plain && key.state != State::Expired
}

/// Where its keys are plain, that is said already.
fn unbound(reading: &Reading) -> Option<Alarm> {
    if reading.keys.iter().any(|key| is_plain(key) && key.maker == Maker::Here) {
        return None;
    }
    let is_unbound = |user: &&User| user.binds.iter().flatten().any(|bind| bind == "none");
    let unbound: Vec<_> = reading
        .servers()
        .filter(is_unbound)
        .map(|user| format!("{} ({})", user.pid, user.program))
        .collect();
    if unbound.is_empty() {
        return None;
    }
    Kind::Unbound.doubtful(
        format!(
            "these processes bind their tickets to nothing, not even to a label, and resume each \
             other's whatever client certificates they ask for: {}",
            unbound.join(", ")
        ),
        "unset TKTROT_BIND=none for them, unless it is meant; those that bind are not concerned",
    )
}

/// What is less may be clients that offer a ticket for too long.
const NOTABLE: u64 = 20;

fn not_resumed(reading: &Reading) -> Option<Alarm> {
    let (opened, refused) = (reading.counters.opened(), reading.counters.not_resumed);
    let elsewhere = reading.counters.wrong_scope;
    let notable = |number: u64| number >= NOTABLE && number.saturating_mul(10) > opened;
    let parts: Vec<_> = reading.contexts_differ_in.iter().map(|part| part.word()).collect();
    let differ = match &*parts {
        [] => String::new(),
        parts => format!(
            ". The contexts of this ring differ in their {}: tickets of the one do not open at the \
             other",
            parts.join(" and ")
        ),
    };
    if notable(refused) {
        return Kind::NotResumed.doubtful(
            format!(
                "{refused} of {opened} tickets were opened, but refused by the server: its session \
                 id context differs between processes (mariadb, Ruby and puma set a random one), \
                 the session expired, or the ticket is bound to another scope{differ}"
            ),
            "give all processes of a service the same session id context \
             (SSL_CTX_set_session_id_context), and services that are to be kept apart another ring \
             or TKTROT_LABEL; `tktrot probe` shows which servers refuse whose tickets",
        );
    }
    if !notable(elsewhere) {
        return None;
    }
    Kind::NotResumed.doubtful(
        format!(
            "{elsewhere} tickets came back to where they were not issued, beside {opened} that were \
             opened: they are bound to another {}{differ}",
            if parts.is_empty() { "server name, or to a context that is gone" } else { "context" }
        ),
        "give the servers that are to resume each other's tickets the same certificates, label and \
         demand for client certificates, or leave a part out (TKTROT_BIND); others another ring",
    )
}

/// Tickets that would live longer than their keys.
fn outlived(reading: &Reading) -> Option<Alarm> {
    let (kept, promised) = (reading.exposure.lifetime, reading.promised?);
    if promised <= kept || reading.keys.is_empty() {
        return None;
    }
    let (short, long) = (words(kept), words(promised));
    let room = Policy::longest_lifetime(reading.exposure.rotate_every, reading.capacity);
    let remedy = if room < promised {
        let keys = Policy::keys_kept(reading.exposure.rotate_every, promised) + 1;
        let capacity = match keys <= MAX_CAPACITY.into() {
            true => format!("TKTROT_CAPACITY to {keys} or more and restart a server, or "),
            false => String::new(),
        };
        format!("set {capacity}TKTROT_ROTATE longer, or the servers' session timeout to {short}")
    } else if reading.is_governed() {
        format!(
            "set `lifetime` in the agent's settings, and TKTROT_LIFETIME where servers have it, to \
             {long}; or the servers' session timeout to {short}"
        )
    } else {
        format!(
            "set TKTROT_LIFETIME to {long} for all servers of the ring, or unset it, and restart \
             them; or set their session timeout to {short}"
        )
    };
    Kind::TicketsOutliveKeys.doubtful(
        format!(
            "the servers' sessions live for {long}, and ticket keys are kept for {short}: tickets \
             end sooner than the servers mean them to"
        ),
        remedy,
    )
}

/// False if there is nothing to be late with: no key, or times that mean nothing.
fn counts_time(reading: &Reading) -> bool {
    reading.times_are_valid && !reading.keys.is_empty()
}

fn writes_now(reading: &Reading) -> bool {
    !matches!(reading.writer_lock, Lock::Free)
}

#[cfg(test)]
mod tests;
