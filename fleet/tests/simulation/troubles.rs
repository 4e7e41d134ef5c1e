//! What goes wrong, and what operators do.

use tktrot::schedule;
use tktrot_fleet::message::Grave;
use tktrot_fleet::node::event::Event;

use crate::happening::Happening;
use crate::host::Host;
use crate::ring::{self, Number};
use crate::scenario::Trouble;
use crate::timeline::Millis;
use crate::world::World;

/// Keys of one node that are made beside its schedule, at most, while such a key lives: there is
/// room for them (`Limits::keys_of_a_node`), and an agent refuses more.
const BY_HAND: usize = 3;

/// Nodes remember four times as many revoked keys as they hold.
const REVOKE_ALL_EVERY: Millis = 30_000;

fn runs(host: &Host) -> bool {
    host.agent.is_some()
}

impl World {
    /// One more trouble, and the plan for the next.
    pub fn trouble(&mut self) {
        let now = self.now();
        let next = now + self.rng.u64(1..=2 * self.scenario.trouble_every);
        self.timeline.plan(next, Happening::Trouble);
        let (Some(trouble), Some(host)) =
            (self.rng.choice(self.scenario.troubles.clone()), self.any_host(runs))
        else {
            return;
        };
        self.trace(|| format!("{trouble:?} for host {host}"));
        self.figures.troubles += 1;
        let back = now + self.rng.u64(1..=self.scenario.trouble_lasts);
        match trouble {
            Trouble::Reboot => {
                self.lose_ring(host);
                self.timeline.plan(back, Happening::Start(host as u16));
            }
            Trouble::Restart => {
                self.stop(host);
                self.hosts[host].irregular.push(now);
                self.timeline.plan(back, Happening::Start(host as u16));
            }
            Trouble::Upgrade => {
                self.feed(host, Event::Leave);
                self.settle(host);
                self.stop(host);
                self.hosts[host].left = true;
                self.hosts[host].irregular.push(now);
                self.timeline.plan(back, Happening::Start(host as u16));
            }
            Trouble::RollingRestart => self.roll(),
            Trouble::Partition => self.part(back),
            Trouble::Block => self.block(host, back),
            Trouble::Flap => {
                for peer in (0..self.hosts.len()).filter(|peer| *peer != host) {
                    self.sever(host, peer);
                }
            }
            Trouble::Rotate => {
                // The second time the successor is new: now the peers have to be waited for.
                for _ in 0..self.rng.usize(1..=2) {
                    if self.may_make_by_hand(host) {
                        self.feed(host, Event::Rotate);
                        self.settle(host);
                    }
                }
            }
            Trouble::ServerRotates => self.rotate_by_server(host),
            Trouble::Revoke => self.revoke_some(host),
            Trouble::RevokeAll => {
                self.revoke_all(host);
            }
            Trouble::RevokePastAgent => self.revoke_past_agent(host),
            Trouble::Generator => {
                let back = back.min(now + 30_000);
                self.hosts[host].generator_fails = back;
                let grace = self.grace() + 1_000;
                self.hosts[host].excuse(back + grace);
                self.hosts[host].irregular.push(now);
            }
        }
    }

    fn may_make_by_hand(&mut self, host: usize) -> bool {
        let now = self.now();
        let life = self.limits.longest.as_millis() as Millis;
        let this = &mut self.hosts[host];
        this.irregular.retain(|at| at + life >= now);
        let may = this.irregular.len() < BY_HAND;
        if may {
            this.irregular.push(now);
        }
        may
    }

    /// Every agent, one after the other, a second apart.
    fn roll(&mut self) {
        let now = self.now();
        for (turn, host) in (0..self.hosts.len()).filter(|at| runs(&self.hosts[*at])).enumerate() {
            let at = now + 1_000 * turn as Millis;
            self.timeline.plan(at, Happening::Stop(host as u16));
            self.timeline.plan(at + 200, Happening::Start(host as u16));
        }
    }

    /// Some hosts are on their own.
    fn part(&mut self, back: Millis) {
        self.groups = self.groups.wrapping_add(1).max(1);
        let group = self.groups;
        let share = self.rng.usize(1..=self.hosts.len().div_ceil(2).min(20));
        for _ in 0..share {
            let host = self.rng.usize(0..self.hosts.len());
            self.network.set_group(host, group);
        }
        self.sever_unreachable();
        self.timeline.plan(back, Happening::Heal(group));
    }

    /// The hosts of a group are among the others again.
    pub fn heal(&mut self, group: u8) {
        let healed: Vec<usize> =
            (0..self.hosts.len()).filter(|host| self.network.group(*host) == group).collect();
        self.trace(|| format!("hosts {healed:?} are back"));
        for host in &healed {
            self.network.set_group(*host, 0);
        }
        for host in healed {
            for peer in (0..self.hosts.len()).filter(|peer| *peer != host) {
                if self.network.reaches(host, peer) {
                    self.plan_connect(host, peer, 5_000);
                }
            }
        }
    }

    fn block(&mut self, host: usize, back: Millis) {
        let peer = self.rng.usize(0..self.hosts.len());
        if peer != host {
            self.network.block(host, peer, true);
            self.sever_unreachable();
            self.timeline.plan(back, Happening::Unblock(host as u16, peer as u16));
        }
    }

    fn sever_unreachable(&mut self) {
        for a in 0..self.hosts.len() {
            for b in a + 1..self.hosts.len() {
                if !self.network.reaches(a, b) {
                    self.sever(a, b);
                }
            }
        }
    }

    /// `tkt_rotate` in a server: the library makes a key and uses it at once.
    fn rotate_by_server(&mut self, host: usize) {
        let now = self.now();
        if !self.may_make_by_hand(host) {
            return;
        }
        let time = self.hosts[host].time(now);
        let times = schedule::rotation(&self.scenario.policy, time);
        let before: Vec<_> = self.rings.all_active(host, time).copied().collect();
        let Some(key) = self.make(host, times, false) else { return };
        for (old, _) in before {
            let limit = schedule::KeyTimes::retiring(time);
            self.rings.shorten(host, old, &limit);
            // The agent sees that, too.
            let facts = self.facts(old, *self.rings.get(host, old).expect("the old key"));
            self.feed(host, Event::Found(facts));
        }
        self.keys[key as usize].announced = Some(now);
        self.feed(host, Event::Found(self.facts(key, times)));
        self.settle(host);
    }

    fn some_keys(&mut self, host: usize) -> Vec<Number> {
        let now = self.now();
        let time = self.hosts[host].time(now);
        let living = self.rings.all(host).filter(|(_, times)| time < times.decrypt_until);
        let mut keys: Vec<Number> = living.map(|(key, _)| key).collect();
        keys.sort_unstable();
        let count = self.rng.usize(1..=3);
        let mut some = self.rng.choose_multiple(keys, count);
        some.sort_unstable();
        // Each maker makes another one in its place.
        let life = self.limits.longest.as_millis() as Millis;
        for key in &some {
            let maker = crate::host::place(self.keys[*key as usize].origin);
            self.hosts[maker].irregular.retain(|at| at + life >= now);
            self.hosts[maker].irregular.push(now);
        }
        some
    }

    fn revoke_all(&mut self, host: usize) {
        let now = self.now();
        if now < self.revoked_all + REVOKE_ALL_EVERY {
            return;
        }
        self.revoked_all = now;
        for host in &mut self.hosts {
            host.irregular.push(now);
        }
        self.feed(host, Event::RevokeAll);
        self.settle(host);
    }

    fn revoke_some(&mut self, host: usize) {
        let names = self.some_keys(host).into_iter().map(ring::name).collect();
        self.feed(host, Event::Revoke(names));
        self.settle(host);
    }

    /// `tktrot revoke` on the ring itself; the agent sees the graves.
    fn revoke_past_agent(&mut self, host: usize) {
        let (now, policy) = (self.now(), self.scenario.policy);
        let mut graves = Vec::new();
        for key in self.some_keys(host) {
            let Some(times) = self.rings.erase(host, key) else { continue };
            let until = policy.last_copy(times.decrypt_until);
            self.rings.bury(host, key, until);
            graves.push(Grave { name: ring::name(key), until });
            let maker = self.keys[key as usize].origin;
            self.note_revoked(key);
            self.learns(host, key);
            if maker == self.hosts[host].id {
                let grace = self.grace();
                self.hosts[host].excuse(now + grace);
            }
        }
        self.feed(host, Event::Buried(graves));
        self.settle(host);
    }
}
