//! What each thread that uses tickets has of its own: a kilobyte with the
//! word that says whether it is looking at shared contexts
//! ([`crate::epoch`]), the IVs that it has drawn ([`crate::tls::iv`]) and
//! where it counts ([`crate::ring::stats`]).
//!
//! The kernel wipes this memory in the child of a fork (`MADV_WIPEONFORK`,
//! madvise(2), Linux 4.14), whichever way it forks and whether or not it runs
//! fork handlers. So no two processes ever have the same IVs drawn or count in
//! one block, and a thread that is not there in the child holds nothing up. Where the kernel
//! cannot do that nobody has a seat, and tickets do without.

use std::cell::{Cell, UnsafeCell};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use once_cell::race::OnceBox;

use crate::clock::{BootClock, Clock};
use crate::epoch::{Epoch, Epochs, Guard};
use crate::process;
use crate::ring::Ring;
use crate::ring::layout::Block;

/// An IV of CBC.
pub type Iv = [u8; 16];

/// How many a pool holds: what is left of a kilobyte, in round numbers.
pub const IVS: usize = 60;

/// IVs that were drawn and not used. All zeroes: none. In memory that a fork
/// wipes in the child.
pub struct Pool(UnsafeCell<Drawn>);

#[repr(C)]
struct Drawn {
    /// Whose generator they are from.
    generator: usize,
    left: usize,
    ivs: [Iv; IVS],
}

const _: () = assert!(size_of::<Pool>() <= 1024 - 4 * size_of::<u64>());

impl Pool {
    /// Takes one; draws with `draw` if there is none of `generator`. `None` if that
    /// fails.
    #[inline(always)]
    pub fn take(&self, generator: usize, draw: impl FnOnce(&mut [Iv]) -> bool) -> Option<Iv> {
        // SAFETY: the pool is one thread's, which is not here already:
        // `Seat::pool` asks for that, and `draw` is not given the pool.
        let drawn = unsafe { &mut *self.0.get() };
        if drawn.left == 0 || drawn.left > IVS || drawn.generator != generator {
            drawn.left = 0;
            drawn.generator = generator;
            if !draw(&mut drawn.ivs) {
                drawn.ivs = [[0; 16]; IVS];
                return None;
            }
            drawn.left = IVS;
        }
        drawn.left -= 1;
        Some(std::mem::take(&mut drawn.ivs[drawn.left]))
    }

    /// Wipes them all.
    ///
    /// # Safety
    ///
    /// Nobody else uses the pool now.
    pub unsafe fn wipe(&self) {
        // SAFETY: the caller's promise.
        let drawn = unsafe { &mut *self.0.get() };
        drawn.left = 0;
        // The memory may never be read again, and is to be wiped all the same.
        for iv in &mut drawn.ivs {
            // SAFETY: a valid, exclusive reference.
            unsafe { std::ptr::write_volatile(iv, [0; 16]) };
        }
    }

    #[cfg(test)]
    pub fn empty() -> Self {
        Pool(UnsafeCell::new(Drawn { generator: 0, left: 0, ivs: [[0; 16]; IVS] }))
    }

    #[cfg(test)]
    pub fn is_wiped(&self) -> bool {
        // SAFETY: tests look at it while nobody uses it.
        let drawn = unsafe { &*self.0.get() };
        drawn.left == 0 && drawn.ivs == [[0; 16]; IVS]
    }
}

/// How many threads have a seat at once; what they have takes 192 KiB at most.
pub const SEATS: usize = 192;

/// One thread's. All zeroes: nobody's.
#[repr(C, align(1024))]
pub struct Seat {
    /// Who sits here: `Mine::token` of that thread; 0 for nobody.
    owner: AtomicUsize,
    /// See [`crate::epoch`].
    pinned: AtomicU64,
    /// The ring in which a block was sought for its owner; null before that.
    ring: AtomicPtr<Ring>,
    /// That block; null if there was none.
    block: AtomicPtr<Block>,
    /// Only its owner touches it.
    pool: Pool,
}

const _: () = assert!(size_of::<Seat>() == 1024);

// SAFETY: its words are atomics; who gets at the rest vouches for being alone.
unsafe impl Sync for Seat {}

/// All seats.
struct Seats {
    first: NonNull<Seat>,
}

// SAFETY: a Seat is Sync, and the mapping belongs to no thread.
unsafe impl Send for Seats {}
// SAFETY: as above.
unsafe impl Sync for Seats {}

impl Seats {
    /// Maps them; `None` if they cannot be had as they must be.
    fn map() -> Option<Seats> {
        let size = SEATS * size_of::<Seat>();
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let base = libc::mmap(ptr::null_mut(), size, access, flags, -1, 0);
            if base == libc::MAP_FAILED {
                return None;
            }
            if libc::madvise(base, size, libc::MADV_WIPEONFORK) != 0 {
                libc::munmap(base, size);
                return None;
            }
            // Drawn IVs are nobody's business; nothing depends on it.
            libc::madvise(base, size, libc::MADV_DONTDUMP);
            Some(Seats { first: NonNull::new(base.cast())? })
        }
    }

    fn all(&self) -> &[Seat] {
        // SAFETY: so many lie there, page-aligned and zeroed, which is valid,
        // for the life of the process.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), SEATS) }
    }
}

fn seats() -> Option<&'static Seats> {
    static ALL: OnceBox<Option<Seats>> = OnceBox::new();
    // Two threads at once may map twice; what the slower one mapped is unmapped.
    ALL.get_or_init(|| Box::new(Seats::map())).as_ref()
}

impl Drop for Seats {
    fn drop(&mut self) {
        // SAFETY: our mapping, to which nobody has a reference.
        unsafe { libc::munmap(self.first.as_ptr().cast(), SEATS * size_of::<Seat>()) };
    }
}

/// What a thread remembers of where it sits; gives the seat back when it ends.
struct Mine(Cell<Option<&'static Seat>>);

thread_local! {
    static MINE: Mine = const { Mine(Cell::new(None)) };
}

impl Drop for Mine {
    fn drop(&mut self) {
        if let Some(seat) = self.0.get().filter(|seat| seat.is_of(self)) {
            // SAFETY: this thread is its owner, and does not use it now.
            unsafe { seat.pool.wipe() };
            seat.pinned.store(0, Ordering::Release);
            seat.leave_block();
            // Release: the next owner finds it empty.
            seat.owner.store(0, Ordering::Release);
        }
    }
}

impl Mine {
    /// This thread's name among those that live.
    fn token(&self) -> usize {
        ptr::from_ref(self) as usize
    }
}

impl Seat {
    fn is_of(&self, thread: &Mine) -> bool {
        self.owner.load(Ordering::Relaxed) == thread.token()
    }

    /// The IVs of this thread.
    ///
    /// # Safety
    ///
    /// The caller's thread sits here, and is not at them already.
    pub unsafe fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The block of `ring` in which only the caller counts, who sits here. A
    /// thread has one in the first ring that it counts in; in others it counts
    /// with all threads of the process.
    #[inline]
    pub fn block_in(&self, ring: &'static Ring) -> Option<&'static Block> {
        let of = self.ring.load(Ordering::Relaxed);
        if of.is_null() {
            return self.seek_block(ring);
        }
        // SAFETY: null, or found in a ring that lives as long as the process.
        let block = unsafe { self.block.load(Ordering::Relaxed).as_ref() };
        block.filter(|_| ptr::eq(of, ring))
    }

    #[cold]
    fn seek_block(&self, ring: &'static Ring) -> Option<&'static Block> {
        let block = ring.claim_thread_block(process::id(), BootClock.now());
        let found = block.map_or(ptr::null(), ptr::from_ref);
        self.block.store(found.cast_mut(), Ordering::Relaxed);
        self.ring.store(ptr::from_ref(ring).cast_mut(), Ordering::Relaxed);
        block
    }

    fn leave_block(&self) {
        self.ring.store(ptr::null_mut(), Ordering::Relaxed);
        let block = self.block.swap(ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: as in `block_in`.
        if let Some(block) = unsafe { block.as_ref() } {
            block.give_back();
        }
    }

    /// True as long as this memory is that of the thread that took it: false
    /// from one moment to the next, in the child of a fork.
    pub fn is_taken(&self) -> bool {
        self.owner.load(Ordering::Relaxed) != 0
    }
}

/// The seat of the calling thread, taken at its first call; `None` if there is
/// none, or the thread is ending.
pub fn mine() -> Option<&'static Seat> {
    let found = MINE.try_with(|mine| match mine.0.get() {
        // Not so in the child of a fork, where all are free.
        Some(seat) if seat.is_of(mine) => Some(seat),
        _ => {
            let seat = take(mine.token());
            mine.0.set(seat);
            seat
        }
    });
    found.ok().flatten()
}

#[cold]
fn take(token: usize) -> Option<&'static Seat> {
    let free = |seat: &&Seat| {
        let owner = &seat.owner;
        owner.load(Ordering::Relaxed) == 0
            && owner.compare_exchange(0, token, Ordering::Acquire, Ordering::Relaxed).is_ok()
    };
    seats()?.all().iter().find(free)
}

static EPOCHS: Epochs = Epochs::new();

/// While it lives, nothing is freed that the calling thread finds; `None` for
/// who has no seat, and may look at nothing that is shared so.
#[inline]
pub fn pin() -> Option<Guard<'static>> {
    mine().map(|seat| EPOCHS.pin(&seat.pinned))
}

/// The moment from which on nobody finds what the caller has taken out of reach.
pub fn advance() -> Epoch {
    EPOCHS.advance()
}

/// True if nobody is left who began to read before `epoch`.
pub fn is_past(epoch: Epoch) -> bool {
    let all = seats().map_or(&[][..], Seats::all);
    EPOCHS.is_past(epoch, all.iter().map(|seat| &seat.pinned))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::ring::layout::Capacity;

    #[test]
    fn a_thread_keeps_its_seat_and_others_have_others() {
        let here = ptr::from_ref(mine().unwrap()) as usize;
        assert_eq!(ptr::from_ref(mine().unwrap()) as usize, here);
        let there = thread::spawn(|| ptr::from_ref(mine().unwrap()) as usize).join().unwrap();
        assert_ne!(here, there);
    }

    #[test]
    fn what_an_ended_thread_had_is_wiped_and_free() {
        let seat = thread::spawn(|| {
            let seat = mine().unwrap();
            // SAFETY: this thread's, which is not at them.
            let pool = unsafe { seat.pool() };
            assert!(
                pool.take(1, |ivs| {
                    ivs.as_flattened_mut()
                        .iter_mut()
                        .enumerate()
                        .for_each(|(at, byte)| *byte = (at * 7) as u8 | 1);
                    true
                })
                .is_some()
            );
            seat
        })
        .join()
        .unwrap();
        // SAFETY: nobody's; another test's thread may have it by now, and then
        // it has drawn nothing.
        assert!(unsafe { seat.pool() }.is_wiped());
    }

    #[test]
    fn a_thread_counts_alone_in_its_first_ring_and_leaves_its_block_when_it_ends() {
        let capacity = Capacity::new(8).unwrap();
        let rings: &'static [Ring] = vec![(); 2]
            .into_iter()
            .map(|()| Ring::private(capacity).unwrap())
            .collect::<Vec<_>>()
            .leak();
        let here = mine().unwrap().block_in(&rings[0]).unwrap();
        let there = thread::spawn(move || {
            let block = mine().unwrap().block_in(&rings[0]).unwrap();
            assert!(mine().unwrap().block_in(&rings[1]).is_none());
            block
        });
        let there = there.join().unwrap();
        assert!(!ptr::eq(here, there));
        assert_eq!(there.owner.load(Ordering::Relaxed), 0);
        assert_eq!(here.owner.load(Ordering::Relaxed), process::id().0);
        assert!(ptr::eq(mine().unwrap().block_in(&rings[0]).unwrap(), here));
    }

    /// By a system call, so that no fork handler runs.
    #[test]
    fn a_child_of_whatever_fork_has_nothing_of_it() {
        let seat = mine().unwrap();
        seat.pinned.store(5, Ordering::Relaxed);
        // SAFETY: the child only looks at its memory and leaves with _exit.
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if child == 0 {
            let fresh = !seat.is_taken() && seat.pinned.load(Ordering::Relaxed) == 0;
            let again = mine().is_some_and(Seat::is_taken);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(!(fresh && again))) };
        }
        seat.pinned.store(0, Ordering::Relaxed);
        let mut status = 0;
        // SAFETY: waits for our own child.
        assert_eq!(i64::from(unsafe { libc::waitpid(child as i32, &mut status, 0) }), child);
        assert_eq!(status, 0);
    }
}
