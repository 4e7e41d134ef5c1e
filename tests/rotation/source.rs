//! A generator that can fail, and takes its time. Nothing of it is secret.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tktrot::clock::VirtualClock;
use tktrot::rotate::{Generator, NotRandom};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    None,
    /// It says that it failed.
    Fails,
    /// It says that it did not.
    Zeroes,
    /// The same bytes again and again.
    Repeats,
}

pub struct Source {
    clock: &'static VirtualClock,
    draws: AtomicU64,
    fault: AtomicU8,
    nanos: AtomicU64,
}

impl Source {
    pub fn new(clock: &'static VirtualClock) -> Self {
        let (fault, nanos) = (AtomicU8::new(Fault::None as u8), AtomicU64::new(0));
        Source { clock, draws: AtomicU64::new(0), fault, nanos }
    }

    pub fn set(&self, fault: Fault) {
        self.fault.store(fault as u8, Ordering::Relaxed);
    }

    pub fn works(&self) -> bool {
        self.fault.load(Ordering::Relaxed) == Fault::None as u8
    }

    /// How long a draw takes.
    pub fn take(&self, time: Duration) {
        self.nanos.store(time.as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Generator for Source {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NotRandom> {
        self.clock.advance(Duration::from_nanos(self.nanos.load(Ordering::Relaxed)));
        let fault = self.fault.load(Ordering::Relaxed);
        let draw = match fault {
            fault if fault == Fault::Repeats as u8 => 12,
            _ => self.draws.fetch_add(1, Ordering::Relaxed),
        };
        for (index, byte) in bytes.iter_mut().enumerate() {
            let mixed = (draw * 1000 + index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *byte = if fault == Fault::Zeroes as u8 { 0 } else { (mixed >> 56) as u8 };
        }
        if fault == Fault::Fails as u8 { Err(NotRandom::Failed) } else { Ok(()) }
    }
}
