//! The crypto of one ticket, and the floor below it.

use crate::clock::ThreadTime;
use crate::options::Options;
use crate::section::{Goal, Group, Section, Wanted};
use crate::servers::{Keys, Workshop};
use crate::ticket::crypto::{Contexts, SESSION, Ticket};
use crate::ticket::in_handshake::Moment;
use crate::ticket::{BATCH, Desk, each};
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
    let floor = alternation::measure(options.rounds, &mut [()], |()| bare(batches))?;

    let names = || Keys::CALLBACKS.map(Keys::name);
    let groups = vec![
        Group::compared("sealing one ticket", "ns", names(), seal),
        Group::compared("opening one ticket", "ns", names(), open),
        Group::compared("the floor", "ns", ["bare AES and HMAC, contexts set"], floor),
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

/// Nanoseconds of AES and HMAC with contexts that are set already.
fn bare(batches: usize) -> Result<f64> {
    let mut time = ThreadTime::default();
    let mut ticket = Ticket::blank();
    for _ in 0..batches {
        let mut contexts =
            (0..BATCH).map(|_| Contexts::set_to_zeroes()).collect::<Result<Vec<_>>>()?;
        if !time.measure(|| contexts.iter_mut().all(|one| one.encrypt_and_tag(&mut ticket))) {
            return Err("AES or HMAC failed".into());
        }
    }
    Ok(time.net_nanos() / (batches * BATCH) as f64)
}
