//! This host: where rings can lie, its limits, and its kernel.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tktrot::config::Config;
use tktrot::ring::layout::{FIRST_SLOTS, bytes_of};

use super::Finding;
use crate::rings;

/// renameat2(2) is the newest call that rings need.
const KERNEL: (u32, u32) = (3, 15);

/// Checks the host, for the rings that `config` asks for.
pub fn inspect(config: &Config) -> Vec<Finding> {
    let size = bytes_of(FIRST_SLOTS) as u64;
    vec![
        directory(&rings::directory(config)),
        memory_locks(limit(libc::RLIMIT_MEMLOCK), size),
        processes(),
        kernel(),
    ]
}

fn directory(dir: &Path) -> Finding {
    let subject = "ring directory";
    let shown = dir.display();
    // SAFETY: geteuid takes nothing and cannot fail.
    let user = unsafe { libc::geteuid() };
    let Some(there) = dir.ancestors().find(|dir| dir.exists()) else {
        return Finding::critical(
            subject,
            format!("{shown}: no part of this path exists"),
            "set TKTROT_DIR to another directory",
        );
    };
    if !is_tmpfs(there) {
        let advice = "keys must never reach a disk: set TKTROT_DIR to a directory on tmpfs, such as one under /run or /dev/shm";
        return Finding::critical(subject, format!("{shown}: not on tmpfs"), advice);
    }
    let Ok(metadata) = fs::metadata(there) else {
        return Finding::critical(
            subject,
            format!("{}: cannot be inspected", there.display()),
            "check its permissions",
        );
    };
    if there == dir && metadata.mode() & 0o022 != 0 && metadata.mode() & libc::S_ISVTX == 0 {
        let found =
            format!("{shown}: others can write to it (mode {:04o})", metadata.mode() & 0o7777);
        return Finding::critical(subject, found, &format!("chmod go-w {shown}"));
    }
    if there == dir && metadata.uid() != user && metadata.uid() != 0 {
        let found = format!("{shown}: it belongs to user {}", metadata.uid());
        return Finding::critical(
            subject,
            found,
            "it must belong to root or to the server's user: set TKTROT_DIR to another directory",
        );
    }
    if !may_write(there) {
        let found = format!("{}: user {user} cannot write to it", there.display());
        let advice = "fine for a server that root starts; otherwise set TKTROT_DIR to another directory, or have systemd make it (RuntimeDirectory=)";
        return Finding::warning(subject, found, advice);
    }
    let made = if there == dir { "" } else { ", to be made" };
    Finding::ok(subject, format!("{shown}{made}, on tmpfs"))
}

fn memory_locks(limit: Option<u64>, size: u64) -> Finding {
    let subject = "memory locks";
    match limit {
        None => Finding::ok(subject, "no limit (RLIMIT_MEMLOCK)"),
        Some(limit) if limit >= size => Finding::ok(
            subject,
            format!("{} KiB (RLIMIT_MEMLOCK); a ring takes {} KiB", limit / 1024, size / 1024),
        ),
        Some(limit) => Finding::warning(
            subject,
            format!("{} KiB (RLIMIT_MEMLOCK), but a ring takes {} KiB", limit / 1024, size / 1024),
            "keys could be swapped out: raise the limit (ulimit -l, systemd: LimitMEMLOCK=); the limit does not apply to root",
        ),
    }
}

fn processes() -> Finding {
    let subject = "threads";
    match limit(libc::RLIMIT_NPROC) {
        Some(limit) if limit <= 1 => Finding::warning(
            subject,
            format!("{limit} (RLIMIT_NPROC)"),
            "no upkeep thread can start: keys are made and erased only when handshakes come",
        ),
        Some(limit) => Finding::ok(subject, format!("{limit} (RLIMIT_NPROC)")),
        None => Finding::ok(subject, "no limit (RLIMIT_NPROC)"),
    }
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    kernel_of(release.trim())
}

fn kernel_of(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= KERNEL {
        Finding::ok("kernel", format!("Linux {release}"))
    } else {
        let advice = "rings need Linux 3.15 or newer (renameat2); without a ring each server keeps its keys to itself";
        Finding::critical("kernel", format!("Linux {release}"), advice)
    }
}

/// A soft limit of this process; `None` if there is none.
fn limit(which: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid resource and a valid buffer.
    let rc = unsafe { libc::getrlimit(which, &mut limit) };
    (rc == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

fn is_tmpfs(path: &Path) -> bool {
    fs::File::open(path).is_ok_and(|file| tktrot::ring::file::on_memory(&file))
}

fn may_write(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: a NUL-terminated path.
    unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::severity::Severity;

    #[test]
    fn kernels_are_told_apart_by_number() {
        for (release, severity) in [
            ("6.1.0-18-amd64", Severity::Ok),
            ("3.15", Severity::Ok),
            ("3.14.79", Severity::Critical),
            ("2.6.32-754.el6", Severity::Critical),
            ("", Severity::Critical),
        ] {
            assert_eq!(kernel_of(release).severity, severity, "{release}");
        }
    }

    #[test]
    fn a_ring_must_fit_into_what_may_be_locked() {
        assert_eq!(memory_locks(None, 1 << 20).severity, Severity::Ok);
        assert_eq!(memory_locks(Some(1 << 20), 1 << 20).severity, Severity::Ok);
        assert_eq!(memory_locks(Some(65536), 1 << 20).severity, Severity::Warning);
    }

    #[test]
    fn a_directory_on_a_disk_is_wrong() {
        assert_eq!(directory(Path::new("/proc/none")).severity, Severity::Critical);
        assert_eq!(directory(Path::new("/dev/shm/not-there")).severity, Severity::Ok);
    }
}
