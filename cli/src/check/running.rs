//! A running process: whether it has the shim, and which one, which rings it maps, and whether the
//! processes that it has started have the shim, too.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tktrot::ring::versions::ring_name;

use super::configuration::{self, Start};
use super::{Finding, tls};
use crate::processes::{self, DELETED, FileId, MapsLine};

/// The shim's file, wherever it lies.
const SHIM: &str = "libtktrot_preload";
/// The same, or the library that a program is linked with.
const OURS: &str = "libtktrot";
/// Of a server with more processes only so many are looked at,
const MOST: usize = 1000;
/// and so many are named.
const TOLD: usize = 3;

/// The executable of a process.
pub fn executable(pid: u32) -> Result<PathBuf> {
    let link = format!("/proc/{pid}/exe");
    let path = fs::read_link(&link).with_context(|| {
        format!("{link}: there is no such process, or it is not yours (run this as root)")
    })?;
    // A program that an upgrade has replaced is marked so.
    Ok(PathBuf::from(path.to_string_lossy().trim_end_matches(DELETED)))
}

/// What was found out of a process.
pub struct Inspected {
    pub findings: Vec<Finding>,
    /// The libraries that it has mapped.
    pub libraries: Vec<tls::Library>,
}

/// Inspects a process, and compares its shim with the one that is installed. What cannot be looked at
/// is said in a finding, and the rest goes on.
pub fn inspect(pid: u32, installed: &Path) -> Inspected {
    let file = format!("/proc/{pid}/maps");
    let maps = match fs::read_to_string(&file) {
        Ok(maps) => maps,
        Err(error) => {
            let found = format!("{file}: cannot be read: {error}");
            let findings = vec![Finding::warning("shim", found, "run this as root")];
            return Inspected { findings, libraries: Vec::new() };
        }
    };
    let lines: Vec<_> = maps.lines().filter_map(MapsLine::parse).collect();
    let mut findings = vec![shim(pid, &lines, installed), rings(&lines)];
    findings.extend(children(pid));
    let mut libraries: Vec<tls::Library> = Vec::new();
    for line in &lines {
        let Some(path) = line.path.filter(|path| path.contains(".so")) else { continue };
        if libraries.iter().all(|(known, _)| known != path) {
            libraries.push((path.to_owned(), read_at(pid, line)));
        }
    }
    Inspected { findings, libraries }
}

/// Where the file of a mapping can be read: by its name, as the process sees it, if that still is it.
fn read_at(pid: u32, line: &MapsLine<'_>) -> PathBuf {
    let named = PathBuf::from(format!("/proc/{pid}/root{}", line.path.unwrap_or_default()));
    let is_it = fs::metadata(&named).is_ok_and(|found| FileId::of_metadata(&found) == line.file);
    if is_it { named } else { format!("/proc/{pid}/map_files/{}", line.range).into() }
}

/// Where the executable of a process can be read, and its root directory as seen from here.
pub fn places(pid: u32) -> (PathBuf, PathBuf) {
    (format!("/proc/{pid}/exe").into(), format!("/proc/{pid}/root").into())
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

fn shim(pid: u32, lines: &[MapsLine<'_>], installed: &Path) -> Finding {
    let subject = "shim";
    let ours = |line: &&MapsLine<'_>| line.path.is_some_and(|path| path.contains(OURS));
    let Some((line, path)) = lines.iter().find(ours).and_then(|line| Some((line, line.path?)))
    else {
        return left_out(pid);
    };
    let found = format!("{path} is in the process");
    let restart = "restart the server: until then it goes on with the one that it has";
    if line.removed {
        let found = format!("{found}, but the file was replaced or removed since");
        return Finding::warning(subject, found, restart);
    }
    let (loaded, other) = (fs::read(read_at(pid, line)), fs::read(installed));
    let is_another = matches!((loaded, other), (Ok(loaded), Ok(other)) if loaded != other);
    if is_another && path.contains(SHIM) {
        let found = format!("{found}, which is another build than {}", installed.display());
        let advice = "if that one is newer, let LD_PRELOAD name it, and restart the server";
        return Finding::warning(subject, found, advice);
    }
    Finding::ok(subject, found)
}

/// Why a process has no shim, as far as can be seen.
fn left_out(pid: u32) -> Finding {
    let subject = "shim";
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let environment = fs::read(proc.join("environ")).unwrap_or_default();
    let Some(named) = preloaded(&environment) else {
        return Finding::critical(
            subject,
            "it is not in the process",
            "start the server with LD_PRELOAD (tktrot run), and make sure that nothing clears its environment",
        );
    };
    let found = format!("LD_PRELOAD names {}, but it is not in the process", named.display());
    if is_secure(pid) {
        let found =
            format!("{found}: the loader ignores it where privileges are gained (AT_SECURE)");
        let advice = "start the program as the user that it is to be, without set-user-ID or file \
                      capabilities (systemd: User=, AmbientCapabilities=)";
        return Finding::critical(subject, found, advice);
    }
    let inside = match named.is_absolute() {
        true => proc.join("root").join(named.strip_prefix("/").unwrap_or(&named)),
        false => proc.join("cwd").join(&named),
    };
    match fs::metadata(&inside) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let advice =
                "put it there, or correct the path: containers and chroots have files of their own";
            return Finding::critical(
                subject,
                format!("{found}: there is no such file for it"),
                advice,
            );
        }
        Ok(file) if file.permissions().mode() & 0o004 == 0 => {
            let advice = format!("chmod 755 {}", named.display());
            return Finding::critical(
                subject,
                format!("{found}: not every user may read the file"),
                &advice,
            );
        }
        _ => {}
    }
    if let Some(label) = confined(&proc) {
        let advice = "let the profile or the label of the file permit to read and map it: see the audit log \
                      (ausearch -m avc, journalctl -k)";
        return Finding::critical(
            subject,
            format!("{found}: the process is confined, {label}"),
            advice,
        );
    }
    let advice = "the loader says why on standard error (cannot be preloaded), in the server's log";
    Finding::critical(subject, found, advice)
}

/// The shim that LD_PRELOAD names in this environment.
fn preloaded(environment: &[u8]) -> Option<PathBuf> {
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(b"LD_PRELOAD="))?;
    let mut names = value.split(|byte| matches!(byte, b' ' | b':'));
    let is_ours = |name: &&[u8]| name.windows(OURS.len()).any(|part| part == OURS.as_bytes());
    names.find(is_ours).map(|name| PathBuf::from(OsStr::from_bytes(name)))
}

/// True if a process gained privileges at its start (getauxval(3), AT_SECURE).
fn is_secure(pid: u32) -> bool {
    const WORD: usize = size_of::<usize>();
    let vector = fs::read(format!("/proc/{pid}/auxv")).unwrap_or_default();
    let word = |bytes: &[u8]| bytes.try_into().map(usize::from_ne_bytes).unwrap_or_default();
    let mut entries = vector.chunks_exact(2 * WORD).map(|entry| entry.split_at(WORD));
    entries.any(|(kind, value)| word(kind) == libc::AT_SECURE as usize && word(value) != 0)
}

/// The security module's label of a process, unless that lets it do everything.
fn confined(proc: &Path) -> Option<String> {
    let mut labels = ["attr/apparmor/current", "attr/current"].iter().filter_map(|name| {
        let label = fs::read_to_string(proc.join(name)).ok()?;
        let label = label.trim_end_matches(['\0', '\n']).to_owned();
        Some(label).filter(|label| !label.is_empty() && !label.contains("unconfined"))
    });
    labels.next()
}

/// Whether the processes that this one has started have the shim, where they need it: a master's
/// libraries say nothing of the programs that it executes.
fn children(pid: u32) -> Option<Finding> {
    let subject = "its processes";
    let parents: Vec<(u32, u32)> =
        processes::pids().ok()?.filter_map(|child| Some((child, parent(child)?))).collect();
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(&process) = all.get(next).filter(|_| all.len() < MOST) {
        all.extend(parents.iter().filter(|(_, parent)| *parent == process).map(|(child, _)| child));
        next += 1;
    }
    let mut without = Vec::new();
    let mut with = 0;
    for &child in &all[1..] {
        let maps = fs::read_to_string(format!("/proc/{child}/maps")).unwrap_or_default();
        let has = |name: &str| maps.lines().any(|line| line.contains(name));
        if has(OURS) {
            with += 1;
        } else if has("/libssl.so") {
            without.push(child);
        }
    }
    let count = all.len() - 1;
    if without.is_empty() {
        return (count > 0).then(|| {
            Finding::ok(
                subject,
                format!("{count}: {with} with the shim, {} without TLS", count - with),
            )
        });
    }
    let told = |child: &u32| {
        let why = if is_secure(*child) { ": AT_SECURE" } else { "" };
        format!("{child} ({}{why})", processes::program(*child))
    };
    let named: Vec<String> = without.iter().take(TOLD).map(told).collect();
    let more = match without.len().saturating_sub(TOLD) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let found = format!(
        "{count}: {with} with the shim, but {}{more} with a libssl and without it",
        named.join(", ")
    );
    Some(Finding::critical(subject, found, "tktrot check --pid of one of them says why"))
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
        Finding::critical(
            "ring",
            format!("{lost}: its file was removed, so processes that start later do not share it"),
            "restart the server; `tktrot status` says what to look for",
        )
    } else if rings.is_empty() {
        let advice =
            "it has not made an SSL_CTX yet, or could not use a ring: look for tktrot in its log";
        Finding::warning("ring", "none is mapped", advice)
    } else {
        Finding::ok("ring", rings.join(", "))
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
    fn the_shim_is_found_in_what_is_to_be_preloaded() {
        let named = |text: &str| preloaded(text.as_bytes());
        let list = "A=1\0LD_PRELOAD=/a.so:/x/libtktrot_preload.so /b.so\0B=2\0";
        assert_eq!(named(list), Some(PathBuf::from("/x/libtktrot_preload.so")));
        assert_eq!(named("LD_PRELOAD=/a.so\0NO_LD_PRELOAD=/libtktrot_preload.so\0"), None);
        assert_eq!(named(""), None);
    }

    #[test]
    fn this_process_gained_no_privileges_and_nothing_is_preloaded() {
        let pid = std::process::id();
        assert!(!is_secure(pid));
        assert_eq!(left_out(pid).found, "it is not in the process");
    }

    #[test]
    fn a_ring_whose_file_is_gone_is_wrong() {
        let severity = |line: &str| rings(&Vec::from_iter(MapsLine::parse(line))).severity;
        let line = "7f0-7f1 rw-s 00000000 00:1a 5  /run/tktrot/web.ring";
        assert_eq!(severity(line), Severity::Ok);
        assert_eq!(severity(&format!("{line}{DELETED}")), Severity::Critical);
        assert_eq!(severity(""), Severity::Warning);
    }
}
