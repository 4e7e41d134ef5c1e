use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::report::Counts;
use super::servers::Which;
use super::{LIFETIME, ROTATE, Soak};
use crate::client::{Client, Error, ErrorKind, Handshake, Ticket, TlsVersion};
use crate::visit::{Due, Promise, Visit};

/// One visit in so many offers no ticket.
const FORGETFUL: u64 = 8;
/// So often a visit that was cut off is tried again.
const TRIES: u32 = 200;

/// One thread's worth of visitors: for each server and version one, who comes back.
pub(super) struct Visitor<'s> {
    soak: &'s Soak<'s>,
    random: fastrand::Rng,
    clients: Vec<(Client, Which, Option<Ticket>)>,
}

impl<'s> Visitor<'s> {
    pub fn new(soak: &'s Soak<'s>, number: usize) -> Visitor<'s> {
        let random = fastrand::Rng::with_seed(soak.plan.seed ^ (number as u64 + 1) << 32);
        let client = |version| Client::new(version).expect("OpenSSL makes a client context");
        let both = |version| Which::ALL.map(|which| (client(version), which, None));
        let clients = TlsVersion::ALL.into_iter().flat_map(both).collect();
        Visitor { soak, random, clients }
    }

    pub fn visit_all_along(mut self, counts: &Mutex<Counts>) {
        while self.soak.goes_on() {
            let place = self.random.usize(..self.clients.len());
            let forgets = self.random.u64(..FORGETFUL) == 0;
            let (client, which, ticket) = &mut self.clients[place];
            if forgets {
                *ticket = None;
            }
            visit(self.soak, client, *which, ticket, counts);
        }
    }
}

/// One visit, until it is through: what a disruption cut off is tried again with the same ticket.
fn visit(
    soak: &Soak<'_>,
    client: &Client,
    which: Which,
    ticket: &mut Option<Ticket>,
    counts: &Mutex<Counts>,
) {
    for _ in 0..TRIES {
        let visit = Visit::new(client, soak.servers.addr(which), None, ticket.as_ref());
        let due = visit.due(&Promise::rotating(ROTATE, LIFETIME)) == Some(Due::Resumption);
        let Visit { began, ended, result, .. } = visit;
        let handshake = match result {
            Ok(handshake) => handshake,
            Err(error) if is_excused(soak, which, &error, began, ended) => {
                counts.lock().unwrap().cut_off += 1;
                soak.pause(Duration::from_millis(20));
                if soak.goes_on() {
                    continue;
                }
                return;
            }
            Err(error) => {
                let at = (began - soak.began).as_secs_f32();
                let note = format!("{at:.2} s, {}, {}: {error}", which.name(), client.version());
                return counts.lock().unwrap().fail(note);
            }
        };
        soak.handshakes.fetch_add(1, Ordering::Relaxed);
        let mut counts = counts.lock().unwrap();
        counts.handshake(client.version(), which, handshake.resumed);
        if due && !handshake.resumed {
            let at = (began - soak.began).as_secs_f32();
            counts.unexpected(format!(
                "{at:.2} s, {}, offered {ticket:?}, took {:?}",
                which.name(),
                ended - began
            ));
        }
        drop(counts);
        keep(ticket, &handshake, client.version());
        return;
    }
    counts.lock().unwrap().fail(format!("{} did not come back", which.name()));
}

/// The connection broke, and just then something was done to that server that breaks connections.
/// An alert or a malformed message never is excused, and silence neither.
fn is_excused(soak: &Soak<'_>, which: Which, error: &Error, from: Instant, to: Instant) -> bool {
    matches!(error.kind, ErrorKind::Killed | ErrorKind::Refused)
        && soak.disruptions.met(which, from, to)
}

/// TLS 1.3 brings a new ticket each time; one of TLS 1.2 is kept until it is too old.
fn keep(ticket: &mut Option<Ticket>, handshake: &Handshake, version: TlsVersion) {
    if let Some(new) = handshake.tickets.last() {
        *ticket = Some(new.clone());
    } else if !handshake.resumed || version == TlsVersion::V13 {
        *ticket = None;
    }
}
