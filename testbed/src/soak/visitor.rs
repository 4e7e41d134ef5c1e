use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::report::Counts;
use super::servers::Which;
use super::{LIFETIME, ROTATE, Soak};
use crate::client::{Client, ErrorKind, TlsVersion};
use crate::load::Chain;
use crate::visit::{Promise, Visit};

/// One visit in so many offers no ticket.
const FORGETFUL: u64 = 8;
/// So often a visit that was cut off is tried again.
const TRIES: u32 = 200;

/// One thread's worth of visitors: for each server and version one, who comes back.
pub(super) struct Visitors<'s> {
    soak: &'s Soak<'s>,
    random: fastrand::Rng,
    chains: Vec<(Chain, Which)>,
}

impl<'s> Visitors<'s> {
    pub fn new(soak: &'s Soak<'s>, number: usize) -> Visitors<'s> {
        let random = fastrand::Rng::with_seed(soak.plan.seed ^ (number as u64 + 1) << 32);
        let client = |version| Client::new(version).expect("OpenSSL makes a client context");
        let both = |version| Which::ALL.map(|which| (Chain::new(client(version), None), which));
        let chains = TlsVersion::ALL.into_iter().flat_map(both).collect();
        Visitors { soak, random, chains }
    }

    pub fn visit_all_along(mut self, counts: &Mutex<Counts>) {
        while self.soak.goes_on() {
            let place = self.random.usize(..self.chains.len());
            let forgets = self.random.u64(..FORGETFUL) == 0;
            let (chain, which) = &mut self.chains[place];
            if forgets {
                chain.forget_newest();
            }
            visit(self.soak, chain, *which, counts);
        }
    }
}

/// One visit, until it is through: what a disruption cut off is tried again.
fn visit(soak: &Soak<'_>, chain: &mut Chain, which: Which, counts: &Mutex<Counts>) {
    let promise = Promise::rotating(ROTATE, LIFETIME);
    for tried in 1.. {
        let (visit, _) = chain.visit(soak.servers.addr(which), &promise, 0);
        if tried < TRIES && is_excused(soak, which, &visit) {
            counts.lock().unwrap().cut_off += 1;
            soak.pause(Duration::from_millis(20));
            if soak.goes_on() {
                continue;
            }
            return;
        }
        soak.handshakes.fetch_add(u64::from(visit.result.is_ok()), Ordering::Relaxed);
        let at = (visit.began - soak.began).as_secs_f32();
        return counts.lock().unwrap().visit(which, chain.client.version(), &visit, &promise, at);
    }
}

/// The connection broke, and just then something was done to that server that breaks connections.
/// An alert or a malformed message never is excused, and silence neither.
fn is_excused(soak: &Soak<'_>, which: Which, visit: &Visit) -> bool {
    let breaks = |kind| matches!(kind, ErrorKind::Killed | ErrorKind::Refused);
    visit.result.as_ref().is_err_and(|error| breaks(error.kind))
        && soak.disruptions.met(which, visit.began, visit.ended)
}
