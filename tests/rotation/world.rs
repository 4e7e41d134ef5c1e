//! A ring in a file, and the processes that have it open: each has a mapping
//! and a keyring of its own, as it would in a server.

use std::time::Duration;

use proptest::sample::Index;
use tempfile::TempDir;

use tktrot::clock::{Clock, Time, VirtualClock, nanos};
use tktrot::config::Config;
use tktrot::ring::file::Place;
use tktrot::ring::key::KeyFacts;
use tktrot::ring::layout::Capacity;
use tktrot::ring::view::View;
use tktrot::rotate::{Failure, Keyring};
use tktrot::schedule::{KeyState, Policy};
use tktrot::secret::KeyName;
use tktrot::terms::policy_of;

use crate::acts::{Act, Settings, Span};
use crate::agent;
use crate::source::{Fault, Source};
use crate::witness::{Deed, Witness};

/// After a failure, the generator is tried again no later than this.
const RETRY: Duration = Duration::from_secs(1);

pub struct World {
    clock: &'static VirtualClock,
    source: &'static Source,
    place: Place,
    capacity: Capacity,
    processes: Vec<Keyring<&'static VirtualClock>>,
    /// Sees the ring without taking part.
    view: View,
    witness: Witness,
    /// From when on the generator must have been tried again.
    works_from: Time,
    _dir: TempDir,
}

impl World {
    pub fn new(capacity: u32, settings: &Settings) -> Self {
        // Keyrings want them for ever; they are small.
        let clock: &'static _ = Box::leak(Box::new(VirtualClock::new(Time(3_600_000_000_000))));
        let source = Box::leak(Box::new(Source::new(clock)));
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let place = Place { dir: dir.path().into(), file: "some.ring".into(), dir_mode: 0o700 };
        let capacity = Capacity::new(capacity).unwrap();
        let first = Keyring::new(place.open(capacity).unwrap(), clock, source);
        first.configure(&config(settings)).unwrap();
        let view = place.look().unwrap().unwrap();
        World {
            clock,
            source,
            place,
            capacity,
            processes: vec![first],
            view,
            witness: Witness::default(),
            works_from: Time(0),
            _dir: dir,
        }
    }

    pub fn perform(&mut self, act: &Act) {
        let deed = match act {
            Act::Attend { who, late, sixteenths } => return self.attend(who, *late, *sixteenths),
            Act::Pass(span) => self.pass(span),
            Act::Start => self.start(),
            Act::Break(fault) => self.set(*fault),
            Act::Mend => self.set(Fault::None),
            Act::Take(time) => {
                self.source.take(*time);
                Deed::default()
            }
            Act::Die(who) => {
                if !self.processes.is_empty() {
                    self.processes.remove(who.index(self.processes.len()));
                }
                Deed::default()
            }
            Act::Seal(who) => self.seal(who),
            Act::Upkeep(who) => self.upkeep(who),
            Act::Rotate(who) => self.rotate(who),
            Act::RevokeAll(who) => self.revoke(who, |_| true),
            Act::Revoke(who, which) => {
                let keys = self.view.keys();
                if keys.is_empty() {
                    return;
                }
                let meant = which.get(&keys).name;
                self.revoke(who, |key| key.name == meant)
            }
            Act::Abandon(who) => self.with(who, |_, process| {
                process.abandon().unwrap();
                Deed { erased_all: true, by_hand: true, ..Deed::default() }
            }),
            Act::Expect(who, timeout) => self.with(who, |_, process| {
                process.expect_lifetime(*timeout);
                Deed { by_hand: true, ..Deed::default() }
            }),
            Act::Configure(who, settings) => self.reload(who, settings),
            Act::Govern(who, steer) => self.with(who, |world, process| {
                let works = world.source.works();
                agent::steer(process.govern().unwrap(), steer, &world.policy(), works)
            }),
        };
        self.judge(deed);
    }

    /// Looks at the ring without anything having been done to it.
    pub fn check(&mut self) {
        self.judge(Deed::default());
    }

    fn judge(&mut self, deed: Deed) {
        let now = self.clock.now();
        self.witness.judge(&self.view, &self.policy(), now, &deed);
    }

    fn policy(&self) -> Policy {
        policy_of(&self.view.settings(), self.view.capacity())
    }

    /// True if a key that is wanted can be made, and it is the schedule that says so.
    fn can_make(&self) -> bool {
        self.source.works() && self.clock.now() >= self.works_from && !self.is_governed()
    }

    fn is_governed(&self) -> bool {
        self.view.governed(self.clock.now()).is_some()
    }

    fn with(
        &self,
        who: &Index,
        act: impl FnOnce(&Self, &Keyring<&'static VirtualClock>) -> Deed,
    ) -> Deed {
        match &*self.processes {
            [] => Deed::default(),
            processes => act(self, who.get(processes)),
        }
    }

    /// Other settings for all: each process is started again. One of them says so to the ring, as all
    /// are this process, and whoever was set last is the one who asks.
    fn reload(&mut self, who: &Index, settings: &Settings) -> Deed {
        if !self.processes.is_empty() {
            for process in &mut self.processes {
                let ring = self.place.open(self.capacity).unwrap();
                *process = Keyring::new(ring, self.clock, self.source);
            }
            who.get(&self.processes).configure(&config(settings)).unwrap();
        }
        Deed { by_hand: true, ..Deed::default() }
    }

    /// Opening a ring verifies it: each start says, too, that its contents are sound.
    fn start(&mut self) -> Deed {
        if self.processes.len() < 5 {
            let ring = self.place.open(self.capacity).unwrap();
            // It asks for no more than what the ring has.
            self.processes.push(Keyring::new(ring, self.clock, self.source));
        }
        Deed::default()
    }

    fn set(&mut self, fault: Fault) -> Deed {
        if !self.source.works() {
            self.works_from = self.clock.now() + RETRY;
        }
        self.source.set(fault);
        Deed::default()
    }

    fn pass(&self, span: &Span) -> Deed {
        let now = self.clock.now();
        let towards = |end: Time, nanos: i32| {
            Duration::from_nanos(
                now.until(end)
                    .as_nanos()
                    .try_into()
                    .map_or(0, |left: u64| left.saturating_add_signed(nanos.into())),
            )
        };
        self.clock.advance(match *span {
            Span::Nanos(nanos) => Duration::from_nanos(nanos.into()),
            Span::Sixteenths(count) => self.policy().rotate_every * count / 16,
            Span::Days(count) => Duration::from_secs(86_400) * count,
            Span::UntilDeadline(nanos) => {
                let deadline = self.view.deadline();
                if deadline == Time::NEVER { Duration::ZERO } else { towards(deadline, nanos) }
            }
            Span::UntilSwitch(nanos) => match self.active() {
                Some(key) => towards(key.times.encrypt_until, nanos),
                None => Duration::ZERO,
            },
        });
        Deed::default()
    }

    fn seal(&self, who: &Index) -> Deed {
        self.with(who, |world, process| {
            let (at, wanted) = (world.clock.now(), world.can_make());
            let sealed = process.sealing(at).map(|key| (key.name, at));
            Deed { came_by: Some(at), sealed: Some(sealed), wanted, ..Deed::default() }
        })
    }

    fn upkeep(&self, who: &Index) -> Deed {
        self.with(who, |world, process| {
            let (wanted, came) = (world.can_make(), world.clock.now());
            let next = process.tick_patiently();
            let soon = world.clock.now() + RETRY;
            assert!(next > came || !wanted, "the upkeep would spin");
            let sees_to_it = wanted || next <= soon || world.active().is_some();
            let ends = came + world.view.governed(came).unwrap_or_default();
            assert!(sees_to_it || next <= ends, "no retry before {next:?}");
            Deed { came_by: Some(came), wanted, ..Deed::default() }
        })
    }

    fn rotate(&self, who: &Index) -> Deed {
        self.with(who, |world, process| {
            let (works, asked) = (world.source.works(), world.clock.now());
            let wanted = works && !world.is_governed();
            let done = process.rotate();
            assert_eq!(done, if works { Ok(()) } else { Err(Failure::Generator) });
            let newest = world.active();
            let fresh = newest.is_some_and(|key| key.times.encrypt_from >= asked);
            assert!(!works || fresh, "a rotation by hand, and an old key encrypts");
            // A failure leaves everything as it was, also what is due.
            Deed { came_by: works.then_some(asked), wanted, by_hand: true, ..Deed::default() }
        })
    }

    fn revoke(&self, who: &Index, meant: impl Fn(&KeyFacts) -> bool) -> Deed {
        self.with(who, |world, process| {
            let (works, governed) = (world.source.works(), world.is_governed());
            let keys = world.view.keys();
            let asked = world.clock.now();
            let revoked: Vec<_> =
                keys.iter().filter(|key| meant(key)).map(|key| key.name).collect();
            let done = process.revoke_those(|name| revoked.contains(name));
            match done {
                Ok(names) => assert_eq!(names.len(), revoked.len()),
                Err(failure) => assert!(!works && failure == Failure::Generator, "{failure}"),
            }
            let left = |name: &KeyName| world.view.keys().iter().any(|key| key.name == *name);
            assert!(!revoked.iter().any(left), "a revoked key is still there");
            let came_by = (!revoked.is_empty()).then_some(asked);
            Deed {
                came_by,
                wanted: works && came_by.is_some() && !governed,
                revoked,
                by_hand: true,
                ..Deed::default()
            }
        })
    }

    /// Somebody comes by at each deadline, late by less than the lead: from key to key there
    /// is no gap, and each is announced before it is needed.
    fn attend(&mut self, who: &Index, late: u32, sixteenths: u32) {
        if self.processes.is_empty() {
            return;
        }
        let deed = self.upkeep(who);
        self.judge(deed);
        let policy = self.policy();
        let end = self.clock.now() + policy.rotate_every * sixteenths / 16;
        for _ in 0..1000 {
            let now = self.clock.now();
            if now >= end {
                return;
            }
            let switch = self.active().expect("an active key").times.encrypt_until;
            let lead = self.least_lead(&policy);
            let visit = self.view.deadline() + lead * late / 8;
            let next = visit.min(switch).min(end);
            assert!(next > now, "no progress");
            self.clock.advance(now.until(next));
            self.witness.expect_line(&self.view, next);
            if next == visit {
                let known = self.view.keys();
                let deed = self.upkeep(who);
                self.judge(deed);
                let new = |key: &KeyFacts| known.iter().all(|old| old.name != key.name);
                for key in self.view.keys().into_iter().filter(new) {
                    let announced = next.until(key.times.encrypt_from);
                    assert!(announced >= lead, "announced only {announced:?} ahead");
                }
            }
        }
        panic!("a thousand deadlines in {} ns", nanos(policy.rotate_every * sixteenths / 16));
    }

    /// The lead of the policy, or of a former one whose keys are in the line.
    fn least_lead(&self, policy: &Policy) -> Duration {
        let now = self.clock.now();
        let line = self.view.keys().into_iter().filter(|key| key.times.will_encrypt(now));
        let spans = line.map(|key| key.times.encrypt_from.until(key.times.encrypt_until));
        spans.map(|span| span / 2).min().unwrap_or(policy.lead).min(policy.lead)
    }

    fn active(&self) -> Option<KeyFacts> {
        let now = self.clock.now();
        self.view.keys().into_iter().find(|key| key.times.state(now) == KeyState::Active)
    }
}

fn config(settings: &Settings) -> Config {
    Config {
        rotate_every: Some(settings.rotate_every),
        lifetime: settings.lifetime,
        lead: settings.lead.map(|sixteenths| settings.rotate_every * sixteenths / 16),
        ..Config::default()
    }
}
