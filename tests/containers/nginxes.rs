//! Two stock nginx in containers that have nothing in common but one ring: users, numbers, files,
//! a network and a clock of their own. Workers are killed, each container is paused; clients take
//! their tickets from one to the other.

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testbed::certificate::{self, Certificate};
use testbed::client::{ErrorKind, TlsVersion};
use testbed::container::{self, Users};
use testbed::fleet::journal::{Journal, Outcome, Visit};
use testbed::fleet::network::{Network, Node};
use testbed::fleet::travel::{Stop, Travellers};
use testbed::nginx::Nginx;
use testbed::process::Process;
use testbed::{RingDir, artifacts, log, wait};
use tktrot::clock::{BootClock, Clock};
use tktrot::process::ProcessId;
use tktrot::ring::lock::Holder;
use tktrot::ring::view::View;

use crate::lives::Lives;
use crate::servers::{Result, view};

const ROTATE: Duration = Duration::from_secs(1);
const LIFETIME: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(10);
/// How long either may take on a machine that hardly runs: so many workers are to be killed, and more
/// visits than that are to resume while a container is paused.
const LONGEST: Duration = Duration::from_secs(120);
const KILLS: usize = 10;
const RESUMED: usize = 10;
/// Of each route between two visits.
const BREATH: Duration = Duration::from_millis(30);
const PORT: u16 = 8443;
/// The machine's user that is root in both: a ring is one user's.
const ROOT: u32 = 100_000;
const VISITORS: u8 = 250;
const LIMIT: Duration = Duration::from_secs(20);

/// How long it all takes.
fn duration() -> Duration {
    let seconds = std::env::var("CONTAINERS_SECONDS").map_or(60, |text| text.parse().unwrap());
    Duration::from_secs(seconds).max(4 * PAUSE)
}

/// What is drawn from it is the same each time: which workers are killed, and after which time.
fn seed() -> u64 {
    std::env::var("CONTAINERS_SEED").map_or(1, |text| text.parse().unwrap())
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

struct Container {
    nginx: Nginx,
    _node: Node,
    _users: Users,
}

impl Container {
    fn start(
        node: Node,
        ahead: i64,
        ring: &RingDir,
        certificate: &Certificate,
    ) -> Result<Container> {
        let users = Users::new(ROOT)?;
        let mut nginx = Nginx::builder()
            .contained()
            .certificate(certificate)
            .listen((node.public(), PORT).into())
            .rotating(ring, ROTATE, LIFETIME)?
            .env("TKTROT_RING", "web")
            .env("TKTROT_STRICT", "1")
            .launch_through(&users.launcher())
            .launch_through(&container::own_namespaces(ahead))
            .prepare()?;
        // Its users may not look where the shim was built.
        let shim = nginx.dir().join("shim.so");
        fs::copy(artifacts::shim()?, &shim)?;
        nginx.environment_mut().preload(&shim);
        users.give(nginx.dir())?;
        node.namespace().run(|| nginx.start())?;
        Ok(Container { nginx, _node: node, _users: users })
    }

    /// The master, and then its workers.
    fn processes(&self) -> Result<Vec<Process>> {
        let master = self.nginx.master_process()?;
        Ok([vec![master], master.children()].concat())
    }

    /// What tells each of its namespaces from all others.
    fn namespaces(&self) -> Result<Vec<PathBuf>> {
        let process = format!("/proc/{}/ns", self.nginx.master_pid()?);
        let kinds = ["user", "pid", "mnt", "net", "ipc", "uts", "time"];
        Ok(kinds
            .iter()
            .map(|kind| fs::read_link(format!("{process}/{kind}")))
            .collect::<io::Result<_>>()?)
    }

    /// Whether that process is one of these.
    fn has(&self, process: ProcessId) -> Result<bool> {
        let namespace = format!("/proc/{}/ns/pid", self.nginx.master_pid()?);
        Ok(fs::metadata(namespace)?.ino() as u32 == process.namespace())
    }
}

/// A worker that was killed.
struct Kill {
    host: usize,
    /// From when to when it died.
    began: Instant,
    ended: Instant,
}

/// What is done to the containers, and when.
struct Deeds<'c> {
    containers: &'c [Container],
    travellers: &'c Travellers,
    view: View,
    random: Random,
    kills: Vec<Kill>,
    /// Which container was paused, and from when to when nobody there can have done anything.
    pauses: Vec<(usize, Range<Instant>)>,
}

impl Deeds<'_> {
    /// Kills workers of these containers for so long.
    fn kill(&mut self, hosts: &[usize], span: Duration) -> Result<()> {
        let end = Instant::now() + span;
        loop {
            let pause = Duration::from_millis(100 + self.random.below(900));
            let left = end.saturating_duration_since(Instant::now());
            thread::sleep(pause.min(left));
            if pause >= left {
                return Ok(());
            }
            let host = hosts[self.random.below(hosts.len() as u64) as usize];
            let nginx = &self.containers[host].nginx;
            let workers = nginx.worker_pids()?;
            let drawn = workers.get(self.random.below(2) as usize);
            let Some(worker) = drawn.and_then(|pid| Process::find(*pid)) else { continue };
            let began = Instant::now();
            if nginx.kill_worker(worker.pid())? {
                worker.wait_gone(LIMIT)?;
                self.kills.push(Kill { host, began, ended: Instant::now() });
            }
        }
    }

    /// Which container sees to the ring.
    fn leading(&self) -> Result<usize> {
        let hosts = 0..self.containers.len();
        Ok(wait::until(LIMIT, "a container that leads", || {
            let leader = self.view.leader(BootClock.now())?;
            hosts.clone().find(|host| self.containers[*host].has(leader).unwrap_or(false))
        })?)
    }

    /// Lets one stand still for a while, and kills workers of the other.
    fn pause(&mut self, host: usize) -> Result<()> {
        let others: Vec<_> = (0..self.containers.len()).filter(|other| *other != host).collect();
        let paused = wait::until(LIMIT, "a pause without the lock", || self.stop(host).transpose());
        let paused = paused??;
        let began = Instant::now();
        let mut done = self.kill(&others, PAUSE);
        // As many visits as are judged, however slow the machine is.
        let resumed = || self.travellers.journal().since(began).resumed();
        while done.is_ok() && resumed() <= RESUMED && began.elapsed() < LONGEST {
            done = self.kill(&others, PAUSE);
        }
        self.pauses.push((host, began..Instant::now()));
        container::resume(&paused);
        done
    }

    /// Stops all processes of a container, unless one has the writer lock for the microseconds that
    /// it takes: nobody else would write (`docs/containers.md`).
    fn stop(&self, host: usize) -> Result<Option<Vec<Process>>> {
        let processes = self.containers[host].processes()?;
        container::pause(&processes)?;
        if let Holder::Thread { process, .. } = self.view.writer()
            && self.containers[host].has(process)?
        {
            container::resume(&processes);
            return Ok(None);
        }
        Ok(Some(processes))
    }

    /// Whether a visit failed as a worker's death explains.
    fn excuse(&self, visit: &Visit) -> bool {
        let cut = |kill: &Kill| {
            kill.host == visit.host && kill.began <= visit.ended && visit.began <= kill.ended
        };
        match &visit.outcome {
            Outcome::Failed(error) => error.kind == ErrorKind::Killed && self.kills.iter().any(cut),
            _ => false,
        }
    }
}

/// What clients have seen.
fn judge(journal: &Journal, deeds: &Deeds) {
    let cut = journal.only(|visit| deeds.excuse(visit));
    let judged = journal.only(|visit| !deeds.excuse(visit));
    println!("{judged}{} visits were cut by {} kills", cut.visits.len(), deeds.kills.len());
    assert_eq!((judged.lost(), judged.failed()), (0, 0), "lost and failed: {judged}");
    let without =
        judged.only(|visit| visit.outcome == Outcome::Full && visit.sealed_with.is_none());
    assert_eq!(without.visits.len(), 0, "no ticket was issued: {without}");
    for version in TlsVersion::ALL {
        assert_eq!(judged.strangers(&[0, 1], version), [], "{version}: {judged}");
    }
    assert!(deeds.kills.len() >= KILLS, "{} kills", deeds.kills.len());
    for (paused, span) in &deeds.pauses {
        let meanwhile = judged.since(span.start).before(span.end);
        let there = meanwhile.only(|visit| visit.host == *paused);
        assert_eq!(there.visits.len(), 0, "one that is paused answers: {there}");
        assert!(meanwhile.resumed() > RESUMED, "while {paused} was paused: {meanwhile}");
    }
}

#[test]
fn two_nginxes_in_containers_share_a_ring_whoever_is_killed_or_paused() -> Result<()> {
    testbed::process::needs_root("namespaces");
    let (duration, seed) = (duration(), seed());
    println!("CONTAINERS_SEED={seed} CONTAINERS_SECONDS={}", duration.as_secs());
    let ring = RingDir::new()?;
    let public = tempfile::Builder::new().prefix("tktrot-certificate-").tempdir()?;
    let certificate = certificate::create(public.path())?;
    for path in [ring.path(), public.path()] {
        Users::new(ROOT)?.give(path)?;
    }
    let network = Network::new()?;
    let visitors = network.attach(VISITORS)?;
    let mut containers = Vec::new();
    for (number, ahead) in (1..).zip(container::a_day_apart()?) {
        containers.push(Container::start(network.attach(number)?, ahead, &ring, &certificate)?);
    }
    let [one, other] = [containers[0].namespaces()?, containers[1].namespaces()?];
    assert!(one.iter().all(|namespace| !other.contains(namespace)), "{one:?} {other:?}");
    let stops: Vec<Stop> = containers.iter().map(|one| one.nginx.addr()).enumerate().collect();
    // Who goes to both waits at the one that is paused; others go to one alone.
    let routes = [vec![stops[0], stops[1]], vec![stops[0]], vec![stops[1]]];
    let travellers = Travellers::depart(visitors.namespace(), &routes, LIFETIME, BREATH)?;
    let view = wait::until(LIMIT, "a ring", || view(&ring).ok())?;
    let (random, kills, pauses) = (Random(seed), Vec::new(), Vec::new());
    let mut deeds =
        Deeds { containers: &containers, travellers: &travellers, view, random, kills, pauses };

    let mut lives = Lives::new(ROTATE, LIFETIME);
    let done = AtomicBool::new(false);
    let act = |deeds: &mut Deeds| -> Result<()> {
        let third = (duration - 2 * PAUSE) / 3;
        deeds.kill(&[0, 1], third)?;
        let leading = deeds.leading()?;
        deeds.pause(leading)?;
        deeds.kill(&[0, 1], third)?;
        deeds.pause(1 - leading)?;
        deeds.kill(&[0, 1], third)?;
        let began = Instant::now();
        while deeds.kills.len() < KILLS && began.elapsed() < LONGEST {
            deeds.kill(&[0, 1], PAUSE)?;
        }
        Ok(())
    };
    let (watched, acted) = thread::scope(|scope| {
        let watch = scope.spawn(|| lives.watch(&ring, &done).map_err(|error| error.to_string()));
        let acted = act(&mut deeds);
        // Relaxed: the flag publishes nothing but itself.
        done.store(true, Ordering::Relaxed);
        (watch.join().expect("no panic"), acted)
    });
    let journal = travellers.journal();
    acted?;
    watched?;

    judge(&journal, &deeds);
    let (keys, looks) = (lives.seen(), lives.looks());
    println!("{keys} keys, {looks} looks, the longest stall {:.1?}", lives.stall());
    assert_eq!(lives.flaws(), [""; 0]);
    // A key a second, however slow the machine: some may have come and gone between two looks.
    assert!(keys as u64 >= duration.as_secs() / 4, "{keys} keys in {duration:?}");
    assert_eq!(ring.rings()?.len(), 1);
    for container in &containers {
        let said = [container.nginx.stderr(), container.nginx.error_log()].concat();
        assert_eq!(log::ours(&said), [""; 0], "{said}");
    }
    Ok(())
}
