//! What `tktrot peers` and the metrics report about the agent. docs/schemas/peers.schema.json
//! describes the former.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tktrot::clock::Time;
use tktrot::secret::KeyName;
use tktrot_fleet::message::NodeId;

use super::export::entry::ExportStatus;
use super::problems::{Problem, Refusals};

/// All that is told, at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// The version of this format; members may be added without a new one.
    pub version: u32,
    /// The ring's name.
    pub ring: String,
    /// This node's id.
    pub node: String,
    /// How it shares its keys, and with whom.
    #[serde(flatten)]
    pub told: Told,
    /// Key files that are kept current.
    pub exports: Vec<ExportStatus>,
}

/// What is told of the fleet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    /// How keys are shared.
    pub sharing: Sharing,
    /// True if every peer that is up has told what it holds.
    pub synced: bool,
    /// When that was so last; null if never.
    #[serde(rename = "synced_seconds_ago")]
    pub synced_ago: Option<f64>,
    /// Keys of this node's own.
    pub own_keys: usize,
    /// Keys of others, peers or not.
    pub other_keys: usize,
    /// Keys of peers that were not taken, since the agent started.
    pub refused: u64,
    /// Keys of its own that peers did not take.
    pub refused_by_peers: u64,
    /// What is wrong on this host itself.
    pub problems: Vec<Problem>,
    /// Those that are configured or have come.
    pub peers: Vec<Peer>,
    /// Where keys are shared through Redis: how that stands.
    pub redis: Option<Redis>,
}

/// The state of the connection with Redis.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Redis {
    /// Where it is; null while it cannot be asked.
    pub address: Option<String>,
    /// Why it cannot be used.
    pub error: Option<String>,
    /// True if the key that encrypts here is the fleet's; else it is one of this host's own.
    pub shared: bool,
}

/// How keys are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// With nobody.
    Alone,
    /// Host by host.
    Mesh,
    /// Through Redis.
    Redis,
}

/// One peer of a mesh: a host, however many addresses it has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Its name, which stays the same: as the settings name it, if that means this host alone.
    pub name: String,
    /// Host and port, or as the settings name it while it has no address.
    pub address: String,
    /// All its addresses that are known.
    pub addresses: Vec<String>,
    /// Who it is; null as long as it has not said so.
    pub node: Option<String>,
    /// Whether it can be talked to.
    pub state: State,
    /// How long a message takes, there and back.
    #[serde(rename = "round_trip_seconds")]
    pub round_trip: Option<f64>,
    /// Its keys in this ring.
    pub keys: usize,
    /// When it last acknowledged a key of this node.
    #[serde(rename = "acknowledged_seconds_ago")]
    pub acknowledged_ago: Option<f64>,
    /// How long it took to do so.
    #[serde(rename = "acknowledgement_seconds")]
    pub acknowledgement: Option<f64>,
    /// The release of tktrot there; null as long as it has not said so.
    pub release: Option<String>,
    /// R of its keys.
    #[serde(rename = "rotate_seconds")]
    pub rotate_every: Option<f64>,
    /// L of its keys.
    #[serde(rename = "lifetime_seconds")]
    pub lifetime: Option<f64>,
    /// By how much its wall clock is ahead.
    #[serde(rename = "clock_ahead_seconds")]
    pub clock_ahead: Option<f64>,
    /// Why it is not connected; null if it is.
    pub last_error: Option<String>,
    /// When that was seen.
    #[serde(rename = "last_error_seconds_ago")]
    pub last_error_ago: Option<f64>,
    /// All that is wrong with it.
    pub problems: Vec<Problem>,
}

/// Whether a peer is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Connected.
    Up,
    /// Not connected.
    Down,
    /// It is this node: the same list serves every host.
    #[serde(rename = "self")]
    Self_,
}

impl Figures {
    /// The peers, without this node itself.
    pub fn others(&self) -> impl Iterator<Item = &Peer> {
        self.told.peers.iter().filter(|peer| peer.state != State::Self_)
    }

    /// All that is wrong, and with which peer; on this host itself with none.
    pub fn problems(&self) -> impl Iterator<Item = (Option<&Peer>, &Problem)> {
        let own = self.told.problems.iter().map(|problem| (None, problem));
        own.chain(
            self.told.peers.iter().flat_map(move |peer| {
                peer.problems.iter().map(move |problem| (Some(peer), problem))
            }),
        )
    }

    /// The same in words, and what is wrong with Redis.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints: Vec<_> = self
            .problems()
            .map(|(peer, problem)| match peer {
                Some(peer) => format!("{}: {}", peer.name, problem.what),
                None => problem.what.clone(),
            })
            .collect();
        let redis = self.told.redis.iter().filter_map(|redis| redis.error.as_ref());
        complaints.extend(redis.map(|error| format!("Redis cannot be used: {error}")));
        complaints
    }
}

/// What is counted while the agent runs.
#[derive(Default)]
pub(crate) struct Record {
    /// When the node was synced last.
    pub synced_at: Option<Time>,
    /// See [`Figures::refused`].
    pub refused: u64,
    /// See [`Figures::refused_by_peers`].
    pub refused_by_peers: u64,
    /// Keys that are not where they should be.
    pub refusals: Refusals,
    told: HashMap<(NodeId, KeyName), Time>,
    answers: HashMap<NodeId, Answered>,
}

/// The last acknowledgement of a peer.
#[derive(Clone, Copy)]
pub struct Answered {
    pub at: Time,
    /// How long after the announcement.
    pub after: Duration,
}

impl Record {
    /// So many announcements are kept in mind.
    const KEPT: usize = 10_000;

    /// A peer is told of a key.
    pub fn tell(&mut self, peer: NodeId, name: KeyName, now: Time) {
        if self.told.len() < Self::KEPT {
            self.told.entry((peer, name)).or_insert(now);
        }
    }

    /// A peer has acknowledged keys.
    pub fn answer(&mut self, peer: NodeId, names: &[KeyName], now: Time) {
        let asked = names.iter().filter_map(|name| self.told.remove(&(peer, *name)));
        if let Some(first) = asked.min() {
            self.answers.insert(peer, Answered { at: now, after: first.until(now) });
        }
    }

    /// A peer is gone, and with it what it owes.
    pub fn forget(&mut self, peer: NodeId) {
        self.told.retain(|(other, _), _| *other != peer);
        self.refusals.forget(peer);
    }

    /// The last acknowledgement of a peer.
    pub fn of(&self, peer: NodeId) -> Option<Answered> {
        self.answers.get(&peer).copied()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::problems::Kind;
    use super::*;
    use tktrot_keyfile::files::Format;

    pub(crate) fn figures() -> Figures {
        let up = Peer {
            name: "web2.example:4744".into(),
            address: "10.0.0.2:4744".into(),
            addresses: vec!["10.0.0.2:4744".into(), "[2001:db8::2]:4744".into()],
            node: Some("00000000000000ab".into()),
            state: State::Up,
            round_trip: Some(0.0004),
            keys: 3,
            acknowledged_ago: Some(12.5),
            acknowledgement: Some(0.001),
            release: Some("1.2.3".into()),
            rotate_every: Some(3600.0),
            lifetime: Some(7200.0),
            clock_ahead: Some(-0.25),
            last_error: None,
            last_error_ago: None,
            problems: Vec::new(),
        };
        let problem = |problem: Kind| Problem { problem, what: "what to do".into() };
        let down = Peer {
            name: "[2001:db8::3]:4744".into(),
            address: "[2001:db8::3]:4744".into(),
            addresses: vec!["[2001:db8::3]:4744".into()],
            node: None,
            state: State::Down,
            round_trip: None,
            keys: 0,
            acknowledged_ago: None,
            acknowledgement: None,
            release: None,
            rotate_every: None,
            lifetime: None,
            clock_ahead: None,
            last_error: Some("Connection refused".into()),
            last_error_ago: Some(3.5),
            problems: Kind::ALL.map(problem).into(),
        };
        Figures {
            version: 1,
            ring: "nginx".into(),
            node: "00000000000000aa".into(),
            told: Told {
                sharing: Sharing::Mesh,
                synced: true,
                synced_ago: Some(0.0),
                own_keys: 3,
                other_keys: 3,
                refused: 0,
                refused_by_peers: 1,
                problems: vec![problem(Kind::RingBusy)],
                peers: vec![Peer { state: State::Self_, ..up.clone() }, up, down],
                redis: None,
            },
            exports: vec![
                ExportStatus {
                    keys: 3,
                    encrypts: Some("0011223344556677".into()),
                    written: Some(1_700_000_000),
                    current: true,
                    ..ExportStatus::new(Format::Haproxy, "/run/haproxy/tickets".into())
                },
                ExportStatus {
                    error: Some("the command failed".into()),
                    failures: 2,
                    said: Some("no such service".into()),
                    ..ExportStatus::new(Format::Nginx80, "/run/nginx/tickets".into())
                },
            ],
        }
    }

    #[test]
    fn the_document_is_as_the_schema_says() {
        let schema = include_str!("../../docs/schemas/peers.schema.json");
        let readers = serde_json::from_str(schema).unwrap();
        let readers = jsonschema::validator_for(&readers).unwrap();
        let schema = testbed::schema::closed(schema).unwrap();
        let schema = jsonschema::validator_for(&schema).unwrap();
        let mut alone = figures();
        alone.told =
            Told { sharing: Sharing::Alone, synced_ago: None, peers: Vec::new(), ..figures().told };
        alone.exports.clear();
        let mut with_redis = alone.clone();
        with_redis.told.sharing = Sharing::Redis;
        with_redis.told.redis =
            Some(Redis { address: None, error: Some("no route to host".into()), shared: false });
        for figures in [figures(), alone, with_redis] {
            let document = serde_json::to_value(&figures).unwrap();
            let flaws: Vec<_> =
                schema.iter_errors(&document).map(|flaw| flaw.to_string()).collect();
            assert_eq!(flaws, [""; 0], "{document:#}");
            let mut other = document;
            other["unheard_of"] = 1.into();
            assert!(!schema.is_valid(&other));
            assert!(readers.is_valid(&other), "what is added later must not break readers");
        }
    }

    #[test]
    fn an_acknowledgement_is_timed_from_the_first_announcement() {
        let (peer, name) = (NodeId(7), KeyName([3; 16]));
        let at = |milliseconds| Time(0) + Duration::from_millis(milliseconds);
        let mut record = Record::default();
        record.answer(peer, &[name], at(1));
        assert!(record.of(peer).is_none(), "nothing was asked");
        record.tell(peer, name, at(2));
        record.tell(peer, name, at(5));
        record.answer(peer, &[name], at(9));
        let answered = record.of(peer).unwrap();
        assert_eq!((answered.at, answered.after), (at(9), Duration::from_millis(7)));
        record.tell(peer, name, at(10));
        record.forget(peer);
        record.answer(peer, &[name], at(20));
        assert_eq!(record.of(peer).unwrap().at, at(9));
    }
}
