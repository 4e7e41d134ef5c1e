//! An executable file: whether the loader will preload the shim into it, and which TLS library it has.

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Architecture, Endianness, Object, ObjectSymbol, elf};

use super::Finding;

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

/// Texts in an executable that show which TLS library was linked into it.
const LINKED_IN: [(&[u8], &str); 4] = [
    (b"BoringSSL", "BoringSSL"),
    (b"AWS-LC", "AWS-LC"),
    (b"OpenSSL 3.", "OpenSSL 3"),
    (b"OpenSSL 1.1.1", "OpenSSL 1.1.1"),
];

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
        return Some(Finding::wrong(subject, both, advice));
    }
    (given != own).then(|| Finding::fine(subject, both))
}

/// Inspects an executable and, as far as the loader lists them, its libraries.
///
/// # Errors
///
/// It cannot be read.
pub fn inspect(path: &Path, shim: &Path) -> Result<Vec<Finding>> {
    let data = fs::read(path).with_context(|| format!("{}", path.display()))?;
    if data.starts_with(b"#!") {
        let line = data[2..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        let interpreter = String::from_utf8_lossy(line).trim().to_owned();
        let found = format!("a script, run by {interpreter}");
        let advice = "check the program that the script starts, into which the shim is preloaded";
        return Ok(vec![Finding::doubtful("program", found, advice)]);
    }
    let Ok(file) = ElfFile64::<Endianness>::parse(&*data) else {
        let advice = "the shim is for 64-bit ELF programs";
        return Ok(vec![Finding::wrong("program", "not a 64-bit ELF executable", advice)]);
    };
    let mut findings = vec![architecture(&file, shim)?];
    findings.push(loader(&file));
    findings.push(privileges(path)?);
    findings.extend(environment(path));
    findings.push(tls_library(path, &file, &data));
    Ok(findings)
}

fn architecture(file: &ElfFile64<Endianness>, shim: &Path) -> Result<Finding> {
    let machine = |file: &ElfFile64<Endianness>| file.elf_header().e_machine(file.endian());
    let data = fs::read(shim).with_context(|| format!("{}", shim.display()))?;
    let Ok(ours) = ElfFile64::<Endianness>::parse(&*data) else {
        bail!("{}: not an ELF library; install it again", shim.display());
    };
    Ok(if machine(file) == machine(&ours) {
        Finding::fine("architecture", format!("{}, like the shim", name_of(file.architecture())))
    } else {
        let [its, ours] = [file.architecture(), ours.architecture()].map(name_of);
        let found = format!("{its}; the shim is for {ours}");
        Finding::wrong(
            "architecture",
            found,
            "install the shim that was built for this architecture",
        )
    })
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
        None => Finding::wrong(
            "loader",
            "statically linked: nothing can be preloaded into it",
            "use a dynamically linked build; or link libtktrot into it (tkt_install_api)",
        ),
        Some(loader) if loader.contains("musl") => Finding::wrong(
            "loader",
            format!("{loader}: the program is for musl, the shim for glibc"),
            "use a shim that was built for musl",
        ),
        Some(loader) => Finding::fine("loader", format!("dynamically linked, {loader}")),
    }
}

/// secure_getenv(3), ld.so(8): a program that gains privileges at its start has no LD_PRELOAD.
fn privileges(path: &Path) -> Result<Finding> {
    let metadata = fs::metadata(path).with_context(|| format!("{}", path.display()))?;
    let advice = "this does not matter if root starts it; for other users the loader ignores LD_PRELOAD: \
                  grant the rights another way (systemd: AmbientCapabilities=)";
    let gains = if metadata.mode() & libc::S_ISUID != 0 {
        "set-user-ID"
    } else if metadata.mode() & libc::S_ISGID != 0 {
        "set-group-ID"
    } else if has_capabilities(path) {
        "file capabilities"
    } else {
        return Ok(Finding::fine("privileges", "it gains none at its start"));
    };
    Ok(Finding::doubtful("privileges", gains, advice))
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
    Some(Finding::doubtful(
        "environment",
        "it starts its processes with a cleaned environment",
        advice,
    ))
}

fn tls_library(path: &Path, file: &ElfFile64<Endianness>, data: &[u8]) -> Finding {
    let subject = "TLS library";
    let libraries = libraries(path, file);
    if let Some(libssl) = libraries.iter().find(|library| library.contains("libssl.so")) {
        let version = openssl_version(&libraries).unwrap_or_else(|| "unknown version".into());
        return Finding::fine(subject, format!("{libssl}: {version}"));
    }
    if file.section_by_name(".go.buildinfo").is_some() {
        let advice = "Go's crypto/tls is part of the program; it has an interface of its own for ticket keys";
        return Finding::wrong(subject, "a Go program", advice);
    }
    let holds = |needle: &[u8]| data.windows(needle.len()).any(|window| window == needle);
    let defines = file.symbols().chain(file.dynamic_symbols()).any(|symbol| {
        symbol.is_definition() && symbol.name_bytes().is_ok_and(|name| name == b"SSL_CTX_new")
    });
    let mark = LINKED_IN.iter().find(|(mark, _)| holds(mark));
    // A program that can load libraries may only mention the name.
    if defines || (mark.is_some() && !loads(file)) {
        let name = mark.map_or("a TLS library", |(_, name)| name);
        let advice =
            "link libtktrot into the program and call tkt_install_api with TKT_TLS_API_INIT";
        return Finding::wrong(subject, format!("{name} is linked into the program"), advice);
    }
    let advice = "fine if it loads libssl later, as modules do (Apache, lighttpd, Python): start it under \
                  tktrot run and check its process with --pid";
    Finding::doubtful(subject, "not linked with libssl", advice)
}

/// True if the program can load libraries while it runs.
fn loads(file: &ElfFile64<Endianness>) -> bool {
    file.dynamic_symbols().any(|symbol| {
        symbol.is_undefined() && symbol.name_bytes().is_ok_and(|name| name.starts_with(b"dlopen"))
    })
}

/// The files that the loader would map, as it lists them itself (ld.so(8), --list), without running
/// any of the program.
fn libraries(path: &Path, file: &ElfFile64<Endianness>) -> Vec<String> {
    let Some(loader) = interpreter(file).filter(|loader| loader.starts_with("/lib")) else {
        return Vec::new();
    };
    let listed = Command::new(loader).arg("--list").arg(path).env_remove("LD_PRELOAD").output();
    let listed = listed.map(|output| output.stdout).unwrap_or_default();
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let file = |line: &str| {
        let after = line.split(" => ").nth(1).unwrap_or(line).trim();
        after.split(" (").next().unwrap_or_default().to_owned()
    };
    listed.lines().map(file).collect()
}

/// The version in the libcrypto among these files.
fn openssl_version(libraries: &[String]) -> Option<String> {
    version_in(libraries.iter().find(|library| library.contains("libcrypto.so"))?)
}

/// The version in a libcrypto, such as `OpenSSL 3.0.17 1 Jul 2025`.
pub fn version_in(libcrypto: &str) -> Option<String> {
    const START: &[u8] = b"OpenSSL ";
    let data = fs::read(libcrypto).ok()?;
    let at = data
        .windows(START.len() + 1)
        .position(|window| window.starts_with(START) && window[START.len()].is_ascii_digit())?;
    let text = data[at..].split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}
