//! One host: its clock, and its agent while that runs.

use tktrot::clock::Time;
use tktrot_fleet::message::NodeId;

use crate::machine::Machine;
use crate::timeline::Millis;

const NANOS: u64 = 1_000_000;

/// A host.
pub struct Host {
    /// Who it is: the ring's id. Its last bytes are the host's place, so that it is found.
    pub id: NodeId,
    /// What its clock shows when the simulation begins, in nanoseconds.
    pub clock: u64,
    /// Its agent, if that runs. In a box: most looks at a host need nothing of it.
    pub agent: Option<Box<Machine>>,
    /// Counts the agents that it had.
    pub instance: u32,
    /// Servers run, and seal tickets.
    pub serves: bool,
    /// Its agent said that it stops, and nobody waits for it any more.
    pub left: bool,
    /// Its agent started or stopped then.
    pub turned: Millis,
    /// Until then it may be without an active key: it has just begun, or lost what it had.
    pub excused: Millis,
    /// Until then its generator fails.
    pub generator_fails: Millis,
    /// When it last told the liar everything.
    pub answered: Option<Millis>,
    /// The liar told it of so many keys that there are not.
    pub flooded: usize,
    /// When a tick is planned.
    pub tick_at: Millis,
    /// When it was made to make a key beside its schedule.
    pub irregular: Vec<Millis>,
}

impl Host {
    /// One that has not started.
    pub fn new(id: NodeId, clock: u64) -> Self {
        Host {
            id,
            clock,
            agent: None,
            instance: 0,
            serves: false,
            left: false,
            turned: 0,
            excused: 0,
            generator_fails: 0,
            answered: None,
            flooded: 0,
            tick_at: Millis::MAX,
            irregular: Vec::new(),
        }
    }

    /// What its clock shows.
    pub fn time(&self, now: Millis) -> Time {
        Time(self.clock + now * NANOS)
    }

    /// The first moment at which its clock shows this or more.
    pub fn moment(&self, time: Time) -> Millis {
        match time {
            Time::NEVER => Millis::MAX,
            Time(nanos) => nanos.saturating_sub(self.clock).div_ceil(NANOS),
        }
    }

    /// The same in nanoseconds since the simulation began, which mean the same on every host.
    pub fn nanos(&self, time: Time) -> u64 {
        time.0.saturating_sub(self.clock)
    }

    /// It may be without an active key until then.
    pub fn excuse(&mut self, until: Millis) {
        self.excused = self.excused.max(until);
    }
}

/// The place of the host that has, or had, this id.
pub fn place(id: NodeId) -> usize {
    (id.0 & 0xffff) as usize
}
