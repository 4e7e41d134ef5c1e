//! HAProxy with ticket keys of its own: `tls-ticket-keys`, a file of three, of which the
//! penultimate encrypts, and `set ssl tls-key` on the admin socket, which adds one.

use std::fs;
use std::path::PathBuf;

use openssl::base64;
use testbed::haproxy::{Builder, Haproxy};
use testbed::visitors::Visitors;
use testbed::{RingDir, artifacts, log};

use crate::{Result, as_in_production, with_frontend};

/// A key as HAProxy takes it: a name of 16 bytes, then secrets.
type Key = [u8; 48];
type KeyName = [u8; 16];

fn random_key() -> Result<Key> {
    let mut key = [0; 48];
    openssl::rand::rand_bytes(&mut key)?;
    Ok(key)
}

fn name_of(key: &Key) -> KeyName {
    *key.first_chunk().expect("a key is longer than its name")
}

/// A file of three keys, in memory and gone with this; and those that an administrator adds later.
pub struct Keys {
    dir: RingDir,
    file: [Key; 3],
    added: [Key; 2],
}

impl Keys {
    pub fn new() -> Result<Keys> {
        let file = [random_key()?, random_key()?, random_key()?];
        let keys = Keys { dir: RingDir::new()?, file, added: [random_key()?, random_key()?] };
        let lines = keys.file.iter().map(|key| base64::encode_block(key) + "\n");
        fs::write(keys.path(), lines.collect::<String>())?;
        Ok(keys)
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("ticket.keys")
    }

    pub fn haproxy(&self) -> Result<Builder> {
        let more = format!("tls-ticket-keys {}", self.path().display());
        with_frontend(as_in_production()?, &more)
    }

    /// Lets HAProxy have the keys that were not in the file.
    fn add(&self, haproxy: &Haproxy, key: &Key) -> Result<()> {
        let file = self.path();
        let command = format!("set ssl tls-key {} {}", file.display(), base64::encode_block(key));
        let answer = haproxy.admin(&command)?;
        assert!(answer.contains("TLS ticket key updated!"), "{answer}");
        Ok(())
    }

    fn are_all_unknown_to(&self, visitors: &Visitors) {
        let mut names = self.file.iter().chain(&self.added).map(name_of);
        let foreign = |name| !visitors.key_names().contains(&name);
        assert!(names.all(foreign), "a ticket of HAProxy's own keys");
    }
}

fn takeovers(haproxy: &Haproxy) -> usize {
    let stderr = haproxy.stderr();
    let lines = log::ours(&stderr).into_iter().filter(|line| line.contains("takeover"));
    let told = |line: &str| line.contains("haproxy") && line.contains("TKTROT_TAKEOVER=no");
    lines.inspect(|line| assert!(told(line), "{line}")).count()
}

#[test]
fn by_default_they_are_replaced_and_one_line_says_so() -> Result<()> {
    let (keys, ring) = (Keys::new()?, RingDir::new()?);
    let mut haproxy = keys.haproxy()?.preload(artifacts::shim()?).ring(&ring).start()?;
    let issued = Visitors::of(haproxy.addr(0))?;
    keys.are_all_unknown_to(&issued);
    issued.resume(haproxy.addr(0), "issued before")?;
    assert_eq!(takeovers(&haproxy), 1);

    // Other keys for HAProxy mean nothing to the tickets.
    for key in &keys.added {
        keys.add(&haproxy, key)?;
        issued.resume(haproxy.addr(0), "issued before")?;
        keys.are_all_unknown_to(&Visitors::of(haproxy.addr(0))?);
    }
    assert_eq!(takeovers(&haproxy), 1);

    // Each time a master executes itself it begins anew.
    haproxy.reload()?;
    issued.resume(haproxy.addr(0), "issued before")?;
    keys.are_all_unknown_to(&Visitors::of(haproxy.addr(0))?);
    assert_eq!(takeovers(&haproxy), 2);

    haproxy.stop()?;
    haproxy.start()?;
    issued.resume(haproxy.addr(0), "issued before")?;
    keys.are_all_unknown_to(&Visitors::of(haproxy.addr(0))?);
    assert_eq!(takeovers(&haproxy), 3);
    assert_eq!(log::ours(&haproxy.stderr()).len(), 3, "{}", haproxy.stderr());
    Ok(())
}

/// What can be seen of a HAProxy: after each event, the key of a new ticket, and whether each
/// ticket so far resumes, for TLS 1.2 and 1.3.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    event: &'static str,
    keys: Vec<KeyName>,
    resumed: Vec<bool>,
}

fn life(mut haproxy: Haproxy, keys: &Keys) -> Result<Vec<Seen>> {
    let (mut seen, mut visitors) = (Vec::new(), Vec::new());
    let mut look = |haproxy: &Haproxy, event| -> Result<()> {
        let new = Visitors::of(haproxy.addr(0))?;
        let keys = new.key_names();
        visitors.push(new);
        let mut resumed = Vec::new();
        for visitors in &visitors {
            let visits = visitors.again(haproxy.addr(0))?;
            resumed.extend(visits.iter().map(|visit| visit.resumed));
        }
        seen.push(Seen { event, keys, resumed });
        Ok(())
    };
    look(&haproxy, "start")?;
    keys.add(&haproxy, &keys.added[0])?;
    look(&haproxy, "a key is added")?;
    keys.add(&haproxy, &keys.added[1])?;
    look(&haproxy, "another key is added")?;
    haproxy.reload()?;
    look(&haproxy, "reload")?;
    haproxy.stop()?;
    haproxy.start()?;
    look(&haproxy, "restart")?;
    assert_eq!(log::ours(&haproxy.stderr()), [""; 0]);
    Ok(seen)
}

#[test]
fn without_takeover_they_serve_as_without_the_shim() -> Result<()> {
    let (keys, ring) = (Keys::new()?, RingDir::new()?);
    let alone = life(keys.haproxy()?.start()?, &keys)?;
    let shim = artifacts::shim()?;
    let haproxy = keys.haproxy()?.preload(shim).ring(&ring).env("TKTROT_TAKEOVER", "no");
    assert_eq!(life(haproxy.start()?, &keys)?, alone);

    // What was compared is not nothing: the keys of the file, one after the other, and the first
    // one is known again after the reload.
    let sealing: Vec<_> = alone.iter().map(|seen| seen.keys.clone()).collect();
    let [_, second, third] = keys.file.each_ref().map(name_of);
    let first_added = name_of(&keys.added[0]);
    assert_eq!(sealing, [second, third, first_added, second, second].map(|name| vec![name; 2]));
    assert!(alone[1].resumed.iter().all(|&resumed| resumed), "{alone:?}");
    let last = &alone[4].resumed;
    assert!(last.contains(&true) && last.contains(&false), "{alone:?}");
    Ok(())
}
