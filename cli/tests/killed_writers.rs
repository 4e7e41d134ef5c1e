//! Writers that died, or stand still, with the lock. A test program of its own: what it forks has
//! every ring of the process, and would be seen as a user of other tests' rings.

#[allow(dead_code, reason = "each test program needs its part of it")]
mod program;

use std::fs;

use testbed::RingDir;
use tktrot::rotate::Keyring;

use program::{Result, alarms, keyring_with_keys, reading, tktrot};

/// A process that took the writer lock and stopped; killed when dropped.
struct Holder(libc::pid_t);

impl Holder {
    fn of(keyring: &Keyring) -> Result<Holder> {
        // SAFETY: the child takes the lock, stops, and ends without returning.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let writer = keyring.ring().try_write();
            // SAFETY: stops and then ends the child at once.
            unsafe {
                if writer.is_ok() {
                    libc::raise(libc::SIGSTOP);
                }
                libc::_exit(1);
            }
        }
        let mut status = 0;
        // SAFETY: waits for our own child; a valid place for its status.
        let rc = unsafe { libc::waitpid(child, &mut status, libc::WUNTRACED) };
        let holder = Holder(child);
        if rc != child || !libc::WIFSTOPPED(status) {
            return Err("the child did not get the lock".into());
        }
        Ok(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // SAFETY: kills and reaps our own child, once.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

#[test]
fn a_writer_that_stands_still_is_named_and_a_dead_one_is_told_and_nothing_is_written() -> Result<()>
{
    let ring = RingDir::new()?;
    let keyring = keyring_with_keys(&ring, "some")?;
    let path = ring.path().join("some.ring");

    let holder = Holder::of(&keyring)?;
    let before = fs::read(&path)?;
    let stuck = reading(&ring)?;
    assert!(alarms(&stuck).contains(&"writer-stuck"), "{stuck:#}");
    assert_eq!(stuck["writer_lock"]["process"], holder.0);
    assert_eq!(stuck["writer_lock"]["stopped"], true);
    let text = tktrot(&ring, &["status"])?;
    assert_eq!(text.status, Some(2), "{text:?}");
    assert!(text.stdout.contains(&format!("kill -CONT {}", holder.0)), "{}", text.stdout);
    assert!(fs::read(&path)? == before, "a look changed the ring");

    drop(holder);
    let before = fs::read(&path)?;
    let dead = reading(&ring)?;
    assert!(alarms(&dead).contains(&"writer-dead"), "{dead:#}");
    assert!(!alarms(&dead).contains(&"writer-stuck"), "{dead:#}");
    assert_eq!(dead["keys"].as_array().map(Vec::len), Some(2), "{dead:#}");
    assert!(fs::read(&path)? == before, "a look changed the ring");

    assert_eq!(tktrot(&ring, &["rotate"])?.status, Some(0));
    let repaired = reading(&ring)?;
    assert!(!alarms(&repaired).contains(&"writer-dead"), "{repaired:#}");
    assert_eq!(repaired["counters"]["repairs"], 1);
    Ok(())
}
