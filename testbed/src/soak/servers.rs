use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{LIFETIME, ROTATE};
use crate::client::{Client, TlsVersion};
use crate::environment::ring_status;
use crate::haproxy::{self, Haproxy, Mode};
use crate::nginx::{self, Nginx};
use crate::process::Process;
use crate::{RingDir, wait};

/// The ring's name, for both.
const RING: &str = "soak";

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// A master and two workers.
    Nginx,
    /// A master and a worker with two threads.
    Haproxy,
}

/// Both servers, with one ring.
pub(super) struct Servers {
    nginx: Nginx,
    haproxy: Mutex<Haproxy>,
    haproxy_addr: SocketAddr,
    ring: RingDir,
}

/// What the ring says at the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingFacts {
    /// Keys that were published.
    pub made: u64,
    /// Keys that are there.
    pub present: u64,
}

impl Which {
    /// Both.
    pub const ALL: [Which; 2] = [Which::Nginx, Which::Haproxy];

    /// As in reports.
    pub fn name(self) -> &'static str {
        match self {
            Which::Nginx => "nginx",
            Which::Haproxy => "haproxy",
        }
    }
}

impl Servers {
    pub fn start() -> Result<Servers> {
        let ring = RingDir::new()?;
        let nginx = Nginx::builder().rotating(&ring, ROTATE, LIFETIME)?.env("TKTROT_RING", RING);
        let haproxy = Haproxy::builder()?;
        let (_, both) = haproxy.certificate("soak")?;
        let haproxy = haproxy
            .mode(Mode::MasterWorker)
            .global("nbthread 2")
            .frontend(&format!("crt {}", both.display()))
            .rotating(&ring, ROTATE, LIFETIME)?
            .env("TKTROT_RING", RING);
        let (nginx, haproxy) = (nginx.start()?, haproxy.start()?);
        let haproxy_addr = haproxy.addr(0);
        Ok(Servers { nginx, haproxy: Mutex::new(haproxy), haproxy_addr, ring })
    }

    pub fn addr(&self, which: Which) -> SocketAddr {
        match which {
            Which::Nginx => self.nginx.addr(),
            Which::Haproxy => self.haproxy_addr,
        }
    }

    pub fn master(&self, which: Which) -> Result<Process> {
        match which {
            Which::Nginx => self.nginx.master_process(),
            Which::Haproxy => self.haproxy().main_process(),
        }
    }

    /// Its children, those on their way out among them.
    pub fn workers(&self, which: Which) -> Vec<Process> {
        self.master(which).map_or_else(|_| Vec::new(), |master| master.children())
    }

    /// Whether the master would hear the signal for a reload: HAProxy's executes itself for each,
    /// and dies of one that comes before it listens again.
    pub fn hears_signals(&self, which: Which) -> bool {
        let signal = Self::reload_signal(which);
        self.master(which).is_ok_and(|master| {
            master.catches(signal) && (which == Which::Nginx || master.catches(libc::SIGCHLD))
        })
    }

    pub fn send_reload(&self, which: Which) -> Result<bool> {
        Ok(self.master(which)?.signal(Self::reload_signal(which)))
    }

    fn haproxy(&self) -> MutexGuard<'_, Haproxy> {
        self.haproxy.lock().expect("nobody panics with it")
    }

    /// HAProxy's master ends when a worker is killed, and a service manager starts it anew.
    pub fn restart_haproxy(&self) -> Result<()> {
        let mut haproxy = self.haproxy();
        if let Ok(master) = haproxy.main_process() {
            master.wait_gone(wait::PATIENCE)?;
        }
        haproxy.start()
    }

    fn reload_signal(which: Which) -> i32 {
        match which {
            Which::Nginx => libc::SIGHUP,
            Which::Haproxy => libc::SIGUSR2,
        }
    }

    /// Waits until handshakes go well again.
    pub fn wait_until_it_serves(&self, which: Which) -> Result<()> {
        let client = Client::new(TlsVersion::V13)?;
        let served = || client.connect(self.addr(which), None, None).ok().map(drop);
        wait::until(wait::PATIENCE, &format!("{} to serve again", which.name()), served)
            .with_context(|| self.logs(which))
    }

    fn logs(&self, which: Which) -> String {
        match which {
            Which::Nginx => self.nginx.log_tail(),
            Which::Haproxy => self.haproxy().stderr(),
        }
    }

    /// Our lines in what both wrote.
    pub fn complaints(&self) -> Vec<String> {
        let said = [self.nginx.stderr(), self.nginx.error_log(), self.haproxy().stderr()].concat();
        crate::log::ours(&said).iter().map(|&line| line.to_owned()).collect()
    }

    /// What `tktrot status` says of the ring, when all that is over is erased.
    pub fn ring(&self) -> Result<RingFacts> {
        let settled = || {
            let facts = self.ring_now().ok()?;
            (facts.present <= most_keys()).then_some(facts)
        };
        let waited = wait::until(Duration::from_secs(5), "keys to be erased", settled);
        waited.or_else(|_| self.ring_now())
    }

    fn ring_now(&self) -> Result<RingFacts> {
        let ring = ring_status(self.ring.path())?;
        let made = ring["counters"]["rotations"].as_u64().context("no counter of rotations")?;
        let present = ring["keys"].as_array().context("no keys")?.len() as u64;
        Ok(RingFacts { made, present })
    }

    /// Who serves, in one line each.
    pub fn versions(&self) -> Vec<String> {
        let first_line = |program: &str, argument: &str| {
            let output = Command::new(program).arg(argument).output().ok()?;
            let said = crate::log::said(&output);
            Some(said.lines().next()?.to_owned())
        };
        [
            first_line(nginx::BINARY, "-v"),
            first_line(haproxy::BINARY, "-v"),
            first_line("openssl", "version"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Keys that there may be at once: those of L, one active, one announced, one on its way.
pub(super) fn most_keys() -> u64 {
    LIFETIME.as_secs().div_ceil(ROTATE.as_secs()) + 3
}
