//! Who leads the upkeep of a ring: one at most, and somebody again when that
//! one is dead.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use models::kill_points;
use models::ring::Ring;

use crate::explore;
use crate::keys::ring;

/// As an upkeep thread that comes by twice; says whether it leads.
fn attend(ring: &Ring, leaders: &AtomicU32) -> bool {
    let mut leads = false;
    for _ in 0..2 {
        let led = leads;
        leads = ring.header().leads(leads);
        assert!(leads || !led, "a lead was lost");
        if leads && !led {
            assert_eq!(leaders.fetch_add(1, Ordering::Relaxed), 0, "two lead");
        }
    }
    leads
}

#[test]
fn one_leads_and_when_it_dies_another_does() {
    explore(3, || {
        let (ring, leaders) = (ring(1), Arc::new(AtomicU32::new(0)));
        let threads = [0, 1].map(|_| {
            let (ring, leaders) = (Arc::clone(&ring), Arc::clone(&leaders));
            thread::spawn(move || {
                let leads = attend(&ring, &leaders);
                if leads {
                    // Its process ends: the kernel hands the lock on.
                    leaders.fetch_sub(1, Ordering::Relaxed);
                    kill_points::die();
                    // SAFETY: it leads, so it has the lock.
                    unsafe { ring.header().leader.unlock() };
                }
                leads
            })
        });
        let led = threads.map(|thread| thread.join().unwrap());
        assert!(led.contains(&true), "nobody leads");
        assert!(attend(&ring, &leaders), "the dead one leads on");
    });
}
