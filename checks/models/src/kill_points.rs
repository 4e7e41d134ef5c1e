//! The death of a writer at a chosen store: its thread unwinds at once, without
//! a message, and the lock that it had is left to the next one.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

loom::thread_local! {
    static LEFT: Cell<u32> = Cell::new(u32::MAX);
    static DEAD: Cell<bool> = Cell::new(false);
}

struct Died;

/// Called after each store to the keys of a ring.
pub fn pass() {
    let left = LEFT.with(Cell::get);
    if left == u32::MAX {
        return;
    }
    LEFT.with(|word| word.set(left - 1));
    if left == 1 {
        die();
        resume_unwind(Box::new(Died));
    }
}

/// True if the calling thread has died, and is only unwinding.
pub fn is_dead() -> bool {
    DEAD.with(Cell::get)
}

/// The calling thread dies, and unlocks only as the dead do.
pub fn die() {
    DEAD.with(|dead| dead.set(true));
}

/// Lets the calling thread die after its `stores`-th store in `act`. True if it
/// did; false if it had fewer to make.
pub fn dies(stores: u32, act: impl FnOnce()) -> bool {
    LEFT.with(|word| word.set(stores));
    let died: Result<(), Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(act));
    LEFT.with(|word| word.set(u32::MAX));
    match died {
        Ok(()) => false,
        Err(payload) if payload.is::<Died>() => true,
        Err(other) => resume_unwind(other),
    }
}
