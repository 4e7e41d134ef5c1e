//! Whether it shows how many keys there are.

use openssl::ssl::SslContext;
use testbed::client::TlsVersion;

use crate::connection::Link;
use crate::options::Options;
use crate::ratios::Series;
use crate::section::{Curve, Goal, Group, Line, Section, Wanted};
use crate::servers::tktrot::{self, Settings};
use crate::servers::{self, Workshop};
use crate::ticket::crypto::{Contexts, Ticket};
use crate::ticket::in_handshake::Moment;
use crate::ticket::{Desk, Step, each};
use crate::{Result, alternation};

/// Numbers of keys; the others are compared to the first.
const KEYS: [usize; 6] = [3, 64, 1024, 4096, 10_000, 16_000];
/// The numbers of the goal.
const FEW: usize = 3;
const MANY: usize = 10_000;
const CAPACITY: u32 = 16_384;
/// Tickets that are opened, and sessions that are resumed, of keys all over the ring.
const TICKETS: usize = 1024;
const SESSIONS: usize = 64;

/// A server with so many keys in its ring.
struct Filled {
    desk: Desk,
    /// Of keys all over the ring.
    tickets: Vec<Ticket>,
    /// The same for TLS 1.2 handshakes.
    sessions: Vec<Vec<u8>>,
    offered: usize,
}

/// Nanoseconds for one ticket.
type Case = fn(&Filled) -> Result<f64>;

pub fn measure(options: &Options) -> Result<Section> {
    let workshop = Workshop::new()?;
    let numbers: Vec<usize> = if options.quick { vec![FEW, 64] } else { KEYS.to_vec() };
    let client = servers::client(TlsVersion::V12)?;
    let mut rings = Vec::new();
    for &keys in &numbers {
        let settings = Settings { capacity: CAPACITY, ..Settings::default() };
        let server = workshop.tktrot(&format!("keys-{keys}"), settings)?;
        rings.push(fill(server, &client, keys)?);
    }

    let (mut groups, mut lines) = (Vec::new(), Vec::new());
    let names = || numbers.iter().map(|keys| format!("{keys} keys"));
    let cases: [(&str, Case); 3] = [
        ("opening tickets of the newest key", newest),
        ("opening tickets of all keys", |ring| open(&ring.desk, ring.tickets.clone())),
        ("an unknown name", unknown),
    ];
    for (name, case) in cases {
        let values = alternation::measure(options.rounds, &mut rings, |ring| case(ring))?;
        let points = numbers.iter().map(|&keys| keys as f64).zip(values.clone()).collect();
        lines.push(Line { name: name.to_owned(), points });
        groups.push(Group::compared(name, "ns", names(), values));
    }

    let values = alternation::measure(options.rounds, &mut rings, |ring| {
        resume(ring, &client, options.handshakes)
    })?;
    let of = |keys| numbers.iter().position(|&number| number == keys).map(|place| &values[place]);
    let many = of(MANY).or(values.last()).cloned().unwrap_or_default();
    let goals = vec![Goal {
        what: "TLS 1.2 resumed, 10 000 keys to 3",
        wanted: Wanted::AtMost(1.02),
        measured: of(FEW).map(|few| many.over(few)).unwrap_or_default(),
        unit: "",
    }];
    groups.push(Group::compared("TLS 1.2 resumed, of all keys", "µs", names(), values));
    let curves = vec![Curve {
        name: "keys",
        title: "One ticket, by the number of keys",
        x: "keys in the ring",
        y: "ns",
        logarithmic_x: true,
        lines,
    }];
    let about = format!(
        "libtktrot, by the number of keys in its ring: the callback and the crypto of one ticket, of\n\
         the newest key or in turn {TICKETS} tickets of keys all over the ring; the callback alone for\n\
         names of no key; and handshakes with {SESSIONS} sessions of keys all over the ring."
    );
    Ok(Section { name: "keys", about, groups, goals, curves })
}

/// Rotates until the ring has so many keys, and takes tickets on the way.
fn fill(server: SslContext, client: &SslContext, keys: usize) -> Result<Filled> {
    let desk = Desk::new(server)?;
    let link = Link { server: &desk.server, client };
    let (mut tickets, mut sessions) = (Vec::new(), Vec::new());
    for key in 0..keys {
        if key > 0 {
            tktrot::rotate(&desk.server)?;
        }
        // As many in all, whatever the number of keys.
        let until_now = |all: usize| (key + 1) * all / keys;
        let missing = until_now(TICKETS) - tickets.len();
        if missing > 0 {
            tickets.extend(desk.seal(missing)?);
        }
        while sessions.len() < until_now(SESSIONS) {
            sessions.push(link.connect(None)?.session);
        }
    }
    scatter(&mut tickets);
    scatter(&mut sessions);
    Ok(Filled { desk, tickets, sessions, offered: 0 })
}

/// Neighbours in time are neighbours in memory; what clients bring comes in no such order.
fn scatter<T: Clone>(all: &mut Vec<T>) {
    // Odd and a power of two have no common divisor: each is there once.
    const STRIDE: usize = 787;
    *all = (0..all.len()).map(|place| all[place * STRIDE % all.len()].clone()).collect();
}

fn open(desk: &Desk, mut tickets: Vec<Ticket>) -> Result<f64> {
    desk.when(Moment::Opening, |asked| each(asked, &mut tickets, Contexts::open))
}

fn newest(ring: &Filled) -> Result<f64> {
    open(&ring.desk, ring.desk.seal(TICKETS)?)
}

fn unknown(ring: &Filled) -> Result<f64> {
    let mut tickets = vec![Ticket::blank(); TICKETS];
    for ticket in &mut tickets {
        openssl::rand::rand_bytes(&mut ticket.name)?;
    }
    let ask: Step = Contexts::is_unknown;
    ring.desk.when(Moment::Opening, |asked| each(asked, &mut tickets, ask))
}

/// Microseconds of a resumption.
fn resume(ring: &mut Filled, client: &SslContext, handshakes: usize) -> Result<f64> {
    let link = Link { server: &ring.desk.server, client };
    let mut micros = Series::default();
    for _ in 0..handshakes {
        let session = &ring.sessions[ring.offered % ring.sessions.len()];
        ring.offered += 1;
        micros.0.push(link.expect(Some(session))?.server_nanos as f64 / 1000.0);
    }
    Ok(micros.median())
}
