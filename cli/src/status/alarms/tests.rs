use super::*;
use crate::processes::LockHolder;
use crate::status::counters::Counters;
use crate::status::example::{HOUR, MINUTE, governed, healthy, idle, key, user};
use crate::status::ring::LastProblem;

fn found(status: &RingStatus) -> Vec<(AlarmKind, Severity)> {
    alarms(status).iter().map(|alarm| (alarm.alarm, alarm.severity)).collect()
}

fn problem(what: Problem, ago: Duration) -> RingStatus {
    RingStatus { last_problem: Some(LastProblem { what, ago }), ..healthy() }
}

fn held(stopped: bool, process: Option<u32>) -> LockState {
    let (thread, own_pid, program) = (Some(4713), 1, "nginx".into());
    LockState::Held(LockHolder { thread, process, own_pid, program, stopped })
}

#[test]
fn a_healthy_ring_and_one_that_nobody_has_asked_for_a_ticket_give_none() {
    assert_eq!(found(&healthy()), []);
    assert_eq!(found(&idle()), []);
    assert_eq!(worst(&[]), Severity::Ok);
}

#[test]
fn times_that_mean_nothing_are_wrong_and_not_called_overdue() {
    let status = RingStatus { times_are_valid: false, overdue: HOUR, ..healthy() };
    assert_eq!(found(&status), [(AlarmKind::TimesInvalid, Severity::Critical)]);
}

#[test]
fn a_removed_file_is_wrong_and_names_who_has_it() {
    let status = RingStatus { file_removed: true, ..healthy() };
    assert_eq!(found(&status), [(AlarmKind::FileRemoved, Severity::Critical)]);
    assert!(alarms(&status)[0].what.contains("4712"), "{:?}", alarms(&status));
}

#[test]
fn a_dead_writer_deserves_a_look_and_a_stuck_one_is_wrong() {
    let status = RingStatus { writer_lock: LockState::Dead, ..healthy() };
    assert_eq!(found(&status), [(AlarmKind::WriterDead, Severity::Warning)]);
    let busy = RingStatus { writer_lock: held(false, Some(4712)), ..healthy() };
    assert_eq!(found(&busy), []);
    for (lock, word) in [
        (held(true, Some(4712)), "kill -CONT 4712"),
        (held(false, Some(4712)), "kill -KILL 4712"),
        (held(false, None), "containers"),
    ] {
        let stuck = RingStatus { writer_lock: lock, writer_is_stuck: true, ..healthy() };
        let alarms = alarms(&stuck);
        assert_eq!(found(&stuck), [(AlarmKind::WriterStuck, Severity::Critical)]);
        assert!(alarms[0].remedy.contains(word), "{alarms:?}");
        // The number of a process in another container is one of somebody else here.
        assert!(!alarms[0].remedy.contains("kill -KILL 1"), "{alarms:?}");
    }
}

#[test]
fn a_deadline_missed_by_a_working_thread_is_critical_and_by_nobody_a_warning() {
    assert_eq!(found(&RingStatus { overdue: LATE, ..healthy() }), []);
    let late = RingStatus { overdue: MINUTE, ..healthy() };
    assert_eq!(found(&late), [(AlarmKind::RotationOverdue, Severity::Critical)]);
    let callback =
        RingStatus { upkeep_lock: LockState::Free, upkeep_thread_expected: false, ..late.clone() };
    assert_eq!(found(&callback), [(AlarmKind::RotationOverdue, Severity::Warning)]);
    let over = RingStatus { keys: vec![key("11111111", Duration::ZERO, 9 * HOUR)], ..late };
    assert!(alarms(&over)[0].what.contains("1 key has expired"));
}

#[test]
fn problems_of_the_last_rotation_are_told_and_old_ones_are_not() {
    use Severity::{Critical, Warning};
    let cases = [
        (Problem::Generator, Duration::from_secs(1), vec![(AlarmKind::GeneratorFailing, Critical)]),
        (Problem::Generator, 10 * MINUTE, vec![(AlarmKind::GeneratorFailing, Warning)]),
        (Problem::Generator, 2 * HOUR, vec![]),
        (Problem::Lock, MINUTE, vec![(AlarmKind::LockBroken, Critical)]),
        (Problem::Lock, 2 * HOUR, vec![]),
        (Problem::Full, MINUTE, vec![(AlarmKind::RingFull, Warning)]),
        (Problem::Full, 2 * HOUR, vec![]),
    ];
    for (what, ago, expected) in cases {
        assert_eq!(found(&problem(what, ago)), expected, "{what:?} {ago:?} ago");
    }
    let counters = Counters { generator_failures: 7, ..Counters::default() };
    let failing = RingStatus { counters, ..problem(Problem::Generator, Duration::ZERO) };
    let what = &alarms(&failing)[0].what;
    assert!(what.contains("7 times") && what.contains("at most 48 min more"), "{what}");
}

#[test]
fn an_active_key_without_a_successor_deserves_a_look() {
    let mut status = healthy();
    status.keys.pop();
    assert_eq!(found(&status), [(AlarmKind::NoSuccessor, Severity::Warning)]);
}

#[test]
fn what_an_agent_sees_to_gives_no_alarm_while_it_lives() {
    assert_eq!(found(&governed()), []);
    let left = RingStatus { governed_for: None, ..governed() };
    let kinds = [AlarmKind::NoSuccessor, AlarmKind::NoUpkeep];
    assert_eq!(found(&left), kinds.map(|kind| (kind, Severity::Warning)));
    // What it does not get to is told as ever.
    let late = RingStatus { overdue: MINUTE, ..governed() };
    assert_eq!(found(&late), [(AlarmKind::RotationOverdue, Severity::Warning)]);
}

#[test]
fn a_ring_without_a_free_slot_deserves_a_look() {
    assert_eq!(
        found(&RingStatus { capacity: 3, ..healthy() }),
        [(AlarmKind::RingFull, Severity::Warning)]
    );
}

#[test]
fn a_missing_upkeep_thread_is_told_unless_it_was_not_wanted() {
    let without = RingStatus { upkeep_lock: LockState::Free, ..healthy() };
    assert_eq!(found(&without), [(AlarmKind::NoUpkeep, Severity::Warning)]);
    assert_eq!(found(&RingStatus { upkeep_thread_expected: false, ..without }), []);
}

#[test]
fn memory_that_nobody_locks_is_critical_and_that_some_lock_a_warning() {
    let some = |locked| RingUser { locked, ..user(4712) };
    let mut status = healthy();
    status.users[1] = some(Some(false));
    assert_eq!(found(&status), [(AlarmKind::MemoryUnlocked, Severity::Warning)]);
    status.users.remove(0);
    assert_eq!(found(&status), [(AlarmKind::MemoryUnlocked, Severity::Critical)]);
    assert!(alarms(&status)[0].what.contains("4712"));
    status.users[0] = some(None);
    assert_eq!(found(&status), [], "what cannot be seen is not called unlocked");
}

#[test]
fn keys_that_nobody_uses_are_told_if_everybody_can_be_seen() {
    let gone = RingUser { presence: Presence::Gone, locked: None, ..user(4712) };
    let alone = RingStatus { users: vec![gone], upkeep_lock: LockState::Free, ..healthy() };
    assert_eq!(found(&alone), [(AlarmKind::NobodyUses, Severity::Warning)]);
    assert_eq!(found(&RingStatus { hidden_processes: 1, ..alone }), []);
}

#[test]
fn plain_keys_are_told_by_name() {
    let mut status = healthy();
    status.keys[0].plain = true;
    status.keys[0].maker = Maker::Imported;
    let told = alarms(&status);
    assert_eq!(found(&status), [(AlarmKind::PlainKeys, Severity::Warning)]);
    assert!(told[0].what.contains("11111111") && told[0].remedy.contains("imported"));
}

#[test]
fn keys_that_others_may_have_are_told_apart_from_those_that_came_out_of_files() {
    let mut status = healthy();
    status.keys[1].plain = true;
    status.users[1].binds = Some(vec!["none".into()]);
    let told = alarms(&status);
    assert_eq!(found(&status), [(AlarmKind::PlainKeys, Severity::Warning)]);
    assert!(told[0].what.contains("22222222") && told[0].remedy.contains("TKTROT_BIND"));
}

#[test]
fn who_binds_to_nothing_beside_others_is_named() {
    let mut status = healthy();
    status.users[1].binds = Some(vec!["all".into(), "none".into()]);
    let told = alarms(&status);
    assert_eq!(found(&status), [(AlarmKind::Unbound, Severity::Warning)]);
    assert!(told[0].what.ends_with("4712 (nginx)"), "{told:?}");
    status.users[1].presence = Presence::Gone;
    assert_eq!(found(&status), []);
}

/// A few may be from clients that keep a ticket for too long.
#[test]
fn tickets_that_were_opened_and_then_refused_are_told_if_they_are_many() {
    let with = |opened, not_resumed| {
        let mut status = healthy();
        status.counters =
            Counters { issued: 100, resumed_active: opened, not_resumed, ..Counters::default() };
        status
    };
    for (opened, refused) in [(19, 19), (200, 20), (1000, 100), (1000, 0)] {
        assert_eq!(found(&with(opened, refused)), [], "{refused} of {opened}");
    }
    for (opened, refused) in [(20, 20), (199, 20), (1000, 101)] {
        let status = with(opened, refused);
        let told = alarms(&status);
        assert_eq!(found(&status), [(AlarmKind::NotResumed, Severity::Warning)]);
        let words = format!(
            "{refused} of {opened} tickets were opened, but refused by the server: its session id context differs"
        );
        assert!(told[0].what.starts_with(&words), "{told:?}");
        assert!(told[0].what.contains("mariadb") && told[0].remedy.contains("session_id_context"));
    }
}

#[test]
fn tickets_of_another_scope_are_told_by_the_part_that_differs() {
    let mut status = healthy();
    status.counters.wrong_scope = 2 * status.counters.opened();
    assert_eq!(found(&status), [(AlarmKind::NotResumed, Severity::Warning)]);
    assert!(alarms(&status)[0].what.contains("another server name"), "{:?}", alarms(&status));
    status.contexts_differ_in = vec![Trait::Certificates, Trait::Verification];
    let what = &alarms(&status)[0].what;
    assert!(what.contains("differ in their certificates and requirements for client"), "{what}");
}

#[test]
fn handshakes_without_a_ticket_are_told_if_there_are_no_others_or_many() {
    let status = |unsealed, issued| {
        let counters = Counters { unsealed, issued, ..Counters::default() };
        RingStatus { counters, ..healthy() }
    };
    assert_eq!(found(&status(0, 0)), []);
    assert_eq!(found(&status(1, 0)), [(AlarmKind::NoTickets, Severity::Warning)]);
    assert_eq!(found(&status(19, 10)), []);
    assert_eq!(found(&status(20, 200)), []);
    assert_eq!(found(&status(20, 199)), [(AlarmKind::NoTickets, Severity::Warning)]);
}

#[test]
fn tickets_that_outlive_their_keys_are_an_alarm_that_says_what_to_set() {
    let promised = |promised| RingStatus { promised: Some(promised), ..healthy() };
    assert_eq!(found(&promised(2 * HOUR)), []);
    let status = promised(5 * HOUR);
    let told = alarms(&status);
    assert_eq!(found(&status), [(AlarmKind::TicketsOutliveKeys, Severity::Warning)]);
    assert!(told[0].what.contains("for 5 h") && told[0].what.contains("for only 2 h"), "{told:?}");
    assert!(told[0].remedy.starts_with("set TKTROT_LIFETIME to 5 h"), "{told:?}");
    let governed = RingStatus { promised: Some(5 * HOUR), ..governed() };
    assert!(alarms(&governed)[0].remedy.contains("agent's settings"));
    // 64 keys of an hour, of which some are needed beside those that are kept.
    let small = promised(61 * HOUR);
    assert!(alarms(&small)[0].remedy.starts_with("set TKTROT_CAPACITY to 65"), "{small:?}");
}

/// Once and often, each reason in its words; what was served beside makes remarks of them.
#[test]
fn what_is_not_served_is_an_alarm_only_while_nothing_else_is() {
    type Count = fn(&mut Counters) -> &mut u64;
    let reasons: [(AlarmKind, Count, [&str; 2], &str); 3] = [
        (
            AlarmKind::TicketsOff,
            |counters| &mut counters.tickets_off,
            [
                "1 connection had tickets disabled (SSL_OP_NO_TICKET): it got none of",
                "120 connections had tickets disabled (SSL_OP_NO_TICKET): they got none of",
            ],
            "remove \"ssl_session_tickets off\" from the configuration of nginx",
        ),
        (
            AlarmKind::EarlyData,
            |counters| &mut counters.anti_replay,
            [
                "1 connection had early data enabled, with OpenSSL's own replay protection: its TLS 1.3 tickets are",
                "120 connections had early data enabled, with OpenSSL's own replay protection: their TLS 1.3 tickets are",
            ],
            "SSL_OP_NO_ANTI_REPLAY",
        ),
        (
            AlarmKind::OwnKeys,
            |counters| &mut counters.left_alone,
            [
                "1 context keeps ticket keys of its own",
                "120 contexts keep ticket keys of their own",
            ],
            "TKTROT_TAKEOVER=no",
        ),
    ];
    for (kind, count, words, remedy) in reasons {
        for (number, words) in [1, 120].into_iter().zip(words) {
            let mut status = idle();
            *count(&mut status.counters) = number;
            let told = alarms(&status);
            assert_eq!(found(&status), [(kind, Severity::Warning)]);
            assert_eq!(remarks(&status), []);
            assert!(told[0].what.starts_with(words), "{told:?}");
            assert!(told[0].remedy.contains(remedy), "{told:?}");

            status.counters.issued = 1;
            assert_eq!(found(&status), []);
            let told = remarks(&status);
            assert_eq!((told.len(), told[0].remark), (1, kind));
            assert!(told[0].what.starts_with(words), "{told:?}");
            assert!(told[0].remedy.contains(remedy), "{told:?}");
        }
    }
    assert_eq!(remarks(&healthy()), []);
}

#[test]
fn what_switches_tickets_off_is_named_for_each_server_that_is_there() {
    let remedy = |programs: &[&str]| {
        let named =
            programs.iter().map(|program| RingUser { program: (*program).into(), ..user(1) });
        let mut status = RingStatus { users: named.collect(), ..idle() };
        status.counters.tickets_off = 1;
        alarms(&status)[0].remedy.clone()
    };
    assert_eq!(
        remedy(&["haproxy", "haproxy", "apache2"]),
        "unless it is intended: remove no-tls-tickets from the configuration of haproxy, remove \
         \"SSLSessionTickets off\" from the configuration of apache2; `tktrot check --pid PID` looks for it"
    );
    assert!(
        remedy(&["stunnel4"])
            .contains("remove what disables tickets from the server's configuration")
    );
}

#[test]
fn the_worst_comes_first_and_every_kind_has_a_name_of_its_own() {
    let status =
        RingStatus { capacity: 3, overdue: MINUTE, writer_lock: LockState::Dead, ..healthy() };
    let told = alarms(&status);
    assert!(told.is_sorted_by(|one, next| one.severity >= next.severity), "{told:?}");
    assert_eq!((told.len(), worst(&told)), (3, Severity::Critical));
    for (at, kind) in AlarmKind::ALL.iter().enumerate() {
        let others = &AlarmKind::ALL[at + 1..];
        assert!(others.iter().all(|other| other.name() != kind.name()), "{}", kind.name());
    }
}

#[test]
fn what_is_wrong_with_the_fleet_deserves_a_look() {
    let fleet_problems =
        vec!["web2:4744: it is not connected".into(), "web3:4744: its clock".into()];
    let status = RingStatus { fleet_problems, ..governed() };
    assert_eq!(found(&status), [(AlarmKind::Fleet, Severity::Warning)]);
    let alarm = &alarms(&status)[0];
    assert!(alarm.what.contains("web2") && alarm.what.ends_with("and 1 more"), "{alarm:?}");
}

#[test]
fn an_agent_that_is_gone_deserves_a_look() {
    let agent_problem = Some("its agent is gone".into());
    let status = RingStatus { agent_problem, ..healthy() };
    assert_eq!(found(&status), [(AlarmKind::Agent, Severity::Warning)]);
}
