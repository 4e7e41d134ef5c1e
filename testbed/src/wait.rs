//! Bounded waiting: every loop in this crate that waits for a process ends.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long servers get for a start, a stop, a reload. Generous, because the machine may be busy;
/// nothing waits for it to pass when all goes well.
pub const PATIENCE: Duration = Duration::from_secs(20);

const INTERVAL: Duration = Duration::from_millis(10);

/// Calls `probe` until it returns a value, at most for `limit`; the error says `what` did not come.
pub fn until<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s in vain for {what}", limit.as_secs_f32());
        }
        thread::sleep(INTERVAL);
    }
}
