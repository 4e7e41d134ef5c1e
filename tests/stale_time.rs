//! A thread reads the clock and then has to wait, for a lock or for its turn on the processor,
//! while others rotate. What it does with that time, once it goes on, costs nobody a ticket.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tktrot::clock::{Clock, Time, VirtualClock};
use tktrot::config::Config;
use tktrot::ring::Ring;
use tktrot::ring::layout::Capacity;
use tktrot::rotate::{Generator, Keyring, NotRandom};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A clock whose reader is held up, once, before he gets to see the time that he has read.
#[derive(Default)]
struct Delaying {
    clock: VirtualClock,
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Clock for &Delaying {
    fn now(&self) -> Time {
        let now = self.clock.now();
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        now
    }
}

/// Distinct bytes.
#[derive(Default)]
struct Source(AtomicU64);

impl Generator for Source {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NotRandom> {
        for byte in bytes {
            let draw = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            *byte = (draw.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        }
        Ok(())
    }
}

fn keyring() -> (&'static Keyring<&'static Delaying>, &'static Delaying) {
    let clock: &'static Delaying = Box::leak(Box::default());
    clock.clock.advance(1000 * HOUR);
    let ring = Ring::private(Capacity::new(64).unwrap()).unwrap();
    let source: &'static Source = Box::leak(Box::default());
    let keyring = Box::leak(Box::new(Keyring::new(ring, clock, source)));
    keyring.configure(&config()).unwrap();
    keyring.tick_patiently();
    (keyring, clock)
}

fn config() -> Config {
    Config { rotate_every: Some(HOUR), lifetime: Some(2 * HOUR), ..Config::default() }
}

fn seals(keyring: &Keyring<&'static Delaying>) -> bool {
    keyring.sealing(keyring.now()).is_some()
}

#[test]
fn a_writer_who_waited_while_others_rotated_leaves_a_key_that_encrypts() {
    let (keyring, clock) = keyring();
    let others = move || {
        for _ in 0..8 {
            clock.clock.advance(SECOND);
            keyring.rotate().unwrap();
        }
        // Whoever attaches a context asks for upkeep at once.
        keyring.configure(&config()).unwrap();
    };
    *clock.meanwhile.lock().unwrap() = Some(Box::new(others));
    keyring.tick_patiently();
    assert!(seals(keyring));
}

#[test]
fn a_handshake_that_was_held_up_while_others_rotated_finds_the_key_of_now() {
    let (keyring, clock) = keyring();
    let now = keyring.now();
    let others = move || {
        clock.clock.advance(SECOND);
        keyring.rotate().unwrap();
    };
    *clock.meanwhile.lock().unwrap() = Some(Box::new(others));
    assert!(keyring.sealing(now).is_some());
}
