//! What several threads of one server gain, who do nothing but tickets.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::ratios::Series;
use crate::section::{Curve, Goal, Group, Line, Section, Wanted};
use crate::servers::{Keys, Workshop};
use crate::ticket::crypto::{Contexts, Ticket};
use crate::ticket::in_handshake::Moment;
use crate::ticket::{BATCH, Desk, each, fresh};
use crate::{Result, alternation};

/// Seals by so many threads at once, of a server with those keys.
struct Crowd {
    keys: Keys,
    threads: usize,
}

/// When a thread began and ended its work, and its processor time for one ticket.
type Shift = (Instant, Instant, f64);

pub fn measure(options: &Options) -> Result<Section> {
    let workshop = Workshop::new()?;
    let mut desks = Vec::new();
    for keys in Keys::CALLBACKS {
        desks.push((keys, Desk::new(workshop.server(keys)?)?));
    }
    let numbers: &[usize] = if options.quick { &[1, 2] } else { &[1, 2, 4] };
    let mut crowds = Vec::new();
    for keys in Keys::CALLBACKS {
        crowds.extend(numbers.iter().map(|&threads| Crowd { keys, threads }));
    }
    let tickets = BATCH * options.unless_quick(512, 8);
    let mut by_processor = vec![Vec::new(); crowds.len()];
    let mut places: Vec<usize> = (0..crowds.len()).collect();
    let rates = alternation::measure(options.rounds, &mut places, |&mut place| {
        let Crowd { keys, threads } = crowds[place];
        let desk = &desks.iter().find(|(of, _)| *of == keys).ok_or("no such server")?.1;
        let (rate, nanos) = work(desk, threads, tickets)?;
        by_processor[place].push(nanos);
        Ok(rate)
    })?;

    let scaling = |place: usize| {
        let alone = place - place % numbers.len();
        rates[place].over(&rates[alone])
    };
    // What it would be if every thread had a processor to itself: other programs do not count, nor
    // does a thread that waits for a lock.
    let undisturbed = |place: usize| {
        let alone = place - place % numbers.len();
        // The first round warms up.
        let of = |place: usize| Series(by_processor[place][1..].to_vec());
        let slower = of(alone).over(&of(place));
        Series(slower.0.iter().map(|ratio| ratio * crowds[place].threads as f64).collect())
    };
    let (mut groups, mut lines, mut goals) = (Vec::new(), Vec::new(), Vec::new());
    for (number, keys) in Keys::CALLBACKS.into_iter().enumerate() {
        let first = number * numbers.len();
        let places = first..first + numbers.len();
        let names = || numbers.iter().map(|threads| format!("{threads} threads"));
        let values = rates[places.clone()].to_vec();
        groups.push(Group::compared(keys.name(), "tickets/s", names(), values));
        let values = places.clone().map(undisturbed).collect();
        let name = format!("{}, by processor time", keys.name());
        groups.push(Group::compared(name, "fold", names(), values));
        let points = places.map(|place| (crowds[place].threads as f64, scaling(place))).collect();
        lines.push(Line { name: keys.name().to_owned(), points });
        if keys == Keys::Tktrot {
            goals.push(Goal {
                what: "2 threads to 1, ticket crypto",
                wanted: Wanted::AtLeast(1.9),
                measured: scaling(first + 1),
                unit: "fold",
            });
        }
    }
    let curves = vec![Curve {
        name: "threads",
        title: "Tickets sealed, by the number of threads",
        x: "threads",
        y: "times what one does",
        logarithmic_x: false,
        lines,
    }];
    let about = format!(
        "Tickets sealed by threads of one process at once, by the wall clock: on {} processors, all of\n\
         which it takes; what else the machine does is in it. \"By processor time\" is what the threads\n\
         themselves used, in which waiting for a lock is not.",
        std::thread::available_parallelism()?,
    );
    Ok(Section { name: "threads", about, groups, goals, curves })
}

/// Tickets per second of all threads, and nanoseconds of a thread for one.
fn work(desk: &Desk, threads: usize, tickets: usize) -> Result<(f64, f64)> {
    let arrived = AtomicUsize::new(0);
    let shift = || -> std::result::Result<Shift, String> {
        let shift = desk.when(Moment::Sealing, |asked| {
            // Each thread's first call may set something up.
            drop(fresh(asked.callback, BATCH));
            each(asked, &mut [Ticket::blank()], Contexts::seal)?;
            let mut tickets = vec![Ticket::blank(); tickets];
            meet(&arrived, threads)?;
            let began = Instant::now();
            let nanos = each(asked, &mut tickets, Contexts::seal)?;
            Ok((began, Instant::now(), nanos))
        });
        shift.map_err(|error| error.to_string())
    };
    let shifts = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(shift)).collect();
        all.into_iter()
            .map(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?)
            .collect::<std::result::Result<Vec<_>, String>>()
    })?;
    let began = shifts.iter().map(|shift| shift.0).min().ok_or("no thread")?;
    let ended = shifts.iter().map(|shift| shift.1).max().ok_or("no thread")?;
    let nanos = shifts.iter().map(|shift| shift.2).sum::<f64>() / threads as f64;
    Ok(((threads * tickets) as f64 / (ended - began).as_secs_f64(), nanos))
}

/// Waits until all threads are here. Spinning, so that they go on at the same moment.
fn meet(arrived: &AtomicUsize, threads: usize) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    // Relaxed: nothing is handed over.
    arrived.fetch_add(1, Ordering::Relaxed);
    let began = Instant::now();
    while arrived.load(Ordering::Relaxed) < threads {
        if began.elapsed() > PATIENCE {
            return Err("another thread did not begin".into());
        }
        std::thread::yield_now();
    }
    Ok(())
}
