//! Wall clocks that are wrong: libfaketime, which changes what a process is told.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::environment::Environment;

/// Lets the wall clock of what runs in this environment be so many seconds ahead, or behind. The
/// clocks that count from the boot stay true, as they are where a wall clock is wrong.
pub fn set_ahead(environment: &mut Environment, seconds: i64) -> Result<()> {
    environment.preload(&library()?);
    environment.set("FAKETIME", &format!("{seconds:+}s"));
    environment.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    environment.set("FAKETIME_DONT_RESET", "1");
    Ok(())
}

/// Removes what libfaketime has left of a process that was killed; one that ends does so itself.
pub fn tidy_up(pid: u32) {
    for name in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
        let _ = fs::remove_file(Path::new("/dev/shm").join(name));
    }
}

fn library() -> Result<PathBuf> {
    let machines = fs::read_dir("/usr/lib")?.flatten();
    let mut places = machines.map(|entry| entry.path().join("faketime/libfaketime.so.1"));
    places.find(|path| path.exists()).context("no libfaketime; `make deps` installs it")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::*;

    /// Wall clock and boot clock, as Python sees them.
    fn clocks(environment: &Environment) -> (f64, f64) {
        let script = "import time; print(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))";
        let output = environment.command(Path::new("python3")).args(["-c", script]).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let (wall, boot) = text.trim().split_once(' ').unwrap();
        (wall.parse().unwrap(), boot.parse().unwrap())
    }

    #[test]
    fn the_wall_clock_is_wrong_and_the_boot_clock_is_not() {
        let (_, boot_before) = clocks(&Environment::default());
        for ahead in [3600, -3600] {
            let mut environment = Environment::default();
            set_ahead(&mut environment, ahead).unwrap();
            let (wall, boot) = clocks(&environment);
            let true_wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let off = wall - true_wall.as_secs_f64() - ahead as f64;
            assert!(off.abs() < 60.0, "{off} s beside {ahead}");
            let elapsed = boot - boot_before;
            assert!((0.0..Duration::from_secs(60).as_secs_f64()).contains(&elapsed), "{elapsed}");
        }
    }
}
