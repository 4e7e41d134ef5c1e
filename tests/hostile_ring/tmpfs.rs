use std::ffi::CString;
use std::io;
use std::path::Path;

use testbed::{RingDir, wait};

use crate::Result;

/// A file system in memory, mounted on a directory of its own and unmounted with this.
pub struct Tmpfs {
    dir: RingDir,
}

impl Tmpfs {
    /// Mounts one with these options (tmpfs(5)), which takes root.
    pub fn mount(options: &str) -> Result<Tmpfs> {
        let dir = RingDir::new()?;
        mount(dir.path(), 0, options)
            .map_err(|error| format!("no tmpfs can be mounted, needs root: {error}"))?;
        Ok(Tmpfs { dir })
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// From now on nobody writes here, whatever his privileges.
    pub fn make_read_only(&self) -> Result<()> {
        // A process that another test begins has our files until it runs its program.
        let remount = || match mount(self.path(), libc::MS_REMOUNT | libc::MS_RDONLY, "") {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => None,
            done => Some(done),
        };
        Ok(wait::until(wait::PATIENCE, "nobody to write", remount)??)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let target = CString::new(self.path().as_os_str().as_encoded_bytes()).expect("no NUL");
        // SAFETY: a NUL-terminated path; what is unmounted is ours (see `mount`).
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

fn mount(target: &Path, flags: libc::c_ulong, options: &str) -> io::Result<()> {
    let target = CString::new(target.as_os_str().as_encoded_bytes())?;
    let options = CString::new(options)?;
    let kind = c"tmpfs".as_ptr();
    // SAFETY: all strings are NUL-terminated and live over the call.
    let rc = unsafe {
        libc::mount(kind, target.as_ptr(), kind, flags, options.as_ptr().cast::<libc::c_void>())
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
