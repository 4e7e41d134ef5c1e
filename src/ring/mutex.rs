//! What tells that a thread lives: a robust mutex that it holds
//! (pthread_mutexattr_setrobust(3)). When the thread is gone the kernel marks it,
//! and who looks at it from another PID namespace sees that, too.
//!
//! Only threads of one PID namespace may ask for it. The kernel knows the holder by
//! its number in its own namespace alone: of a waiter that is killed it would free a
//! lock that a thread of the same number, in another container, holds.

#[cfg(not(any(loom, miri)))]
use std::cell::UnsafeCell;
#[cfg(not(any(loom, miri)))]
use std::mem::MaybeUninit;
#[cfg(not(any(loom, miri)))]
use std::sync::atomic::{AtomicU32, Ordering};

// Models and Miri have no C library, and no kernel that tells of a death.
#[cfg(any(loom, miri))]
#[path = "modelled/mutex.rs"]
mod modelled;
#[cfg(any(loom, miri))]
pub use modelled::RobustMutex;

/// What a mutex tells of the thread whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The mutex is free.
    None,
    /// The thread of this number (gettid(2)), in its own PID namespace, lives.
    Lives(u32),
    /// The holder died without giving it back.
    Died,
}

/// What an attempt to take a mutex came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking {
    /// The caller has it.
    Taken,
    /// Somebody else has it.
    Busy,
    /// The bytes are not a mutex that works: the errno value.
    Broken(i32),
}

/// A process-shared, robust `pthread_mutex_t` in 64 bytes.
#[cfg(not(any(loom, miri)))]
#[repr(C, align(8))]
pub struct RobustMutex {
    mutex: UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>,
    _room: [u8; 64 - size_of::<libc::pthread_mutex_t>()],
}

#[cfg(not(any(loom, miri)))]
const _: () = assert!(size_of::<RobustMutex>() == 64);

// SAFETY: pthread functions are the only access to the inner mutex, and they
// are made for concurrent use by threads and, being process-shared, processes.
#[cfg(not(any(loom, miri)))]
unsafe impl Sync for RobustMutex {}

#[cfg(not(any(loom, miri)))]
impl RobustMutex {
    /// Makes the bytes a mutex, of nobody. Only for memory that no one else uses yet.
    /// The error is an errno value.
    pub fn init(&self) -> Result<(), i32> {
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let attr = attributes.as_mut_ptr();
        // SAFETY: `attr` is initialised by the first call before the others
        // use it, and destroyed once; the mutex is not in use (caller's duty, and
        // nothing is lost: a pthread mutex has no allocation).
        unsafe {
            check(libc::pthread_mutexattr_init(attr))?;
            let made =
                check(libc::pthread_mutexattr_setpshared(attr, libc::PTHREAD_PROCESS_SHARED))
                    .and_then(|()| {
                        check(libc::pthread_mutexattr_setrobust(attr, libc::PTHREAD_MUTEX_ROBUST))
                    })
                    .and_then(|()| check(libc::pthread_mutex_init(self.raw(), attr)));
            libc::pthread_mutexattr_destroy(attr);
            made
        }
    }

    /// True if the bytes are a mutex of the kind that [`RobustMutex::init`]
    /// makes, in whatever state. The C library does what the kind in those
    /// bytes says: another one could wait for ever, or abort the process.
    pub fn is_one(&self) -> bool {
        let fresh = RobustMutex::zeroed();
        // What a fresh one sets is its kind; everything else is state, and zero.
        let kept = |(fresh, found): (&AtomicU32, &AtomicU32)| {
            let fresh = fresh.load(Ordering::Relaxed);
            fresh == 0 || fresh == found.load(Ordering::Relaxed)
        };
        fresh.init().is_ok() && fresh.words().iter().zip(self.words()).all(kept)
    }

    const fn zeroed() -> Self {
        RobustMutex {
            mutex: UnsafeCell::new(MaybeUninit::zeroed()),
            _room: [0; 64 - size_of::<libc::pthread_mutex_t>()],
        }
    }

    /// Makes it the calling thread's, if it is nobody's, or of one that is dead; never
    /// waits.
    ///
    /// # Safety
    ///
    /// Whoever else ever has it is of the PID namespace of this thread; and it stays
    /// mapped for as long as this one has it.
    pub unsafe fn try_take(&self) -> Taking {
        // SAFETY: the mutex lies in a live mapping; see `init` and `is_one`.
        match unsafe { libc::pthread_mutex_trylock(self.raw()) } {
            0 => Taking::Taken,
            // SAFETY: EOWNERDEAD makes the caller the owner, who may declare
            // the mutex consistent.
            libc::EOWNERDEAD => match unsafe { libc::pthread_mutex_consistent(self.raw()) } {
                0 => Taking::Taken,
                error => Taking::Broken(error),
            },
            libc::EBUSY => Taking::Busy,
            // The same thread again, out of a signal handler: it is busy.
            libc::EDEADLK => Taking::Busy,
            error => Taking::Broken(error),
        }
    }

    /// Gives it back: it is nobody's then.
    ///
    /// # Safety
    ///
    /// The calling thread has it, by [`RobustMutex::try_take`].
    pub unsafe fn give_back(&self) {
        // SAFETY: passed on from the caller.
        unsafe { libc::pthread_mutex_unlock(self.raw()) };
    }

    /// What it tells, without touching it.
    pub fn sign(&self) -> Sign {
        // Where the C library has its futex word; the bits in it are the
        // kernel's (get_robust_list(2), linux/futex.h).
        const WORD: usize = if cfg!(target_env = "musl") { 1 } else { 0 };
        let word = self.words()[WORD].load(Ordering::Acquire);
        match word & libc::FUTEX_TID_MASK {
            _ if word & libc::FUTEX_OWNER_DIED != 0 => Sign::Died,
            0 => Sign::None,
            thread => Sign::Lives(thread),
        }
    }

    fn words(&self) -> &[AtomicU32] {
        const COUNT: usize = size_of::<libc::pthread_mutex_t>() / size_of::<AtomicU32>();
        // SAFETY: so many words are there, aligned, and initialised: they are
        // memory of a mapping. Others change them only through the C library and
        // the kernel, whose accesses are atomic.
        unsafe { std::slice::from_raw_parts(self.raw().cast::<AtomicU32>(), COUNT) }
    }

    fn raw(&self) -> *mut libc::pthread_mutex_t {
        self.mutex.get().cast()
    }
}

#[cfg(not(any(loom, miri)))]
fn check(rc: i32) -> Result<(), i32> {
    if rc == 0 { Ok(()) } else { Err(rc) }
}

#[cfg(all(test, not(any(loom, miri))))]
mod tests {
    use super::*;

    #[test]
    fn a_mutex_is_told_from_other_bytes_in_whatever_state_it_is() {
        let mutex = RobustMutex::zeroed();
        assert!(!mutex.is_one());
        mutex.init().unwrap();
        assert!(mutex.is_one());
        // SAFETY: of this process, and mapped.
        assert_eq!(unsafe { mutex.try_take() }, Taking::Taken);
        assert!(mutex.is_one());
        // SAFETY: taken above by this thread.
        unsafe { mutex.give_back() };
        assert!(mutex.is_one());
    }

    #[test]
    fn a_thread_lives_until_it_says_otherwise_or_ends() {
        let mutex: &RobustMutex = Box::leak(Box::new(RobustMutex::zeroed()));
        mutex.init().unwrap();
        assert_eq!(mutex.sign(), Sign::None);
        // SAFETY: of this process, and never unmapped.
        let take = || unsafe { mutex.try_take() };
        for _ in 0..2 {
            assert_eq!(take(), Taking::Taken);
            // SAFETY: gettid takes nothing and cannot fail.
            let thread = unsafe { libc::syscall(libc::SYS_gettid) } as u32;
            assert_eq!(mutex.sign(), Sign::Lives(thread));
            std::thread::scope(|scope| {
                assert_eq!(scope.spawn(take).join().unwrap(), Taking::Busy);
            });
            // SAFETY: taken above.
            unsafe { mutex.give_back() };
            assert_eq!(mutex.sign(), Sign::None);
        }
        for _ in 0..2 {
            let taking = std::thread::scope(|scope| scope.spawn(take).join().unwrap());
            assert_eq!((taking, mutex.sign()), (Taking::Taken, Sign::Died));
        }
    }
}
