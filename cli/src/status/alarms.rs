//! What is wrong with a ring, how bad that is, and what to do about it.
//!
//! Pure: a [`RingStatus`] gives its alarms. A ring for which no client has come
//! yet gives none. Remarks are what is worth knowing and no reason for alarm.

use std::time::Duration;

use serde::Serialize;
use tktrot::ring::asks::Trait;
use tktrot::ring::layout::MAX_CAPACITY;
use tktrot::schedule::Policy;

use super::ring::{KeyStatus, LockState, Maker, RingStatus, RingUser};
use crate::check::configuration;
use crate::output::in_words;
use crate::processes::Presence;
use crate::severity::Severity;
use tktrot::ring::stats::Problem;
use tktrot::schedule::KeyState;

/// The upkeep thread wakes at least once a second; a machine that is very busy gets some more.
const LATE: Duration = Duration::from_secs(5);
/// A generator that fails is tried again at least once a second.
const FAILS_NOW: Duration = Duration::from_secs(10);

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alarm {
    pub alarm: AlarmKind,
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
    pub remark: AlarmKind,
    /// What is so.
    pub what: String,
    /// What can be done about it.
    #[serde(rename = "do")]
    pub remedy: String,
}

/// The alarms and remarks there are. Their names are part of the JSON and of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlarmKind {
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

impl AlarmKind {
    /// All of them.
    pub const ALL: [AlarmKind; 21] = [
        AlarmKind::TimesInvalid,
        AlarmKind::WriterStuck,
        AlarmKind::WriterDead,
        AlarmKind::RotationOverdue,
        AlarmKind::GeneratorFailing,
        AlarmKind::LockBroken,
        AlarmKind::NoSuccessor,
        AlarmKind::RingFull,
        AlarmKind::NoMemory,
        AlarmKind::NoUpkeep,
        AlarmKind::MemoryUnlocked,
        AlarmKind::NobodyUses,
        AlarmKind::PlainKeys,
        AlarmKind::TicketsOff,
        AlarmKind::EarlyData,
        AlarmKind::QuicListener,
        AlarmKind::OwnKeys,
        AlarmKind::Unbound,
        AlarmKind::NotResumed,
        AlarmKind::TicketsOutliveKeys,
        AlarmKind::FileRemoved,
    ];

    /// As JSON and metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            AlarmKind::TimesInvalid => "times-invalid",
            AlarmKind::WriterStuck => "writer-stuck",
            AlarmKind::WriterDead => "writer-dead",
            AlarmKind::RotationOverdue => "rotation-overdue",
            AlarmKind::GeneratorFailing => "generator-failing",
            AlarmKind::LockBroken => "lock-broken",
            AlarmKind::NoSuccessor => "no-successor",
            AlarmKind::RingFull => "ring-full",
            AlarmKind::NoMemory => "no-memory",
            AlarmKind::NoUpkeep => "no-upkeep",
            AlarmKind::MemoryUnlocked => "memory-unlocked",
            AlarmKind::NobodyUses => "nobody-uses",
            AlarmKind::PlainKeys => "plain-keys",
            AlarmKind::TicketsOff => "tickets-off",
            AlarmKind::EarlyData => "early-data",
            AlarmKind::QuicListener => "quic-listener",
            AlarmKind::OwnKeys => "own-keys",
            AlarmKind::Unbound => "unbound",
            AlarmKind::NotResumed => "not-resumed",
            AlarmKind::TicketsOutliveKeys => "tickets-outlive-keys",
            AlarmKind::FileRemoved => "file-removed",
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
pub fn alarms(status: &RingStatus) -> Vec<Alarm> {
    const CHECKS: [fn(&RingStatus) -> Option<Alarm>; 16] = [
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
    let mut found: Vec<_> = CHECKS.iter().filter_map(|check| check(status)).collect();
    if !status.counters.has_served() {
        found.extend(unserved(status).into_iter().filter_map(|why| {
            let Unserved { kind, what, remedy } = why;
            kind.doubtful(what, remedy)
        }));
    }
    found.sort_by_key(|alarm| std::cmp::Reverse(alarm.severity));
    found
}

/// What is worth knowing beside the alarms.
pub fn remarks(status: &RingStatus) -> Vec<Remark> {
    if !status.counters.has_served() {
        return Vec::new();
    }
    let remark = |Unserved { kind, what, remedy }| Remark { remark: kind, what, remedy };
    unserved(status).into_iter().map(remark).collect()
}

/// The worst of them.
pub fn worst(alarms: &[Alarm]) -> Severity {
    alarms.iter().map(|alarm| alarm.severity).max().unwrap_or(Severity::Fine)
}

fn times(status: &RingStatus) -> Option<Alarm> {
    if status.times_are_valid {
        return None;
    }
    AlarmKind::TimesInvalid.wrong(
        "the clock (CLOCK_BOOTTIME) cannot be read: nobody knows how old the ring's keys are",
        "look at what confines this program and the servers",
    )
}

fn removed(status: &RingStatus) -> Option<Alarm> {
    if !status.file_removed {
        return None;
    }
    let who = status.servers().map(|user| user.pid.to_string()).collect::<Vec<_>>().join(", ");
    AlarmKind::FileRemoved.wrong(
        format!(
            "the ring's file was removed: the processes that have it ({who}) share its keys with \
             nobody that started later, and no ticket of theirs opens there"
        ),
        "restart their servers; find out what removes the file (RemoveIPC= of logind or of a unit, \
         RuntimeDirectory=, a clean-up of /dev/shm), and set TKTROT_DIR where it does not",
    )
}

fn writer(status: &RingStatus) -> Option<Alarm> {
    match &status.writer_lock {
        LockState::Free => None,
        LockState::Dead => AlarmKind::WriterDead.doubtful(
            "a process was killed while it wrote; readers are not harmed",
            "nothing: the next writer repairs the ring; `tktrot rotate` is one, if none comes",
        ),
        LockState::Held(_) if !status.writer_is_stuck => None,
        LockState::Held(holder) => AlarmKind::WriterStuck.wrong(
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

fn overdue(status: &RingStatus) -> Option<Alarm> {
    if !counts_time(status) || status.overdue <= LATE {
        return None;
    }
    let late = in_words(status.overdue);
    let over = match status.count(KeyState::Expired) {
        0 => String::new(),
        1 => "; 1 key is over and not erased".into(),
        number => format!("; {number} keys are over and not erased"),
    };
    if matches!(status.upkeep_lock, LockState::Held(_)) {
        AlarmKind::RotationOverdue.wrong(
            format!(
                "the keys have needed a writer for {late}, and the upkeep thread does nothing{over}"
            ),
            "look whether its process is stopped, and at the other alarms; `tktrot rotate` brings \
             the ring up to date now",
        )
    } else {
        AlarmKind::RotationOverdue.doubtful(
            format!("the keys have needed a writer for {late}, and none has come{over}"),
            "the next handshake is one; without handshakes, run `tktrot rotate`, or \
             `tktrot revoke --all` if the servers are gone for good",
        )
    }
}

fn generator(status: &RingStatus) -> Option<Alarm> {
    let last = status.last_problem.filter(|last| last.what == Problem::Generator)?;
    let failures = status.counters.generator_failures;
    let remedy = "look at the server's log and at its TLS library's configuration (FIPS, engine, \
                  provider)";
    if last.ago <= FAILS_NOW {
        let until = status.active_key().map(|key| in_words(key.encrypts_for));
        let then = until.map_or("there is no active key: no tickets that resume".into(), |until| {
            format!("the active key serves for {until} more at most")
        });
        AlarmKind::GeneratorFailing.wrong(
            format!("the random number generator fails ({failures} times so far); {then}"),
            remedy,
        )
    } else if last.ago <= status.exposure.rotate_every {
        let ago = in_words(last.ago);
        AlarmKind::GeneratorFailing.doubtful(
            format!("the random number generator failed {ago} ago ({failures} times so far)"),
            remedy,
        )
    } else {
        None
    }
}

fn lock_broken(status: &RingStatus) -> Option<Alarm> {
    let last = status.last_problem.filter(|last| last.what == Problem::Lock)?;
    if last.ago > status.exposure.rotate_every {
        return None;
    }
    AlarmKind::LockBroken.wrong(
        format!(
            "the writer lock did not work {} ago: keys may no longer rotate",
            in_words(last.ago)
        ),
        "stop the servers that use the ring, remove it and start them",
    )
}

fn successor(status: &RingStatus) -> Option<Alarm> {
    if !counts_time(status) || status.overdue > LATE || writes_now(status) {
        return None;
    }
    // It announces one when it is time, and knows whether its fleet has it.
    if status.is_governed() {
        return None;
    }
    let active = status.active_key()?;
    if status.successor().is_some() {
        return None;
    }
    AlarmKind::NoSuccessor.doubtful(
        format!("no key is announced to follow {}", active.name),
        format!(
            "if there is none in {} either, tickets stop; see the other alarms",
            in_words(active.encrypts_for)
        ),
    )
}

fn full(status: &RingStatus) -> Option<Alarm> {
    let last = status.last_problem.filter(|last| last.what == Problem::Full);
    let lately = last.is_some_and(|last| last.ago <= status.exposure.rotate_every);
    let is_full = status.keys.len() >= status.capacity as usize;
    if !lately && !is_full {
        return None;
    }
    AlarmKind::RingFull.doubtful(
        format!(
            "the ring {} its {} keys: retired keys end before their tickets do",
            if is_full { "is full with" } else { "was full with" },
            status.capacity
        ),
        if status.capacity < MAX_CAPACITY {
            "set TKTROT_CAPACITY higher and restart a server, or TKTROT_ROTATE longer for all"
        } else {
            "set TKTROT_ROTATE longer"
        },
    )
}

fn no_memory(status: &RingStatus) -> Option<Alarm> {
    let last = status.last_problem.filter(|last| last.what == Problem::NoMemory)?;
    if last.ago > status.exposure.rotate_every {
        return None;
    }
    AlarmKind::NoMemory.doubtful(
        format!(
            "there was no memory for another key {} ago: where none encrypts any more, retired keys \
             end before their tickets do",
            in_words(last.ago)
        ),
        "make room on the tmpfs of the ring, or mount a larger one; a ring takes 128 bytes for each \
         key; a server that has confined itself takes none for it",
    )
}

fn upkeep(status: &RingStatus) -> Option<Alarm> {
    let deals = |user: &RingUser| user.counts;
    let is_led = matches!(status.upkeep_lock, LockState::Held(_));
    let is_seen_to = is_led || status.is_governed();
    if is_seen_to || !status.upkeep_thread_expected || !counts_time(status) {
        return None;
    }
    if !status.servers().any(deals) {
        return None;
    }
    AlarmKind::NoUpkeep.doubtful(
        "no upkeep thread works: keys are made and erased only when handshakes come",
        "set upkeep = \"callback\" in the settings file if that is meant; else see in the \
         server's log and limits (RLIMIT_NPROC) why it has no thread",
    )
}

fn memory(status: &RingStatus) -> Option<Alarm> {
    let unlocked: Vec<_> =
        status.servers().filter(|user| user.locked == Some(false)).map(|user| user.pid).collect();
    if unlocked.is_empty() || status.keys.is_empty() {
        return None;
    }
    let remedy = "raise RLIMIT_MEMLOCK for the servers (LimitMEMLOCK= in their units) and restart \
                  them";
    let list = unlocked.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    if status.servers().any(|user| user.locked == Some(true)) {
        AlarmKind::MemoryUnlocked.doubtful(
            format!("these processes do not keep the ring locked in memory, others do: {list}"),
            remedy,
        )
    } else {
        AlarmKind::MemoryUnlocked.wrong(
            format!(
                "no process keeps the ring locked in memory, so keys can reach the swap: {list}"
            ),
            remedy,
        )
    }
}

fn users(status: &RingStatus) -> Option<Alarm> {
    let may_be = |user: &RingUser| matches!(user.presence, Presence::Hidden | Presence::Elsewhere);
    let may_be_hidden = status.hidden_processes > 0 || status.users.iter().any(may_be);
    if status.keys.is_empty() || may_be_hidden || status.servers().next().is_some() {
        return None;
    }
    AlarmKind::NobodyUses.doubtful(
        format!("{} lie here, and no process has the ring: nobody erases them", status.keys_text()),
        "start the server, or `tktrot revoke --all`",
    )
}

fn plain(status: &RingStatus) -> Option<Alarm> {
    let plain: Vec<_> = status.keys.iter().filter(|key| is_plain(key)).collect();
    if plain.is_empty() {
        return None;
    }
    let names = plain.iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(", ");
    if plain.iter().all(|key| key.maker == Maker::Imported) {
        return AlarmKind::PlainKeys.doubtful(
            format!(
                "tickets of imported keys open at every service that has the keys, whatever its \
                 label, certificate or demand for client certificates: {names}"
            ),
            "nothing, if they were imported on purpose: they end by themselves",
        );
    }
    AlarmKind::PlainKeys.doubtful(
        format!(
            "nothing binds tickets here (TKTROT_BIND=none), and keys are plain, for servers \
             without libtktrot: a ticket opens at every service that has its key, whatever its \
             label, certificate or demand for client certificates: {names}"
        ),
        "unset TKTROT_BIND=none, unless servers without libtktrot share the keys",
    )
}

fn is_plain(key: &KeyStatus) -> bool {
    key.plain && key.state != KeyState::Expired
}

/// Where its keys are plain, that is said already.
fn unbound(status: &RingStatus) -> Option<Alarm> {
    if status.keys.iter().any(|key| is_plain(key) && key.maker == Maker::Here) {
        return None;
    }
    let is_unbound = |user: &&RingUser| user.binds.iter().flatten().any(|bind| bind == "none");
    let unbound: Vec<_> = status
        .servers()
        .filter(is_unbound)
        .map(|user| format!("{} ({})", user.pid, user.program))
        .collect();
    if unbound.is_empty() {
        return None;
    }
    AlarmKind::Unbound.doubtful(
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

fn part_in_words(part: Trait) -> &'static str {
    match part {
        Trait::Label => "label",
        Trait::Certificates => "certificates",
        Trait::Verification => "demand for client certificates",
    }
}

fn not_resumed(status: &RingStatus) -> Option<Alarm> {
    let (opened, refused) = (status.counters.opened(), status.counters.not_resumed);
    let elsewhere = status.counters.wrong_scope;
    let notable = |number: u64| number >= NOTABLE && number.saturating_mul(10) > opened;
    let parts: Vec<_> = status.contexts_differ_in.iter().map(|part| part_in_words(*part)).collect();
    let differ = match &*parts {
        [] => String::new(),
        parts => format!(
            ". The contexts of this ring differ in their {}: tickets of the one do not open at the \
             other",
            parts.join(" and ")
        ),
    };
    if notable(refused) {
        return AlarmKind::NotResumed.doubtful(
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
    AlarmKind::NotResumed.doubtful(
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
fn outlived(status: &RingStatus) -> Option<Alarm> {
    let (kept, promised) = (status.exposure.lifetime, status.promised?);
    if promised <= kept || status.keys.is_empty() {
        return None;
    }
    let (short, long) = (in_words(kept), in_words(promised));
    let room = Policy::longest_lifetime(status.exposure.rotate_every, status.capacity);
    let remedy = if room < promised {
        let keys = Policy::keys_kept(status.exposure.rotate_every, promised) + 1;
        let capacity = match keys <= MAX_CAPACITY.into() {
            true => format!("TKTROT_CAPACITY to {keys} or more and restart a server, or "),
            false => String::new(),
        };
        format!("set {capacity}TKTROT_ROTATE longer, or the servers' session timeout to {short}")
    } else if status.is_governed() {
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
    AlarmKind::TicketsOutliveKeys.doubtful(
        format!(
            "the servers' sessions live for {long}, and ticket keys are kept for {short}: tickets \
             end sooner than the servers mean them to"
        ),
        remedy,
    )
}

/// False if there is nothing to be late with: no key, or times that mean nothing.
fn counts_time(status: &RingStatus) -> bool {
    status.times_are_valid && !status.keys.is_empty()
}

fn writes_now(status: &RingStatus) -> bool {
    !matches!(status.writer_lock, LockState::Free)
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unserved {
    pub kind: AlarmKind,
    /// What is so.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// All reasons that were met so far.
pub fn unserved(status: &RingStatus) -> Vec<Unserved> {
    let counters = &status.counters;
    let mut found = Vec::new();
    let mut add = |kind, number: u64, what: [&str; 2], remedy: String| {
        let [one, many] = what;
        match number {
            0 => {}
            1 => found.push(Unserved { kind, what: format!("1 {one}"), remedy }),
            number => found.push(Unserved { kind, what: format!("{number} {many}"), remedy }),
        }
    };
    add(
        AlarmKind::TicketsOff,
        counters.tickets_off,
        [
            "connection had tickets switched off (SSL_OP_NO_TICKET): it got none of libtktrot's",
            "connections had tickets switched off (SSL_OP_NO_TICKET): they got none of libtktrot's",
        ],
        switch_on(status),
    );
    add(
        AlarmKind::EarlyData,
        counters.anti_replay,
        [
            "connection had early data on and OpenSSL's own replay protection: its TLS 1.3 tickets \
             are stateful, and not libtktrot's",
            "connections had early data on and OpenSSL's own replay protection: their TLS 1.3 \
             tickets are stateful, and not libtktrot's",
        ],
        "switch early data off; or, where something else keeps it from being replayed, set \
         SSL_OP_NO_ANTI_REPLAY"
            .into(),
    );
    add(
        AlarmKind::QuicListener,
        counters.quic,
        [
            "QUIC listener is not served: libssl makes its connections itself, out of reach",
            "QUIC listeners are not served: libssl makes their connections itself, out of reach",
        ],
        "nothing helps yet: QUIC clients get tickets of libssl's own key, which ends with its \
         process"
            .into(),
    );
    add(
        AlarmKind::OwnKeys,
        counters.left_alone,
        ["context keeps ticket keys of its own", "contexts keep ticket keys of their own"],
        "nothing, if TKTROT_TAKEOVER=no is meant; else the server's log says why".into(),
    );
    found
}

/// Names what is to be removed for those servers that are here.
fn switch_on(status: &RingStatus) -> String {
    let mut told: Vec<String> = Vec::new();
    for user in status.servers() {
        let Some(switch) = configuration::switch_of(&user.program) else { continue };
        let one = format!("remove {switch} from the configuration of {}", user.program);
        if !told.contains(&one) {
            told.push(one);
        }
    }
    if told.is_empty() {
        told.push("remove from the server's configuration what switches tickets off".into());
    }
    let check = "`tktrot check --pid PID` looks for it";
    format!("unless it is meant: {}; {check}", told.join(", "))
}

#[cfg(test)]
mod tests;
