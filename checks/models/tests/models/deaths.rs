//! A writer dies after each of its stores, while somebody reads; the next one
//! inherits the lock and repairs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loom::thread;

use models::kill_points::dies;
use models::ring::Ring;
use models::ring::writer::Writer;

use crate::explore;
use crate::keys::{found, key, name, ring};

/// More stores than any act here has.
const STORES: u32 = 60;

/// A ring with key 1, and `act` on it, cut short after each of its stores;
/// somebody reads meanwhile, and while it is repaired. Key 1 is there throughout,
/// if `stays`.
fn at_each_store(interruptions: usize, stays: bool, act: fn(&Writer<'_>)) {
    for stores in 1..STORES {
        let lived = Arc::new(AtomicBool::new(false));
        let outcome = Arc::clone(&lived);
        explore(interruptions, move || {
            let ring = ring(2);
            ring.try_write().unwrap().publish(&key(1)).unwrap();
            let reader = {
                let ring = Arc::clone(&ring);
                thread::spawn(move || {
                    assert!(found(&ring, 1) || !stays, "a key that is there is not found");
                    found(&ring, 2);
                })
            };
            let died = dies(stores, || {
                let writer = ring.try_write().unwrap();
                act(&writer);
            });
            let next = {
                let ring = Arc::clone(&ring);
                thread::spawn(move || repair(&ring))
            };
            next.join().unwrap();
            reader.join().unwrap();
            outcome.store(!died, Ordering::Relaxed);
            assert!(found(&ring, 1) || !stays, "a key is lost with the writer");
        });
        if lived.load(Ordering::Relaxed) {
            assert!(stores > 5, "nothing was done");
            return;
        }
    }
    panic!("more stores than are tried");
}

fn repair(ring: &Ring) {
    let writer = ring.try_write().unwrap();
    assert_eq!(writer.defect(), None);
    // Where there is room, there is room for a key.
    for entry in writer.entries().into_iter().filter(|entry| entry.name != name(1)) {
        writer.erase(entry.index);
    }
    assert_eq!(writer.room(), 2 - writer.entries().len());
    assert_eq!(writer.defect(), None);
}

#[test]
fn while_it_publishes() {
    at_each_store(1, true, |writer| assert!(writer.publish(&key(2)).is_ok()));
}

#[test]
fn while_it_erases() {
    at_each_store(0, false, |writer| writer.erase(0));
}

#[test]
fn while_it_empties_the_ring() {
    at_each_store(0, false, |writer| writer.clear());
}
