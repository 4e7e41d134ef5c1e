//! Rings of two versions of the format on one machine. What libraries of version 1 made is
//! written here as they laid it out; a later version is one that this one does not know.

use std::fs::{self, File};
use std::mem::offset_of;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use testbed::certificate::{self, Certificate};
use testbed::client::{Client, Ticket, TlsVersion};
use testbed::solo::{Builder, Solo};
use testbed::{RingDir, artifacts, log, wait};
use tktrot::clock::{BootClock, Clock, Time};
use tktrot::ring::file::Place;
use tktrot::ring::graves::Burial;
use tktrot::ring::key::Key;
use tktrot::ring::layout::{
    Capacity, FIRST_SLOTS, GRAVES_AT, Header, LOCK_ABI, MAGIC, MAJOR, SIZE, Slot,
};
use tktrot::rotate::Keyring;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PATIENCE: Duration = Duration::from_secs(60);
const OLD_NODE: u64 = 77;

/// A ring of version 1, with room for 64 keys.
struct OldRing {
    file: File,
}

impl OldRing {
    const CAPACITY: usize = 64;
    const SLOTS_AT: usize = (17 << 10) + 4 * Self::CAPACITY;

    fn create(path: &Path) -> Result<OldRing> {
        let size = Self::SLOTS_AT + Self::CAPACITY * size_of::<Slot>();
        let file =
            File::options().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all_at(&vec![0; size], 0)?;
        let old = OldRing { file };
        old.word(offset_of!(Header, version), 1_u32)?;
        old.word(offset_of!(Header, lock_abi), LOCK_ABI)?;
        old.word(offset_of!(Header, capacity), Self::CAPACITY as u32)?;
        old.word(offset_of!(Header, buckets), Self::CAPACITY as u32)?;
        old.long(offset_of!(Header, size), size as u64)?;
        old.long(offset_of!(Header, node), OLD_NODE)?;
        old.long(offset_of!(Header, magic), MAGIC)?;
        Ok(old)
    }

    fn word(&self, at: usize, value: u32) -> Result<()> {
        Ok(self.file.write_all_at(&value.to_ne_bytes(), at as u64)?)
    }

    fn long(&self, at: usize, value: u64) -> Result<()> {
        Ok(self.file.write_all_at(&value.to_ne_bytes(), at as u64)?)
    }

    /// As its writers do: each change makes the slot's number higher by two.
    fn publish(&self, place: usize, key: &Key, number: u64) -> Result<()> {
        let at = Self::SLOTS_AT + place * size_of::<Slot>();
        self.long(at + offset_of!(Slot, node), OLD_NODE)?;
        let times = [
            (offset_of!(Slot, encrypt_from), key.times.encrypt_from),
            (offset_of!(Slot, encrypt_until), key.times.encrypt_until),
            (offset_of!(Slot, decrypt_until), key.times.decrypt_until),
        ];
        for (field, time) in times {
            self.long(at + field, time.0)?;
        }
        self.file.write_all_at(key.secrets.aes.expose(), (at + offset_of!(Slot, aes)) as u64)?;
        self.file.write_all_at(key.secrets.hmac.expose(), (at + offset_of!(Slot, hmac)) as u64)?;
        self.file.write_all_at(&key.name.0, (at + offset_of!(Slot, name)) as u64)?;
        self.long(at + offset_of!(Slot, seq), number)
    }

    /// As a revocation of a key that no longer encrypts, which makes no new one.
    fn erase(&self, place: usize, number: u64) -> Result<()> {
        let at = Self::SLOTS_AT + place * size_of::<Slot>();
        self.file.write_all_at(&[0; size_of::<Slot>()], at as u64)?;
        self.long(at + offset_of!(Slot, seq), number)
    }
}

/// Servers that differ in nothing but their ring.
struct Servers {
    certificate: Certificate,
    _files: tempfile::TempDir,
    rings: RingDir,
}

impl Servers {
    fn new() -> Result<Servers> {
        let files = tempfile::tempdir()?;
        let certificate = certificate::create(files.path())?;
        Ok(Servers { certificate, _files: files, rings: RingDir::new()? })
    }

    fn builder(&self, ring: &str) -> Result<Builder> {
        let builder = Solo::openssl().preload(artifacts::shim()?).ring(&self.rings);
        let builder = builder.certificate(&self.certificate).env("TKTROT_RING", ring);
        Ok(builder.env("TKTROT_STRICT", "1"))
    }

    fn path(&self, file: &str) -> PathBuf {
        self.rings.path().join(file)
    }

    fn place(&self, file: &str) -> Place {
        Place { dir: self.rings.path().into(), file: file.into(), dir_mode: 0o700 }
    }

    /// A ticket of a ring of that name, and the key that sealed it.
    fn ticket_and_key(&self, ring: &str) -> Result<(Ticket, Key)> {
        let server = self.builder(ring)?.start()?;
        let client = Client::new(TlsVersion::V13)?;
        let visit = client.connect(server.addr(), None, None)?;
        let ticket = visit.tickets.last().ok_or("no ticket")?.clone();
        let place = self.place(&format!("{ring}.ring"));
        let view = place.look().map_err(|refused| refused.to_string())?.ok_or("no ring")?;
        let mut key = Key::blank();
        assert!(view.encrypting(BootClock.now(), &mut key));
        assert_eq!(key.name.0, ticket.key_name());
        Ok((ticket, key))
    }
}

/// Whether a ticket resumes; each is offered as if it were new, again and again.
fn resumes(server: &Solo, ticket: &Ticket) -> Result<bool> {
    let client = Client::new(TlsVersion::V13)?;
    Ok(client.connect(server.addr(), None, Some(&ticket.anew()))?.resumed)
}

fn works(server: &Solo) -> Result<()> {
    for version in TlsVersion::ALL {
        let client = Client::new(version)?;
        let first = client.connect(server.addr(), None, None)?;
        let ticket = first.tickets.last().ok_or("no ticket")?;
        assert!(client.connect(server.addr(), None, Some(ticket))?.resumed);
    }
    assert_eq!(log::ours(&server.stderr()), [""; 0]);
    Ok(())
}

fn inode(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path)?.ino())
}

#[test]
fn tickets_of_an_older_ring_open_in_the_newer_one_as_long_as_its_keys_live() -> Result<()> {
    let servers = Servers::new()?;
    let [first, later, unborn] = ["one", "two", "three"].map(|ring| servers.ticket_and_key(ring));
    let ((first, first_key), (later, later_key), (unborn, _)) = (first?, later?, unborn?);
    let old = OldRing::create(&servers.path("web.ring"))?;
    old.publish(0, &first_key, 2)?;
    let before = inode(&servers.path("web.ring"))?;

    let server = servers.builder("web")?.start()?;
    assert!(resumes(&server, &first)?, "the older ring's ticket does not open");
    assert!(!resumes(&server, &later)?);
    works(&server)?;
    assert_eq!(inode(&servers.path("web.ring"))?, before, "the older ring was touched");
    let beside = servers.path(&format!("web.ring.{MAJOR}"));
    assert!(beside.exists());

    // Its servers make another key; theirs and ours rotate on.
    old.publish(1, &later_key, 2)?;
    wait::until(PATIENCE, "the older ring's new key", || {
        resumes(&server, &later).unwrap_or(false).then_some(())
    })?;
    // They revoke one.
    old.erase(0, 4)?;
    wait::until(PATIENCE, "the end of a key that was revoked there", || {
        resumes(&server, &first).is_ok_and(|resumed| !resumed).then_some(())
    })?;
    assert!(resumes(&server, &later)? && !resumes(&server, &unborn)?);
    assert_eq!(log::ours(&server.stderr()), [""; 0]);
    Ok(())
}

#[test]
fn what_was_revoked_here_does_not_come_back_from_there() -> Result<()> {
    let servers = Servers::new()?;
    let (first, first_key) = servers.ticket_and_key("one")?;
    let (later, later_key) = servers.ticket_and_key("two")?;
    let old = OldRing::create(&servers.path("web.ring"))?;
    old.publish(0, &first_key, 2)?;
    let server = servers.builder("web")?.start()?;
    assert!(resumes(&server, &first)?);
    let place = servers.place("web.ring").of_this_version();
    let ring = place.open_present().map_err(|refused| refused.to_string())?.ok_or("no ring")?;
    Keyring::new(ring, BootClock, &Source).revoke()?;
    assert!(!resumes(&server, &first)?);
    old.publish(1, &later_key, 2)?;
    // Longer than its thread sleeps; and a server that comes now looks at once.
    let another = servers.builder("web")?.start()?;
    for server in [&server, &another] {
        assert!(!resumes(server, &first)? && !resumes(server, &later)?);
        works(server)?;
    }
    Ok(())
}

/// Random bytes for a key that the test makes.
struct Source;

impl tktrot::rotate::Generator for Source {
    fn fill(&self, bytes: &mut [u8]) -> std::result::Result<(), tktrot::rotate::NotRandom> {
        openssl::rand::rand_bytes(bytes).map_err(|_| tktrot::rotate::NotRandom::Failed)
    }
}

#[test]
fn a_later_version_keeps_its_ring_and_this_one_has_its_own() -> Result<()> {
    let servers = Servers::new()?;
    let later = OldRing::create(&servers.path("web.ring"))?;
    later.word(offset_of!(Header, version), MAJOR + 1)?;
    let before = fs::read(servers.path("web.ring"))?;
    let (one, another) = (servers.builder("web")?.start()?, servers.builder("web")?.start()?);
    works(&one)?;
    let client = Client::new(TlsVersion::V13)?;
    let visit = client.connect(one.addr(), None, None)?;
    assert!(resumes(&another, visit.tickets.last().ok_or("no ticket")?)?);
    assert!(fs::read(servers.path("web.ring"))? == before, "it was touched");
    // The one that had the name ends; those that come stay together.
    fs::remove_file(servers.path("web.ring"))?;
    let third = servers.builder("web")?.start()?;
    assert!(resumes(&third, visit.tickets.last().ok_or("no ticket")?)?);
    assert!(!servers.path("web.ring").exists());
    Ok(())
}

/// An accident in the directory costs nobody its ring.
#[test]
fn what_is_only_named_as_the_ring_beside_takes_no_ring_away() -> Result<()> {
    type Put = fn(&Path) -> std::io::Result<()>;
    let accidents: [Put; 4] = [
        |beside| fs::write(beside, ""),
        |beside| fs::create_dir(beside),
        |beside| std::os::unix::fs::symlink("web.ring", beside),
        |beside| fs::copy(beside.with_extension(""), beside).map(drop),
    ];
    for put in accidents {
        let servers = Servers::new()?;
        let one = servers.builder("web")?.start()?;
        let visit = Client::new(TlsVersion::V13)?.connect(one.addr(), None, None)?;
        put(&servers.path(&format!("web.ring.{MAJOR}")))?;
        let another = servers.builder("web")?.start()?;
        assert!(resumes(&another, visit.tickets.last().ok_or("no ticket")?)?);
        works(&another)?;
    }
    Ok(())
}

/// It has no room for graves: what is revoked ends all the same, and nothing is written where there
/// is no file.
#[test]
fn the_first_minor_version_is_used_as_it_is() -> Result<()> {
    let servers = Servers::new()?;
    let place = servers.place("web.ring");
    drop(place.open(Capacity::MAX).map_err(|refused| refused.to_string())?);
    let file = File::options().write(true).open(place.path())?;
    file.write_all_at(&MAJOR.to_ne_bytes(), offset_of!(Header, version) as u64)?;
    file.write_all_at(&(GRAVES_AT as u64).to_ne_bytes(), offset_of!(Header, size) as u64)?;
    file.set_len(GRAVES_AT as u64)?;
    let server = servers.builder("web")?.start()?;
    works(&server)?;
    let ring = place.open_present().map_err(|refused| refused.to_string())?.ok_or("no ring")?;
    let writer = ring.write_within(PATIENCE).map_err(|why| why.to_string())?;
    let name = writer.entries()[0].name;
    assert_eq!(writer.bury(&name, Time::NEVER), Burial::NoRoom);
    drop(writer);
    assert!(
        place.look().map_err(|refused| refused.to_string())?.ok_or("no ring")?.graves().is_empty()
    );
    assert_eq!(fs::metadata(place.path())?.len(), GRAVES_AT as u64);
    works(&server)
}

#[test]
fn a_later_minor_version_is_used_as_it_is() -> Result<()> {
    let servers = Servers::new()?;
    let place = servers.place("web.ring");
    drop(place.open(Capacity::MAX).map_err(|refused| refused.to_string())?);
    let file = File::options().write(true).open(place.path())?;
    file.write_all_at(&(MAJOR | 9 << 16).to_ne_bytes(), offset_of!(Header, version) as u64)?;
    file.write_all_at(&(SIZE as u64 + 4096).to_ne_bytes(), offset_of!(Header, size) as u64)?;
    file.set_len(SIZE as u64 + 4096)?;
    let server = servers.builder("web")?.start()?;
    works(&server)?;
    let view = place.look().map_err(|refused| refused.to_string())?.ok_or("no ring")?;
    assert!(!view.keys().is_empty());
    assert_eq!(fs::metadata(place.path())?.len(), SIZE as u64 + 4096);
    assert!(!servers.path(&format!("web.ring.{MAJOR}")).exists());
    Ok(())
}

/// What lies there may be anything: it is left as it is, and its keys are not taken.
#[test]
fn an_older_ring_that_is_none_gives_no_keys_and_harms_nobody() -> Result<()> {
    let servers = Servers::new()?;
    let (ticket, key) = servers.ticket_and_key("one")?;
    type Spoil = fn(&OldRing) -> Result<()>;
    let spoils: [Spoil; 6] = [
        // With a hole, as a copy may have.
        |old| {
            old.file.set_len(0)?;
            let size = OldRing::SLOTS_AT + OldRing::CAPACITY * size_of::<Slot>();
            old.long(0, MAGIC)?;
            old.word(offset_of!(Header, version), 1)?;
            old.word(offset_of!(Header, capacity), OldRing::CAPACITY as u32)?;
            Ok(old.file.set_len(size as u64)?)
        },
        |old| old.word(offset_of!(Header, capacity), 63),
        |old| old.word(offset_of!(Header, capacity), u32::MAX),
        |old| Ok(old.file.set_len(1000)?),
        |old| Ok(old.file.set_len(OldRing::SLOTS_AT as u64)?),
        // Of another boot.
        |old| old.long(offset_of!(Header, inode), 1),
    ];
    for (number, spoil) in spoils.into_iter().enumerate() {
        let (name, file) = (format!("web{number}"), format!("web{number}.ring"));
        let old = OldRing::create(&servers.path(&file))?;
        old.publish(0, &key, 2)?;
        spoil(&old)?;
        let before = fs::read(servers.path(&file))?;
        let server = servers.builder(&name)?.start()?;
        works(&server)?;
        assert!(!resumes(&server, &ticket)?, "{number}");
        assert!(fs::read(servers.path(&file))? == before, "{number}: it was touched");
    }
    Ok(())
}

/// Of who starts at the same time, while a ring of another version comes and goes.
#[test]
fn all_that_start_together_have_one_ring() -> Result<()> {
    let servers = Servers::new()?;
    for round in 0..30 {
        let file = format!("web{round}.ring");
        let place = servers.place(&file);
        drop(OldRing::create(&place.path())?);
        let open = || place.open(Capacity::MAX).map_err(|refused| refused.to_string());
        let rings = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            if round % 2 == 0 {
                fs::remove_file(place.path())?;
            }
            threads
                .into_iter()
                .map(|thread| Ok(thread.join().map_err(|_| "a panic")??))
                .collect::<Result<Vec<_>>>()
        })?;
        let nodes = rings.iter().map(|ring| ring.node());
        let nodes: std::collections::BTreeSet<_> = nodes.collect();
        assert_eq!(nodes.len(), 1, "round {round}: {} rings", nodes.len());
        assert!(rings.iter().all(|ring| ring.slots_with_memory() == FIRST_SLOTS));
    }
    Ok(())
}
