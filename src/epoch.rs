//! Epoch-based reclamation: when may what others might still be reading be freed? A
//! reader says so in a word of its own: no lock, no atomic read-modify-write, no shared line
//! written. Who frees pays for that: what was taken out of reach at an epoch
//! may be freed when every reader that began before it has ended.
//!
//! The order that makes it sound: a reader stores its word, fences, and only
//! then looks for what it reads; who frees takes it out of reach, fences, and
//! only then looks at the words. Of the two fences one is first, so either the
//! reader does not find it any more, or its word is seen.

use crate::atomics::{AtomicU64, Ordering, fence};

/// Counts what was taken out of reach; 0 in a word means "not reading".
pub struct Epochs(AtomicU64);

/// A moment: what was out of reach then may be freed when it is past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u64);

impl Epoch {
    /// The moment of that number.
    pub const fn of(number: u64) -> Self {
        Epoch(number)
    }

    /// Its number, to keep in a word.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// While it lives, nothing is freed that its thread could have found.
pub struct Guard<'w> {
    word: &'w AtomicU64,
    /// What the word said before: not 0 if a signal handler reads, too.
    before: u64,
}

impl Epochs {
    /// The clock, at the first epoch.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Epochs(AtomicU64::new(1))
    }

    /// The first. An atomic of a model is not made at compile time.
    #[cfg(loom)]
    pub fn new() -> Self {
        Epochs(AtomicU64::new(1))
    }

    /// Begins to read. `word` is one that only the calling thread stores to.
    #[inline]
    pub fn pin<'w>(&self, word: &'w AtomicU64) -> Guard<'w> {
        let before = word.load(Ordering::Relaxed);
        if before == 0 {
            // Release: who sees this store need not see the end of the reading before it
            // (C++20 has taken a thread's own later stores out of release sequences).
            word.store(self.0.load(Ordering::Relaxed), Ordering::Release);
        }
        // Pairs with the fence in `advance`.
        fence(Ordering::SeqCst);
        Guard { word, before }
    }

    /// The moment from which on nobody finds what the caller has taken out of reach.
    pub fn advance(&self) -> Epoch {
        // Release: a reader that begins with the new epoch does not find it.
        let advanced = Epoch(self.0.fetch_add(1, Ordering::AcqRel) + 1);
        fence(Ordering::SeqCst);
        advanced
    }

    /// True if no reader is left that began before `epoch`.
    pub fn is_past<'w>(&self, epoch: Epoch, words: impl Iterator<Item = &'w AtomicU64>) -> bool {
        // Acquire pairs with the Release of a reader's end: it has read what it read.
        let mut began = words.map(|word| word.load(Ordering::Acquire));
        began.all(|began| began == 0 || began >= epoch.0)
    }
}

impl Default for Epochs {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.word.store(self.before, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::ptr;
    use std::sync::atomic::{AtomicBool, AtomicPtr};
    use std::thread;

    use super::*;

    #[test]
    fn only_those_who_began_before_hold_it_up() {
        let (epochs, words) = (Epochs::new(), [const { AtomicU64::new(0) }; 2]);
        let early = epochs.pin(&words[0]);
        let advanced = epochs.advance();
        let late = epochs.pin(&words[1]);
        assert!(!epochs.is_past(advanced, words.iter()));
        let within = epochs.pin(&words[0]);
        drop(within);
        assert!(!epochs.is_past(advanced, words.iter()), "the outer one reads on");
        drop(early);
        assert!(epochs.is_past(advanced, words.iter()));
        drop(late);
    }

    /// Under Miri a read of freed memory is an error.
    #[test]
    fn nothing_is_freed_under_a_reader() {
        const ROUNDS: usize = if cfg!(miri) { 50 } else { 20_000 };
        let epochs = Epochs::new();
        let words = [const { AtomicU64::new(0) }; 3];
        let shared = AtomicPtr::new(Box::into_raw(Box::new([7_u64; 4])));
        let done = AtomicBool::new(false);
        let waiting = thread::scope(|scope| {
            for word in &words {
                let (epochs, shared, done) = (&epochs, &shared, &done);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        let _reading = epochs.pin(word);
                        // SAFETY: what is found while reading is not freed.
                        let found = unsafe { shared.load(Ordering::Acquire).as_ref() };
                        if let Some(found) = found {
                            assert!(found.iter().all(|word| *word == found[0] && *word % 7 == 0));
                        }
                    }
                });
            }
            let mut waiting = Vec::new();
            for round in 0..ROUNDS {
                let new = Box::into_raw(Box::new([7 * round as u64; 4]));
                waiting.push((shared.swap(new, Ordering::AcqRel), epochs.advance()));
                waiting.retain(|&(old, epoch)| {
                    let past = epochs.is_past(epoch, words.iter());
                    if past {
                        // SAFETY: made by Box::into_raw; nobody can find or have it.
                        unsafe {
                            *old = [1, 2, 3, 4];
                            drop(Box::from_raw(old));
                        }
                    }
                    !past
                });
                if round % 64 == 0 {
                    thread::yield_now();
                }
            }
            done.store(true, Ordering::Relaxed);
            waiting
        });
        let last = shared.swap(ptr::null_mut(), Ordering::AcqRel);
        for old in waiting.into_iter().map(|(old, _)| old).chain([last]) {
            // SAFETY: made by Box::into_raw; all readers have ended.
            drop(unsafe { Box::from_raw(old) });
        }
    }
}
