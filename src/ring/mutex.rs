//! A mutex that lies in a ring: shared by processes, and robust, so that the
//! death of its owner at any instruction hands it to the next one
//! (pthread_mutexattr_setrobust(3)).

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::lock::{Attempt, Holder};

/// How long a waiter sleeps before it looks again, at first and at last.
const SHORTEST: Duration = Duration::from_micros(20);
const LONGEST: Duration = Duration::from_millis(2);

/// A process-shared, robust `pthread_mutex_t` in 64 bytes.
#[repr(C, align(8))]
pub struct RobustMutex {
    mutex: UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>,
    _room: [u8; 64 - size_of::<libc::pthread_mutex_t>()],
}

const _: () = assert!(size_of::<RobustMutex>() == 64);

// SAFETY: pthread functions are the only access to the inner mutex, and they
// are made for concurrent use by threads and, being process-shared, processes.
unsafe impl Sync for RobustMutex {}

impl RobustMutex {
    /// Makes the bytes a mutex. Only for memory that no one else uses yet.
    pub fn init(&self) -> Result<(), i32> {
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let attr = attributes.as_mut_ptr();
        // SAFETY: `attr` is initialised by the first call before the others
        // use it, and destroyed once; the mutex is not in use (caller's duty,
        // and no lock can be lost: a pthread mutex has no allocation).
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

    fn words(&self) -> &[AtomicU32] {
        const COUNT: usize = size_of::<libc::pthread_mutex_t>() / size_of::<AtomicU32>();
        // SAFETY: so many words are there, aligned, and initialised: they are
        // zeroed memory of `is_one` or of a mapping. Others change them only
        // through the C library, whose accesses are atomic.
        unsafe { std::slice::from_raw_parts(self.raw().cast::<AtomicU32>(), COUNT) }
    }

    /// Looks who has the lock, without touching it.
    pub fn holder(&self) -> Holder {
        // Where the C library has its futex word; the bits in it are the
        // kernel's (get_robust_list(2), linux/futex.h).
        const WORD: usize = if cfg!(target_env = "musl") { 1 } else { 0 };
        let word = self.words()[WORD].load(Ordering::Relaxed);
        match word & libc::FUTEX_TID_MASK {
            _ if word & libc::FUTEX_OWNER_DIED != 0 => Holder::Dead,
            0 => Holder::Nobody,
            thread => Holder::Thread(thread),
        }
    }

    /// Takes the lock if it is free; never waits.
    pub fn try_lock(&self) -> Attempt {
        // SAFETY: the mutex lies in a live mapping; see `init` and `is_one`.
        self.outcome(unsafe { libc::pthread_mutex_trylock(self.raw()) })
    }

    /// Waits for the lock, but no longer than `limit` by a clock that nobody sets:
    /// the C library's own wait goes by the wall clock, or takes a newer one than
    /// glibc 2.17. Who has it has it for microseconds.
    pub fn lock_within(&self, limit: Duration) -> Attempt {
        let began = monotonic();
        let mut nap = SHORTEST;
        // By this, too, should the clock fail.
        let mut slept = Duration::ZERO;
        loop {
            let attempt = self.try_lock();
            let waited = began.zip(monotonic()).map_or(slept, |(then, now)| now - then).max(slept);
            if attempt != Attempt::Busy || waited >= limit {
                return attempt;
            }
            sleep(nap.min(limit - waited));
            slept += nap;
            nap = (2 * nap).min(LONGEST);
        }
    }

    /// Waits for the lock, however long.
    pub fn lock(&self) -> Attempt {
        // SAFETY: as in `try_lock`.
        self.outcome(unsafe { libc::pthread_mutex_lock(self.raw()) })
    }

    /// Gives the lock back. The caller must own it.
    ///
    /// # Safety
    ///
    /// The calling thread got `Owned` or `Inherited` and has not unlocked since.
    pub unsafe fn unlock(&self) {
        // SAFETY: the caller owns the lock.
        unsafe { libc::pthread_mutex_unlock(self.raw()) };
    }

    fn outcome(&self, rc: i32) -> Attempt {
        match rc {
            0 => Attempt::Owned,
            // SAFETY: EOWNERDEAD makes the caller the owner, who may declare
            // the mutex consistent.
            libc::EOWNERDEAD => match unsafe { libc::pthread_mutex_consistent(self.raw()) } {
                0 => Attempt::Inherited,
                error => Attempt::Broken(error),
            },
            libc::EBUSY => Attempt::Busy,
            // The same thread again, out of a signal handler: it is busy.
            libc::EDEADLK => Attempt::Busy,
            error => Attempt::Broken(error),
        }
    }

    fn raw(&self) -> *mut libc::pthread_mutex_t {
        self.mutex.get().cast()
    }
}

/// The time since some moment; `None` if the clock fails.
fn monotonic() -> Option<Duration> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec for the call to fill.
    let rc = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    (rc == 0).then(|| Duration::new(now.tv_sec as u64, now.tv_nsec as u32))
}

/// A shorter sleep than asked for is one more look.
fn sleep(span: Duration) {
    let span = libc::timespec { tv_sec: span.as_secs() as _, tv_nsec: span.subsec_nanos().into() };
    // SAFETY: a valid span; what is left of it is not asked for.
    unsafe { libc::nanosleep(&span, std::ptr::null_mut()) };
}

fn check(rc: i32) -> Result<(), i32> {
    if rc == 0 { Ok(()) } else { Err(rc) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_mutex_is_told_from_other_bytes_in_whatever_state_it_is() {
        let mutex = RobustMutex::zeroed();
        assert!(!mutex.is_one());
        mutex.init().unwrap();
        assert!(mutex.is_one());
        assert_eq!(mutex.holder(), Holder::Nobody);
        assert_eq!(mutex.lock(), Attempt::Owned);
        assert!(mutex.is_one());
        // SAFETY: gettid takes nothing and cannot fail.
        assert_eq!(mutex.holder(), Holder::Thread(unsafe { libc::gettid() } as u32));
        // SAFETY: locked above by this thread.
        unsafe { mutex.unlock() };
        assert!(mutex.is_one());
    }

    #[test]
    fn a_wait_ends_with_its_limit_or_with_the_lock() {
        let mutex = RobustMutex::zeroed();
        mutex.init().unwrap();
        let limit = Duration::from_millis(30);
        std::thread::scope(|scope| {
            assert_eq!(mutex.lock(), Attempt::Owned);
            let began = std::time::Instant::now();
            let waiter = scope.spawn(|| mutex.lock_within(limit));
            assert_eq!(waiter.join().unwrap(), Attempt::Busy);
            assert!(began.elapsed() >= limit);

            let waiter = scope.spawn(|| {
                let attempt = mutex.lock_within(Duration::from_secs(100));
                // SAFETY: locked by this thread.
                unsafe { mutex.unlock() };
                attempt
            });
            std::thread::sleep(limit);
            // SAFETY: locked above by this thread.
            unsafe { mutex.unlock() };
            assert_eq!(waiter.join().unwrap(), Attempt::Owned);
        });
    }

    #[test]
    fn a_waiter_inherits_from_a_thread_that_ends() {
        let mutex = RobustMutex::zeroed();
        mutex.init().unwrap();
        std::thread::scope(|scope| {
            let owner = scope.spawn(|| mutex.lock());
            assert_eq!(owner.join().unwrap(), Attempt::Owned);
        });
        assert_eq!(mutex.lock_within(Duration::from_secs(100)), Attempt::Inherited);
        // SAFETY: inherited by this thread.
        unsafe { mutex.unlock() };
        assert_eq!(mutex.lock_within(Duration::ZERO), Attempt::Owned);
        // SAFETY: locked by this thread.
        unsafe { mutex.unlock() };
    }
}
