//! A ring whose file somebody removed, or put another in the place of: whoever has it
//! goes on with it, and whoever comes later makes another one. So that this is not
//! found out by full handshakes alone, it is noted in the ring, and said.

use std::ffi::CString;
use std::sync::atomic::Ordering;

use super::Ring;
use super::origin::Origin;
use crate::process;

impl Ring {
    /// True if the ring has a file, and that has no name any more. False where /proc
    /// does not tell, as in a server that has changed its root directory. Without a
    /// descriptor: the server may be about to open a file that is to have a certain number.
    pub fn lost_its_file(&self) -> bool {
        let may_ask = !process::is_confined();
        let name = || [false, true].into_iter().find_map(|whole| self.mapped_name(whole));
        may_ask && self.has_file() && name().is_some_and(|name| name.ends_with(DELETED))
    }

    /// Notes that it did; true for the one who is the first to.
    pub fn note_removed(&self) -> bool {
        self.header().removed.swap(1, Ordering::Relaxed) == 0
    }

    /// True if that was noted.
    pub fn is_noted_removed(&self) -> bool {
        self.header().removed.load(Ordering::Relaxed) != 0
    }

    fn has_file(&self) -> bool {
        self.header().origin() != Origin::default()
    }

    /// The end of what the kernel calls the mapped file (proc(5), /proc/PID/map_files): by
    /// the addresses of a mapping, which ends where what is locked does.
    fn mapped_name(&self, whole: bool) -> Option<Vec<u8>> {
        let (first, end) = self.range(whole);
        let link = CString::new(format!("/proc/self/map_files/{first:x}-{end:x}")).ok()?;
        let mut name = vec![0u8; libc::PATH_MAX as usize];
        // SAFETY: a NUL-terminated name and a valid buffer.
        let length = unsafe { libc::readlink(link.as_ptr(), name.as_mut_ptr().cast(), name.len()) };
        name.truncate(usize::try_from(length).ok()?);
        Some(name)
    }
}

/// What the kernel appends to the name of a file that has none any more.
const DELETED: &[u8] = b" (deleted)";

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use std::fs;

    use super::*;
    use crate::ring::file::Place;
    use crate::ring::layout::Capacity;

    #[test]
    fn a_removed_file_and_a_replaced_one_are_seen_and_noted_once() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let place = Place { dir: dir.path().into(), file: "some.ring".into(), dir_mode: 0o700 };
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
        fs::rename(place.path(), dir.path().join("other.ring")).unwrap();
        assert!(!second.lost_its_file());
        fs::write(dir.path().join("new"), "").unwrap();
        fs::rename(dir.path().join("new"), dir.path().join("other.ring")).unwrap();
        assert!(second.lost_its_file());
        assert!(!Ring::private(capacity).unwrap().lost_its_file());
    }
}
