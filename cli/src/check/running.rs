//! A running process: whether it has the shim, and which TLS library and rings it maps.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tktrot::ring::versions::ring_name;

use super::configuration::{self, Start};
use super::{Finding, binary};
use crate::processes::{DELETED, MapsLine};

/// The executable of a process.
pub fn executable(pid: u32) -> Result<PathBuf> {
    let link = format!("/proc/{pid}/exe");
    let path = fs::read_link(&link).with_context(|| {
        format!("{link}: there is no such process, or it is not yours (run this as root)")
    })?;
    // A program that an upgrade has replaced is marked so.
    Ok(PathBuf::from(path.to_string_lossy().trim_end_matches(DELETED)))
}

/// Inspects a process.
///
/// # Errors
///
/// Its memory map cannot be read.
pub fn inspect(pid: u32) -> Result<Vec<Finding>> {
    let file = format!("/proc/{pid}/maps");
    let maps = fs::read_to_string(&file)
        .with_context(|| format!("{file}: cannot be read (run this as root)"))?;
    let lines: Vec<_> = maps.lines().filter_map(MapsLine::parse).collect();
    let mapped = lines.iter().filter_map(|line| line.path).collect();
    Ok(vec![shim(&mapped), tls_library(&mapped), rings(&lines)])
}

/// Searches the configuration of a process for what switches tickets off.
pub fn configuration(pid: u32) -> Option<Finding> {
    let master = master(pid);
    configuration::inspect(&executable(master).ok()?, &start(master)?)
}

/// The process that read the configuration: workers are its children, and of the same program.
fn master(pid: u32) -> u32 {
    /// Deeper than any server nests; and a bound, whatever changes meanwhile.
    const DEEPEST: usize = 8;
    let of_same_program = |pid: &u32| {
        let parent = parent(*pid)?;
        (executable(parent).ok()? == executable(*pid).ok()?).then_some(parent)
    };
    std::iter::successors(Some(pid), of_same_program).take(DEEPEST).last().unwrap_or(pid)
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// How a process was started; `None` where its files cannot be seen as it saw them.
fn start(pid: u32) -> Option<Start> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let link = |name: &str| fs::read_link(proc.join(name)).ok();
    // A container has files of its own. A process that has changed its root since then read its
    // configuration before.
    let root = if link("root")? == Path::new("/") {
        proc.join("root")
    } else if link("ns/mnt")? == fs::read_link("/proc/self/ns/mnt").ok()? {
        "/".into()
    } else {
        return None;
    };
    let line = fs::read(proc.join("cmdline")).ok()?;
    Some(Start { root, dir: link("cwd"), arguments: arguments(&line) })
}

/// The arguments after the program in /proc/PID/cmdline. nginx overwrites it with `nginx: master
/// process` and the former text.
fn arguments(line: &[u8]) -> Vec<OsString> {
    let owned = |part: &[u8]| OsString::from_vec(part.to_vec());
    if let Some(title) = line.strip_prefix(b"nginx: master process ") {
        let title = title.split(|byte| *byte == 0).next().unwrap_or_default();
        return title.split(|byte| *byte == b' ').skip(1).map(owned).collect();
    }
    let line = line.strip_suffix(b"\0").unwrap_or(line);
    line.split(|byte| *byte == 0).skip(1).map(owned).collect()
}

fn shim(mapped: &BTreeSet<&str>) -> Finding {
    match mapped.iter().find(|path| path.contains("libtktrot")) {
        Some(path) => Finding::fine("shim", format!("{path} is in the process")),
        None => Finding::wrong(
            "shim",
            "it is not in the process",
            "start the server with LD_PRELOAD (tktrot run), and make sure that nothing clears its environment",
        ),
    }
}

fn tls_library(mapped: &BTreeSet<&str>) -> Finding {
    let find = |name| mapped.iter().find(|path| path.contains(name));
    match find("libssl.so") {
        Some(libssl) => {
            let version = find("libcrypto.so").and_then(|libcrypto| binary::version_in(libcrypto));
            let version = version.unwrap_or_else(|| "unknown version".into());
            Finding::fine("TLS library", format!("{libssl}: {version}"))
        }
        None => Finding::doubtful(
            "TLS library",
            "no libssl is mapped",
            "the process speaks no TLS, or has a library linked in that the shim cannot reach",
        ),
    }
}

fn rings(lines: &[MapsLine<'_>]) -> Finding {
    // Each once, however often it is mapped.
    let named = |removed: bool| {
        let lines = lines.iter().filter(|line| !removed || line.removed);
        let rings =
            lines.filter_map(|line| line.path).filter(|path| ring_name(path.as_ref()).is_some());
        rings.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    let (rings, lost) = (named(false), named(true));
    if !lost.is_empty() {
        let lost = lost.join(", ");
        Finding::wrong(
            "ring",
            format!("{lost}: its file was removed, so processes that start later do not share it"),
            "restart the server; `tktrot status` says what to look for",
        )
    } else if rings.is_empty() {
        let advice =
            "it has not made an SSL_CTX yet, or could not use a ring: look for tktrot in its log";
        Finding::doubtful("ring", "none is mapped", advice)
    } else {
        Finding::fine("ring", rings.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::severity::Severity;

    #[test]
    fn a_command_line_is_taken_apart_and_so_is_the_title_of_nginx() {
        assert_eq!(arguments(b"haproxy\0-f\0/a b.cfg\0"), ["-f", "/a b.cfg"]);
        assert_eq!(arguments(b"haproxy\0"), [""; 0]);
        let title = b"nginx: master process /usr/sbin/nginx -p /x -c y.conf\0\0\0";
        assert_eq!(arguments(title), ["-p", "/x", "-c", "y.conf"]);
    }

    #[test]
    fn a_ring_whose_file_is_gone_is_wrong() {
        let severity = |line: &str| rings(&Vec::from_iter(MapsLine::parse(line))).severity;
        let line = "7f0-7f1 rw-s 00000000 00:1a 5  /run/tktrot/web.ring";
        assert_eq!(severity(line), Severity::Fine);
        assert_eq!(severity(&format!("{line}{DELETED}")), Severity::Wrong);
        assert_eq!(severity(""), Severity::Doubtful);
    }
}
