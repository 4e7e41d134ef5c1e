//! What is wrong between this host and a peer, in words for who looks after both: for `tktrot peers`,
//! `tktrot status` and metrics.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tktrot::clock::Time;
use tktrot::config::values::Written;
use tktrot::secret::KeyName;
use tktrot_fleet::message::{NodeId, Refusal};

use super::mesh::about::{Settings, Theirs};
use super::mesh::{PeerState, PeerStatus};

/// Wall clocks that differ by less are no trouble.
const CLOCK: f64 = 5.0;
/// So many refusals are kept in mind.
const REFUSALS: usize = 10_000;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Its kind, for programs.
    pub problem: Kind,
    /// What was found, and what to do.
    pub what: String,
}

/// The kinds of problems; their names are append-only, because monitoring relies on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A peer of the settings that was never connected.
    NeverSeen,
    /// A peer that no longer is.
    Down,
    /// Keys of the peer are not in this ring.
    RefusedHere,
    /// Keys of this host are not in the peer's ring.
    RefusedThere,
    /// Keys of the peer end here sooner than there.
    CutShort,
    /// It rotates its keys more often, or less.
    OtherRotate,
    /// It keeps them for longer, or less long.
    OtherLifetime,
    /// Its keys are plain and those of this host are not, or the other way round.
    OtherBinding,
    /// Its wall clock shows another time.
    Clock,
    /// It runs another release.
    OtherRelease,
    /// This host's ring cannot be written.
    RingBusy,
    /// Something else than agents wrote to Redis what it has under the ring's name.
    RedisJunk,
    /// Others share keys under the ring's names in Redis, with a secret that this host does not have.
    OtherSecret,
    /// Keys are shared through Redis, but one of this host's own encrypts.
    OwnKey,
}

impl Kind {
    /// All there are.
    pub const ALL: [Kind; 14] = [
        Kind::NeverSeen,
        Kind::Down,
        Kind::RefusedHere,
        Kind::RefusedThere,
        Kind::CutShort,
        Kind::OtherRotate,
        Kind::OtherLifetime,
        Kind::OtherBinding,
        Kind::Clock,
        Kind::OtherRelease,
        Kind::RingBusy,
        Kind::RedisJunk,
        Kind::OtherSecret,
        Kind::OwnKey,
    ];

    /// Its name in JSON and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Kind::NeverSeen => "never-seen",
            Kind::Down => "down",
            Kind::RefusedHere => "refused-here",
            Kind::RefusedThere => "refused-there",
            Kind::CutShort => "cut-short",
            Kind::OtherRotate => "other-rotate",
            Kind::OtherLifetime => "other-lifetime",
            Kind::OtherBinding => "other-binding",
            Kind::Clock => "clock",
            Kind::OtherRelease => "other-release",
            Kind::RingBusy => "ring-busy",
            Kind::RedisJunk => "redis-junk",
            Kind::OtherSecret => "other-secret",
            Kind::OwnKey => "own-key",
        }
    }
}

/// Which host did not take a key, or not as it was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum By {
    This,
    Peer,
    /// This one took it, and ends it earlier.
    Cut,
}

/// Keys that were not taken, until they are, or end.
#[derive(Default)]
pub(crate) struct Refusals {
    all: HashMap<(NodeId, By, KeyName), (Option<Refusal>, Time)>,
}

impl Refusals {
    /// A key that lives until then was not taken. True if that is news.
    pub fn refused(
        &mut self,
        peer: NodeId,
        by: By,
        name: KeyName,
        why: Option<Refusal>,
        until: Time,
        now: Time,
    ) -> bool {
        if self.all.len() >= REFUSALS {
            self.all.retain(|_, (_, until)| *until > now);
        }
        if self.all.len() >= REFUSALS {
            return !self.all.contains_key(&(peer, by, name));
        }
        self.all.insert((peer, by, name), (why, until)).is_none()
    }

    /// These were taken after all.
    pub fn taken(&mut self, peer: NodeId, by: By, names: &[KeyName]) {
        for name in names {
            self.all.remove(&(peer, by, *name));
        }
    }

    /// What a peer's connection was refused is offered again when it is back.
    pub fn forget(&mut self, peer: NodeId) {
        self.all.retain(|(node, by, _), _| *node != peer || *by == By::Cut);
    }

    /// How many keys between this node and a peer are not where they should be, by reason. One that has
    /// ended or was revoked is nobody's loss.
    fn of(&self, peer: NodeId, by: By, now: Time) -> Vec<(Option<Refusal>, usize)> {
        let mut counts: Vec<(Option<Refusal>, usize)> = Vec::new();
        let living = self
            .all
            .iter()
            .filter(|((node, which, _), (_, until))| *node == peer && *which == by && *until > now);
        for (_, (why, _)) in living.filter(|(_, (why, _))| *why != Some(Refusal::Ended)) {
            match counts.iter_mut().find(|(other, _)| other == why) {
                Some((_, count)) => *count += 1,
                None => counts.push((*why, 1)),
            }
        }
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
    }
}

/// All that is wrong between this host, which makes such keys, and a peer.
pub(crate) fn between(
    own: Settings,
    peer: &PeerStatus,
    refusals: &Refusals,
    now: Time,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    match peer.state {
        PeerState::Myself => return problems,
        PeerState::Up => {}
        PeerState::Down => problems.push(down(peer)),
    }
    if let Some(node) = peer.node {
        problems.extend(refused(node, refusals, now));
    }
    if let Some(told) = &peer.told {
        problems.extend(differs(own, told));
    }
    problems
}

fn down(peer: &PeerStatus) -> Problem {
    let why = peer.failure.as_ref().map_or(String::new(), |failure| format!(": {}", failure.what));
    if peer.was_seen {
        return problem(Kind::Down, format!("it is not connected{why}"));
    }
    let what = format!("it was never connected since this agent started{why}");
    problem(Kind::NeverSeen, what)
}

fn refused(node: NodeId, refusals: &Refusals, now: Time) -> Vec<Problem> {
    let keys = |count: usize| if count == 1 { "1 key".into() } else { format!("{count} keys") };
    let reason = |why: Option<Refusal>| why.map_or(String::new(), |why| why.to_string());
    let not_in_a_ring = |by, kind, [of, ring, place]: [&'static str; 3]| {
        refusals.of(node, by, now).into_iter().map(move |(why, count)| {
            let (keys, why) = (keys(count), reason(why));
            let what = format!(
                "{keys} of {of} are not in {ring} ring, and tickets of them do not open {place}: \
                 {why}"
            );
            problem(kind, what)
        })
    };
    let here = not_in_a_ring(By::This, Kind::RefusedHere, ["it", "this", "here"]);
    let there = not_in_a_ring(By::Peer, Kind::RefusedThere, ["this host", "its", "there"]);
    let cut = refusals.of(node, By::Cut, now).into_iter().map(|(_, count)| {
        let what = format!(
            "{} of it end here before they end there: its rotate or lifetime is more than a \
             hundred times as long as here",
            keys(count)
        );
        problem(Kind::CutShort, what)
    });
    here.chain(there).chain(cut).collect()
}

fn differs(own: Settings, told: &Theirs) -> Vec<Problem> {
    let (theirs, release) = (told.settings(), env!("CARGO_PKG_VERSION"));
    let mut problems = Vec::new();
    let seconds = |span: Duration| Written(Duration::from_secs(span.as_secs()));
    if theirs.rotate_every != own.rotate_every {
        let what = format!(
            "its keys encrypt for {}, those of this host for {} (rotate)",
            seconds(theirs.rotate_every),
            seconds(own.rotate_every)
        );
        problems.push(problem(Kind::OtherRotate, what));
    }
    if theirs.lifetime != own.lifetime {
        let what = format!(
            "its keys are kept for {} after that, those of this host for {} (lifetime)",
            seconds(theirs.lifetime),
            seconds(own.lifetime)
        );
        problems.push(problem(Kind::OtherLifetime, what));
    }
    if theirs.plain != own.plain {
        let what = match theirs.plain {
            true => "its keys are plain, those of this host are not (bind)",
            false => "its keys are not plain, those of this host are (bind)",
        };
        problems.push(problem(Kind::OtherBinding, what.into()));
    }
    if told.ahead.abs() >= CLOCK {
        let by = Written(Duration::from_secs(told.ahead.abs() as u64));
        let (which, older) = match told.ahead > 0.0 {
            true => ("ahead", "tickets of this host look older there"),
            false => ("behind", "its tickets look older here"),
        };
        let what = format!("its wall clock is {by} {which}, so that {older} than they are");
        problems.push(problem(Kind::Clock, what));
    }
    if told.about.release != release {
        let what = format!("it runs tktrot {}, this host {release}", told.about.release);
        problems.push(problem(Kind::OtherRelease, what));
    }
    problems
}

/// The ring of this host could not be written when that was last tried.
pub(crate) fn ring_is_busy() -> Problem {
    let what = "the ring of this host cannot be written, so that keys of peers are not taken: \
                `tktrot status` says who holds its lock";
    problem(Kind::RingBusy, what.into())
}

/// What Redis has under the ring's name that no agent wrote.
pub(crate) fn redis_has_junk(what: String) -> Problem {
    problem(Kind::RedisJunk, what)
}

/// Others use the same names in Redis, and this host cannot read what they write.
pub(crate) fn other_secret() -> Problem {
    let what = "others use this ring's names in Redis with a secret that this host does not have, \
                so that tickets of theirs do not open here, nor those of this host there: give all \
                hosts of the fleet the same secrets in [redis], and another fleet another prefix";
    problem(Kind::OtherSecret, what.into())
}

/// Hosts that share through the same Redis rotate every `theirs`.
pub(crate) fn others_rotate(theirs: &str, ours: Duration) -> Problem {
    let what = format!(
        "other hosts rotate every {theirs}, this one every {}: they have keys of their own, and \
         each host has keys of both in its ring; set the same rotate on all hosts",
        Written(ours)
    );
    problem(Kind::OtherRotate, what)
}

/// The fleet's key is not the one that encrypts.
pub(crate) fn encrypts_alone() -> Problem {
    let what = "a key of this host's own encrypts, not the fleet's: its tickets open on no other \
                host";
    problem(Kind::OwnKey, what.into())
}

fn problem(problem: Kind, what: String) -> Problem {
    Problem { problem, what }
}

#[cfg(test)]
mod tests {
    use super::super::mesh::about;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: Time = Time(1_000_000_000);

    fn own() -> Settings {
        Settings { rotate_every: HOUR, lifetime: 2 * HOUR, plain: false }
    }

    fn peer() -> PeerStatus {
        PeerStatus {
            name: "web2:4744".into(),
            addresses: vec!["10.0.0.2:4744".into()],
            node: Some(NodeId(2)),
            state: PeerState::Up,
            was_seen: true,
            round_trip: None,
            acknowledged: None,
            told: Some(Theirs::heard(about::own(own()), Duration::ZERO)),
            failure: None,
        }
    }

    fn kinds(peer: &PeerStatus, refusals: &Refusals) -> Vec<Kind> {
        let problems = between(own(), peer, refusals, NOW);
        assert!(problems.iter().all(|problem| !problem.what.is_empty()), "{problems:?}");
        problems.into_iter().map(|problem| problem.problem).collect()
    }

    #[test]
    fn names_are_those_of_json() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn a_peer_that_is_like_this_host_has_no_problem() {
        assert_eq!(kinds(&peer(), &Refusals::default()), []);
        let unknown = PeerStatus { told: None, ..peer() };
        assert_eq!(kinds(&unknown, &Refusals::default()), [], "an earlier release tells nothing");
    }

    #[test]
    fn each_difference_is_one() {
        let with = |change: fn(&mut Theirs)| {
            let mut peer = peer();
            change(peer.told.as_mut().unwrap());
            kinds(&peer, &Refusals::default())
        };
        assert_eq!(with(|told| told.about.rotate_every = HOUR / 2), [Kind::OtherRotate]);
        assert_eq!(with(|told| told.about.lifetime = HOUR), [Kind::OtherLifetime]);
        assert_eq!(with(|told| told.about.plain = true), [Kind::OtherBinding]);
        assert_eq!(with(|told| told.about.release = "0.0.1".into()), [Kind::OtherRelease]);
        assert_eq!(with(|told| told.ahead = 4.9), []);
        assert_eq!(with(|told| told.ahead = 5.0), [Kind::Clock]);
        assert_eq!(with(|told| told.ahead = -3600.0), [Kind::Clock]);
    }

    #[test]
    fn who_is_not_there_has_been_or_has_never_been() {
        let down = PeerStatus { state: PeerState::Down, told: None, ..peer() };
        assert_eq!(kinds(&down, &Refusals::default()), [Kind::Down]);
        let never = PeerStatus { was_seen: false, node: None, ..down };
        assert_eq!(kinds(&never, &Refusals::default()), [Kind::NeverSeen]);
        let own = PeerStatus { state: PeerState::Myself, ..never };
        assert_eq!(kinds(&own, &Refusals::default()), []);
    }

    #[test]
    fn a_refused_key_is_a_problem_until_it_is_taken_or_ends() {
        let (node, name) = (NodeId(2), |number| KeyName([number; 16]));
        let later = Time(NOW.0 + 1);
        let mut refusals = Refusals::default();
        let mut refuse = |by, number, why, until| {
            refusals.refused(node, by, name(number), Some(why), until, NOW)
        };
        assert!(refuse(By::This, 1, Refusal::Full, later));
        assert!(!refuse(By::This, 1, Refusal::Full, later), "it was offered again");
        assert!(refuse(By::This, 2, Refusal::TooMany, later));
        assert!(refuse(By::Peer, 3, Refusal::Busy, later));
        assert!(refuse(By::Cut, 4, Refusal::Other, later));
        assert!(refuse(By::This, 5, Refusal::Ended, later), "nobody's loss");
        assert!(refuse(By::This, 6, Refusal::Full, NOW), "over");
        let here = Kind::RefusedHere;
        assert_eq!(kinds(&peer(), &refusals), [here, here, Kind::RefusedThere, Kind::CutShort]);
        refusals.taken(node, By::This, &[name(1), name(2)]);
        refusals.taken(node, By::Peer, &[name(1)]);
        assert_eq!(kinds(&peer(), &refusals), [Kind::RefusedThere, Kind::CutShort]);
        refusals.forget(node);
        assert_eq!(kinds(&peer(), &refusals), [Kind::CutShort]);
    }
}
