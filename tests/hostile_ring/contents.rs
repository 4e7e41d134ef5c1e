//! Files that look like a ring and hold something else.

use std::mem::offset_of;
use std::ops::Range;
use std::sync::OnceLock;

use testbed::client::{Client, TlsVersion};
use testbed::environment::{Environment, ring_status};
use testbed::{RingDir, artifacts};
use tktrot::ring::layout::{
    AES_128, BLOCKS_AT, BUCKETS_AT, FIRST_SLOTS, GATES_AT, Gate, Header, LOCK_ABI, MAX_CAPACITY,
    MAX_GRAVES, MEMBERS_AT, Member, SLOTS_AT, Slot, bytes_of,
};

use crate::files::write_ring;
use crate::witness::Witness;
use crate::{Result, is_refused, nginx, serves_and_resumes_across_workers};

/// The bytes of a ring that served an nginx, which has ended.
pub fn sound_ring() -> Result<&'static [u8]> {
    static SOUND: OnceLock<std::result::Result<Vec<u8>, String>> = OnceLock::new();
    let sound = SOUND.get_or_init(|| make_sound_ring().map_err(|error| error.to_string()));
    Ok(sound.as_ref().map_err(Clone::clone)?)
}

fn make_sound_ring() -> Result<Vec<u8>> {
    let dir = RingDir::new()?;
    let path = dir.path().join("web.ring");
    let mut server = nginx(&path)?.start()?;
    for version in TlsVersion::ALL {
        let full = Client::new(version)?.connect(server.addr(), None, None)?;
        assert!(!full.tickets.is_empty());
    }
    server.stop()?;
    Ok(std::fs::read(&path)?)
}

/// Bytes that look random and are the same in each run.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ (seed << 32 | seed);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A sound ring with these bytes in this place is refused for this reason.
fn scribbled(place: Range<usize>, bytes: &[u8], reason: &str) -> Result<()> {
    let mut ring = sound_ring()?.to_vec();
    ring[place].copy_from_slice(bytes);
    let dir = RingDir::new()?;
    let path = dir.path().join("web.ring");
    write_ring(&path, &ring, 0o600)?;
    is_refused(&path, reason)
}

#[test]
fn the_unharmed_copy_is_taken() -> Result<()> {
    // Or else the other tests would show nothing.
    let dir = RingDir::new()?;
    let path = dir.path().join("web.ring");
    write_ring(&path, sound_ring()?, 0o600)?;
    let server = nginx(&path)?.env("TKTROT_STRICT", "1").start()?;
    serves_and_resumes_across_workers(&server)?;
    assert_eq!(testbed::log::ours(&server.stderr()), [""; 0]);
    Ok(())
}

#[test]
fn a_header_that_is_none() -> Result<()> {
    let length = size_of::<Header>();
    scribbled(0..length, &noise(length, 1), "it is not a ring (wrong magic number)")?;
    scribbled(0..length, &vec![0; length], "it is not a ring (wrong magic number)")?;
    scribbled(0..length, &vec![0xff; length], "it is not a ring (wrong magic number)")
}

#[test]
fn a_header_of_another_version() -> Result<()> {
    // Left to the servers of that version, and one made beside it.
    let at = offset_of!(Header, version);
    for version in [1_u32, 3, 0xffff, u32::MAX] {
        let mut ring = sound_ring()?.to_vec();
        ring[at..at + 4].copy_from_slice(&version.to_ne_bytes());
        let dir = RingDir::new()?;
        let path = dir.path().join("web.ring");
        write_ring(&path, &ring, 0o600)?;
        let before = Witness::of(&path)?;
        let server = nginx(&path)?.env("TKTROT_STRICT", "1").start()?;
        serves_and_resumes_across_workers(&server)?;
        assert_eq!(testbed::log::ours(&server.stderr()), [""; 0]);
        before.assert_unchanged("another version")?;
        assert!(dir.path().join("web.ring.2").exists());
    }
    let at = offset_of!(Header, lock_abi);
    scribbled(at..at + 4, &[0xff; 4], "it was made for another processor or word size")?;
    let musl = LOCK_ABI ^ 1 << 16;
    scribbled(at..at + 4, &musl.to_ne_bytes(), "its locks are those of musl, not of glibc")
}

/// Of a container with another C library: nobody here can take its locks, and nobody need.
#[test]
fn a_ring_of_another_c_library_can_be_looked_at() -> Result<()> {
    let at = offset_of!(Header, lock_abi);
    let mut ring = sound_ring()?.to_vec();
    ring[at..at + 4].copy_from_slice(&(LOCK_ABI ^ 1 << 16).to_ne_bytes());
    let dir = RingDir::new()?;
    let path = dir.path().join("web.ring");
    write_ring(&path, &ring, 0o600)?;
    let before = Witness::of(&path)?;
    let status = ring_status(dir.path())?;
    assert!(status["keys"].as_array().is_some_and(|keys| !keys.is_empty()), "{status:#}");
    let mut environment = Environment::default();
    environment.set("TKTROT_DIR", &dir.path().display().to_string());
    let mut rotate = environment.command(artifacts::tktrot()?);
    let output = rotate.args(["--config", "/dev/null", "rotate", "web"]).output()?;
    let said = testbed::log::said(&output);
    assert!(said.contains("its locks are those of musl, not of glibc"), "{said}");
    assert_eq!(output.status.code(), Some(2), "{said}");
    before.assert_unchanged("a ring of another C library")
}

#[test]
fn a_capacity_that_cannot_be() -> Result<()> {
    let at = offset_of!(Header, capacity);
    for capacity in [0, 7, MAX_CAPACITY + 1, u32::MAX] {
        let reason = format!("it has a capacity of {capacity} keys");
        scribbled(at..at + 4, &capacity.to_ne_bytes(), &reason)?;
    }
    let at = offset_of!(Header, buckets);
    scribbled(at..at + 4, &3u32.to_ne_bytes(), "it has 3 lookup chains")?;
    let at = offset_of!(Header, slots);
    for slots in [0, FIRST_SLOTS - 1, MAX_CAPACITY + 1, u32::MAX] {
        let reason = format!("it has memory for {slots} keys");
        scribbled(at..at + 4, &slots.to_ne_bytes(), &reason)?;
    }
    let at = offset_of!(Header, graves);
    for graves in [MAX_GRAVES + 1, u32::MAX] {
        let reason = format!("it has room for {graves} revoked keys");
        scribbled(at..at + 4, &graves.to_ne_bytes(), &reason)?;
    }
    let at = offset_of!(Header, size);
    scribbled(at..at + 8, &[0xff; 8], "it has the wrong size")
}

#[test]
fn slots_that_no_writer_left() -> Result<()> {
    let (first, end) = (SLOTS_AT, bytes_of(FIRST_SLOTS));
    let length = end - first;
    // With the first odd sequence number a slot seems half written.
    scribbled(first..end, &noise(length, 2), "remove it if no server uses it")?;
    scribbled(first..end, &vec![0xff; length], "a slot is being written while nobody writes")?;
    // Even sequence numbers, and nothing else that is right.
    let mut even = noise(length, 3);
    even.chunks_mut(128).for_each(|slot| slot[0] &= !1);
    scribbled(first..end, &even, "a slot holds what no writer leaves there")?;
    // Flags that there are not, and that a key of 32 bytes cannot have.
    let flags = first + offset_of!(Slot, flags);
    for wrong in [4_u32, AES_128] {
        let bytes = wrong.to_ne_bytes();
        scribbled(flags..flags + 4, &bytes, "a slot holds what no writer leaves there")?;
    }
    // No keys, but chains and a line that lead to them.
    scribbled(first..end, &vec![0; length], "a lookup chain is corrupt")
}

#[test]
fn look_up_chains_that_are_none() -> Result<()> {
    let place = BUCKETS_AT..MEMBERS_AT;
    let length = place.len();
    scribbled(place.clone(), &noise(length, 4), "a lookup chain leads out of the ring")?;
    // Each chain begins with the same slot.
    let same = [1, 0].repeat(length / 2);
    scribbled(place.clone(), &same, "a lookup chain is corrupt")?;
    scribbled(place, &vec![0; length], "a key is in no lookup chain")
}

#[test]
fn a_line_that_leads_nowhere() -> Result<()> {
    let at = offset_of!(Header, line);
    scribbled(at..at + 8, &[0xff; 8], "the line names an empty slot")?;
    scribbled(at..at + 8, &60u64.to_ne_bytes(), "the line names an empty slot")
}

/// A lock and a lead of nobody are taken over; a mutex is one, or the ring is none.
#[test]
fn locks_that_are_none() -> Result<()> {
    let locks = offset_of!(Header, writer)..size_of::<Header>();
    for seed in 5..8 {
        is_survived(locks.clone(), &noise(locks.len(), seed))?;
    }
    is_survived(locks.clone(), &vec![0xff; locks.len()])?;
    is_survived(locks.clone(), &vec![0; locks.len()])?;
    let members = MEMBERS_AT..GATES_AT;
    let gates = GATES_AT..SLOTS_AT;
    for place in [members, gates] {
        for seed in 5..8 {
            scribbled(place.clone(), &noise(place.len(), seed), "lock")?;
        }
        scribbled(place.clone(), &vec![0xff; place.len()], "lock")?;
        scribbled(place.clone(), &vec![0; place.len()], "lock")?;
    }
    // All but the mutexes.
    let member = MEMBERS_AT..MEMBERS_AT + offset_of!(Member, life);
    is_survived(member.clone(), &noise(member.len(), 8))?;
    let gate = GATES_AT..GATES_AT + offset_of!(Gate, mutex);
    is_survived(gate.clone(), &noise(gate.len(), 8))
}

/// A sound ring with these bytes in this place loses keys at worst: servers start on it, and resume.
fn is_survived(place: Range<usize>, bytes: &[u8]) -> Result<()> {
    let mut ring = sound_ring()?.to_vec();
    ring[place.clone()].copy_from_slice(bytes);
    let dir = RingDir::new()?;
    let path = dir.path().join("web.ring");
    write_ring(&path, &ring, 0o600)?;
    let server = nginx(&path)?.start().map_err(|error| format!("{place:?}: {error}"))?;
    serves_and_resumes_across_workers(&server).map_err(|error| format!("{place:?}: {error}"))?;
    assert_eq!(testbed::log::ours(&server.stderr()), [""; 0], "{place:?}");
    Ok(())
}

#[test]
fn a_schedule_that_is_none() -> Result<()> {
    let at = offset_of!(Header, rotate_every);
    for nanoseconds in [1u64, 999_999_999, 8 * 24 * 3600 * 1_000_000_000, u64::MAX] {
        let reason = format!("it rotates every {nanoseconds} ns");
        scribbled(at..at + 8, &nanoseconds.to_ne_bytes(), &reason)?;
    }
    let node = offset_of!(Header, node)..offset_of!(Header, rotate_every);
    let others = offset_of!(Header, lifetime)..offset_of!(Header, own_lifetimes) + 4;
    for fields in [node, others] {
        is_survived(fields.clone(), &noise(fields.len(), 9))?;
        is_survived(fields.clone(), &vec![0xff; fields.len()])?;
        is_survived(fields.clone(), &vec![0; fields.len()])?;
    }
    let at = offset_of!(Header, lifetime);
    is_survived(at..at + 8, &1u64.to_ne_bytes())?;
    let at = offset_of!(Header, lead);
    is_survived(at..at + 8, &u64::MAX.to_ne_bytes())
}

#[test]
fn counters_that_are_none() -> Result<()> {
    let blocks = BLOCKS_AT..BUCKETS_AT;
    is_survived(blocks.clone(), &noise(blocks.len(), 10))?;
    is_survived(blocks.clone(), &vec![0xff; blocks.len()])
}
