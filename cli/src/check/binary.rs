//! An executable file: whether the loader will preload the shim into it.

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Architecture, Endianness, Object, elf};

use super::{Finding, glibc, tls};
use crate::severity::Severity;

/// Programs that do not pass their environment on to the processes that speak TLS.
const CLEANS_ENVIRONMENT: [(&str, &str); 3] = [
    (
        "master",
        "Postfix: list LD_PRELOAD and the TKTROT_ variables in import_environment (main.cf)",
    ),
    ("dovecot", "Dovecot: list LD_PRELOAD and the TKTROT_ variables in import_environment"),
    (
        "sudo",
        "sudo resets the environment: set the variables after it, as in sudo env LD_PRELOAD=…",
    ),
];

/// An executable file, and what it is started with.
pub struct Program<'p> {
    /// As it is named there.
    pub path: &'p Path,
    /// Where it can be read.
    pub file: PathBuf,
    /// Its root directory, as seen from here.
    pub root: PathBuf,
    /// What a process of it has mapped; `None` if it does not run.
    pub mapped: Option<Vec<tls::Library>>,
}

/// The path of a command; often a link.
pub fn locate(program: &OsStr) -> Result<PathBuf> {
    let found = if program.as_bytes().contains(&b'/') {
        Some(PathBuf::from(program)).filter(|path| path.is_file())
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Servers are in sbin, which users' PATH often lacks.
        let dirs =
            std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        dirs.map(|dir| dir.join(program)).find(|path| path.is_file())
    };
    let shown = Path::new(program).display();
    found.with_context(|| format!("{shown}: there is no such program"))
}

/// The file that a path leads to.
pub fn file(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("{}", path.display()))
}

/// The name of the program that is started as `path` and is `file`: a finding if the two differ, or
/// if `only` (TKTROT_ONLY) lists neither.
pub fn name(path: &Path, file: &Path, only: &[OsString]) -> Option<Finding> {
    let subject = "name";
    // A script gets the name of its interpreter.
    if fs::read(file).is_ok_and(|data| data.starts_with(b"#!")) {
        return None;
    }
    let (given, own) = (path.file_name()?, file.file_name()?);
    let (shown, own_shown) = (given.to_string_lossy(), own.to_string_lossy());
    let both = match given == own {
        true => shown.into_owned(),
        false => format!("{shown}; the file is {own_shown}"),
    };
    if !only.is_empty() && !only.iter().any(|name| name == given || name == own) {
        let advice = "TKTROT_ONLY does not list it: add it";
        return Some(Finding::critical(subject, both, advice));
    }
    (given != own).then(|| Finding::ok(subject, both))
}

/// Inspects an executable and, as far as the loader lists them, its libraries. What cannot be looked
/// at is said in a finding, and the rest goes on.
pub fn inspect(program: &Program<'_>, shim: &Path) -> Vec<Finding> {
    let data = match fs::read(&program.file) {
        Ok(data) => data,
        Err(error) => {
            let found = format!("{}: cannot be read: {error}", program.file.display());
            return vec![Finding::warning("program", found, "run this as root")];
        }
    };
    if data.starts_with(b"#!") {
        let line = data[2..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        let interpreter = String::from_utf8_lossy(line).trim().to_owned();
        let found = format!("a script, run by {interpreter}");
        let advice = "check the program that the script starts, into which the shim is preloaded";
        return vec![Finding::warning("program", found, advice)];
    }
    let Ok(file) = ElfFile64::<Endianness>::parse(&*data) else {
        let advice = "the shim is for 64-bit ELF programs";
        return vec![Finding::critical("program", "not a 64-bit ELF executable", advice)];
    };
    let libraries = match &program.mapped {
        Some(mapped) => mapped.clone(),
        None => listed(&program.file, &file),
    };
    let mut findings = vec![architecture(&file, shim), loader(&file)];
    if interpreter(&file).is_some_and(|loader| !loader.contains("musl")) {
        let is_libc = |library: &&tls::Library| {
            let name = tls::file_name(library);
            name == "libc.so.6" || (name.starts_with("libc-2.") && name.ends_with(".so"))
        };
        let libc = libraries.iter().find(is_libc).cloned();
        findings.extend(glibc::inspect(shim, &glibc::Place { root: &program.root, libc }));
    }
    findings.push(privileges(&program.file));
    findings.extend(environment(program.path));
    findings.push(tls::inspect(&libraries, &file, &data, program.mapped.is_some()));
    findings
}

/// Why nothing can be preloaded into a program, if that is so, with what to do.
pub fn not_preloadable(program: &OsStr) -> Option<String> {
    let data = fs::read(locate(program).ok()?).ok()?;
    let file = ElfFile64::<Endianness>::parse(&*data).ok()?;
    let finding = Some(loader(&file)).filter(|finding| finding.severity == Severity::Critical)?;
    Some(format!("{}; {}", finding.found, finding.advice))
}

fn architecture(file: &ElfFile64<Endianness>, shim: &Path) -> Finding {
    let subject = "architecture";
    let machine = |file: &ElfFile64<Endianness>| file.elf_header().e_machine(file.endian());
    let shown = shim.display();
    let data = match fs::read(shim) {
        Ok(data) => data,
        Err(error) => {
            let found = format!("{shown}: cannot be read: {error}");
            return Finding::critical(
                subject,
                found,
                "give those who start servers the right to read it",
            );
        }
    };
    let Ok(ours) = ElfFile64::<Endianness>::parse(&*data) else {
        return Finding::critical(
            subject,
            format!("{shown}: not an ELF library"),
            "install it again",
        );
    };
    if machine(file) == machine(&ours) {
        return Finding::ok(subject, format!("{}, like the shim", name_of(file.architecture())));
    }
    let [its, ours] = [file.architecture(), ours.architecture()].map(name_of);
    let found = format!("{its}; the shim is for {ours}");
    Finding::critical(subject, found, "install the shim that was built for this architecture")
}

fn name_of(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "x86-64",
        Architecture::Aarch64 => "AArch64",
        Architecture::Riscv64 => "RISC-V (64-bit)",
        Architecture::PowerPc64 => "POWER (64-bit)",
        Architecture::S390x => "s390x",
        Architecture::LoongArch64 => "LoongArch (64-bit)",
        _ => "another architecture",
    }
}

/// The program's PT_INTERP.
fn interpreter(file: &ElfFile64<Endianness>) -> Option<String> {
    let endian = file.endian();
    let header = file.elf_program_headers().iter().find(|h| h.p_type(endian) == elf::PT_INTERP)?;
    let bytes = header.interpreter(endian, file.data()).ok()??;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

fn loader(file: &ElfFile64<Endianness>) -> Finding {
    match interpreter(file) {
        None => Finding::critical(
            "loader",
            "statically linked: nothing can be preloaded into it",
            "use a dynamically linked build; or link libtktrot into it (tkt_install_api)",
        ),
        Some(loader) if loader.contains("musl") => Finding::critical(
            "loader",
            format!("{loader}: the program is for musl, the shim for glibc"),
            "use a shim that was built for musl",
        ),
        Some(loader) => Finding::ok("loader", format!("dynamically linked, {loader}")),
    }
}

/// secure_getenv(3), ld.so(8): a program that gains privileges at its start has no LD_PRELOAD.
fn privileges(path: &Path) -> Finding {
    let subject = "privileges";
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            let found = format!("{}: {error}", path.display());
            return Finding::warning(subject, found, "run this as root");
        }
    };
    let advice = "this does not matter if root starts it; for other users the loader ignores LD_PRELOAD: \
                  grant the rights another way (systemd: AmbientCapabilities=)";
    let gains = if metadata.mode() & libc::S_ISUID != 0 {
        "set-user-ID"
    } else if metadata.mode() & libc::S_ISGID != 0 {
        "set-group-ID"
    } else if has_capabilities(path) {
        "file capabilities"
    } else {
        return Finding::ok(subject, "it gains none at its start");
    };
    Finding::warning(subject, gains, advice)
}

fn has_capabilities(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: NUL-terminated names; no buffer: only the size is asked for.
    let size = unsafe {
        libc::getxattr(path.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0)
    };
    size > 0
}

fn environment(path: &Path) -> Option<Finding> {
    let name = path.file_name()?;
    let (_, advice) = CLEANS_ENVIRONMENT.iter().find(|(cleaner, _)| *cleaner == name)?;
    Some(Finding::warning(
        "environment",
        "it starts its processes with a cleaned environment",
        advice,
    ))
}

/// The files that the loader would map, as it lists them itself (ld.so(8), --list), without running
/// any of the program.
fn listed(path: &Path, file: &ElfFile64<Endianness>) -> Vec<tls::Library> {
    let Some(loader) = interpreter(file).filter(|loader| loader.starts_with('/')) else {
        return Vec::new();
    };
    let listed = Command::new(loader).arg("--list").arg(path).env_remove("LD_PRELOAD").output();
    let listed = listed.map(|output| output.stdout).unwrap_or_default();
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let file = |line: &str| {
        let after = line.split(" => ").nth(1).unwrap_or(line).trim();
        let name = after.split(" (").next().unwrap_or_default().to_owned();
        (name.clone(), PathBuf::from(name))
    };
    listed.lines().map(file).collect()
}
