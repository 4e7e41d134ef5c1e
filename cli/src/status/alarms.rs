//! What is wrong with a ring, how bad that is, and what to do about it.
//!
//! Pure: a [`RingStatus`] in, its alarms out. A ring that no client has used yet has none. Remarks are
//! worth knowing and no reason for alarm.

use std::time::Duration;

use serde::{Serialize, Serializer};
use tktrot::ring::asks::Trait;
use tktrot::ring::layout::MAX_CAPACITY;
use tktrot::ring::stats::Problem;
use tktrot::schedule::{KeyState, Policy};

use super::ring::{KeyStatus, LockState, Maker, RingStatus, RingUser};
use crate::check::configuration;
use crate::output::in_words;
use crate::processes::Presence;
use crate::severity::Severity;

/// The upkeep thread wakes at least once a second; a very busy machine is allowed some more.
const LATE: Duration = Duration::from_secs(5);
/// A generator that failed is tried again at least once a second.
const FAILS_NOW: Duration = Duration::from_secs(10);

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alarm {
    pub alarm: AlarmKind,
    pub severity: Severity,
    /// What was found.
    pub what: String,
    /// What to do about it.
    #[serde(rename = "do")]
    pub remedy: String,
}

/// One thing that is worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    pub remark: AlarmKind,
    /// What was found.
    pub what: String,
    /// What can be done about it.
    #[serde(rename = "do")]
    pub remedy: String,
}

/// The kinds of alarms and remarks, by their names in JSON and in metrics.
macro_rules! alarm_kinds {
    ($($kind:ident => $name:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum AlarmKind {
            $($kind,)*
        }

        impl AlarmKind {
            pub const ALL: &[AlarmKind] = &[$(AlarmKind::$kind,)*];

            /// The name in JSON and in metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $(AlarmKind::$kind => $name,)*
                }
            }
        }
    };
}

alarm_kinds! {
    TimesInvalid => "times-invalid",
    WriterStuck => "writer-stuck",
    WriterDead => "writer-dead",
    RotationOverdue => "rotation-overdue",
    GeneratorFailing => "generator-failing",
    LockBroken => "lock-broken",
    NoSuccessor => "no-successor",
    RingFull => "ring-full",
    NoMemory => "no-memory",
    NoUpkeep => "no-upkeep",
    MemoryUnlocked => "memory-unlocked",
    NobodyUses => "nobody-uses",
    PlainKeys => "plain-keys",
    TicketsOff => "tickets-off",
    EarlyData => "early-data",
    OwnKeys => "own-keys",
    Unbound => "unbound",
    NotResumed => "not-resumed",
    NoTickets => "no-tickets",
    TicketsOutliveKeys => "tickets-outlive-keys",
    FileRemoved => "file-removed",
    Fleet => "fleet",
    Agent => "agent",
}

impl Serialize for AlarmKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl AlarmKind {
    fn warning(self, what: impl Into<String>, remedy: impl Into<String>) -> Option<Alarm> {
        let (what, remedy) = (what.into(), remedy.into());
        Some(Alarm { alarm: self, severity: Severity::Warning, what, remedy })
    }

    fn critical(self, what: impl Into<String>, remedy: impl Into<String>) -> Option<Alarm> {
        let alarm = self.warning(what, remedy)?;
        Some(Alarm { severity: Severity::Critical, ..alarm })
    }
}

/// All that is wrong, the worst first.
pub fn alarms(status: &RingStatus) -> Vec<Alarm> {
    const CHECKS: [fn(&RingStatus) -> Option<Alarm>; 19] = [
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
        no_tickets,
        outlived,
        fleet,
        agent,
    ];
    let mut found: Vec<_> = CHECKS.iter().filter_map(|check| check(status)).collect();
    if !status.counters.has_served() {
        found.extend(unserved(status).into_iter().filter_map(|why| {
            let Unserved { kind, what, remedy } = why;
            kind.warning(what, remedy)
        }));
    }
    found.sort_by_key(|alarm| std::cmp::Reverse(alarm.severity));
    found
}

/// What is worth knowing besides the alarms.
pub fn remarks(status: &RingStatus) -> Vec<Remark> {
    if !status.counters.has_served() {
        return Vec::new();
    }
    let remark = |Unserved { kind, what, remedy }| Remark { remark: kind, what, remedy };
    unserved(status).into_iter().map(remark).collect()
}

/// The worst severity among them.
pub fn worst(alarms: &[Alarm]) -> Severity {
    alarms.iter().map(|alarm| alarm.severity).max().unwrap_or(Severity::Ok)
}

fn times(status: &RingStatus) -> Option<Alarm> {
    if status.times_are_valid {
        return None;
    }
    AlarmKind::TimesInvalid.critical(
        "the clock (CLOCK_BOOTTIME) cannot be read, so the age of the keys is unknown",
        "check what confines this program and the servers (seccomp, containers)",
    )
}

fn removed(status: &RingStatus) -> Option<Alarm> {
    if !status.file_removed {
        return None;
    }
    let who = status.servers().map(|user| user.pid.to_string()).collect::<Vec<_>>().join(", ");
    AlarmKind::FileRemoved.critical(
        format!(
            "the ring's file was removed: the processes that have it ({who}) do not share keys with \
             those that start later, which cannot open their tickets"
        ),
        "restart their servers; find out what removes the file (RemoveIPC= of logind or of a unit, \
         RuntimeDirectory=, a clean-up of /dev/shm), and set TKTROT_DIR to a directory where it stays",
    )
}

fn writer(status: &RingStatus) -> Option<Alarm> {
    match &status.writer_lock {
        LockState::Free => None,
        LockState::Dead => AlarmKind::WriterDead.warning(
            "a process was killed while it wrote; readers are not affected",
            "nothing: the next writer repairs the ring; if none comes, run `tktrot rotate`",
        ),
        LockState::Held(_) if !status.writer_is_stuck => None,
        LockState::Held(holder) => AlarmKind::WriterStuck.critical(
            format!(
                "{} holds the writer lock and does not release it{}: no other process can rotate or \
                 erase keys",
                holder.name(),
                if holder.stopped { ", because it is stopped" } else { "" }
            ),
            match holder.process {
                Some(pid) if holder.stopped => {
                    format!("kill -CONT {pid}; or kill -KILL {pid}: the lock survives it")
                }
                Some(pid) => {
                    format!("find out what it is waiting for, or kill -KILL {pid}: the lock survives it")
                }
                None => "look for it in the containers that share the ring: it may be paused; if it \
                         ends, the lock survives it"
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
        1 => "; 1 key has expired and is not erased".into(),
        number => format!("; {number} keys have expired and are not erased"),
    };
    if matches!(status.upkeep_lock, LockState::Held(_)) {
        AlarmKind::RotationOverdue.critical(
            format!(
                "the keys have been waiting for a writer for {late}, and the upkeep thread does nothing{over}"
            ),
            "check whether its process is stopped, and the other alarms; `tktrot rotate` brings the \
             ring up to date now",
        )
    } else {
        AlarmKind::RotationOverdue.warning(
            format!("the keys have been waiting for a writer for {late}, and none has come{over}"),
            "the next handshake will do it; without handshakes, run `tktrot rotate`, or \
             `tktrot revoke --all` if the servers are gone for good",
        )
    }
}

fn generator(status: &RingStatus) -> Option<Alarm> {
    let last = status.last_problem.filter(|last| last.what == Problem::Generator)?;
    let failures = status.counters.generator_failures;
    let remedy = "check the server's log and the configuration of its TLS library (FIPS, engine, \
                  provider)";
    if last.ago <= FAILS_NOW {
        let until = status.active_key().map(|key| in_words(key.encrypts_for));
        let then = until
            .map_or("there is no active key, so new tickets cannot be resumed".into(), |until| {
                format!("the active key serves for at most {until} more")
            });
        AlarmKind::GeneratorFailing.critical(
            format!("the random number generator is failing ({failures} times so far); {then}"),
            remedy,
        )
    } else if last.ago <= status.exposure.rotate_every {
        let ago = in_words(last.ago);
        AlarmKind::GeneratorFailing.warning(
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
    AlarmKind::LockBroken.critical(
        format!("the writer lock failed {} ago: keys may no longer rotate", in_words(last.ago)),
        "stop the servers that use the ring, remove it and start them",
    )
}

fn successor(status: &RingStatus) -> Option<Alarm> {
    if !counts_time(status) || status.overdue > LATE || writes_now(status) {
        return None;
    }
    // The agent announces one in time, and knows whether its fleet has it.
    if status.is_governed() {
        return None;
    }
    let active = status.active_key()?;
    if status.successor().is_some() {
        return None;
    }
    AlarmKind::NoSuccessor.warning(
        format!("no key is announced to follow {}", active.name),
        format!(
            "if there is still none in {}, tickets stop; see the other alarms",
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
    AlarmKind::RingFull.warning(
        format!(
            "the ring {} its {} keys: retired keys end before their tickets do",
            if is_full { "is full with" } else { "was full with" },
            status.capacity
        ),
        if status.capacity < MAX_CAPACITY {
            "raise TKTROT_CAPACITY and restart a server, or make TKTROT_ROTATE longer for all servers"
        } else {
            "make TKTROT_ROTATE longer"
        },
    )
}

fn no_memory(status: &RingStatus) -> Option<Alarm> {
    let last = status.last_problem.filter(|last| last.what == Problem::NoMemory)?;
    if last.ago > status.exposure.rotate_every {
        return None;
    }
    AlarmKind::NoMemory.warning(
        format!(
            "there was no memory for another key {} ago: if no key encrypts any more, retired keys end \
             before their tickets do",
            in_words(last.ago)
        ),
        "make room on the tmpfs of the ring, or mount a larger one (128 bytes for each key); a server \
         that has confined itself cannot take memory for a ring",
    )
}

fn upkeep(status: &RingStatus) -> Option<Alarm> {
    let uses_tickets = |user: &RingUser| user.counts;
    let is_led = matches!(status.upkeep_lock, LockState::Held(_));
    let is_seen_to = is_led || status.is_governed();
    if is_seen_to || !status.upkeep_thread_expected || !counts_time(status) {
        return None;
    }
    if !status.servers().any(uses_tickets) {
        return None;
    }
    AlarmKind::NoUpkeep.warning(
        "no upkeep thread is running: keys are made and erased only when handshakes come",
        "set upkeep = \"callback\" in the settings file if that is intended; otherwise check the \
         server's log and limits (RLIMIT_NPROC) for why it has no thread",
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
        AlarmKind::MemoryUnlocked.warning(
            format!(
                "these processes do not keep the ring locked in memory, while others do: {list}"
            ),
            remedy,
        )
    } else {
        AlarmKind::MemoryUnlocked.critical(
            format!(
                "no process keeps the ring locked in memory, so keys can be swapped out: {list}"
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
    AlarmKind::NobodyUses.warning(
        format!("no process has the ring, so nobody erases its {}", status.keys_text()),
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
        return AlarmKind::PlainKeys.warning(
            format!(
                "tickets of imported keys open at every service that has the keys, whatever its \
                 label and certificate, and even if it requires client certificates: {names}"
            ),
            "nothing, if they were imported on purpose: they expire by themselves",
        );
    }
    AlarmKind::PlainKeys.warning(
        format!(
            "tickets are not bound (TKTROT_BIND=none), and keys are plain, for servers without \
             libtktrot: a ticket opens at every service that has its key, whatever its label and \
             certificate, and even if it requires client certificates: {names}"
        ),
        "unset TKTROT_BIND=none, unless servers without libtktrot share the keys",
    )
}

fn is_plain(key: &KeyStatus) -> bool {
    key.plain && key.state != KeyState::Expired
}

/// Says nothing if the ring's own keys are plain: then `plain` has said it.
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
    AlarmKind::Unbound.warning(
        format!(
            "these processes do not bind their tickets to anything, not even to a label, and resume \
             each other's, whatever client certificates they require: {}",
            unbound.join(", ")
        ),
        "unset TKTROT_BIND=none for them, unless it is intended; processes that bind are not affected",
    )
}

/// Fewer may be from clients that keep a ticket for too long.
const NOTABLE: u64 = 20;

fn part_in_words(part: Trait) -> &'static str {
    match part {
        Trait::Label => "label",
        Trait::Certificates => "certificates",
        Trait::Verification => "requirements for client certificates",
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
            ". The contexts of this ring differ in their {}: one cannot open the tickets of another",
            parts.join(" and ")
        ),
    };
    if notable(refused) {
        return AlarmKind::NotResumed.warning(
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
    AlarmKind::NotResumed.warning(
        format!(
            "{elsewhere} tickets came back to a context that did not issue them, compared to {opened} \
             that were opened: they are bound to another {}{differ}",
            if parts.is_empty() { "server name, or to a context that is gone" } else { "context" }
        ),
        "give servers that should resume each other's tickets the same certificates, label and \
         requirements for client certificates, or bind to less (TKTROT_BIND); give others another ring",
    )
}

/// Handshakes that could have had a ticket, and went on without one.
fn no_tickets(status: &RingStatus) -> Option<Alarm> {
    let (without, issued) = (status.counters.unsealed, status.counters.issued);
    let remedy = "the server's log says why: client certificates are asked for without a session id \
                  context (SSL_CTX_set_session_id_context), or see the other alarms";
    if without > 0 && issued == 0 {
        let handshakes =
            if without == 1 { "1 handshake".into() } else { format!("{without} handshakes") };
        return AlarmKind::NoTickets.warning(
            format!(
                "clients come, but no ticket was ever issued: {handshakes} went on without one"
            ),
            remedy,
        );
    }
    if without >= NOTABLE && without.saturating_mul(10) > issued {
        return AlarmKind::NoTickets.warning(
            format!("{without} handshakes went on without a ticket; {issued} tickets were issued"),
            remedy,
        );
    }
    None
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
        format!("set {capacity}TKTROT_ROTATE to more, or the servers' session timeout to {short}")
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
    AlarmKind::TicketsOutliveKeys.warning(
        format!(
            "the servers' sessions live for {long}, but ticket keys are kept for only {short}: tickets \
             expire sooner than the servers intend"
        ),
        remedy,
    )
}

/// False if nothing can be late: there are no keys, or no valid times.
fn counts_time(status: &RingStatus) -> bool {
    status.times_are_valid && !status.keys.is_empty()
}

fn writes_now(status: &RingStatus) -> bool {
    !matches!(status.writer_lock, LockState::Free)
}

/// One reason why libtktrot could not serve.
///
/// The counts never go down, and removing the cause leaves them as they are. So they are an alarm only
/// as long as nothing at all was served; once tickets were issued, they are a remark.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unserved {
    kind: AlarmKind,
    /// What was found.
    what: String,
    /// What to do about it.
    remedy: String,
}

/// All reasons met so far.
fn unserved(status: &RingStatus) -> Vec<Unserved> {
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
            "connection had tickets disabled (SSL_OP_NO_TICKET): it got none of libtktrot's",
            "connections had tickets disabled (SSL_OP_NO_TICKET): they got none of libtktrot's",
        ],
        switch_on(status),
    );
    add(
        AlarmKind::EarlyData,
        counters.anti_replay,
        [
            "connection had early data enabled, with OpenSSL's own replay protection: its TLS 1.3 \
             tickets are stateful, and not libtktrot's",
            "connections had early data enabled, with OpenSSL's own replay protection: their TLS 1.3 \
             tickets are stateful, and not libtktrot's",
        ],
        "disable early data; or, if something else protects it against replay, set \
         SSL_OP_NO_ANTI_REPLAY"
            .into(),
    );
    add(
        AlarmKind::OwnKeys,
        counters.left_alone,
        ["context keeps ticket keys of its own", "contexts keep ticket keys of their own"],
        "nothing, if TKTROT_TAKEOVER=no is intended; otherwise the server's log says why".into(),
    );
    found
}

/// What the agent says of the other hosts.
fn fleet(status: &RingStatus) -> Option<Alarm> {
    let (first, others) = status.fleet_problems.split_first()?;
    let more = match others.len() {
        0 => String::new(),
        count => format!("; and {count} more"),
    };
    AlarmKind::Fleet.warning(format!("{first}{more}"), "`tktrot peers` names each host and reason")
}

/// What keeps the agent from its work, as far as it can be known from here.
fn agent(status: &RingStatus) -> Option<Alarm> {
    let problem = status.agent_problem.as_ref()?;
    AlarmKind::Agent.warning(
        problem,
        "start it again (systemctl restart tktrot-agent): until then this host shares keys with no \
         other, and its servers make their own",
    )
}

/// Names what to remove from the configuration of the servers that are here.
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
        told.push("remove what disables tickets from the server's configuration".into());
    }
    let check = "`tktrot check --pid PID` looks for it";
    format!("unless it is intended: {}; {check}", told.join(", "))
}

#[cfg(test)]
mod tests;
