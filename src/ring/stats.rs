//! Counters: each thread that uses tickets counts in a block of its own, so
//! that no cache line is shared and no atomic read-modify-write is needed on the
//! hot path. Each process has one beside them, for the threads that got none
//! and to be known by. A block's figures stay when its thread or process ends,
//! and the next one that gets the block counts on.

use std::sync::atomic::Ordering;

use super::layout::{Block, COUNTERS, Header, MEMBERS};
use super::life::Lives;
use super::map::Memory;
use crate::clock::Time;
use crate::process::ProcessId;

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
    // 10 is not used.
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
pub(super) const OF_PROCESSES: usize = MEMBERS;

/// What can go wrong with a ring at run time: shown in its header by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Problem {
    /// The generator failed or gave bytes that cannot be a key.
    Generator = 1,
    /// There were as many keys as may be.
    Full = 2,
    /// The writer lock does not work.
    Lock = 3,
    /// There was no memory for one more key.
    NoMemory = 4,
}

impl Problem {
    /// Notes it in the header of a ring.
    pub(super) fn note(self, header: &Header, now: Time) {
        if self == Problem::Generator {
            header.generator_failures.fetch_add(1, Ordering::Relaxed);
        }
        header.last_error_at.store(now.0, Ordering::Relaxed);
        header.last_error.store(self as u64, Ordering::Relaxed);
    }

    /// What a number in a header stands for.
    pub fn of(number: u64) -> Option<Problem> {
        [Problem::Generator, Problem::Full, Problem::Lock, Problem::NoMemory]
            .into_iter()
            .find(|problem| *problem as u64 == number)
    }
}

/// All counters, summed over the processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals(pub [u64; COUNTERS]);

impl Totals {
    /// The sum of one counter over all blocks.
    pub fn of(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }
}

/// The blocks of a ring.
pub(super) struct Blocks<'m>(pub &'m Memory);

impl<'m> Blocks<'m> {
    /// Gives this process a block, unless it has one: a free one, else that of
    /// a process that is gone, else one to share. Lock-free; returns the index.
    pub fn claim(&self, process: ProcessId, program: &[u8], now: Time) -> usize {
        let blocks = self.of_processes();
        if blocks.is_empty() {
            // In a model.
            return 0;
        }
        let claimed =
            blocks.iter().position(|block| block.owner.load(Ordering::Relaxed) == process.0);
        let index = claimed
            .or_else(|| blocks.iter().position(|block| block.take(ProcessId(0), process)))
            .or_else(|| {
                blocks.iter().position(|block| self.take_from_the_dead(block, process, now))
            })
            .unwrap_or(process.pid() as usize % OF_PROCESSES);
        let (block, member) = (&blocks[index], &self.0.members()[index]);
        if block.owner.load(Ordering::Relaxed) == process.0 && member.begin(process, now) {
            // Threads of that dead one counted here.
            for block in &self.0.blocks()[OF_PROCESSES..] {
                block.take(process, ProcessId(0));
            }
        }
        block.set_program(program);
        index
    }

    /// A block in which only the calling thread counts, until it gives it back;
    /// `None` if all are taken. `process` is this one. Lock-free.
    pub fn claim_for_thread(&self, process: ProcessId, now: Time) -> Option<&'m Block> {
        let blocks = &self.0.blocks()[OF_PROCESSES..];
        let free = blocks.iter().find(|block| block.take(ProcessId(0), process));
        free.or_else(|| blocks.iter().find(|block| self.take_from_the_dead(block, process, now)))
    }

    /// Not one of its own: two threads would have it.
    fn take_from_the_dead(&self, block: &Block, process: ProcessId, now: Time) -> bool {
        let owner = ProcessId(block.owner.load(Ordering::Relaxed));
        owner != process && Lives(self.0).is_over(owner, now) && block.take(owner, process)
    }

    /// True if a process other than that one lives and uses tickets.
    pub fn are_used_by_others(&self, process: ProcessId, now: Time) -> bool {
        self.0.blocks().iter().enumerate().any(|(index, block)| {
            let owner = ProcessId(block.owner.load(Ordering::Relaxed));
            let uses_tickets =
                self.0.members().get(index).is_none_or(|member| member.uses_tickets(owner));
            owner.is_some()
                && owner != process
                && uses_tickets
                && !Lives(self.0).is_over(owner, now)
        })
    }

    /// Counts one event in this process's block.
    pub fn count(&self, block: usize, counter: Counter) {
        let counters = &self.0.blocks()[block % OF_PROCESSES].counters;
        counters[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The blocks of processes; each of the others is for one thread.
    pub fn of_processes(&self) -> &'m [Block] {
        self.0.blocks().get(..OF_PROCESSES).unwrap_or_default()
    }

    /// The sums over all blocks.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for block in self.0.blocks() {
            for (sum, counter) in totals.0.iter_mut().zip(&block.counters) {
                *sum = sum.wrapping_add(counter.load(Ordering::Relaxed));
            }
        }
        totals
    }
}

impl Block {
    /// Counts one event; only for the thread whose block it is.
    #[inline]
    pub fn count_alone(&self, counter: Counter) {
        let counter = &self.counters[counter as usize];
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    fn take(&self, from: ProcessId, to: ProcessId) -> bool {
        let (taken, not) = (Ordering::Acquire, Ordering::Relaxed);
        self.owner.compare_exchange(from.0, to.0, taken, not).is_ok()
    }

    /// Leaves it to the next thread.
    pub fn give_back(&self) {
        // Release: who takes it counts on from what was counted.
        self.owner.store(0, Ordering::Release);
    }

    fn set_program(&self, program: &[u8]) {
        let mut bytes = [0u8; 16];
        let length = program.len().min(bytes.len());
        bytes[..length].copy_from_slice(&program[..length]);
        for (word, chunk) in self.program.iter().zip(bytes.chunks_exact(8)) {
            let value = u64::from_le_bytes(chunk.try_into().expect("chunks of 8"));
            word.store(value, Ordering::Relaxed);
        }
    }

    /// The name of its process' executable, cut to 16 bytes.
    pub(super) fn program(&self) -> String {
        let words = self.program.iter().map(|word| word.load(Ordering::Relaxed));
        let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::process;
    use crate::ring::Ring;
    use crate::ring::layout::{BLOCKS, Capacity};

    const NOW: Time = Time(1 << 40);

    fn ring() -> Ring {
        Ring::private(Capacity::new(8).unwrap()).unwrap()
    }

    /// A process of this PID namespace.
    fn numbered(pid: u32) -> ProcessId {
        ProcessId::new(process::id().namespace(), pid)
    }

    /// No process has this number: Linux' largest is 2^22.
    fn nobody() -> ProcessId {
        numbered(1 << 23)
    }

    #[test]
    fn no_two_threads_have_one_block_and_what_they_counted_stays() {
        let (ring, own) = (ring(), process::id());
        let shared = ring.claim_block(own, b"a program", NOW);
        let all: Vec<_> = (0..BLOCKS).map_while(|_| ring.claim_thread_block(own, NOW)).collect();
        assert_eq!(all.len(), BLOCKS - OF_PROCESSES);
        assert!(ring.claim_thread_block(own, NOW).is_none());
        ring.count(shared, Counter::Issued);
        all.iter().for_each(|block| block.count_alone(Counter::Issued));
        let sum = |ring: &Ring| ring.totals().of(Counter::Issued) as usize;
        assert_eq!(sum(&ring), 1 + all.len());

        all[3].give_back();
        let again = ring.claim_thread_block(own, NOW).unwrap();
        assert!(std::ptr::eq(again, all[3]));
        again.count_alone(Counter::Issued);
        assert_eq!(sum(&ring), 2 + all.len());
        let taken = |block: &&Block| block.owner.load(Ordering::Relaxed) != 0;
        assert_eq!(Blocks(&ring.memory).of_processes().iter().filter(taken).count(), 1);
    }

    #[test]
    fn the_block_of_a_dead_process_is_taken_when_no_other_is_free() {
        let (ring, own) = (ring(), process::id());
        let first = ring.claim_thread_block(nobody(), NOW).unwrap();
        let mut last = first;
        while let Some(block) = ring.claim_thread_block(own, NOW) {
            last = block;
        }
        assert!(std::ptr::eq(first, last));
        assert_eq!(last.owner.load(Ordering::Relaxed), own.0);
    }

    #[test]
    fn equal_numbers_in_two_pid_namespaces_are_two_processes() {
        let (ring, own) = (ring(), process::id());
        let other = ProcessId(own.0 ^ 1 << 40);
        let blocks = [own, other].map(|process| ring.claim_block(process, b"same", NOW));
        assert_ne!(blocks[0], blocks[1]);
        ring.tell(blocks[1], other, &Default::default(), true, NOW);
        assert!(ring.is_used_by_others(own, NOW));
        // All threads' blocks are those of the other one, and nobody can say that it is gone.
        while ring.claim_thread_block(other, NOW).is_some() {}
        assert!(ring.claim_thread_block(own, NOW).is_none());
        ring.forget(own);
        assert!(ring.is_used_by_others(own, NOW));
    }

    #[test]
    fn more_processes_than_blocks_share_them_but_never_a_threads() {
        let ring = ring();
        let thread = ring.claim_thread_block(process::id(), NOW).unwrap();
        for pid in 1..=BLOCKS as u32 {
            let block = ring.claim_block(numbered(pid), b"many", NOW);
            assert!(block < OF_PROCESSES);
            ring.count(block, Counter::Unknown);
        }
        assert_eq!(thread.counters[Counter::Unknown as usize].load(Ordering::Relaxed), 0);
        assert_eq!(ring.totals().of(Counter::Unknown), BLOCKS as u64);
    }
}
