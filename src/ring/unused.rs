//! A program that only looks (`nginx -t`, `haproxy -c`) makes its contexts, and
//! with them a ring, as if it were to serve. Then it ends, and leaves nothing.

use std::fs;
use std::sync::atomic::Ordering;

use super::Ring;
use super::file::{Place, id_of};

/// What [`Place::open`] made, rather than found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made {
    /// Device and inode of the file.
    pub file: (u64, u64),
    /// The directory, too.
    pub dir: bool,
}

impl Place {
    /// Removes the ring's file, and its directory if that is empty then, if they
    /// were made when this process opened the ring and nobody has had a use for
    /// them: no one else ever opened the ring, and no key was ever in it. Never
    /// waits; what cannot be removed stays.
    ///
    /// Children of this process share the ring without opening it. So this is
    /// only for a process that never forked.
    pub fn remove_unused(&self, ring: &Ring) {
        let Some(made) = ring.made else { return };
        // Under the lock that everybody who opens a ring takes: who comes now
        // waits, finds a file without a name, and makes one anew.
        let Ok(_writer) = ring.try_write() else { return };
        let header = ring.header();
        let used = header.rotations.load(Ordering::Relaxed) != 0;
        if used || header.opened.load(Ordering::Relaxed) != 1 {
            return;
        }
        let path = self.path();
        let is_it = |facts: fs::Metadata| id_of(&facts) == made.file;
        if fs::symlink_metadata(&path).is_ok_and(is_it)
            && fs::remove_file(&path).is_ok()
            && made.dir
        {
            // Stays where another ring is in it.
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::PathBuf;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::ring::layout::Capacity;

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
        place.remove_unused(&open(&place));
        assert!(!place.dir.exists());
    }

    #[test]
    fn a_directory_that_was_there_before_stays() {
        let (_above, place) = place();
        fs::create_dir(&place.dir).unwrap();
        place.remove_unused(&open(&place));
        assert!(!place.path().exists());
        assert!(place.dir.exists());
    }

    #[test]
    fn a_ring_that_another_one_opened_stays_whoever_of_them_ends() {
        let (_above, place) = place();
        let (first, second) = (open(&place), open(&place));
        place.remove_unused(&second);
        place.remove_unused(&first);
        assert!(place.path().exists());
    }

    #[test]
    fn a_ring_that_held_a_key_stays() {
        let (_above, place) = place();
        let ring = open(&place);
        ring.header().rotations.store(1, Ordering::Relaxed);
        place.remove_unused(&ring);
        assert!(place.path().exists());
    }

    #[test]
    fn whatever_lies_in_its_place_by_now_stays() {
        let (_above, place) = place();
        let ring = open(&place);
        fs::remove_file(place.path()).unwrap();
        let other = open(&place);
        place.remove_unused(&ring);
        assert!(place.path().exists());
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
}
