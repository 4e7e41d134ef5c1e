//! What /proc says of rings: which processes map a ring's file, with what rights, and which of them
//! holds a lock in it. A mapping is known by the file's device and inode, not by its name (proc(5)).

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result};
use serde::Serialize;
use tktrot::process::ProcessId;
use tktrot::ring::layout::{FIRST_SLOTS, bytes_of};
use tktrot::ring::view::User;

use crate::output::printable;

/// What the kernel appends to the path of a file that was removed (proc(5)).
pub const DELETED: &str = " (deleted)";

/// A file as /proc/PID/maps names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    major: u32,
    minor: u32,
    inode: u64,
}

impl FileId {
    /// The id of an open file.
    pub fn of(file: &File) -> Result<FileId> {
        Ok(Self::of_metadata(&file.metadata().context("fstat")?))
    }

    /// The id of the file with this metadata.
    pub fn of_metadata(file: &Metadata) -> FileId {
        let (major, minor) = (libc::major(file.dev()), libc::minor(file.dev()));
        FileId { major, minor, inode: file.ino() }
    }
}

/// A line of /proc/PID/maps, or the line with which /proc/PID/smaps begins a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapsLine<'l> {
    /// The addresses, by which /proc/PID/map_files names the mapping.
    pub range: &'l str,
    /// As in `rw-s`.
    permissions: &'l str,
    /// Where in the file the mapping begins.
    offset: u64,
    pub file: FileId,
    /// The path of the file, or where it was; `None` for memory without a file.
    pub path: Option<&'l str>,
    /// True if the file no longer has that name.
    pub removed: bool,
}

impl<'l> MapsLine<'l> {
    pub fn parse(line: &'l str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let (range, permissions) = (fields.next()?, fields.next()?);
        let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
        let (major, minor) = fields.next()?.split_once(':')?;
        let inode = fields.next()?.parse().ok()?;
        let hex = |text| u32::from_str_radix(text, 16).ok();
        let file = FileId { major: hex(major)?, minor: hex(minor)?, inode };
        let named = line.find('/').map(|start| &line[start..]);
        let removed = named.and_then(|path| path.strip_suffix(DELETED));
        let (path, removed) = (removed.or(named), removed.is_some());
        Some(MapsLine { range, permissions, offset, file, path, removed })
    }

    /// True if processes share what is written to the mapping.
    pub fn is_shared(&self) -> bool {
        self.permissions.ends_with('s')
    }

    fn is_writable(&self) -> bool {
        self.permissions.contains('w')
    }
}

/// The numbers of all processes in this /proc.
///
/// # Errors
///
/// /proc cannot be read.
pub fn pids() -> Result<impl Iterator<Item = u32>> {
    let entries = fs::read_dir("/proc").context("/proc cannot be read")?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}

/// How a process maps the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    pub program: String,
    /// False if it only looks, as `tktrot watch` does.
    pub writes: bool,
    /// Whether all of it is locked in memory; `None` where the kernel does not say.
    pub locked: Option<bool>,
    /// The id by which rings know it; `None` where this user may not see it.
    pub id: Option<ProcessId>,
}

/// All processes of this host, as far as they may be looked at.
#[derive(Debug, Default)]
pub struct Processes {
    mapping: BTreeMap<u32, Mapped>,
    hidden: Vec<u32>,
}

/// What is known of a process with a given id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It has the ring mapped.
    Maps,
    /// There is one, but this user may not see whether it maps the ring.
    Hidden,
    /// It is in another PID namespace, as that of another container, and not in this /proc.
    Elsewhere,
    /// It ended, or no longer has the ring.
    Gone,
}

impl Processes {
    /// Looks through /proc. This process is left out: it maps the ring only to look at it.
    pub fn mapping(file: FileId) -> Result<Processes> {
        let mut found = Processes::default();
        for pid in pids()?.filter(|pid| *pid != std::process::id()) {
            match mapped(pid, file) {
                Ok(None) => {}
                Ok(Some(mapped)) => drop(found.mapping.insert(pid, mapped)),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    found.hidden.push(pid);
                }
                // It ended meanwhile.
                Err(_) => {}
            }
        }
        Ok(found)
    }

    /// The processes that map the ring, by PID.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Mapped)> {
        self.mapping.iter().map(|(pid, mapped)| (*pid, mapped))
    }

    /// The number of processes whose memory map this user may not see.
    pub fn hidden(&self) -> usize {
        self.hidden.len()
    }

    /// The PID, in this /proc, of a process that maps the ring.
    pub fn find(&self, process: ProcessId) -> Option<u32> {
        let of_its_own = || self.mapping.iter().find(|(_, mapped)| mapped.id == Some(process));
        match process.is_of_this_namespace() {
            true => self.mapping.contains_key(&process.pid()).then_some(process.pid()),
            false => of_its_own().map(|(pid, _)| *pid),
        }
    }

    /// What is known of a process that has registered in a ring.
    pub fn presence(&self, user: &User) -> Presence {
        let pid = user.process.pid();
        if self.find(user.process).is_some() {
            Presence::Maps
        } else if user.is_over {
            Presence::Gone
        } else if !user.process.is_of_this_namespace() {
            Presence::Elsewhere
        } else if self.hidden.contains(&pid) || is_kept_from_proc(pid) {
            Presence::Hidden
        } else {
            Presence::Gone
        }
    }
}

/// True if the process exists but /proc does not show it (hidepid, proc(5)).
fn is_kept_from_proc(pid: u32) -> bool {
    let Some(id) = i32::try_from(pid).ok().filter(|id| *id > 0) else { return false };
    if fs::exists(format!("/proc/{pid}")).unwrap_or(false) {
        return false;
    }
    // SAFETY: signal 0 only asks whether the process exists.
    let rc = unsafe { libc::kill(id, 0) };
    rc == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

fn mapped(pid: u32, file: FileId) -> io::Result<Option<Mapped>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let Some(writes) = writes(&maps, file) else { return Ok(None) };
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let locked = locked(&smaps, file, writes);
    Ok(Some(Mapped { program: program(pid), writes, locked, id: id_of(pid) }))
}

/// The name of the program that a process runs; empty if the process has ended.
pub fn program(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    printable(name.trim_end())
}

/// The PID by which a process knows itself, and its PID namespace (proc(5), NSpid).
fn id_of(pid: u32) -> Option<ProcessId> {
    let namespace = fs::metadata(format!("/proc/{pid}/ns/pid")).ok()?.ino() as u32;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let own = line.and_then(|line| line.split_whitespace().last()?.parse().ok());
    Some(ProcessId::new(namespace, own.unwrap_or(pid)))
}

/// Whether the file is mapped so that it can be written; `None` if it is not mapped.
fn writes(maps: &str, file: FileId) -> Option<bool> {
    let lines = maps.lines().filter_map(MapsLine::parse).filter(|line| line.file == file);
    let lines: Vec<_> = lines.collect();
    (!lines.is_empty()).then(|| lines.iter().any(MapsLine::is_writable))
}

/// Whether the process keeps the ring locked in memory; `None` where the kernel does not say.
///
/// What counts is the part of the file that has had memory from the start: what a ring has grown by
/// is locked by a process with an upkeep thread, for all, and a master whose workers serve has no
/// such thread. Of a process that `writes`, only writable mappings count: an agent also looks at its
/// ring, and a page that is locked once stays in memory.
///
/// Read from the mapping's flags, not from its field `Locked`, which divides a page among the
/// processes that map it.
fn locked(smaps: &str, file: FileId, writes: bool) -> Option<bool> {
    const FIRST: u64 = bytes_of(FIRST_SLOTS) as u64;
    let mut inside = false;
    let mut all = None;
    for line in smaps.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            if inside {
                let locked = flags.split_whitespace().any(|flag| flag == "lo");
                all = Some(all.unwrap_or(true) && locked);
            }
        } else if !line.split_whitespace().next().is_some_and(|first| first.ends_with(':')) {
            inside = MapsLine::parse(line).is_some_and(|line| {
                line.file == file && line.offset < FIRST && (!writes || line.is_writable())
            });
        }
    }
    all
}

/// The process that holds a lock in the ring, or leads its upkeep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LockHolder {
    /// The thread, by its id in its own PID namespace; `None` if it is unknown.
    pub thread: Option<u32>,
    /// Its PID in this /proc; `None` if it is not there.
    pub process: Option<u32>,
    /// Its PID in its own PID namespace.
    pub own_pid: u32,
    pub program: String,
    /// True if a signal or a debugger is seen to have stopped it.
    pub stopped: bool,
}

impl LockHolder {
    /// Finds a process in /proc, or else by what the ring knows of it.
    pub fn find(process: ProcessId, processes: &Processes, users: &[User]) -> LockHolder {
        let here = process.is_of_this_namespace().then(|| process.pid());
        let here = here.filter(|pid| fs::exists(format!("/proc/{pid}")).unwrap_or(false));
        let pid = processes.find(process).or(here);
        let own_pid = process.pid();
        let Some(pid) = pid else {
            let told = users.iter().find(|user| user.process == process);
            let program = told.map_or_else(String::new, |user| printable(&user.program));
            return LockHolder { thread: None, process: None, own_pid, program, stopped: false };
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let state = status.lines().find_map(|line| line.strip_prefix("State:"));
        let stopped = state.is_some_and(|state| state.trim().starts_with(['T', 't']));
        let program = program(pid);
        LockHolder { thread: None, process: Some(pid), own_pid, program, stopped }
    }

    /// The process, as an operator reads it.
    pub fn name(&self) -> String {
        match self.process {
            Some(pid) => format!("process {pid} ({})", self.program),
            None if self.program.is_empty() => {
                format!("process {} of another container", self.own_pid)
            }
            None => format!("process {} of another container ({})", self.own_pid, self.program),
        }
    }
}

#[cfg(test)]
mod tests {
    use tktrot::ring::asks::Traits;

    use super::*;

    const RING: FileId = FileId { major: 0, minor: 0x1a, inode: 77 };
    const OTHER: &str = "7f00-7f01 rw-s 00000000 00:1a 78   /dev/shm/other 00:1a 77\n\
                         Size: 4 kB\nVmFlags: rd wr sh\n";

    fn part(range: &str, permissions: &str, flags: &str) -> String {
        format!(
            "{range} {permissions} 00000000 00:1a 77   /dev/shm/tktrot/a b.ring (deleted)\n\
             Size: 28 kB\nLocked: 9 kB\nVmFlags: {flags}\n"
        )
    }

    #[test]
    fn a_mapping_is_known_by_device_and_inode_and_not_by_its_name() {
        assert_eq!(writes(OTHER, RING), None);
        assert_eq!(writes(&(OTHER.to_owned() + &part("1-2", "r--s", "")), RING), Some(false));
        let both = part("1-2", "r--s", "") + OTHER + &part("3-4", "rw-s", "");
        assert_eq!(writes(&both, RING), Some(true));
    }

    #[test]
    fn a_line_of_maps_names_its_file_and_tells_whether_it_was_removed() {
        let line = "7f0-7f1 rw-s 00000000 00:1a 77  /run/tktrot/a b.ring";
        let mapped = MapsLine::parse(line).unwrap();
        assert_eq!((mapped.range, mapped.file), ("7f0-7f1", RING));
        assert_eq!((mapped.path, mapped.removed), (Some("/run/tktrot/a b.ring"), false));
        let removed = format!("{line}{DELETED}");
        assert_eq!(MapsLine::parse(&removed), Some(MapsLine { removed: true, ..mapped }));
        assert!(mapped.is_shared());
        let heap = MapsLine::parse("7f0-7f1 rw-p 00000000 00:00 0    [heap]").unwrap();
        assert_eq!((heap.path, heap.removed, heap.is_shared()), (None, false, false));
        assert_eq!(MapsLine::parse("Size: 28 kB"), None);
    }

    #[test]
    fn a_ring_is_locked_if_every_part_of_it_is() {
        let (lies_locked, does_not) =
            (part("1-2", "rw-s", "rd wr sh lo dd"), part("3-4", "rw-s", "rd wr sh"));
        assert_eq!(locked(&(lies_locked.clone() + OTHER), RING, true), Some(true));
        assert_eq!(locked(&(lies_locked.clone() + OTHER + &does_not), RING, true), Some(false));
        assert_eq!(locked("1-2 rw-s 0 00:1a 77 /ring\nSize: 28 kB\n", RING, true), None);
        let tail = does_not.replace("00000000", "0000f000");
        assert_eq!(locked(&(lies_locked.clone() + &tail), RING, true), Some(true));
        let looks = part("5-6", "r--s", "rd sh");
        assert_eq!(locked(&(lies_locked + &looks), RING, true), Some(true));
        assert_eq!(locked(&looks, RING, false), Some(false));
    }

    #[test]
    fn an_owner_is_named_by_its_number_here_or_by_its_own_elsewhere() {
        let none = Processes::default();
        let own = tktrot::process::id();
        let here = LockHolder::find(own, &none, &[]);
        assert_eq!((here.process, here.stopped), (Some(std::process::id()), false));
        assert!(!here.program.is_empty());
        assert_eq!(id_of(std::process::id()), Some(own));

        let process = ProcessId(own.0 ^ 1 << 40);
        let told = User {
            process,
            program: "nginx".into(),
            uses_tickets: true,
            binds: None,
            traits: Traits::default(),
            is_over: false,
        };
        let there = LockHolder::find(process, &none, std::slice::from_ref(&told));
        let name = format!("process {} of another container (nginx)", own.pid());
        assert_eq!((there.process, there.name()), (None, name));
        assert_eq!(none.presence(&told), Presence::Elsewhere);
        assert_eq!(none.presence(&User { is_over: true, ..told }), Presence::Gone);
        // This one, of which nobody can say that it is in another container.
        let mapped = Mapped { program: "x".into(), writes: true, locked: None, id: Some(process) };
        let seen = Processes { mapping: [(4711, mapped)].into(), hidden: Vec::new() };
        assert_eq!(LockHolder::find(process, &seen, &[]).process, Some(4711));
        assert_eq!(seen.find(own), None);
    }
}
