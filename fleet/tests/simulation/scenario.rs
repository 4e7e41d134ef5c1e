//! What a simulation is of: how many hosts, how long, and what happens to them.

use std::time::Duration;

use tktrot::schedule::Policy;
use tktrot_fleet::ahead::Ahead;
use tktrot_fleet::node::limits::Limits;

use crate::liar::Lie;
use crate::machine::Fault;
use crate::network::Weather;
use crate::timeline::Millis;

/// What happens from time to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A host reboots: its ring is gone, and comes back as another node's.
    Reboot,
    /// An agent is killed and started again; the ring stays, and its servers run on.
    Restart,
    /// An agent says that it stops, stops, and is started again.
    Upgrade,
    /// All agents are restarted, one after the other.
    RollingRestart,
    /// Some hosts no longer reach the others, for a while.
    Partition,
    /// Two hosts do not reach each other, for a while.
    Block,
    /// All connections of a host break at once.
    Flap,
    /// A rotation by hand, through the agent, or two in a row.
    Rotate,
    /// A rotation by a server of the host.
    ServerRotates,
    /// Some keys are revoked.
    Revoke,
    /// All keys are.
    RevokeAll,
    /// Somebody revokes keys in the ring of a host, past its agent.
    RevokePastAgent,
    /// A host's generator fails, for a while.
    Generator,
}

impl Trouble {
    /// Everything that can happen.
    pub const ALL: [Trouble; 13] = [
        Trouble::Reboot,
        Trouble::Restart,
        Trouble::Upgrade,
        Trouble::RollingRestart,
        Trouble::Partition,
        Trouble::Block,
        Trouble::Flap,
        Trouble::Rotate,
        Trouble::ServerRotates,
        Trouble::Revoke,
        Trouble::RevokeAll,
        Trouble::RevokePastAgent,
        Trouble::Generator,
    ];
}

/// A simulation: the same one each time.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Of all that is random.
    pub seed: u64,
    /// Hosts, joined ones included.
    pub hosts: usize,
    /// So many of them start together; the others join later.
    pub first: usize,
    /// How long it runs.
    pub length: Millis,
    /// What the keys should be like.
    pub policy: Policy,
    /// How far ahead they are announced.
    pub ahead: Ahead,
    /// What the network does.
    pub weather: Weather,
    /// Messages arrive, and agents wake, at multiples of this.
    pub grain: Millis,
    /// What happens, one after the other, at random moments.
    pub troubles: Vec<Trouble>,
    /// How often, on average.
    pub trouble_every: Millis,
    /// The longest of what lasts for a while.
    pub trouble_lasts: Millis,
    /// How often a host seals a ticket, on average.
    pub seal_every: Millis,
    /// How often all is looked through.
    pub inspect_every: Millis,
    /// What all nodes do wrong.
    pub fault: Option<Fault>,
    /// What one of them says that is not so.
    pub lie: Option<Lie>,
}

impl Scenario {
    /// What the nodes wait for and hold: room for twice the hosts, as rebooted ones are others.
    pub fn limits(&self) -> Limits {
        let limits = Limits {
            lead_min: Limits::LEAD_MIN,
            lead_max: Limits::LEAD_MAX,
            capacity: 0,
            nodes: self.hosts,
            longest: Limits::life(&self.policy, self.ahead) + Duration::from_secs(60),
            ahead: self.ahead,
        };
        let of_a_node = limits.keys_of_a_node(&self.policy);
        // Keys of a node that rebooted live on for as long as they were ahead.
        let ahead = self.ahead.of(&self.policy).as_nanos() / self.policy.rotate_every.as_nanos();
        Limits { capacity: of_a_node * self.hosts * (2 + ahead as usize) + 64, ..limits }
    }

    /// A small fleet and all that can go wrong, by that seed.
    pub fn nasty(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let hosts = rng.usize(3..=20);
        let rotate_every = Duration::from_secs(rng.u64(12..=120));
        let lifetime = rotate_every.mul_f64(0.5 + 3.0 * rng.f64());
        let lead = Policy::default_lead(rotate_every);
        let mut troubles = Trouble::ALL.to_vec();
        rng.shuffle(&mut troubles);
        troubles.truncate(rng.usize(1..=troubles.len()));
        Scenario {
            seed,
            hosts,
            first: rng.usize(1..=hosts),
            length: 1_800_000,
            policy: Policy { rotate_every, lifetime, lead },
            ahead: [Ahead::LEAST, Ahead(Some(5 * rotate_every))][seed as usize % 2],
            weather: Weather {
                latency: (rng.u64(0..=20), rng.u64(20..=250)),
                lost: [0.0, 0.01, 0.05, 0.05, 0.2][rng.usize(0..5)],
                breaks: rng.f64(),
            },
            grain: 1,
            troubles,
            trouble_every: rng.u64(2_000..=60_000),
            trouble_lasts: rng.u64(1_000..=180_000),
            seal_every: 2_000,
            inspect_every: 5_000,
            fault: None,
            lie: None,
        }
    }
    /// A large fleet for a day, and all that happens to such a one but revocations of everything.
    pub fn large(hosts: usize) -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let rotate_every = hours(10);
        let lead = Policy::default_lead(rotate_every);
        let rare = [Trouble::RevokeAll, Trouble::RollingRestart];
        Scenario {
            seed: 1,
            hosts,
            first: hosts * 9 / 10,
            length: 24 * 3_600_000,
            policy: Policy { rotate_every, lifetime: hours(8), lead },
            ahead: Ahead::LEAST,
            weather: Weather { latency: (1, 80), lost: 0.05, breaks: 0.05 },
            grain: 10,
            troubles: Trouble::ALL.into_iter().filter(|kind| !rare.contains(kind)).collect(),
            trouble_every: 900_000,
            trouble_lasts: 1_200_000,
            seal_every: 6_000_000,
            inspect_every: 5_400_000,
            fault: None,
            lie: None,
        }
    }
}
