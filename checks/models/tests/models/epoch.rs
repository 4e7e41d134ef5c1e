//! What is taken out of reach is freed only when nobody reads it any more.

use loom::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;

use models::epoch::Epochs;

use crate::explore;

struct Shared {
    epochs: Epochs,
    words: [AtomicU64; 2],
    /// Whether what can be freed is in reach.
    reach: AtomicBool,
    /// loom finds an access to it that is not ordered with its freeing.
    freed: UnsafeCell<bool>,
}

fn shared() -> Arc<Shared> {
    Arc::new(Shared {
        epochs: Epochs::new(),
        words: [AtomicU64::new(0), AtomicU64::new(0)],
        reach: AtomicBool::new(true),
        freed: UnsafeCell::new(false),
    })
}

fn read(shared: &Shared, word: usize) {
    let _reading = shared.epochs.pin(&shared.words[word]);
    if shared.reach.load(Ordering::Acquire) {
        shared.freed.with(|freed| {
            // SAFETY: loom checks that nobody stores to it meanwhile.
            assert!(!unsafe { *freed }, "read after it was freed");
        });
    }
}

/// Frees, if nobody holds it up.
fn free(shared: &Shared) -> bool {
    shared.reach.store(false, Ordering::Release);
    let epoch = shared.epochs.advance();
    let past = shared.epochs.is_past(epoch, shared.words.iter());
    if past {
        shared.freed.with_mut(|freed| {
            // SAFETY: loom checks that nobody reads it meanwhile.
            unsafe { *freed = true };
        });
    }
    past
}

#[test]
fn nothing_is_freed_under_a_reader() {
    explore(3, || {
        let shared = shared();
        let reader = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || read(&shared, 0))
        };
        free(&shared);
        reader.join().unwrap();
    });
}

#[test]
fn nothing_is_freed_under_one_of_two_readers_that_read_twice() {
    explore(2, || {
        let shared = shared();
        let readers = [0, 1].map(|word| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                read(&shared, word);
                read(&shared, word);
            })
        });
        free(&shared);
        for reader in readers {
            reader.join().unwrap();
        }
        assert!(free(&shared), "a reader that has ended holds it up");
    });
}
