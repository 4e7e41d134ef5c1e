//! Rings that nobody uses, removed under the writer lock: whoever opens a ring takes that
//! lock, too, and then looks whether the file still has a name.
//!
//! - A program that only looks (`nginx -t`, `haproxy -c`) makes its contexts, and
//!   with them a ring, as if it were to serve. Then it ends, and leaves nothing.
//! - An operator removes a ring whose servers are gone.

use std::fmt;
use std::fs;
use std::io;

use super::file::{Place, id_of, origin_of};
use super::lock::{NotLocked, PATIENCE};
use super::ring::{Origin, Ring};

/// Why a ring was not removed.
#[derive(Debug)]
pub enum NotRemoved {
    /// Somebody opened it meanwhile.
    Opened,
    /// Its file is no longer there, or another one is in its place.
    Replaced,
    /// Its writer lock is held and not given back, or does not work.
    NotLocked(NotLocked),
    /// Its file cannot be removed. Its keys are erased.
    Failed(io::Error),
}

impl fmt::Display for NotRemoved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotRemoved::Opened => f.write_str("a process opened it meanwhile"),
            NotRemoved::Replaced => f.write_str("its file was removed or replaced meanwhile"),
            NotRemoved::NotLocked(why) => why.fmt(f),
            NotRemoved::Failed(why) => {
                write!(f, "its keys are erased, but its file cannot be removed: {why}")
            }
        }
    }
}

/// Erases all keys of the ring that lies at a place, and removes its file. Returns how many keys
/// there were.
///
/// For whoever opened the ring, noted [`Ring::times_opened`] as `opened`, and then saw that
/// no process has it: who opened it before that would have been seen, who opens it between
/// that and this is counted, and who comes later finds no file, and makes a ring anew.
///
/// # Errors
///
/// See [`NotRemoved`]. But for its last variant, everything is as it was.
pub fn remove(place: &Place, ring: &Ring, opened: u32) -> Result<usize, NotRemoved> {
    let writer = ring.write_within(PATIENCE).map_err(NotRemoved::NotLocked)?;
    if ring.times_opened() != opened {
        return Err(NotRemoved::Opened);
    }
    let here = place.present(libc::O_RDONLY).ok().flatten();
    let here = here.and_then(|file| origin_of(&file).ok());
    if !here.is_some_and(|here| Origin::told_by(ring.header()).may_be(here)) {
        return Err(NotRemoved::Replaced);
    }
    let keys = writer.entries().len();
    writer.clear();
    fs::remove_file(place.path()).map_err(NotRemoved::Failed)?;
    Ok(keys)
}

/// Removes the ring's file, and its directory if that is empty then, if they
/// were made when this process opened the ring and nobody has had a use for
/// them: no one else ever opened the ring, and no key was ever in it. Never
/// waits; what cannot be removed stays.
///
/// Children of this process share the ring without opening it. So this is
/// only for a process that never forked.
pub fn remove_unused(place: &Place, ring: &Ring) {
    let Some(made) = &ring.made else { return };
    // Under the lock that everybody who opens a ring takes: who comes now
    // waits, finds a file without a name, and makes one anew.
    let Ok(_writer) = ring.try_write() else { return };
    let used = ring.rotations() != 0;
    if used || ring.times_opened() != 1 {
        return;
    }
    let is_it = |facts: fs::Metadata| id_of(&facts) == made.file;
    if fs::symlink_metadata(&made.path).is_ok_and(is_it)
        && fs::remove_file(&made.path).is_ok()
        && made.dir
    {
        // Stays where another ring is in it.
        let _ = fs::remove_dir(&place.dir);
    }
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::PathBuf;
    use std::thread;
    use std::time::Duration;

    use std::sync::atomic::Ordering;

    use super::*;
    use crate::ring::layout::{Capacity, MAJOR};
    use crate::ring::tests::numbered;
    use crate::ring::view::View;

    fn place() -> (tempfile::TempDir, Place) {
        let above = tempfile::tempdir_in("/dev/shm").unwrap();
        let dir: PathBuf = above.path().join("rings");
        (above, Place { dir, file: "some.ring".into(), dir_mode: 0o700 })
    }

    fn open(place: &Place) -> Ring {
        place.open(Capacity::new(8).unwrap()).unwrap()
    }

    #[test]
    fn a_ring_that_nobody_used_goes_with_its_directory() {
        let (_above, place) = place();
        remove_unused(&place, &open(&place));
        assert!(!place.dir.exists());
    }

    #[test]
    fn a_directory_that_was_there_before_stays() {
        let (_above, place) = place();
        fs::create_dir(&place.dir).unwrap();
        remove_unused(&place, &open(&place));
        assert!(!place.path().exists());
        assert!(place.dir.exists());
    }

    #[test]
    fn a_ring_that_another_one_opened_stays_whoever_of_them_ends() {
        let (_above, place) = place();
        let (first, second) = (open(&place), open(&place));
        remove_unused(&place, &second);
        remove_unused(&place, &first);
        assert!(place.path().exists());
    }

    #[test]
    fn a_ring_that_held_a_key_stays() {
        let (_above, place) = place();
        let ring = open(&place);
        ring.header().rotations.store(1, Ordering::Relaxed);
        remove_unused(&place, &ring);
        assert!(place.path().exists());
    }

    /// Whoever comes from then on has the other one.
    #[test]
    fn a_ring_that_was_made_goes_also_when_its_name_leads_elsewhere_by_now() {
        let (_above, place) = place();
        let ring = open(&place);
        let beside = Place { file: format!("{}.{MAJOR}", place.file), ..place.clone() };
        let other = open(&beside);
        assert_eq!(place.of_this_version(), beside);
        remove_unused(&place, &ring);
        assert!(!place.path().exists() && beside.path().exists());
        drop(other);
    }

    #[test]
    fn whatever_lies_in_its_place_by_now_stays() {
        let (_above, place) = place();
        let ring = open(&place);
        fs::remove_file(place.path()).unwrap();
        let other = open(&place);
        remove_unused(&place, &ring);
        assert!(place.path().exists());
        drop(other);
    }

    #[test]
    fn an_operator_removes_keys_and_file_and_who_has_it_finds_no_key() {
        let (_above, place) = place();
        let ring = open(&place);
        ring.try_write().unwrap().publish(&numbered(1)).unwrap();
        let view = place.look().unwrap().unwrap();
        let holds_secrets = |view: &View| {
            let mut bytes = vec![0; view.file().metadata().unwrap().len() as usize];
            view.file().read_exact_at(&mut bytes, 0).unwrap();
            let key = numbered(1);
            let aes = &key.secrets.aes.expose()[..8];
            bytes.windows(8).any(|part| part == aes)
        };
        assert!(holds_secrets(&view));
        assert_eq!(remove(&place, &ring, ring.times_opened()).unwrap(), 1);
        assert!(!place.path().exists() && view.is_removed());
        assert!(view.keys().is_empty() && !holds_secrets(&view));
        // The lock is free: who has it goes on.
        drop(ring.try_write().unwrap());
    }

    #[test]
    fn a_ring_that_was_opened_locked_or_replaced_meanwhile_is_not_removed() {
        let (_above, place) = place();
        let ring = open(&place);
        ring.try_write().unwrap().publish(&numbered(1)).unwrap();
        let opened = ring.times_opened();
        let server = open(&place);
        assert!(matches!(remove(&place, &ring, opened), Err(NotRemoved::Opened)));
        let opened = server.times_opened();
        let writer = server.try_write().unwrap();
        let not = remove(&place, &ring, opened);
        assert!(matches!(not, Err(NotRemoved::NotLocked(NotLocked::Busy))));
        drop(writer);
        let moved = Place { file: "moved.ring".into(), ..place.clone() };
        fs::rename(place.path(), moved.path()).unwrap();
        assert!(matches!(remove(&place, &ring, opened), Err(NotRemoved::Replaced)));
        let other = open(&place);
        assert!(matches!(remove(&place, &ring, opened), Err(NotRemoved::Replaced)));
        assert!(place.path().exists() && moved.path().exists());
        assert_eq!(server.try_write().unwrap().entries().len(), 1);
        assert_eq!(remove(&moved, &ring, opened).unwrap(), 1);
        drop(other);
    }

    /// A server starts while a configuration is checked: it is not left alone with a file that has
    /// no name any more.
    #[test]
    fn who_found_a_ring_that_is_then_removed_makes_one_anew() {
        let (_above, place) = place();
        let ring = open(&place);
        let writer = ring.try_write().unwrap();
        let server = child(|| {
            let node = |ring: &Ring| ring.header().node.load(Ordering::Relaxed);
            assert_eq!(node(&open(&place)), node(&open(&place)));
        });
        // Until the server has opened the file, and waits for the lock.
        let descriptors = PathBuf::from(format!("/proc/{server}/fd"));
        let has_it = |fd: fs::DirEntry| fs::read_link(fd.path()).is_ok_and(|to| to == place.path());
        let waits = || fs::read_dir(&descriptors).unwrap().flatten().any(has_it);
        assert!((0..1000).any(|_| {
            thread::sleep(Duration::from_millis(1));
            waits()
        }));
        fs::remove_dir_all(&place.dir).unwrap();
        drop(writer);
        let mut status = 0;
        // SAFETY: waits for our own child.
        assert_eq!(unsafe { libc::waitpid(server, &mut status, 0) }, server);
        assert_eq!(status, 0);
        assert!(place.path().exists());
    }

    /// A process of its own, as everybody has who opens a ring; ends with 0 if it does not panic.
    fn child(work: impl FnOnce()) -> libc::pid_t {
        // SAFETY: the child works alone and leaves with _exit.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork failed");
        if pid == 0 {
            let done = catch_unwind(AssertUnwindSafe(work));
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(done.is_err())) };
        }
        pid
    }

    #[test]
    fn a_removed_file_and_a_replaced_one_are_seen_and_noted_once() {
        let (_above, place) = place();
        let capacity = Capacity::new(8).unwrap();
        let first = place.open(capacity).unwrap();
        first.protect().unwrap();
        assert!(!first.lost_its_file() && !first.is_noted_removed());
        fs::remove_file(place.path()).unwrap();
        assert!(first.lost_its_file());
        let second = place.open(capacity).unwrap();
        assert!(first.lost_its_file() && !second.lost_its_file());
        assert!(first.note_removed() && !first.note_removed() && first.is_noted_removed());
        // What is moved has a name.
        fs::rename(place.path(), place.dir.join("other.ring")).unwrap();
        assert!(!second.lost_its_file());
        fs::write(place.dir.join("new"), "").unwrap();
        fs::rename(place.dir.join("new"), place.dir.join("other.ring")).unwrap();
        assert!(second.lost_its_file());
        assert!(!Ring::private(capacity).unwrap().lost_its_file());
    }
}
