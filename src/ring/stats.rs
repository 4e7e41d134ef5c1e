//! Counters: each process counts in a block of its own, so that no cache line
//! is shared by two of them on the hot path. A block's figures stay when its
//! process ends, and the next one that gets the block counts on.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Ring;
use super::layout::{BLOCKS, Block, COUNTERS};
use crate::clock::Time;

/// What is counted, per process.
///
/// The callback sees the name of a ticket's key, never whether its MAC holds:
/// "resumed" counts the tickets that were given to the TLS library with their
/// key. The variants' numbers are part of the ring's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Tickets sealed.
    Issued = 0,
    /// Tickets opened with the active (or an announced) key.
    ResumedActive = 1,
    /// Tickets opened with a retired key.
    ResumedRetired = 2,
    /// Tickets whose key name is not in the ring.
    Unknown = 3,
    /// Tickets whose key is over but was not yet erased.
    Expired = 4,
    /// Tickets told to be of another scope.
    WrongScope = 5,
    /// Calls into the TLS library, or reads of the ring, that failed.
    Errors = 6,
    /// Handshakes that went on without a ticket that can be resumed.
    Unsealed = 7,
}

const _: () = assert!((Counter::Unsealed as usize) < COUNTERS);

/// What can go wrong with a ring at run time: shown in its header by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Problem {
    /// The generator failed or gave bytes that cannot be a key.
    Generator = 1,
    /// No slot was free for a new key.
    Full = 2,
    /// The writer lock does not work.
    Lock = 3,
}

impl Problem {
    /// What a number in a header stands for.
    pub fn of(number: u64) -> Option<Problem> {
        [Problem::Generator, Problem::Full, Problem::Lock]
            .into_iter()
            .find(|problem| *problem as u64 == number)
    }
}

/// All counters, summed over the processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals(pub [u64; COUNTERS]);

impl Totals {
    /// One sum.
    pub fn of(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }
}

impl Ring {
    /// Gives this process a block, unless it has one: a free one, else that of
    /// a process that is gone, else one to share. Lock-free; returns the index.
    pub fn claim_block(&self, pid: u32, program: &[u8]) -> usize {
        let blocks = self.blocks();
        let claimed = blocks.iter().position(|block| block.pid.load(Ordering::Relaxed) == pid);
        let index = claimed
            .or_else(|| blocks.iter().position(|block| take(&block.pid, 0, pid)))
            .or_else(|| {
                blocks.iter().position(|block| {
                    let owner = block.pid.load(Ordering::Relaxed);
                    is_gone(owner) && take(&block.pid, owner, pid)
                })
            })
            .unwrap_or(pid as usize % BLOCKS);
        name_block(&blocks[index], program);
        index
    }

    /// True if a process other than `pid` that lives has a block.
    pub fn is_used_by_others(&self, pid: u32) -> bool {
        let mut owners = self.blocks().iter().map(|block| block.pid.load(Ordering::Relaxed));
        owners.any(|owner| owner != 0 && owner != pid && !is_gone(owner))
    }

    /// Counts one event in this process's block.
    pub fn count(&self, block: usize, counter: Counter) {
        let counters = &self.blocks()[block % BLOCKS].counters;
        counters[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The sums over all blocks.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for block in self.blocks() {
            for (sum, counter) in totals.0.iter_mut().zip(&block.counters) {
                *sum = sum.wrapping_add(counter.load(Ordering::Relaxed));
            }
        }
        totals
    }

    /// Notes a problem where every process and `status` can see it.
    pub fn note_problem(&self, problem: Problem, now: Time) {
        let header = self.header();
        if problem == Problem::Generator {
            header.generator_failures.fetch_add(1, Ordering::Relaxed);
        }
        header.last_error_at.store(now.0, Ordering::Relaxed);
        header.last_error.store(problem as u64, Ordering::Relaxed);
    }
}

fn take(pid: &AtomicU32, from: u32, to: u32) -> bool {
    pid.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

fn is_gone(pid: u32) -> bool {
    // SAFETY: signal 0 only asks whether the process exists.
    let rc = unsafe { libc::kill(pid as libc::pid_t, 0) };
    rc != 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

fn name_block(block: &Block, program: &[u8]) {
    let mut bytes = [0u8; 16];
    let length = program.len().min(bytes.len());
    bytes[..length].copy_from_slice(&program[..length]);
    for (word, chunk) in block.program.iter().zip(bytes.chunks_exact(8)) {
        let value = u64::from_le_bytes(chunk.try_into().expect("chunks of 8"));
        AtomicU64::store(word, value, Ordering::Relaxed);
    }
}
