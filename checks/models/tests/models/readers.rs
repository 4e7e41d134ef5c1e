//! One reader and one writer: what is found is whole, what is there is found,
//! and what was erased is not.

use std::sync::Arc;

use loom::thread;

use crate::explore;
use crate::keys::{found, key, name, ring};

#[test]
fn a_key_that_is_published_is_found_whole_or_not_at_all() {
    explore(3, || {
        let ring = ring(2);
        let reader = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || found(&ring, 1))
        };
        ring.try_write().unwrap().publish(&key(1)).unwrap();
        reader.join().unwrap();
        assert!(found(&ring, 1));
    });
}

#[test]
fn a_key_that_is_erased_under_a_reader_is_whole_or_gone() {
    explore(2, || {
        let ring = ring(1);
        ring.try_write().unwrap().publish(&key(1)).unwrap();
        let reader = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || _ = found(&ring, 1))
        };
        ring.try_write().unwrap().erase(0);
        reader.join().unwrap();
        assert!(!found(&ring, 1), "erased, and found");
    });
}

/// The slot that a reader stands at is put to another use.
#[test]
fn a_slot_that_is_used_again_is_never_read_as_both() {
    explore(0, || {
        let ring = ring(1);
        ring.try_write().unwrap().publish(&key(1)).unwrap();
        let located = ring.identity(&ring.locate(&name(1)).unwrap());
        let reader = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                if let Some(end) = ring.end_of(located) {
                    assert_eq!(end, key(1).times.decrypt_until, "the end of another key");
                }
                found(&ring, 1);
            })
        };
        {
            let writer = ring.try_write().unwrap();
            writer.erase(0);
            writer.publish(&key(2)).unwrap();
        }
        reader.join().unwrap();
        assert!(ring.end_of(located).is_none());
        assert!(found(&ring, 2) && !found(&ring, 1));
    });
}

/// The chain changes before and behind a key that stays.
#[test]
fn a_key_that_stays_is_found_while_its_chain_changes() {
    explore(2, || {
        let ring = ring(2);
        ring.try_write().unwrap().publish(&key(1)).unwrap();
        ring.try_write().unwrap().publish(&key(2)).unwrap();
        let reader = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || assert!(found(&ring, 1), "a key that is there is not found"))
        };
        {
            let writer = ring.try_write().unwrap();
            // Key 2 is at the head of the chain, before key 1.
            writer.erase(1);
            writer.publish(&key(3)).unwrap();
        }
        reader.join().unwrap();
        assert!(found(&ring, 1) && found(&ring, 3) && !found(&ring, 2));
    });
}
