//! A bounded load: many visitors who come back with their tickets, and a verdict on each handshake.

mod chain;
mod report;

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use openssl::error::ErrorStack;

pub(crate) use chain::Chain;
pub use chain::Souvenir;
pub use report::{Counts, Report};

use crate::client::{Client, TlsVersion};
pub use crate::visit::Promise;

/// Visitors of one server. They keep their tickets from one run to the next.
pub struct Load {
    addr: SocketAddr,
    promise: Promise,
    pace: Duration,
    chains: Vec<Vec<Chain>>,
    keys: Vec<[u8; 16]>,
    runs: u64,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Handshakes that went well in this run.
    pub handshakes: u64,
    /// Keys that no run had seen before.
    pub new_keys: usize,
    /// Whether a ticket of each version has crossed a rotation in this run.
    pub crossed: bool,
    /// Since the run began.
    pub elapsed: Duration,
}

/// What the threads of one run share.
struct Run<'a> {
    report: Report,
    keys: &'a mut Vec<[u8; 16]>,
    known_before: usize,
    latest: Option<[u8; 16]>,
}

impl Load {
    /// `chains` visitors for each protocol version, on two threads.
    pub fn new(addr: SocketAddr, chains: usize, promise: Promise) -> Result<Load, ErrorStack> {
        Load::with_threads(addr, chains, promise, 2)
    }

    /// As [`Load::new`] with this many threads.
    pub fn with_threads(
        addr: SocketAddr,
        chains: usize,
        promise: Promise,
        threads: usize,
    ) -> Result<Load, ErrorStack> {
        let mut clients = Vec::new();
        for version in TlsVersion::ALL {
            let client = Client::new(version)?;
            clients.extend((0..chains).map(|_| (client.clone(), None)));
        }
        Ok(Load::with_clients(addr, clients, promise, threads))
    }

    /// A visitor for each of these clients, who names this server.
    pub fn with_clients<'h>(
        addr: SocketAddr,
        clients: impl IntoIterator<Item = (Client, Option<&'h str>)>,
        promise: Promise,
        threads: usize,
    ) -> Load {
        let mut chains: Vec<Vec<Chain>> = (0..threads).map(|_| Vec::new()).collect();
        for (number, (client, host)) in clients.into_iter().enumerate() {
            chains[number % threads].push(Chain::new(client, host));
        }
        let pace = Duration::from_millis(20);
        Load { addr, promise, pace, chains, keys: Vec::new(), runs: 0 }
    }

    /// The pause of each thread after each connection; 20 ms unless told.
    pub fn pace(mut self, pause: Duration) -> Load {
        self.pace = pause;
        self
    }

    /// Names of all keys that were ever seen, in that order.
    pub fn keys(&self) -> &[[u8; 16]] {
        &self.keys
    }

    /// The newest ticket of each visitor.
    pub fn tickets(&self) -> Vec<Souvenir> {
        self.chains.iter().flatten().filter_map(Chain::souvenir).collect()
    }

    /// Offers each of these tickets once, beside the visitors, which keep what they have.
    pub fn offer(&mut self, tickets: &[Souvenir]) -> Report {
        let owners = tickets.iter().map(Souvenir::owner).collect();
        let regulars = std::mem::replace(&mut self.chains, vec![owners]);
        let report = self.round();
        self.chains = regulars;
        report
    }

    /// One visit of each visitor as on the first day: no ticket is offered. The new tickets are kept.
    pub fn fresh_round(&mut self) -> Report {
        self.chains.iter_mut().flatten().for_each(Chain::forget_newest);
        self.round()
    }

    /// One visit of each visitor.
    pub fn round(&mut self) -> Report {
        self.drive(|_| false, true)
    }

    /// Visits until `done` says so, at most for `limit`.
    pub fn run(&mut self, limit: Duration, done: impl Fn(Progress) -> bool + Sync) -> Report {
        self.drive(|progress| progress.elapsed >= limit || done(progress), false)
    }

    /// Visits, at most for `limit`, while `action` runs, and a few more after it has returned.
    pub fn during<T>(&mut self, limit: Duration, action: impl FnOnce() -> T) -> (Report, T) {
        let visitors = self.chains.iter().map(Vec::len).sum::<usize>() as u64;
        let returned = AtomicBool::new(false);
        thread::scope(|scope| {
            let load = scope.spawn(|| {
                let after = Mutex::new(None);
                self.run(limit, |progress| {
                    // Relaxed: the flag publishes nothing but itself.
                    if !returned.load(Ordering::Relaxed) {
                        return false;
                    }
                    let at_return = *after.lock().unwrap().get_or_insert(progress.handshakes);
                    progress.handshakes >= at_return + visitors
                })
            });
            let value = action();
            returned.store(true, Ordering::Relaxed);
            (load.join().expect("no thread of the load panics"), value)
        })
    }

    fn drive(&mut self, done: impl Fn(Progress) -> bool + Sync, once: bool) -> Report {
        self.runs += 1;
        let began = Instant::now();
        let known_before = self.keys.len();
        let latest = self.keys.last().copied();
        let keys = &mut self.keys;
        let run = Mutex::new(Run { report: Report::default(), keys, known_before, latest });
        let stop = AtomicBool::new(false);
        let (addr, promise, number) = (self.addr, &self.promise, self.runs);
        let (pace, run_ref, done, stop) = (self.pace, &run, &done, &stop);
        thread::scope(|scope| {
            for chains in &mut self.chains {
                scope.spawn(move || {
                    loop {
                        for chain in chains.iter_mut() {
                            // Relaxed: the flag publishes nothing but itself.
                            if stop.load(Ordering::Relaxed) {
                                return;
                            }
                            let latest = run_ref.lock().unwrap().latest;
                            let (visit, issued) = chain.visit(addr, promise, number);
                            let mut run = run_ref.lock().unwrap();
                            let counts = run.report.counts(chain.client.version());
                            let is_carried = issued.is_some_and(|run| run < number);
                            counts.visit(&visit, promise, is_carried, latest);
                            visit.new_keys().for_each(|key| run.see_key(key));
                            if done(run.progress(began)) {
                                stop.store(true, Ordering::Relaxed);
                            }
                            drop(run);
                            thread::sleep(pace);
                        }
                        if once || chains.is_empty() {
                            return;
                        }
                    }
                });
            }
        });
        let Run { mut report, keys, .. } = run.into_inner().unwrap();
        report.sort_keys(keys);
        report
    }
}

impl Run<'_> {
    fn see_key(&mut self, key: [u8; 16]) {
        self.latest = Some(key);
        if !self.keys.contains(&key) {
            self.keys.push(key);
        }
    }

    fn progress(&self, began: Instant) -> Progress {
        Progress {
            handshakes: self.report.total().handshakes,
            new_keys: self.keys.len() - self.known_before,
            crossed: TlsVersion::ALL.iter().all(|&version| self.report.of(version).across_keys > 0),
            elapsed: began.elapsed(),
        }
    }
}
