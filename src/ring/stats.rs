//! Counters: each thread that deals in tickets counts in a block of its own, so
//! that no cache line is shared and no atomic read-modify-write is needed on the
//! hot path. Each process has one beside them, for the threads that got none
//! and to be known by. A block's figures stay when its thread or process ends,
//! and the next one that gets the block counts on.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Ring;
use super::asks;
use super::layout::{BLOCKS, Block, COUNTERS};
use crate::clock::Time;

/// What is counted, per process.
///
/// The callback sees the name of a ticket's key, never whether its MAC holds: so
/// tickets that were given to the TLS library with their key are counted as
/// opened, and once more as [`Counter::Refused`] if that then did not resume
/// them. What was resumed is the difference. The variants' numbers are part of the ring's format.
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
    /// Connections for which tickets are switched off (`SSL_OP_NO_TICKET`): in
    /// TLS 1.2 they get none, in TLS 1.3 at most stateful ones.
    TicketsOff = 8,
    /// Connections whose TLS 1.3 tickets are stateful, because early data is on
    /// and libssl prevents its replay (no `SSL_OP_NO_ANTI_REPLAY`).
    AntiReplay = 9,
    /// Contexts of QUIC listeners, whose connections libssl makes itself, out of
    /// our reach.
    Quic = 10,
    /// Contexts that keep ticket keys of their own.
    LeftAlone = 11,
    /// Tickets that were opened, and that the TLS library then did not resume: bound
    /// to another scope where that could not be told, or refused by it (another
    /// session id context, a session that expired).
    Refused = 12,
}

const _: () = assert!((Counter::Refused as usize) < COUNTERS);

/// The first blocks are for processes, which share them if there are too many;
/// each of the others for one thread alone.
pub(super) const OF_PROCESSES: usize = BLOCKS / 2;

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
        let blocks = self.process_blocks();
        if blocks.is_empty() {
            // In a model.
            return 0;
        }
        let claimed = blocks.iter().position(|block| block.pid.load(Ordering::Relaxed) == pid);
        let of_the_dead = |(index, block): (usize, &Block)| {
            let owner = block.pid.load(Ordering::Relaxed);
            self.is_over(index, owner) && take(&block.pid, owner, pid)
        };
        let index = claimed
            .or_else(|| blocks.iter().position(|block| take(&block.pid, 0, pid)))
            .or_else(|| blocks.iter().enumerate().position(of_the_dead))
            .unwrap_or(pid as usize % OF_PROCESSES);
        let block = &blocks[index];
        if block.pid.load(Ordering::Relaxed) == pid && asks::told_by(block, pid).is_none() {
            block.told.store(asks::told_nothing(pid), Ordering::Relaxed);
        }
        name_block(block, program);
        index
    }

    /// A block in which only the calling thread counts, until it gives it back;
    /// `None` if all are taken. `pid` is this process. Lock-free.
    pub fn claim_thread_block(&self, pid: u32) -> Option<&Block> {
        let blocks = &self.blocks()[OF_PROCESSES..];
        let free = blocks.iter().find(|block| take(&block.pid, 0, pid));
        free.or_else(|| blocks.iter().find(|block| take_from_the_dead(&block.pid, pid)))
    }

    /// True if a process other than `pid` that lives deals in tickets.
    pub fn is_used_by_others(&self, pid: u32) -> bool {
        self.blocks().iter().enumerate().any(|(index, block)| {
            let owner = block.pid.load(Ordering::Relaxed);
            let deals = index >= OF_PROCESSES || asks::deals(block, owner);
            owner != 0 && owner != pid && deals && !is_gone(owner)
        })
    }

    /// Counts one event in this process's block.
    pub fn count(&self, block: usize, counter: Counter) {
        let counters = &self.blocks()[block % OF_PROCESSES].counters;
        counters[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The processes' blocks.
    pub(super) fn process_blocks(&self) -> &[Block] {
        self.blocks().get(..OF_PROCESSES).unwrap_or_default()
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

impl Block {
    /// Counts one event; only for the thread whose block it is.
    #[inline]
    pub fn count_alone(&self, counter: Counter) {
        let counter = &self.counters[counter as usize];
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Leaves it to the next thread.
    pub fn give_back(&self) {
        // Release: who takes it counts on from what was counted.
        self.pid.store(0, Ordering::Release);
    }
}

fn take(pid: &AtomicU32, from: u32, to: u32) -> bool {
    pid.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

/// Of another PID namespace, a process may look dead; what two threads then count in one block is
/// too little, and nothing else.
fn take_from_the_dead(pid: &AtomicU32, to: u32) -> bool {
    let owner = pid.load(Ordering::Relaxed);
    is_gone(owner) && take(pid, owner, to)
}

/// True if there is no such process in this PID namespace.
pub(super) fn is_gone(pid: u32) -> bool {
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ring::layout::Geometry;

    /// No process has this number: Linux' largest is 2^22.
    const NOBODY: u32 = 1 << 23;

    fn ring() -> Ring {
        Ring::private(Geometry::new(8).unwrap()).unwrap()
    }

    #[test]
    fn no_two_threads_have_one_block_and_what_they_counted_stays() {
        let (ring, pid) = (ring(), std::process::id());
        let shared = ring.claim_block(pid, b"a program");
        let all: Vec<_> = (0..BLOCKS).map_while(|_| ring.claim_thread_block(pid)).collect();
        assert_eq!(all.len(), BLOCKS - OF_PROCESSES);
        assert!(ring.claim_thread_block(pid).is_none());
        ring.count(shared, Counter::Issued);
        all.iter().for_each(|block| block.count_alone(Counter::Issued));
        let sum = |ring: &Ring| ring.totals().of(Counter::Issued) as usize;
        assert_eq!(sum(&ring), 1 + all.len());

        all[3].give_back();
        let again = ring.claim_thread_block(pid).unwrap();
        assert!(std::ptr::eq(again, all[3]));
        again.count_alone(Counter::Issued);
        assert_eq!(sum(&ring), 2 + all.len());
        assert_eq!(
            ring.process_blocks().iter().filter(|b| b.pid.load(Ordering::Relaxed) != 0).count(),
            1
        );
    }

    #[test]
    fn the_block_of_a_dead_process_is_taken_when_no_other_is_free() {
        let (ring, pid) = (ring(), std::process::id());
        let first = ring.claim_thread_block(NOBODY).unwrap();
        let mut last = first;
        while let Some(block) = ring.claim_thread_block(pid) {
            last = block;
        }
        assert!(std::ptr::eq(first, last));
        assert_eq!(last.pid.load(Ordering::Relaxed), pid);
    }

    #[test]
    fn more_processes_than_blocks_share_them_but_never_a_threads() {
        let ring = ring();
        let thread = ring.claim_thread_block(std::process::id()).unwrap();
        for pid in 1..=BLOCKS as u32 {
            let block = ring.claim_block(pid, b"many");
            assert!(block < OF_PROCESSES);
            ring.count(block, Counter::Unknown);
        }
        assert_eq!(thread.counters[Counter::Unknown as usize].load(Ordering::Relaxed), 0);
        assert_eq!(ring.totals().of(Counter::Unknown), BLOCKS as u64);
    }
}
