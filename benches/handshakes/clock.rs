//! Processor time of this thread.

/// Adds up the processor time of what it measures.
#[derive(Default)]
pub struct ThreadTime {
    /// So far, in nanoseconds.
    pub nanos: u64,
    /// How often something was measured.
    pub steps: u32,
}

impl ThreadTime {
    /// Does `work` and adds its time.
    pub fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let began = thread_nanos();
        let value = work();
        self.nanos += thread_nanos() - began;
        self.steps += 1;
        value
    }
}

/// What one measurement costs that measures nothing: it is part of every result.
pub fn own_cost() -> f64 {
    const TIMES: u32 = 10_000;
    let mut time = ThreadTime::default();
    (0..TIMES).for_each(|_| time.measure(|| ()));
    time.nanos as f64 / f64::from(TIMES)
}

fn thread_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec; this clock exists on every Linux.
    let rc = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(rc, 0, "clock_gettime");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
