//! A test build only (feature `kill-points`): processes that die by SIGKILL
//! after a chosen store of the ring's writer, as if the machine had picked the
//! moment.
//!
//! Two ways to choose: [`arm`] for a test that forks its own writer, and the
//! variable `TKTROT_KILL_AT=FIRST-LAST` for a server: of the processes forked
//! from the one that opened the ring, the first to write dies after its
//! FIRST-th store, the next one after one store more, and so on up to LAST.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::ring::map::Mapping;

static ARMED: AtomicU64 = AtomicU64::new(u64::MAX);

/// Lets this process die after its `stores`-th store from now.
pub fn arm(stores: u64) {
    ARMED.store(stores, Ordering::Relaxed);
}

/// Called after each store.
pub fn pass() {
    draw_fate();
    // Writers hold a lock, so nobody else counts down at the same time.
    let left = ARMED.load(Ordering::Relaxed);
    if left == u64::MAX {
        return;
    }
    ARMED.store(left - 1, Ordering::Relaxed);
    if left == 1 {
        // SAFETY: ends this process, at once.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

/// What the processes of a server share.
struct Plan {
    origin: u32,
    last: u64,
    /// The first word holds the next number of stores.
    shared: Mapping,
}

/// In a process that has not written before: takes the next number of stores.
fn draw_fate() {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    static WRITER: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    if let Some(plan) = PLAN.get_or_init(read_plan)
        && pid != plan.origin
        && WRITER.swap(pid, Ordering::Relaxed) != pid
    {
        let stores = plan.next().fetch_add(1, Ordering::Relaxed);
        arm(if stores <= plan.last { stores } else { u64::MAX });
    }
}

fn read_plan() -> Option<Plan> {
    let text = std::env::var("TKTROT_KILL_AT").ok()?;
    let (first, last) = text.split_once('-')?;
    let shared = Mapping::anonymous(size_of::<AtomicU64>()).ok()?;
    let plan = Plan { origin: std::process::id(), last: last.parse().ok()?, shared };
    plan.next().store(first.parse().ok()?, Ordering::Relaxed);
    Some(plan)
}

impl Plan {
    fn next(&self) -> &AtomicU64 {
        // SAFETY: the mapping is page-aligned, long enough, zeroed when made
        // and lives as long as `self`.
        unsafe { self.shared.base().cast::<AtomicU64>().as_ref() }
    }
}
