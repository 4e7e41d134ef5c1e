//! Processor time.

use std::sync::OnceLock;

use crate::Result;

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

impl ThreadTime {
    /// Without what the clock itself costs.
    pub fn net_nanos(&self) -> f64 {
        static CLOCK: OnceLock<f64> = OnceLock::new();
        self.nanos as f64 - CLOCK.get_or_init(own_cost) * f64::from(self.steps)
    }
}

/// What one measurement costs that measures nothing: it is part of every result.
pub fn own_cost() -> f64 {
    const TIMES: u32 = 10_000;
    let mut time = ThreadTime::default();
    (0..TIMES).for_each(|_| time.measure(|| ()));
    time.nanos as f64 / f64::from(TIMES)
}

/// Of another process so far, all its threads, in nanoseconds.
pub fn process_nanos(pid: i32) -> Result<u64> {
    let mut clock = 0;
    // SAFETY: writes one clock id.
    match unsafe { libc::clock_getcpuclockid(pid, &mut clock) } {
        0 => Ok(nanos(clock)),
        code => Err(std::io::Error::from_raw_os_error(code).into()),
    }
}

/// Of all children that have ended so far, in microseconds.
pub fn children_micros() -> u64 {
    // SAFETY: all zeroes is a valid rusage, which is only written.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: writes one rusage.
    let rc = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) };
    assert_eq!(rc, 0, "getrusage");
    [usage.ru_utime, usage.ru_stime]
        .iter()
        .map(|time| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64)
        .sum()
}

fn thread_nanos() -> u64 {
    nanos(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn nanos(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    let rc = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(rc, 0, "clock_gettime");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
