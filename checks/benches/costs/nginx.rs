//! A whole server: nginx with and without the shim.

use std::fs;
use std::os::unix::fs::MetadataExt;

use testbed::client::{Client, TlsVersion};
use testbed::nginx::Nginx;
use testbed::process::Process;
use testbed::{RingDir, artifacts};

use crate::clock;
use crate::options::Options;
use crate::ratios::Series;
use crate::section::{Goal, Group, Section, Thing, Wanted};
use crate::{Result, alternation, filled};

/// Keys that are put into the ring.
const KEYS: u64 = 5000;
const KIB: f64 = 1024.0;

/// One nginx, and the clients' tickets.
struct Server {
    nginx: Nginx,
    tickets: [Option<testbed::client::Ticket>; 2],
}

pub fn measure(options: &Options) -> Result<Section> {
    let ring = RingDir::new()?;
    let clients = [Client::new(TlsVersion::V12)?, Client::new(TlsVersion::V13)?];
    let names = ["without the shim", "with the shim"];
    let mut servers = [start(None)?, start(Some(&ring))?];
    let (mut groups, mut goals) = (Vec::new(), Vec::new());
    let handshakes = options.handshakes * options.unless_quick(4, 1);
    let goal_names = [
        "nginx, CPU of a TLS 1.2 resumption, shim to none",
        "nginx, CPU of a TLS 1.3 resumption, shim to none",
    ];
    for (place, (client, what)) in clients.iter().zip(goal_names).enumerate() {
        let values = alternation::measure(options.rounds, &mut servers, |server| {
            server.resume(client, place, handshakes)
        })?;
        let rates = values
            .iter()
            .map(|micros| Series(micros.0.iter().map(|micros| 1e6 / micros).collect()));
        let name = format!("{} resumptions in a second of nginx' processor time", client.version());
        groups.push(Group::compared(name, "/s", names, rates.collect()));
        let name = format!("processor time of a {} resumption", client.version());
        let measured = values[1].over(&values[0]);
        groups.push(Group::compared(name, "µs", names, values));
        goals.push(Goal { what, wanted: Wanted::AtMost(1.0), measured, unit: "" });
    }
    let (memory, bound) = memory(options, &mut servers, &ring, &clients)?;
    groups.push(memory);
    goals.extend(bound);
    let about = format!(
        "Debian's nginx, one worker: processor time of master and worker, all threads, for {handshakes}\n\
         connections with a ticket and a request each, by the processes' own clocks. The kernel's work\n\
         is in it. Memory: what /proc/PID/smaps_rollup calls private, of a worker, nginx started anew\n\
         each time; and the ring's file with {KEYS} keys in it."
    );
    Ok(Section { name: "nginx", about, groups, goals, curves: Vec::new() })
}

fn start(ring: Option<&RingDir>) -> Result<Server> {
    let mut builder = Nginx::builder().workers(1);
    if let Some(ring) = ring {
        builder = builder.preload(artifacts::shim()?).ring(ring);
    }
    Ok(Server { nginx: builder.start()?, tickets: [None, None] })
}

impl Server {
    /// Microseconds of the server's processor time for one resumption.
    fn resume(&mut self, client: &Client, place: usize, handshakes: usize) -> Result<f64> {
        let addr = self.nginx.addr();
        if self.tickets[place].is_none() {
            let first = client.connect(addr, Some("localhost"), None)?;
            self.tickets[place] = first.tickets.last().cloned();
        }
        let before = self.nanos()?;
        for _ in 0..handshakes {
            let ticket = self.tickets[place].as_ref().ok_or("nginx gave no ticket")?;
            let visit = client.connect(addr, Some("localhost"), Some(ticket))?;
            if !visit.resumed {
                return Err("nginx did not take its ticket".into());
            }
            if let Some(new) = visit.tickets.last() {
                self.tickets[place] = Some(new.clone());
            }
        }
        Ok((self.nanos()? - before) as f64 / 1000.0 / handshakes as f64)
    }

    /// What its processes have used so far.
    fn nanos(&self) -> Result<u64> {
        let mut all = self.nginx.worker_pids()?;
        all.push(self.nginx.master_pid()?);
        all.into_iter().map(clock::process_nanos).sum()
    }

    /// Private memory of its worker, in KiB.
    fn private(&self) -> Result<f64> {
        let pid = *self.nginx.worker_pids()?.first().ok_or("nginx has no worker")?;
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let kib = |line: &str| line.split_whitespace().nth(1)?.parse::<f64>().ok();
        let private: Vec<f64> =
            text.lines().filter(|line| line.starts_with("Private_")).filter_map(kib).collect();
        match private.len() >= 2 && Process::find(pid).is_some() {
            true => Ok(private.iter().sum()),
            false => Err("smaps_rollup does not tell private memory".into()),
        }
    }
}

/// Private memory with the shim and without, and the ring's size.
fn memory(
    options: &Options,
    servers: &mut [Server; 2],
    ring: &RingDir,
    clients: &[Client; 2],
) -> Result<(Group, Vec<Goal>)> {
    let starts = options.rounds.min(options.unless_quick(10, 1));
    let mut numbers = [0, 1];
    let values = alternation::measure(starts, &mut numbers, |&mut number| {
        let server = &mut servers[number];
        server.nginx.stop()?;
        server.nginx.start()?;
        for (place, client) in clients.iter().enumerate() {
            // A new nginx has new keys when nothing keeps them.
            server.tickets[place] = None;
            server.resume(client, place, 3)?;
        }
        server.private()
    })?;
    let more = values[1].0.iter().zip(&values[0].0).map(|(with, without)| with - without);
    let more = Series(more.collect());
    let file = ring.rings()?.into_iter().next().ok_or("the shim made no ring")?;
    let name = file.file_name().ok_or("a ring without a name")?.to_string_lossy();
    filled::fill(ring.path(), &name, KEYS)?;
    let file = Series(vec![fs::metadata(&file)?.blocks() as f64 * 512.0 / KIB]);
    let bound = |what, bound, measured: &Series| Goal {
        what,
        wanted: Wanted::AtMost(bound),
        measured: measured.clone(),
        unit: "KiB",
    };
    let goals = vec![
        bound("private memory of an nginx worker", 512.0, &more),
        bound("ring for 5 000 keys", 1024.0, &file),
    ];
    let mut group =
        Group::compared("memory", "KiB", ["a worker without the shim", "with the shim"], values);
    group.things.push(Thing { name: "more".to_owned(), values: more, ratios: None });
    group.things.push(Thing { name: "the ring's file".to_owned(), values: file, ratios: None });
    Ok((group, goals))
}
