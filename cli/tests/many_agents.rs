//! 64 agents on loopback addresses of one network, without servers: what it takes to hold
//! everybody's keys. They have the machine for themselves, which the scenarios of `fleet` share. The agents are those that `make` builds, with optimization.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testbed::fleet::agent::Agent;
use testbed::fleet::namespace::Namespace;
use testbed::fleet::settings::{self, Keys, RING};
use testbed::fleet::{MESH, write_secret};
use testbed::process::needs_root;
use testbed::wait;
use testbed::{RingDir, artifacts};
use tktrot::ring::file::Place;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const MANY: usize = 64;

/// No key begins or ends by itself while a test looks.
const HOUR: Duration = Duration::from_secs(3600);

/// For 2 000 connections on a slow machine.
const LONG: Duration = Duration::from_secs(90);

type Names = BTreeSet<[u8; 16]>;

/// An agent and its ring, without a host.
struct Member {
    agent: Agent,
    ring: RingDir,
    dir: TempDir,
}

impl Member {
    fn new(number: usize, peers: &[String], secret: &std::path::Path) -> Result<Member> {
        let dir = tempfile::tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let (agent, ring) = (Agent::new(artifacts::tktrot()?, dir.path())?, RingDir::new()?);
        let mesh = settings::mesh(&format!("{}:{MESH}", address(number)), peers, secret);
        let text = Keys::new(HOUR, HOUR).file(ring.path(), &mesh);
        fs::write(dir.path().join("tktrot.toml"), text)?;
        Ok(Member { agent, ring, dir })
    }

    /// The keys in its ring, and who made each.
    fn keys(&self) -> Option<BTreeMap<[u8; 16], u64>> {
        let file = format!("{RING}.ring");
        let place = Place { dir: self.ring.path().to_owned(), file, dir_mode: 0o700 };
        let keys = place.look().ok()??.keys();
        Some(keys.into_iter().map(|key| (key.name.0, key.node)).collect())
    }
}

/// 127.0.1.1 and on.
fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1 + (number / 16) as u8, 1 + (number % 16) as u8)
}

/// Waits until all rings have the same keys, among them some of each member; returns these.
fn all_hold_all(members: &[Member], what: &str) -> Result<Names> {
    let began = Instant::now();
    let mut seen = String::new();
    let all = wait::until(LONG, &format!("all to hold all keys {what}"), || {
        // Looking costs, too.
        std::thread::sleep(Duration::from_millis(200));
        let rings: Vec<_> = members.iter().filter_map(Member::keys).collect();
        let first = rings.first()?;
        let makers: BTreeSet<u64> = first.values().copied().collect();
        let (min, max) =
            (rings.iter().map(BTreeMap::len).min(), rings.iter().map(BTreeMap::len).max());
        seen = format!("{} rings, {min:?} to {max:?} keys, {} makers", rings.len(), makers.len());
        let same = rings.len() == members.len() && rings.iter().all(|keys| keys == first);
        (same && makers.len() == members.len()).then(|| first.keys().copied().collect::<Names>())
    });
    let all = all.map_err(|late| format!("{late}: {seen}\n{}", members[0].agent.log_tail()))?;
    println!("{} agents hold {} keys {what}: {:.1?}", members.len(), all.len(), began.elapsed());
    Ok(all)
}

#[test]
fn sixty_four_agents_hold_all_keys() -> Result<()> {
    needs_root("it makes a network namespace");
    let (namespace, secrets) = (Namespace::new()?, RingDir::new()?);
    let secret = secrets.path().join("fleet.secret");
    write_secret(&secret)?;
    let peers: Vec<String> = (0..MANY).map(|number| address(number).to_string()).collect();
    let member = |number| Member::new(number, &peers, &secret);
    let mut members = (0..MANY - 1).map(member).collect::<Result<Vec<Member>>>()?;
    for member in &mut members {
        member.agent.launch(&namespace)?;
    }
    for member in &mut members {
        member.agent.wait_ready()?;
    }
    let before = all_hold_all(&members, "after the start")?;
    let warnings: Vec<_> = members
        .iter()
        .flat_map(|member| {
            let log = member.agent.log();
            log.lines().filter(|line| line.contains("WARN")).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    println!("{} warnings while they all start", warnings.len());
    assert!(warnings.len() <= MANY, "{}", warnings[..20].join("\n"));

    let config = members[17].dir.path().join("tktrot.toml");
    let rotated = Command::new(artifacts::tktrot()?)
        .arg("--config")
        .arg(config)
        .args(["rotate", RING])
        .output()?;
    assert!(rotated.status.success(), "{}", testbed::log::said(&rotated));
    wait::until(LONG, "the new key in every ring", || {
        let has_new = |member: &Member| {
            member.keys().is_some_and(|keys| keys.keys().any(|name| !before.contains(name)))
        };
        members.iter().all(has_new).then_some(())
    })?;
    all_hold_all(&members, "after a rotation")?;

    let mut last = Member::new(MANY - 1, &peers, &secret)?;
    let ready = last.agent.start(&namespace)?;
    println!("the last of {MANY} agents is ready after {ready:.1?}");
    members.push(last);
    all_hold_all(&members, "after one has joined")?;
    Ok(())
}
