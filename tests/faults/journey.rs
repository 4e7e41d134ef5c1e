//! What an nginx goes through while calls of the shim fail in it, and what is seen of that.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use testbed::certificate::Certificate;
use testbed::client::{Client, Ticket, TlsVersion};
use testbed::nginx::{Builder, Nginx};
use testbed::process::Process;
use testbed::{RingDir, artifacts, log, wait};
use tktrot::ring::file::Place;

use crate::Result;
use crate::control::{Control, Fault};

/// Visits of each protocol version between two counts of descriptors.
const ROUNDS: usize = 15;
/// For two rotations of a second, on a busy machine.
const FOR_A_ROTATION: Duration = Duration::from_secs(4);

/// When calls begin to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before the server starts.
    Start,
    /// When it has started, and its workers are forked, but have served nobody.
    Later,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Calls that were made to fail.
    pub failed: u32,
    /// Our lines in what master and workers wrote.
    pub lines: Vec<String>,
    /// Lines beside these which say that something works again.
    pub told_recovery: usize,
    /// A panic told by Rust itself, which no server ought to have in its log.
    pub panics: Vec<String>,
    /// Tickets that were offered at once after they were received, and of these the resumed.
    pub offered: usize,
    pub resumed: usize,
    /// Full handshakes without a ticket.
    pub without_ticket: usize,
    /// A new key sealed tickets within some rotations.
    pub rotated: bool,
    /// A ticket resumed in the workers that a reload made.
    pub over_reload: bool,
    /// As soon as nothing fails any more, tickets are issued and resume.
    pub recovered: bool,
    /// Descriptors that a worker has more after many visits.
    pub leaked: usize,
    /// Files in the ring's directory at the end.
    pub files: Vec<String>,
    /// Whether the ring's file, if there is one, opens in another process.
    pub sound: bool,
}

/// An nginx in which this fault can be armed; keys change every second.
pub struct Host {
    pub ring: RingDir,
    pub control: Control,
    pub builder: Builder,
}

impl Host {
    pub fn new(fault: &Fault, certificate: &Certificate) -> Result<Host> {
        let ring = RingDir::new()?;
        // Not in the ring's directory, where nothing but the ring is to be.
        let control = Control::new(&dir_beside(certificate)?, fault)?;
        let both = format!(
            "{}:{}",
            artifacts::program("faults/faults.so")?.display(),
            artifacts::shim()?.display()
        );
        let builder = Nginx::builder()
            .certificate(certificate)
            .workers(2)
            .env("LD_PRELOAD", &both)
            .env("FAULTS", &control.path().display().to_string())
            .ring(&ring)
            .env("TKTROT_ROTATE", "1s")
            .env("TKTROT_LIFETIME", "60s");
        Ok(Host { ring, control, builder })
    }

    /// The journey of a server that works around its problems.
    pub fn travel(self, when: When) -> Result<Seen> {
        let mut seen = Seen::default();
        if when == When::Start {
            self.control.arm(true)?;
        }
        let mut nginx = self.builder.start()?;
        if when == When::Later {
            self.control.arm(true)?;
        }
        let clients = TlsVersion::ALL.map(Client::new);
        let [v12, v13] = clients.map(|client| client.map_err(|error| error.to_string()));
        let clients = [v12?, v13?];
        let addr = nginx.addr();

        let mut visits = Visits { keys: BTreeSet::new(), ivs: BTreeSet::new(), seen: &mut seen };
        visits.both(&clients, &nginx, 3)?;
        let workers = nginx.worker_pids()?;
        let before = descriptors(&workers);
        visits.both(&clients, &nginx, ROUNDS)?;
        let known = visits.keys.clone();
        let rotated = wait::until(FOR_A_ROTATION, "a rotation", || {
            // Seldom, so that not all the time goes into handshakes.
            thread::sleep(Duration::from_millis(200));
            visits.both(&clients, &nginx, 1).ok()?;
            visits.keys.iter().any(|key| !known.contains(key)).then_some(())
        });
        visits.seen.rotated = rotated.is_ok();
        // The server closes its end when it has heard of ours.
        let leaked = || descriptors(&workers).saturating_sub(before);
        let _ = wait::until(Duration::from_secs(2), "closed descriptors", || {
            (leaked() == 0).then_some(())
        });
        visits.seen.leaked = leaked();

        let held = visits.ticket(&clients[0], &nginx)?;
        nginx.reload_by_signal()?;
        seen.over_reload = match &held {
            Some(ticket) => clients[0].connect(addr, None, Some(ticket))?.resumed,
            None => false,
        };
        self.control.arm(false)?;
        seen.recovered = recovers(&clients, &nginx);
        seen.failed = self.control.failed()?;

        nginx.stop()?;
        let said = nginx.stderr() + &nginx.error_log();
        let lines = log::ours(&said).into_iter().map(str::to_owned);
        let (recovery, lines): (Vec<_>, _) = lines.partition(|line| line.contains("works again;"));
        (seen.told_recovery, seen.lines) = (recovery.len(), lines);
        seen.panics =
            said.lines().filter(|line| line.contains("panicked")).map(str::to_owned).collect();
        let name =
            |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        seen.files = self.ring.entries()?.iter().map(name).collect();
        let place = Place {
            dir: self.ring.path().to_owned(),
            file: "nginx.ring".to_owned(),
            dir_mode: 0o700,
        };
        seen.sound = place.open_present().is_ok();
        Ok(seen)
    }

    /// The end of a server that is to stop at a problem: exit status, and our lines.
    pub fn refuse(self) -> Result<(Option<i32>, Vec<String>)> {
        let mut nginx = self.builder.env("TKTROT_STRICT", "1").prepare()?;
        self.control.arm(true)?;
        let status = nginx.start_and_end()?;
        let stderr = nginx.stderr();
        if status.success() {
            // It has become a daemon.
            nginx.stop()?;
        }
        Ok((status.code(), log::ours(&stderr).iter().map(|&line| line.to_owned()).collect()))
    }
}

/// A directory of this host's own, beside the certificate that all share.
fn dir_beside(certificate: &Certificate) -> Result<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let dir = certificate.cert.parent().ok_or("a certificate in no directory")?;
    let dir = dir.join(format!("host-{number}"));
    fs::create_dir(&dir)?;
    Ok(dir)
}

struct Visits<'a> {
    keys: BTreeSet<[u8; 16]>,
    ivs: BTreeSet<[u8; 16]>,
    seen: &'a mut Seen,
}

impl Visits<'_> {
    /// So many full handshakes of each version, and resumptions with their tickets.
    fn both(&mut self, clients: &[Client; 2], nginx: &Nginx, rounds: usize) -> Result<()> {
        for client in clients {
            for _ in 0..rounds {
                if let Some(ticket) = self.ticket(client, nginx)? {
                    let again = client.connect(nginx.addr(), None, Some(&ticket));
                    let again = again.map_err(|error| format!("{error}\n{}", nginx.log_tail()))?;
                    self.seen.offered += 1;
                    self.seen.resumed += usize::from(again.resumed);
                }
            }
        }
        Ok(())
    }

    /// A full handshake, and its ticket if it brought one.
    fn ticket(&mut self, client: &Client, nginx: &Nginx) -> Result<Option<Ticket>> {
        let full = client.connect(nginx.addr(), None, None);
        let full = full.map_err(|error| format!("{error}\n{}", nginx.log_tail()))?;
        for ticket in &full.tickets {
            assert!(is_drawn(&ticket.key_name()) && is_drawn(&ticket.iv()), "a constant");
            self.keys.insert(ticket.key_name());
            assert!(self.ivs.insert(ticket.iv()), "an IV came twice");
        }
        self.seen.without_ticket += usize::from(full.tickets.is_empty());
        Ok(full.tickets.last().cloned())
    }
}

/// No constant.
pub fn is_drawn(bytes: &[u8; 16]) -> bool {
    bytes.iter().any(|byte| *byte != bytes[0])
}

fn recovers(clients: &[Client; 2], nginx: &Nginx) -> bool {
    let resumes = |client: &Client| {
        let full = client.connect(nginx.addr(), None, None).ok()?;
        let again = client.connect(nginx.addr(), None, full.tickets.last()).ok()?;
        again.resumed.then_some(())
    };
    // What failed is tried again after a while, at the latest after a second.
    let all = || {
        thread::sleep(Duration::from_millis(50));
        clients.iter().all(|client| resumes(client).is_some()).then_some(())
    };
    wait::until(FOR_A_ROTATION, "tickets", all).is_ok()
}

fn descriptors(pids: &[i32]) -> usize {
    let workers = pids.iter().filter_map(|&pid| Process::find(pid));
    workers.map(|worker| worker.open_files().len()).sum()
}
