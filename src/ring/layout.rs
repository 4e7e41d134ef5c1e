//! The binary format of a ring: every offset is fixed here and asserted at
//! compile time. All programs that map a ring agree on nothing but this file.
//!
//! ```text
//! 0        1 KiB                 17 KiB                  33 KiB        41 KiB      49 KiB        2097 KiB
//! │ Header │ 128 × Block (stats) │ 8192 × bucket head, u16 │ 64 × Member │ 64 × Gate │ Slot, Slot, … │ Grave, Grave, …
//! ```
//!
//! Slots and graves come last, and the file is as long as the most of them: memory is taken for
//! the first at once, and for the others when they are needed ([`super::Ring`]).
//!
//! Every word is an atomic: processes read while another one writes.

use std::mem::size_of;
use std::sync::atomic;

use super::mutex::RobustMutex;
use crate::atomics::{AtomicU16, AtomicU32, AtomicU64};
use crate::schedule::LONGEST_LINE;

/// `tktrot`, and a last byte that changes with anything that old readers must not touch.
pub const MAGIC: u64 = u64::from_le_bytes(*b"tktrot\0\x01");

/// The version of this layout, on which everybody who maps a ring relies. One of another is
/// left to the libraries of that: [`super::versions`].
pub const MAJOR: u32 = 2;
/// What has been put where libraries of the same major version do not look.
///
/// 1: graves, and how far the fleet's periods have come.
const MINOR: u32 = 1;
/// Both, as the header has them.
pub const VERSION: u32 = MAJOR | MINOR << 16;

/// Who can share the locks in the header: the C library, which defines them,
/// and the width of a pointer.
pub const LOCK_ABI: u32 = (size_of::<libc::pthread_mutex_t>() as u32)
    | (size_of::<usize>() as u32) << 8
    | if cfg!(target_env = "musl") { MUSL } else { 0 };

const MUSL: u32 = 1 << 16;

/// True if everything lies where it does here, whoever made the locks: then a ring can be looked at.
pub fn lies_as_here(lock_abi: u32) -> bool {
    lock_abi & !MUSL == LOCK_ABI & !MUSL
}

/// The C library that made the locks.
pub fn libc_of(lock_abi: u32) -> &'static str {
    if lock_abi & MUSL != 0 { "musl" } else { "glibc" }
}

/// The least bound of keys: previous, current, next, and room to rotate.
pub const MIN_CAPACITY: u32 = 8;
/// The most keys that a ring holds.
pub const MAX_CAPACITY: u32 = 16384;
/// How many slots have memory from the start: with what stands before them, less than
/// the 64 KiB that older systems let a process lock.
pub const FIRST_SLOTS: u32 = if cfg!(loom) { 1 } else { 64 };
/// How many more get it at a time: a page of them.
pub const MORE_SLOTS: u32 = if cfg!(loom) { 1 } else { 32 };
/// The most names of revoked keys that a ring remembers.
pub const MAX_GRAVES: u32 = 16384;
/// How many of them get memory at a time, the first of them from the start: a page.
pub const MORE_GRAVES: u32 = 128;
/// Heads of the lookup chains: a power of two.
pub const BUCKETS: usize = if cfg!(loom) { 1 } else { 8192 };
/// How many processes count on a cache line of their own.
pub const BLOCKS: usize = 128;
/// How many processes are members of a ring.
pub const MEMBERS: usize = BLOCKS / 2;
/// From how many PID namespaces a ring can be written.
pub const GATES: usize = 64;
/// How many counters a process has.
pub const COUNTERS: usize = 13;
/// How many keys of a node can be in its line.
pub const LINE: usize = LONGEST_LINE;

/// Words of a name, and of a secret. In a model one stands for all: what tells a
/// torn key is that its words are not those of one key.
const NAME_WORDS: usize = if cfg!(loom) { 1 } else { 2 };
const SECRET_WORDS: usize = if cfg!(loom) { 1 } else { 4 };

/// The head of a ring.
#[repr(C, align(128))]
pub struct Header {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// [`VERSION`].
    pub version: AtomicU32,
    /// [`LOCK_ABI`].
    pub lock_abi: AtomicU32,
    /// Bytes of the whole ring.
    pub size: AtomicU64,
    /// The most keys that may be in it: [`Capacity`].
    pub capacity: AtomicU32,
    /// Heads of the lookup chains.
    pub buckets: AtomicU32,
    /// The file that it was made as: [`super::Ring`].
    pub inode: AtomicU64,
    /// When that file was made: [`super::Ring`].
    pub born: AtomicU64,
    /// The node whose keys encrypt here.
    pub node: AtomicU64,
    /// R in nanoseconds.
    pub rotate_every: AtomicU64,
    /// L in nanoseconds; 0: as long as the contexts' own timeouts.
    pub lifetime: AtomicU64,
    /// The longest timeout of a context so far, in nanoseconds.
    pub seen_lifetime: AtomicU64,
    /// The lead in nanoseconds; 0: the default for R.
    pub lead: AtomicU64,
    /// 1: new keys are plain.
    pub plain: AtomicU32,
    /// How often the ring was opened, its making included.
    pub opened: AtomicU32,
    /// 1: a process leaves L to its contexts, so that keys are kept no longer
    /// than `seen_lifetime`, whatever `lifetime` says.
    pub own_lifetimes: AtomicU32,
    /// 1: the file is gone ([`super::Ring::lost_its_file`]).
    pub removed: AtomicU32,
    /// 1: no keys are taken any more of a ring of an older version: [`super::versions`].
    pub severed: AtomicU32,
    /// How many slots have memory.
    pub slots: AtomicU32,
    /// How many graves have been in use; those behind them are not to be touched.
    pub graves: AtomicU32,
    pub(super) _pad0: AtomicU32,

    /// The slots of the node's line, oldest first: four times slot + 1 in 16 bits, 0 for none.
    pub line: AtomicU64,
    /// From this time on there is something for a writer to do.
    pub deadline: AtomicU64,
    /// Until then an agent governs the ring; in the past, or 0: none does.
    pub governed_until: AtomicU64,
    /// The latest period of its fleet that the ring has seen; it only moves forward.
    pub fleet_period: AtomicU64,
    /// As `fleet_period`, of the epoch.
    pub fleet_epoch: AtomicU64,
    pub(super) _pad1: [AtomicU64; 11],

    /// Keys published by this node.
    pub rotations: AtomicU64,
    /// Failures of the generator.
    pub generator_failures: AtomicU64,
    /// Writers that died with the lock and were repaired after.
    pub repairs: AtomicU64,
    /// The last error: a [`super::stats::Problem`], 0 for none.
    pub last_error: AtomicU64,
    /// When it happened.
    pub last_error_at: AtomicU64,
    pub(super) _pad2: [AtomicU64; 11],

    /// Of whoever has the writer lock: [`super::lock`]; 0: nobody has.
    pub writer: AtomicU64,
    /// How often it was taken.
    pub turns: AtomicU64,
    pub(super) _pad3: [AtomicU64; 14],
    /// The process whose upkeep thread sees to the ring: a [`crate::process::ProcessId`].
    pub leader: AtomicU64,
    /// When that last showed that it is at work.
    pub led_at: AtomicU64,
    pub(super) _pad4: [AtomicU64; 14],
    pub(super) _pad5: [AtomicU64; 48],
}

/// One key. Between an odd and the next even value of `seq` it is being written.
#[repr(C, align(128))]
pub struct Slot {
    /// Even: as written. Odd: a writer is at it, or died at it.
    pub seq: AtomicU64,
    /// [`PLAIN`], [`AES_128`].
    pub flags: AtomicU32,
    /// The next slot + 1 of this lookup chain; 0: the end.
    pub next: AtomicU32,
    /// The key's name; zero: the slot is empty.
    pub name: [AtomicU64; NAME_WORDS],
    /// The node that made it.
    pub node: AtomicU64,
    /// [`crate::schedule::KeyTimes`]; only ever made earlier after publication.
    pub encrypt_from: AtomicU64,
    /// See `encrypt_from`.
    pub encrypt_until: AtomicU64,
    /// See `encrypt_from`.
    pub decrypt_until: AtomicU64,
    /// The AES-256 key; with [`AES_128`] an AES-128 key and zeroes.
    pub aes: [AtomicU64; SECRET_WORDS],
    /// The HMAC-SHA-256 key.
    pub hmac: [AtomicU64; SECRET_WORDS],
}

/// The name of a key that was revoked. Between an odd and the next even value of `seq` it is
/// being written.
#[repr(C, align(32))]
pub struct Grave {
    /// Even: as written. Odd: a writer is at it, or died at it.
    pub seq: AtomicU64,
    /// The key's name; zero: the grave is empty.
    pub name: [AtomicU64; NAME_WORDS],
    /// Until then a copy of the key may live somewhere.
    pub until: AtomicU64,
}

/// [`Slot::node`] of a key that came out of a file; no node has this id.
pub const IMPORTED: u64 = 0;
/// [`Slot::flags`]: the key may be given to servers that do not run libtktrot.
/// Earlier versions also seal with it, and open what it sealed, without
/// associated data, whatever their contexts bind to.
pub const PLAIN: u32 = 1;
/// [`Slot::flags`]: an imported key with secrets of 16 bytes, then zeroes: AES-128-CBC.
pub const AES_128: u32 = 2;
/// All flags that this version knows.
pub const KNOWN_FLAGS: u32 = PLAIN | AES_128;

/// What one process counts, or one thread; cumulative over those that had the block.
/// Nothing rests on it, so models leave it out.
#[repr(C, align(128))]
pub struct Block {
    /// The process that counts here now: a [`crate::process::ProcessId`]; 0: none yet.
    pub owner: atomic::AtomicU64,
    /// The name of its executable, cut to 16 bytes.
    pub program: [atomic::AtomicU64; 2],
    /// By [`super::stats::Counter`].
    pub counters: [atomic::AtomicU64; COUNTERS],
}

/// What a process tells of itself ([`super::asks`]): the one whose block has the same
/// number.
#[repr(C, align(128))]
pub struct Member {
    /// Which process: a [`crate::process::ProcessId`].
    pub process: atomic::AtomicU64,
    /// What its contexts bind their tickets to, and flags.
    pub told: atomic::AtomicU64,
    /// When it last told anything.
    pub told_at: atomic::AtomicU64,
    /// The R that it asks for, in nanoseconds; 0: none.
    pub rotate_every: atomic::AtomicU64,
    /// The L that it asks for, in nanoseconds; 0: none.
    pub lifetime: atomic::AtomicU64,
    /// The upkeep thread's, where it has one.
    pub life: RobustMutex,
    /// Not 0 while somebody is at `life`, and never what it was for the one before him.
    pub shown_by: atomic::AtomicU64,
    /// What its contexts bind their tickets to: [`super::asks::Traits`].
    pub traits: atomic::AtomicU64,
    pub(super) _pad: [atomic::AtomicU64; 1],
}

/// What the threads of one PID namespace pass to write: [`super::lock`].
#[repr(C, align(128))]
pub struct Gate {
    /// That namespace; 0: nobody's yet.
    pub namespace: atomic::AtomicU64,
    /// Who passed it last: a [`crate::process::ProcessId`].
    pub process: atomic::AtomicU64,
    /// When somebody last passed.
    pub used_at: atomic::AtomicU64,
    /// Held while somebody is past the gate.
    pub mutex: RobustMutex,
    pub(super) _pad: [atomic::AtomicU64; 5],
}

// An atomic of a model has another size.
#[cfg(not(loom))]
const _: () = {
    use std::mem::{align_of, offset_of};

    assert!(size_of::<Header>() == 1024 && align_of::<Header>() == 128);
    assert!(offset_of!(Header, magic) == 0);
    assert!(offset_of!(Header, version) == 8);
    assert!(offset_of!(Header, lock_abi) == 12);
    assert!(offset_of!(Header, size) == 16);
    assert!(offset_of!(Header, capacity) == 24);
    assert!(offset_of!(Header, buckets) == 28);
    assert!(offset_of!(Header, inode) == 32);
    assert!(offset_of!(Header, born) == 40);
    assert!(offset_of!(Header, node) == 48);
    assert!(offset_of!(Header, rotate_every) == 56);
    assert!(offset_of!(Header, lifetime) == 64);
    assert!(offset_of!(Header, seen_lifetime) == 72);
    assert!(offset_of!(Header, lead) == 80);
    assert!(offset_of!(Header, plain) == 88);
    assert!(offset_of!(Header, opened) == 92);
    assert!(offset_of!(Header, own_lifetimes) == 96);
    assert!(offset_of!(Header, removed) == 100);
    assert!(offset_of!(Header, severed) == 104);
    assert!(offset_of!(Header, slots) == 108);
    assert!(offset_of!(Header, graves) == 112);
    assert!(offset_of!(Header, line) == 120);
    assert!(offset_of!(Header, deadline) == 128);
    assert!(offset_of!(Header, governed_until) == 136);
    assert!(offset_of!(Header, fleet_period) == 144);
    assert!(offset_of!(Header, fleet_epoch) == 152);
    assert!(offset_of!(Header, rotations) == 248);
    assert!(offset_of!(Header, generator_failures) == 256);
    assert!(offset_of!(Header, repairs) == 264);
    assert!(offset_of!(Header, last_error) == 272);
    assert!(offset_of!(Header, last_error_at) == 280);
    assert!(offset_of!(Header, writer) == 376);
    assert!(offset_of!(Header, turns) == 384);
    assert!(offset_of!(Header, leader) == 504);
    assert!(offset_of!(Header, led_at) == 512);

    assert!(size_of::<Slot>() == 128 && align_of::<Slot>() == 128);
    assert!(offset_of!(Slot, seq) == 0);
    assert!(offset_of!(Slot, flags) == 8);
    assert!(offset_of!(Slot, next) == 12);
    assert!(offset_of!(Slot, name) == 16);
    assert!(offset_of!(Slot, node) == 32);
    assert!(offset_of!(Slot, encrypt_from) == 40);
    assert!(offset_of!(Slot, encrypt_until) == 48);
    assert!(offset_of!(Slot, decrypt_until) == 56);
    assert!(offset_of!(Slot, aes) == 64);
    assert!(offset_of!(Slot, hmac) == 96);

    assert!(size_of::<Grave>() == 32 && align_of::<Grave>() == 32);
    assert!(offset_of!(Grave, seq) == 0);
    assert!(offset_of!(Grave, name) == 8);
    assert!(offset_of!(Grave, until) == 24);

    assert!(size_of::<Block>() == 128 && align_of::<Block>() == 128);
    assert!(offset_of!(Block, owner) == 0);
    assert!(offset_of!(Block, program) == 8);
    assert!(offset_of!(Block, counters) == 24);

    assert!(size_of::<Member>() == 128 && align_of::<Member>() == 128);
    assert!(offset_of!(Member, process) == 0);
    assert!(offset_of!(Member, told) == 8);
    assert!(offset_of!(Member, told_at) == 16);
    assert!(offset_of!(Member, rotate_every) == 24);
    assert!(offset_of!(Member, lifetime) == 32);
    assert!(offset_of!(Member, life) == 40);
    assert!(offset_of!(Member, shown_by) == 104);
    assert!(offset_of!(Member, traits) == 112);

    assert!(size_of::<Gate>() == 128 && align_of::<Gate>() == 128);
    assert!(offset_of!(Gate, namespace) == 0);
    assert!(offset_of!(Gate, process) == 8);
    assert!(offset_of!(Gate, used_at) == 16);
    assert!(offset_of!(Gate, mutex) == 24);
};

/// Offset of the stats blocks.
pub const BLOCKS_AT: usize = size_of::<Header>();
/// Offset of the bucket heads.
pub const BUCKETS_AT: usize = BLOCKS_AT + BLOCKS * size_of::<Block>();
/// Offset of what processes tell of themselves.
pub const MEMBERS_AT: usize = BUCKETS_AT + BUCKETS * size_of::<AtomicU16>();
/// Offset of the gates to the writer lock.
pub const GATES_AT: usize = MEMBERS_AT + MEMBERS * size_of::<Member>();
/// Offset of the slots.
pub const SLOTS_AT: usize = GATES_AT + GATES * size_of::<Gate>();
/// Offset of the graves. A ring of the first minor version ends here.
pub const GRAVES_AT: usize = bytes_of(MAX_CAPACITY);
/// Bytes of the whole ring, most of which it never has.
pub const SIZE: usize = GRAVES_AT + MAX_GRAVES as usize * size_of::<Grave>();

/// Bytes of a ring in which so many slots have memory.
pub const fn bytes_of(slots: u32) -> usize {
    SLOTS_AT + slots as usize * size_of::<Slot>()
}

#[cfg(not(loom))]
const _: () = {
    assert!(MEMBERS_AT.is_multiple_of(128) && GATES_AT.is_multiple_of(128));
    assert!(SLOTS_AT == 49 << 10);
    assert!(bytes_of(FIRST_SLOTS) < 60 << 10);
    assert!(GRAVES_AT.is_multiple_of(128));
    assert!(MORE_GRAVES as usize * size_of::<Grave>() == 4096);
};

/// The most keys that may be in a ring: what keeps one from growing without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity(pub u32);

impl Capacity {
    /// No bound but the ring's own.
    pub const MAX: Capacity = Capacity(MAX_CAPACITY);

    /// `None` if out of range.
    pub fn new(keys: u32) -> Option<Self> {
        (MIN_CAPACITY..=MAX_CAPACITY).contains(&keys).then_some(Capacity(keys))
    }
}
