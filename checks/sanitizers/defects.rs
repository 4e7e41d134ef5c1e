//! Not a test but a test's control: does on purpose what a sanitizer in Rust code must not let pass,
//! by the sanitizer's name.

use std::cell::UnsafeCell;
use std::env;
use std::hint::black_box;
use std::process::ExitCode;
use std::thread;

struct Shared(UnsafeCell<u64>);

// SAFETY: it is none; that is the defect.
unsafe impl Sync for Shared {}

static SHARED: Shared = Shared(UnsafeCell::new(0));

/// Two threads write, and nothing orders them.
fn race() {
    let write = || {
        for value in 0..1000 {
            // SAFETY: it is none; that is the defect.
            unsafe { *black_box(SHARED.0.get()) = value };
        }
    };
    thread::scope(|scope| {
        scope.spawn(write);
        scope.spawn(write);
    });
}

/// What is freed is read.
fn use_after_free() {
    let freed: *const u64 = black_box(&*Box::new(7));
    // SAFETY: it is none; that is the defect.
    black_box(unsafe { *freed });
}

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        None => {}
        Some("thread") => race(),
        Some("address") => use_after_free(),
        Some(_) => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}
