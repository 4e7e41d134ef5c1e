//! What the running program is called.
//!
//! A file may be started by the name of a link to it, and then has two names: Debian's `redis-server`
//! is a link to `redis-check-rdb`. A user knows the link's, which is what the program is called here;
//! where a user names programs, either will do.

use std::ffi::{CStr, OsStr, c_char};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use once_cell::race::OnceBox;

/// The file that runs, whatever became of its path.
const RUNNING: &str = "/proc/self/exe";

#[derive(Debug)]
struct Names {
    given: Box<str>,
    file: Box<str>,
}

/// What this program is called: the base name of the link by which it was started, else of its file. As
/// it was at the first call: a worker in a root directory of its own sees no /proc.
pub fn name() -> &'static str {
    &known().given
}

/// The names by which a user may mean this program: [`name`], and that of its file.
pub fn names() -> [&'static str; 2] {
    let names = known();
    [&names.given, &names.file]
}

fn known() -> &'static Names {
    static NAMES: OnceBox<Names> = OnceBox::new();
    NAMES.get_or_init(|| Box::new(Names::of_this_process()))
}

impl Names {
    fn of_this_process() -> Self {
        let started_as = started_as();
        // Where there is no /proc, the kernel's word for it is all that there is.
        let file = std::env::current_exe().ok();
        let file = base_name(file.as_deref().unwrap_or(started_as));
        let given = match is_a_name(started_as) {
            true => base_name(started_as),
            false => file.clone(),
        };
        Names { given, file }
    }
}

fn base_name(path: &Path) -> Box<str> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // What /proc/self/exe says of a file that an upgrade replaced.
    let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
    if name.is_empty() { "unknown".into() } else { name.into() }
}

/// Whether the running file has this name. The kernel was also told others: a script's, which an
/// interpreter runs; one of a directory that the process has left; a descriptor's (fexecve(3)), or
/// /proc/self/exe, which say nothing.
fn is_a_name(path: &Path) -> bool {
    // SAFETY: takes a number and gives one.
    let secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    // Anybody may link to a program that has more rights than who starts it; its ring is not theirs
    // to choose.
    if secure || path.starts_with("/proc") || path.starts_with("/dev/fd") {
        return false;
    }
    let (Ok(this), Ok(running)) = (fs::metadata(path), fs::metadata(RUNNING)) else { return false };
    (this.dev(), this.ino()) == (running.dev(), running.ino())
}

/// The path by which the kernel was asked to start this program (getauxval(3)).
fn started_as() -> &'static Path {
    // SAFETY: takes a number; the kernel put the string on the stack, where it stays.
    let name = unsafe {
        let name = libc::getauxval(libc::AT_EXECFN) as *const c_char;
        if name.is_null() { c"" } else { CStr::from_ptr(name) }
    };
    Path::new(OsStr::from_bytes(name.to_bytes()))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_links_and_by_nothing_else() {
        let running = std::env::current_exe().unwrap();
        let link = std::env::temp_dir().join(format!("tktrot-link-{}", std::process::id()));
        std::os::unix::fs::symlink(&running, &link).unwrap();
        let by_link = is_a_name(&link);
        fs::remove_file(&link).unwrap();
        assert!(by_link && is_a_name(&running));
        for path in ["/etc/passwd", "/nowhere", "relative", "", RUNNING, "/dev/fd/3"] {
            assert!(!is_a_name(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_replaced_file_keeps_its_name() {
        let name = |path: &str| base_name(Path::new(path));
        assert_eq!(&*name("/usr/sbin/nginx (deleted)"), "nginx");
        assert_eq!(&*name("/usr/sbin/nginx"), "nginx");
        assert_eq!((&*name("/"), &*name("")), ("unknown", "unknown"));
    }
}
