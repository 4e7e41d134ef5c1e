//! The journey that every server takes under the shim: visitors come back across rotations, whatever
//! else is done to the server, and a restart, until the keys of their first tickets are gone.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::client::{Client, ErrorKind, TlsVersion};
use crate::load::{Counts, Load, Progress, Promise, Report};
use crate::servers::Server;
use crate::wait;

/// For one stretch of load. Reached only on a machine that hardly runs.
pub const LIMIT: Duration = Duration::from_secs(90);

/// What a journey is to be like.
#[derive(Clone)]
pub struct Journey {
    /// How long each of the server's keys encrypts.
    pub rotate: Duration,
    /// How long its tickets resume.
    pub lifetime: Duration,
    /// The number of visitors for each protocol version and each host.
    pub visitors: usize,
    /// The number of threads on which they come.
    pub threads: usize,
    /// Where they connect to; [`Server::addr`] unless told.
    pub addr: Option<SocketAddr>,
    /// The server names (SNI) that they ask for.
    pub hosts: Vec<Option<&'static str>>,
    /// The protocol that they speak; HTTP unless told.
    pub speak: fn(Client) -> Client,
    /// Each stretch of load lasts for this many handshakes
    pub handshakes: u64,
    /// and this many new keys; the first one for two keys at least, and until a ticket of each
    /// version has crossed a rotation.
    pub keys: usize,
    /// Whether the first tickets are offered again once none of them may resume any longer.
    pub to_the_end: bool,
}

type Act<'e, S> = Box<dyn FnOnce(&mut S) -> Result<()> + 'e>;

/// Something that is done to a server while visitors come.
pub struct Event<'e, S> {
    act: Act<'e, S>,
    excused: &'static [ErrorKind],
    alone: bool,
}

impl<'e, S: Server> Event<'e, S> {
    /// An event that visitors must not notice.
    pub fn new<E: fmt::Display>(act: impl FnOnce(&mut S) -> Result<(), E> + 'e) -> Event<'e, S> {
        let act = |server: &mut S| act(server).map_err(|error| anyhow!("{error:#}"));
        Event { act: Box::new(act), excused: &[], alone: false }
    }

    /// The server reloads its configuration.
    pub fn reload() -> Event<'e, S> {
        Event::new(|server: &mut S| server.reload().context("the server has no reload")?)
    }

    /// Connections may fail in these ways meanwhile, as they do without the shim.
    pub fn excusing(self, excused: &'static [ErrorKind]) -> Event<'e, S> {
        Event { excused, ..self }
    }

    /// Nobody connects meanwhile, because the server closes its listening socket for a moment.
    pub fn alone(self) -> Event<'e, S> {
        Event { alone: true, ..self }
    }
}

impl Journey {
    /// The usual journey, for a server with this rotation and lifetime.
    pub fn new(rotate: Duration, lifetime: Duration) -> Journey {
        Journey {
            rotate,
            lifetime,
            visitors: 4,
            threads: 2,
            addr: None,
            hosts: vec![None],
            speak: |client| client,
            handshakes: 100,
            keys: 2,
            to_the_end: false,
        }
    }

    /// The visitors, who have not connected yet.
    pub fn load(&self, server: &impl Server) -> Result<Load> {
        let mut clients = Vec::new();
        for version in TlsVersion::ALL {
            let client = (self.speak)(Client::new(version)?);
            let hosts = self.hosts.iter().flat_map(|host| vec![*host; self.visitors]);
            clients.extend(hosts.map(|host| (client.clone(), host)));
        }
        let promise = Promise::rotating(self.rotate, self.lifetime);
        let addr = self.addr.unwrap_or_else(|| server.addr());
        Ok(Load::with_clients(addr, clients, promise, self.threads))
    }

    /// Puts the server through the journey, which ends with a restart. Returns the visitors.
    ///
    /// # Errors
    ///
    /// A ticket was lost or outlived its key, a connection failed, or the server did not rotate.
    pub fn run<S: Server>(&self, server: &mut S, events: Vec<Event<S>>) -> Result<Load> {
        let stretches = 2 + events.len();
        let mut load = self.load(server)?;
        let mut seen = Report::default();
        let done = |progress: Progress, keys: usize| {
            progress.handshakes >= self.handshakes && progress.new_keys >= keys
        };
        let stretch =
            |load: &mut Load| load.run(LIMIT, |progress: Progress| done(progress, self.keys));

        // On a busy machine a key may end before any visitor with a session has come back.
        let report = load
            .run(LIMIT, |progress: Progress| done(progress, self.keys.max(2)) && progress.crossed);
        seen.add(&judge(server, "over rotations", report, &[])?);
        let early = load.tickets();
        for event in events {
            let report = match event.alone {
                true => {
                    (event.act)(server).with_context(|| server.log())?;
                    load.round()
                }
                false => {
                    let (report, done) = load.during(LIMIT, || (event.act)(server));
                    done.with_context(|| server.log())?;
                    report
                }
            };
            ensure!(report.total().carried > 0, "nobody came back\n{report}{}", server.log());
            seen.add(&judge(server, "over an event", report, event.excused)?);
            let report = stretch(&mut load);
            seen.add(&judge(server, "after an event", report, &[])?);
        }

        seen.add(&judge(server, "as on the first day", load.fresh_round(), &[])?);
        server.stop()?;
        server.start()?;
        let report = judge(server, "over a restart", load.round(), &[])?;
        ensure!(report.total().carried > 0, "nobody came back\n{report}{}", server.log());
        seen.add(&report);
        let report = stretch(&mut load);
        seen.add(&judge(server, "after a restart", report, &[])?);

        println!("{} keys\n{seen}", load.keys().len());
        let (handshakes, keys) = (seen.total().handshakes, load.keys().len());
        ensure!(
            handshakes >= stretches as u64 * self.handshakes,
            "{handshakes} handshakes\n{seen}"
        );
        ensure!(keys >= stretches * self.keys, "{keys} keys\n{seen}");
        for version in TlsVersion::ALL {
            let across = seen.of(version).across_keys;
            ensure!(across > 0, "{version}: no ticket crossed a rotation\n{seen}");
        }
        if self.to_the_end {
            // Old enough that no key can be left that opens them.
            let end = self.rotate + self.lifetime + Duration::from_secs(1);
            wait::until(LIMIT, "the end of the first tickets' keys", || {
                early.iter().all(|ticket| ticket.age() > end).then_some(())
            })?;
            let late = load.offer(&early).total();
            ensure!(late.handshakes == early.len() as u64 && late.resumed == 0, "too late: {late}");
        }
        Ok(load)
    }
}

/// That no ticket was lost, and nothing failed in another way than is excused. Returns the report.
fn judge(
    server: &impl Server,
    when: &str,
    report: Report,
    excused: &[ErrorKind],
) -> Result<Report> {
    let total = report.total();
    let failures = total.failures.iter().filter(|(kind, _)| !excused.contains(kind));
    let failed: u64 = failures.map(|(_, count)| count).sum();
    let Counts { unexpected_full, overdue, without_ticket, .. } = total;
    let wrong = [unexpected_full, failed, overdue, without_ticket];
    ensure!(
        wrong == [0; 4],
        "{when}: {wrong:?} lost, failed, overdue, without\n{report}{}",
        server.log()
    );
    Ok(report)
}

/// Shows what the journey would find without the shim: all tickets resume until `act`, none after it.
pub fn loses_every_ticket<S: Server>(
    server: &mut S,
    act: impl FnOnce(&mut S) -> Result<()>,
) -> Result<()> {
    let mut load = Load::new(server.addr(), 4, Promise::constant(Duration::from_secs(300)))?;
    load.round();
    let before = load.round().total();
    ensure!((before.resumed, before.unexpected_full) == (8, 0), "{before}");
    act(server)?;
    let after = load.round().total();
    ensure!((after.resumed, after.unexpected_full, after.failed()) == (0, 8, 0), "{after}");
    Ok(())
}
