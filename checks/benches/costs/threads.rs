//! What several threads of one server gain, who do nothing but tickets.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::ratios::Series;
use crate::section::{Curve, Goal, Group, Line, Section, Wanted};
use crate::servers::{Keys, Workshop};
use crate::ticket::crypto::{Contexts, LeastCallback, Ticket};
use crate::ticket::in_handshake::Moment;
use crate::ticket::{BATCH, Desk, each, fresh, in_batches};
use crate::{Result, alternation};

/// So many threads that seal at once.
struct Crowd<'b> {
    bench: &'b Bench,
    threads: usize,
}

/// At what they work.
enum Bench {
    /// A server's callback.
    Server(Keys, Desk),
    /// None: contexts are set with keys at hand, in the calls that no callback can do without. How
    /// these scale is up to the TLS library.
    Floor(LeastCallback),
}

/// When a thread began and ended its work, and its processor time for one ticket.
type Shift = (Instant, Instant, f64);

pub fn measure(options: &Options) -> Result<Section> {
    let workshop = Workshop::new()?;
    let mut benches = Vec::new();
    for keys in Keys::CALLBACKS {
        benches.push(Bench::Server(keys, Desk::new(workshop.server(keys)?)?));
    }
    benches.push(Bench::Floor(LeastCallback::new()?));
    let numbers: &[usize] = if options.quick { &[1, 2] } else { &[1, 2, 4] };
    let crowds: Vec<_> = benches
        .iter()
        .flat_map(|bench| numbers.iter().map(move |&threads| Crowd { bench, threads }))
        .collect();
    let tickets = BATCH * options.unless_quick(512, 8);
    let mut by_processor = vec![Vec::new(); crowds.len()];
    let mut places: Vec<usize> = (0..crowds.len()).collect();
    let rates = alternation::measure(options.rounds, &mut places, |&mut place| {
        let Crowd { bench, threads } = crowds[place];
        let (rate, nanos) = work(bench, threads, tickets)?;
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
    for (number, bench) in benches.iter().enumerate() {
        let first = number * numbers.len();
        let places = first..first + numbers.len();
        let names = || numbers.iter().map(|threads| format!("{threads} threads"));
        let values = rates[places.clone()].to_vec();
        groups.push(Group::compared(bench.name(), "tickets/s", names(), values));
        let values = places.clone().map(undisturbed).collect();
        let name = format!("{}, by processor time", bench.name());
        groups.push(Group::compared(name, "fold", names(), values));
        let points = places.map(|place| (crowds[place].threads as f64, scaling(place))).collect();
        lines.push(Line { name: bench.name().to_owned(), points });
        if matches!(bench, Bench::Server(Keys::Tktrot, _)) {
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

impl Bench {
    fn name(&self) -> &'static str {
        match self {
            Bench::Server(keys, _) => keys.name(),
            Bench::Floor(_) => "the floor: contexts set, no callback",
        }
    }

    /// Seals after `begin`; nanoseconds of this thread for one ticket.
    fn seal(&self, count: usize, begin: impl FnOnce() -> Result<()>) -> Result<f64> {
        let mut tickets = vec![Ticket::blank(); count];
        // Each thread's first one may set something up.
        match self {
            Bench::Server(_, desk) => desk.when(Moment::Sealing, |asked| {
                drop(fresh(asked.callback, BATCH));
                each(asked, &mut [Ticket::blank()], Contexts::seal)?;
                begin()?;
                each(asked, &mut tickets, Contexts::seal)
            }),
            Bench::Floor(least) => {
                let step = |one: &mut Contexts, ticket: &mut Ticket| least.seal(one, ticket);
                in_batches(&mut vec![Ticket::blank(); BATCH], Contexts::of_hmac, step)?;
                begin()?;
                in_batches(&mut tickets, Contexts::of_hmac, step)
            }
        }
    }
}

/// Tickets per second of all threads, and nanoseconds of a thread for one.
fn work(bench: &Bench, threads: usize, tickets: usize) -> Result<(f64, f64)> {
    let arrived = AtomicUsize::new(0);
    let shift = || -> std::result::Result<Shift, String> {
        let mut began = Instant::now();
        let nanos = bench.seal(tickets, || {
            meet(&arrived, threads)?;
            began = Instant::now();
            Ok(())
        });
        Ok((began, Instant::now(), nanos.map_err(|error| error.to_string())?))
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
