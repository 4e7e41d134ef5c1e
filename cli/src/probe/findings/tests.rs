use super::*;
use crate::probe::endpoint::Endpoint;
use crate::probe::failure::{Failure, FailureKind, Stage};
use crate::probe::observation::{Count, Issued, KeyChange, Watch};

fn healthy(port: u16, tls: Version) -> Observation {
    let endpoint = Endpoint { address: ([127, 0, 0, 1], port).into(), sni: None };
    let mut seen = Observation::new(&endpoint, tls);
    seen.handshakes = 3;
    seen.ticket = Issued::Ticket;
    seen.lifetime_hint = Some(7200);
    seen.resumed_here = Count { offered: 3, resumed: 3 };
    seen
}

fn judge(observations: &[Observation]) -> Vec<(Severity, &'static str)> {
    let all = findings(&[], observations, 0);
    all.iter().map(|finding| (finding.severity, finding.code)).collect()
}

#[test]
fn lifetimes_are_held_against_the_rfcs() {
    let of = |tls, seconds| {
        let mut seen = healthy(1, tls);
        seen.lifetime_hint = Some(seconds);
        let told = judge(&[seen]);
        told.into_iter().find(|(_, code)| code.starts_with("lifetime"))
    };
    let week = 604_800;
    for tls in Version::ALL {
        assert_eq!(of(tls, 1), None);
        assert_eq!(of(tls, week / 2), None);
        assert_eq!(of(tls, week / 2 + 1), Some((Severity::Warning, "lifetime-long")));
        assert_eq!(of(tls, week), Some((Severity::Warning, "lifetime-long")));
    }
    // Only TLS 1.3 forbids it.
    assert_eq!(of(Version::V12, week + 1), Some((Severity::Warning, "lifetime-over-7-days")));
    assert_eq!(of(Version::V13, week + 1), Some((Severity::Critical, "lifetime-over-7-days")));
    // In TLS 1.2 it means that nothing is said, in TLS 1.3 it means what it says.
    assert_eq!(of(Version::V12, 0), None);
    assert_eq!(of(Version::V13, 0), Some((Severity::Warning, "lifetime-zero")));
}

#[test]
fn what_holds_in_several_places_is_said_once() {
    let observations: Vec<_> =
        [1, 2].iter().flat_map(|&port| Version::ALL.map(|tls| healthy(port, tls))).collect();
    let all = findings(&[], &observations, 0);
    assert_eq!(all.len(), 1);
    let at = [1, 2]
        .map(|port| Location { place: format!("127.0.0.1:{port}"), tls: Version::ALL.to_vec() });
    assert_eq!(all[0].at, at);
    assert_eq!(worst(&all), Severity::Ok);
}

#[test]
fn the_worst_comes_first() {
    let mut partly = healthy(1, Version::V13);
    partly.resumed_here.resumed = 1;
    let mut dead = Observation::new(&healthy(2, Version::V13).endpoint, Version::V13);
    dead.failure = Some(Failure::new(Stage::Connect, FailureKind::Refused, "no"));
    let told = judge(&[healthy(3, Version::V12), partly, dead]);
    assert_eq!(
        told,
        [
            (Severity::Critical, "closed-port"),
            (Severity::Warning, "partly-resumed"),
            (Severity::Ok, "resumed"),
        ]
    );
}

#[test]
fn a_version_that_is_not_spoken_matters_only_if_no_other_is() {
    let mut old = Observation::new(&healthy(1, Version::V13).endpoint, Version::V13);
    old.failure = Some(Failure::new(Stage::Handshake, FailureKind::Version, "no"));
    assert_eq!(judge(&[old.clone()]), [(Severity::Critical, "old-tls")]);
    assert_eq!(judge(&[healthy(1, Version::V12), old]), [(Severity::Ok, "resumed")]);
}

#[test]
fn what_is_not_resumed_at_home_is_not_expected_elsewhere() {
    let mut seen = healthy(1, Version::V13);
    seen.resumed_elsewhere = Count { offered: 2, resumed: 1 };
    assert_eq!(judge(&[seen.clone()])[0], (Severity::Warning, "not-shared"));
    seen.resumed_here.resumed = 0;
    assert_eq!(judge(&[seen]), [(Severity::Warning, "not-resumed")]);
}

#[test]
fn tickets_of_one_key_that_are_refused_at_home_do_not_lack_a_key() {
    let of = |names: &[&str], ticket, resumed| {
        let mut seen = healthy(1, Version::V13);
        seen.key_names = names.iter().map(|name| (*name).to_owned()).collect();
        (seen.ticket, seen.resumed_here.resumed) = (ticket, resumed);
        judge(&[seen])[0].1
    };
    let (one, two) = (&["11111111"][..], &["11111111", "22222222"][..]);
    for (names, resumed, code) in [
        (one, 0, "same-key-refused"),
        (one, 1, "same-key-refused"),
        (one, 3, "resumed"),
        (two, 0, "not-resumed"),
        (two, 1, "partly-resumed"),
        (&[], 0, "not-resumed"),
    ] {
        assert_eq!(of(names, Issued::Ticket, resumed), code);
    }
    for (resumed, code) in [(0, "tickets-off"), (1, "partly-cached"), (3, "session-id")] {
        assert_eq!(of(&[], Issued::SessionId, resumed), code);
    }
}

#[test]
fn a_key_that_never_changes_is_told_after_a_day() {
    let watched = |seconds, key_names: &[&str]| {
        let mut seen = healthy(1, Version::V13);
        seen.key_names = key_names.iter().map(|name| (*name).to_owned()).collect();
        let first_ticket = Count { offered: 9, resumed: 9 };
        seen.watch = Some(Watch { seconds, rounds: 9, first_ticket, ..Watch::default() });
        let all = findings(&[], &[seen], 0);
        let told = all.into_iter().find(|finding| finding.code != "resumed").unwrap();
        (told.severity, told.code, told.advice.is_empty())
    };
    let day = 86_400.0;
    assert_eq!(watched(day, &["11111111"]), (Severity::Warning, "key-unchanged", false));
    assert_eq!(watched(day - 1.0, &["11111111"]), (Severity::Ok, "watched", false));
    assert_eq!(watched(day, &[]), (Severity::Ok, "watched", true));
}

#[test]
fn a_key_may_change_but_not_lose_tickets() {
    let watched = |offered, resumed| {
        let mut seen = healthy(1, Version::V13);
        let change = KeyChange { after_seconds: 2.0, key_name: "0123abcd".into() };
        seen.watch = Some(Watch {
            seconds: 5.0,
            rounds: 10,
            key_changes: vec![change],
            first_ticket: Count { offered, resumed },
            first_ticket_resumed_until: (resumed > 0).then_some(1.5),
            ..Watch::default()
        });
        let told = judge(&[seen]);
        told.into_iter().find(|(_, code)| *code != "resumed")
    };
    assert_eq!(watched(10, 10), Some((Severity::Ok, "watched")));
    assert_eq!(watched(10, 4), Some((Severity::Warning, "tickets-lost")));
    assert_eq!(watched(10, 0), Some((Severity::Warning, "tickets-lost")));
    assert_eq!(watched(0, 0), Some((Severity::Warning, "not-watched")));
}

#[test]
fn what_was_not_looked_at_is_told() {
    let all = findings(&[], &[healthy(1, Version::V12)], 3);
    assert_eq!((worst(&all), all[0].code), (Severity::Warning, "left-out"));
}

/// Hosts without IPv6 cannot reach every second address.
#[test]
fn an_address_that_cannot_be_reached_is_critical_unless_its_target_has_another() {
    let [here, away] = [1, 2].map(|port| healthy(port, Version::V13).endpoint);
    let mut unreachable = Observation::new(&away, Version::V13);
    unreachable.failure = Some(Failure::new(Stage::Connect, FailureKind::Unreachable, "no"));
    let seen = [healthy(1, Version::V13), unreachable];
    let target = |endpoints: &[&Endpoint]| Resolved {
        target: "a".to_owned(),
        addresses: endpoints.iter().map(|endpoint| endpoint.address).collect(),
        endpoints: endpoints.iter().map(|&endpoint| endpoint.clone()).collect(),
        error: None,
    };
    for (targets, severity) in [
        (vec![target(&[&here, &away])], Severity::Warning),
        (vec![target(&[&here]), target(&[&away])], Severity::Critical),
        (vec![target(&[&here, &away]), target(&[&away])], Severity::Critical),
    ] {
        let told = findings(&targets, &seen, 0);
        let told = told.iter().find(|finding| finding.code == "unreachable").unwrap();
        assert_eq!(told.severity, severity);
    }
}
