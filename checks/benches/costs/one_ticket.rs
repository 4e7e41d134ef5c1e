//! The crypto of one ticket, and the floor below it.

use crate::options::Options;
use crate::section::{Goal, Group, Section, Wanted};
use crate::servers::{Keys, Workshop};
use crate::ticket::crypto::{Contexts, LeastCallback, SESSION, Ticket};
use crate::ticket::in_handshake::Moment;
use crate::ticket::{BATCH, Desk, each, in_batches};
use crate::{Result, alternation};

pub fn measure(options: &Options) -> Result<Section> {
    let workshop = Workshop::new()?;
    let mut desks = Vec::new();
    for keys in Keys::CALLBACKS {
        desks.push(Desk::new(workshop.server(keys)?)?);
    }
    let batches = options.unless_quick(64, 4);
    let seal = alternation::measure(options.rounds, &mut desks, |desk| {
        let mut tickets = vec![Ticket::blank(); batches * BATCH];
        desk.when(Moment::Sealing, |asked| each(asked, &mut tickets, Contexts::seal))
    })?;
    let open = alternation::measure(options.rounds, &mut desks, |desk| {
        let mut tickets = desk.seal(batches * BATCH)?;
        desk.when(Moment::Opening, |asked| each(asked, &mut tickets, Contexts::open))
    })?;
    let least = LeastCallback::new()?;
    let mut floors = Floor::ALL;
    let floor =
        alternation::measure(options.rounds, &mut floors, |floor| floor.measure(&least, batches))?;

    let names = || Keys::CALLBACKS.map(Keys::name);
    let groups = vec![
        Group::compared("sealing one ticket", "ns", names(), seal),
        Group::compared("opening one ticket", "ns", names(), open),
        Group::compared("the floor", "ns", Floor::ALL.map(Floor::name), floor),
    ];
    let goals = ["sealing one ticket, to the plain callback", "opening one, to the plain callback"];
    let goals = goals.into_iter().zip(&groups).map(|(what, group)| {
        let ours = group.things.last().and_then(|thing| thing.ratios.clone());
        let measured = ours.unwrap_or_default();
        Goal { what, wanted: Wanted::AtMost(0.45), measured, unit: "" }
    });
    let about = format!(
        "The callback, and AES-256-CBC and HMAC-SHA-256 of a ticket with a session of {SESSION}\n\
         bytes, called in the middle of a TLS 1.3 handshake with new contexts of the kind that libssl\n\
         makes for this callback; the making of contexts is not in it."
    );
    let goals = goals.collect();
    Ok(Section { name: "ticket", about, groups, goals, curves: Vec::new() })
}

/// What is below every callback.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Floor {
    Bare,
    Sealing,
    Opening,
}

impl Floor {
    const ALL: [Floor; 3] = [Floor::Bare, Floor::Sealing, Floor::Opening];

    fn name(self) -> &'static str {
        match self {
            Floor::Bare => "bare AES and HMAC, contexts set",
            Floor::Sealing => "sealing, with setting them",
            Floor::Opening => "opening, with setting them",
        }
    }

    /// Nanoseconds for one ticket.
    fn measure(self, least: &LeastCallback, batches: usize) -> Result<f64> {
        let mut ticket = Ticket::blank();
        if !least.seal(&mut Contexts::of_hmac(), &mut ticket) {
            return Err("AES or HMAC failed".into());
        }
        let mut tickets = vec![ticket; batches * BATCH];
        let (new, tickets) = (Contexts::of_hmac, &mut tickets[..]);
        match self {
            Floor::Bare => {
                let set = || {
                    let mut contexts = new();
                    // If that fails, so does what follows.
                    least.set(&mut contexts, 1);
                    contexts
                };
                in_batches(tickets, set, Contexts::encrypt_and_tag)
            }
            Floor::Sealing => in_batches(tickets, new, |one, ticket| least.seal(one, ticket)),
            Floor::Opening => in_batches(tickets, new, |one, ticket| least.open(one, ticket)),
        }
    }
}
