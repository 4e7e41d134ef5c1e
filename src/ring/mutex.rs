//! What tells that a thread lives: a robust mutex that it holds, and that nobody
//! else ever asks for (pthread_mutexattr_setrobust(3)). When the thread is gone the
//! kernel marks it, whatever PID namespace the thread was in.
//!
//! That nobody else asks is what makes it true. The kernel knows the holder by its
//! number in its own namespace alone: of a waiter that is killed it would free a
//! lock that a thread of the same number, in another container, holds.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a mutex tells of the thread whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It is nobody's.
    None,
    /// The thread of this number (gettid(2)), in its own PID namespace, lives.
    Lives(u32),
    /// It is gone.
    Died,
}

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
    /// Makes it anew, and the calling thread's. The error is an errno value.
    ///
    /// # Safety
    ///
    /// It is no living thread's, and no other thread takes it until this one gives
    /// it back; and it stays mapped for as long as this one has it.
    pub unsafe fn take(&self) -> Result<(), i32> {
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let attr = attributes.as_mut_ptr();
        // SAFETY: `attr` is initialised by the first call before the others
        // use it, and destroyed once; the mutex is nobody's (caller's duty, and
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
            made?;
            check(libc::pthread_mutex_trylock(self.raw()))
        }
    }

    /// Gives it back: it is nobody's then.
    ///
    /// # Safety
    ///
    /// The calling thread has it, by [`RobustMutex::take`].
    pub unsafe fn give_back(&self) {
        // SAFETY: passed on from the caller.
        unsafe { libc::pthread_mutex_unlock(self.raw()) };
    }

    /// What it tells, without touching it. Before the first [`RobustMutex::take`]
    /// it has to be zeroes.
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

fn check(rc: i32) -> Result<(), i32> {
    if rc == 0 { Ok(()) } else { Err(rc) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_lives_until_it_says_otherwise_or_ends() {
        let mutex: &RobustMutex = Box::leak(Box::new(RobustMutex {
            mutex: UnsafeCell::new(MaybeUninit::zeroed()),
            _room: [0; 64 - size_of::<libc::pthread_mutex_t>()],
        }));
        assert_eq!(mutex.sign(), Sign::None);
        for _ in 0..2 {
            // SAFETY: nobody's; given back below.
            unsafe { mutex.take() }.unwrap();
            // SAFETY: gettid takes nothing and cannot fail.
            let thread = unsafe { libc::syscall(libc::SYS_gettid) } as u32;
            assert_eq!(mutex.sign(), Sign::Lives(thread));
            // SAFETY: taken above.
            unsafe { mutex.give_back() };
            assert_eq!(mutex.sign(), Sign::None);
        }
        // SAFETY: nobody's.
        let take = || unsafe { mutex.take() };
        for _ in 0..2 {
            std::thread::scope(|scope| scope.spawn(take).join().unwrap()).unwrap();
            assert_eq!(mutex.sign(), Sign::Died);
        }
    }
}
