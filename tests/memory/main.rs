//! What is left of a key in the memory of the processes that used it: while it lives, what is in
//! the ring, whose pages are locked and in no core dump; after its end nothing.
//!
//! The test opens the ring, as root may, and so knows every key without any help of the product.
//! It keeps digests only (`witness.rs`, `testbed::memory`), reads every readable mapping of every
//! process of an nginx, and looks for more than whole keys: for each 8-aligned piece of 8 bytes of
//! what a key is while it is used. What a server keeps of a living key beside the ring are states of
//! MACs that are keyed with it, from which the key cannot be had; after its end they are gone, too.

mod core_file;
mod paused;
mod witness;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use openssl::ssl::{Ssl, SslContext, SslMethod, SslStream};
use testbed::client::{Client, Ticket, TlsVersion};
use testbed::memory::Found;
use testbed::nginx::{Builder, Nginx};
use testbed::process::Process;
use testbed::process::needs_root;
use testbed::{RingDir, wait};
use witness::Witness;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const LIMIT: Duration = Duration::from_secs(30);
/// How long after its end something of a key may be there.
const LATE: Duration = Duration::from_secs(1);

/// An nginx whose keys are in its ring for five seconds, and that tells which worker answers.
fn nginx(ring: &RingDir) -> Result<Builder> {
    let two = Duration::from_secs(2);
    Ok(Nginx::builder().rotating(ring, two, two)?.body("$pid"))
}

/// Full handshakes and resumptions, in both versions of TLS.
struct Visitors {
    clients: Vec<(Client, Option<Ticket>)>,
    resumed: usize,
    /// The workers that answered.
    workers: BTreeSet<i32>,
}

impl Visitors {
    fn new() -> Result<Visitors> {
        let clients = TlsVersion::ALL.map(|version| Ok((Client::new(version)?, None)));
        let clients = clients.into_iter().collect::<Result<_>>()?;
        Ok(Visitors { clients, resumed: 0, workers: BTreeSet::new() })
    }

    /// A full handshake and an offered ticket, in each version.
    fn come(&mut self, nginx: &Nginx) -> Result<()> {
        for (client, ticket) in &mut self.clients {
            for offered in [ticket.take(), None] {
                let visit = client.connect(nginx.addr(), None, offered.as_ref())?;
                self.resumed += usize::from(visit.resumed);
                self.workers.insert(visit.body.trim().parse()?);
                *ticket = visit.tickets.last().cloned().or(ticket.take());
            }
        }
        Ok(())
    }

    /// Comes until each of `workers` has answered, and enough tickets were opened.
    fn meet(&mut self, nginx: &Nginx, workers: &[i32]) -> Result<()> {
        let enough = self.resumed + 16;
        self.workers.clear();
        wait::until(LIMIT, "an answer of every worker", || {
            self.come(nginx).ok()?;
            let all =
                workers.iter().all(|&worker| self.workers.contains(&number_in_container(worker)));
            (all && self.resumed >= enough).then_some(())
        })?;
        Ok(())
    }
}

/// The number by which a process knows itself: in a PID namespace another one than here.
fn number_in_container(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.and_then(|numbers| numbers.split_whitespace().last()?.parse().ok()).unwrap_or(pid)
}

/// Keeps a connection open in the middle of a request, and with it its worker.
fn hold(nginx: &Nginx) -> Result<SslStream<TcpStream>> {
    let context = SslContext::builder(SslMethod::tls_client())?.build();
    let mut stream = SslStream::new(Ssl::new(&context)?, TcpStream::connect(nginx.addr())?)?;
    stream.connect()?;
    stream.write_all(b"GET / HTTP/1.1\r\n")?;
    Ok(stream)
}

/// Those that are of one of these keys.
fn of(names: &[String], found: Vec<Found>) -> Vec<Found> {
    let is_of = |found: &Found| names.iter().any(|name| found.label.starts_with(name.as_str()));
    found.into_iter().filter(is_of).collect()
}

/// No copy of the keys `dead`, nor a piece of one, is anywhere in these processes.
fn assert_no_key(witness: &Witness, dead: &[String], everyone: &[i32], when: &str) -> Result<()> {
    for &pid in everyone {
        let whole = of(dead, witness.keys.in_process(pid)?);
        assert!(whole.is_empty(), "{when}, process {pid}: {whole:x?}");
        let pieces = of(dead, witness.pieces.in_process(pid)?);
        assert!(pieces.is_empty(), "{when}, process {pid}: {pieces:x?}");
    }
    Ok(())
}

/// Nothing of the keys `dead` is anywhere in these processes.
fn assert_gone(witness: &Witness, dead: &[String], everyone: &[i32], when: &str) -> Result<()> {
    assert!(!dead.is_empty());
    assert_no_key(witness, dead, everyone, when)?;
    for &pid in everyone {
        let states = of(dead, witness.states.in_process(pid)?);
        assert!(states.is_empty(), "{when}, process {pid}: {states:x?}");
    }
    Ok(())
}

/// The workers keep MACs that are keyed with a living key, which shows that the search for those of
/// dead keys would find some.
fn assert_kept(witness: &mut Witness, visitors: &mut Visitors, nginx: &Nginx) -> Result<()> {
    let workers = nginx.worker_pids()?;
    wait::until(LIMIT, "MACs that every worker keeps", || {
        visitors.meet(nginx, &workers).ok()?;
        let live = witness.look().ok()?;
        let keeps = |pid: &i32| {
            let states = witness.states.in_process(*pid).map(|found| of(&live, found));
            states.is_ok_and(|states| !states.is_empty())
        };
        workers.iter().all(keeps).then_some(())
    })?;
    Ok(())
}

/// Each process has the living keys in its ring, and nothing of any key elsewhere.
fn assert_only_in_ring(witness: &mut Witness, everyone: &[i32]) -> Result<()> {
    // Keys come and go: what is found is judged if they were the same before and after.
    let mut search = || -> Result<_> {
        let live = witness.look()?;
        let mut searched = Vec::new();
        for &pid in everyone {
            let keys = witness.keys.in_process(pid)?;
            searched.push((pid, keys, witness.pieces.in_process(pid)?));
        }
        Ok((witness.look()? == live).then_some((live, searched)))
    };
    let (live, searched) =
        wait::until(LIMIT, "a search between two rotations", || search().transpose())??;
    assert!(live.len() >= 2, "{live:?}");
    for (pid, whole, pieces) in searched {
        for label in
            live.iter().flat_map(|name| ["AES", "HMAC"].map(|kind| format!("{name} {kind}")))
        {
            let copies = whole.iter().filter(|found| found.label == label).count();
            assert_eq!(copies, 1, "process {pid}: {label}: {whole:x?}");
        }
        for found in whole.iter().chain(&pieces) {
            assert!(found.mapping.name.ends_with("/nginx.ring"), "process {pid}: {found:x?}");
            assert!(found.mapping.is_protected(), "process {pid}: {found:x?}");
        }
    }
    Ok(())
}

/// Takes an nginx through traffic, a reload that leaves an old worker behind, and silence.
fn leaves_nothing_behind(builder: Builder, ring: &RingDir) -> Result<()> {
    let mut nginx = builder.start()?;
    let mut witness = Witness::new(ring.path())?;
    let mut visitors = Visitors::new()?;
    let master = nginx.master_pid()?;
    let old = nginx.worker_pids()?;
    visitors.meet(&nginx, &old)?;
    let held = hold(&nginx)?;
    nginx.reload()?;
    let new = nginx.worker_pids()?;
    visitors.meet(&nginx, &new)?;
    let other = wait::until(LIMIT, "the end of one old worker", || {
        let mut left = old.iter().copied().filter(|&pid| Process::find(pid).is_some());
        left.next().filter(|_| left.next().is_none())
    })?;
    let everyone: Vec<i32> = [master, other].into_iter().chain(new).collect();

    assert_only_in_ring(&mut witness, &everyone)?;
    assert_kept(&mut witness, &mut visitors, &nginx)?;

    let dead = witness.await_end(LATE, || visitors.come(&nginx).expect("a handshake"))?;
    assert_gone(&witness, &dead, &everyone, "with traffic")?;

    // These have sealed and opened tickets until a moment ago.
    visitors.meet(&nginx, &everyone[2..])?;
    witness.look()?;
    let rotated = witness.seen() - dead.len();
    assert!(rotated >= 2, "{rotated} new keys");
    let dead = witness.await_end(LATE, || ())?;
    assert_gone(&witness, &dead, &everyone, "without traffic")?;

    for pid in everyone {
        assert!(Process::find(pid).is_some(), "process {pid} ended: {}", nginx.log_tail());
    }
    drop(held);
    Ok(())
}

#[test]
fn of_a_dead_key_nothing_is_left_and_of_a_living_one_only_the_ring_has_a_copy() -> Result<()> {
    needs_root("it reads the memory of all processes");
    let ring = RingDir::new()?;
    leaves_nothing_behind(nginx(&ring)?, &ring)
}

/// As on a processor without AES-NI and AVX, where other code of OpenSSL handles the keys
/// (OPENSSL_ia32cap(3)).
#[test]
fn the_same_with_portable_ciphers() -> Result<()> {
    needs_root("it reads the memory of all processes");
    let ring = RingDir::new()?;
    leaves_nothing_behind(nginx(&ring)?.env("OPENSSL_ia32cap", "0x0:0x0"), &ring)
}
