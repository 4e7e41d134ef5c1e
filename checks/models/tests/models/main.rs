//! Every order in which processes can meet in a ring, tried: docs/models.md
//! says what is asked, what is bounded, and what each model was seen to find.

mod deaths;
mod epoch;
mod keys;
mod lead;
mod readers;
mod rotations;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Tries every order of `act`'s threads in which no more than so many times one
/// is interrupted that could have gone on.
fn explore(interruptions: usize, act: impl Fn() + Sync + Send + 'static) {
    explore_some(interruptions, usize::MAX, act);
}

/// The same, but no more than so many orders: where all of them were too many.
fn explore_some(interruptions: usize, most: usize, act: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.max_permutations = model.max_permutations.or(Some(most));
    model.preemption_bound = model.preemption_bound.or(Some(interruptions));
    model.max_branches = 100_000;
    let tried = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tried);
    model.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        act();
    });
    let orders = tried.load(Ordering::Relaxed);
    println!("{orders} orders");
}
