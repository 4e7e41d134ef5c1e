//! The C library: whether the one that a program is started with has all that the shim needs. Where it
//! has not, the loader does not leave the shim out: it does not start the program.

use std::fmt;
use std::path::{Path, PathBuf};

use object::read::elf::ElfFile64;
use object::{Endianness, elf};

use super::Finding;

const SUBJECT: &str = "C library";
/// Of the libraries that `make portable` builds (tools/portable).
const FLOOR: Version = Version([2, 17, 0]);
/// Where loaders look, beside their cache.
const DIRECTORIES: [&str; 4] = ["lib64", "usr/lib64", "lib", "usr/lib"];

/// A version of glibc, as in `GLIBC_2.34`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version([u32; 3]);

impl Version {
    fn parse(text: &str) -> Option<Version> {
        let mut numbers = [0; 3];
        let mut parts = text.split('.');
        for number in &mut numbers {
            let Some(part) = parts.next() else { break };
            *number = part.parse().ok()?;
        }
        parts.next().is_none().then_some(Version(numbers))
    }

    /// Of a name in the symbol versions of glibc; others are not of a release.
    fn of_name(name: &[u8]) -> Option<Version> {
        Version::parse(std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version([major, minor, patch]) = self;
        write!(f, "{major}.{minor}")?;
        if *patch > 0 { write!(f, ".{patch}") } else { Ok(()) }
    }
}

/// What a program is started with.
pub struct Place<'p> {
    /// Its root directory, as seen from here.
    pub root: &'p Path,
    /// Its libc.so.6, as it names it, and where that can be read; `None` where it is not known.
    pub libc: Option<(String, PathBuf)>,
}

/// Compares what the shim needs with what is there. `None` where the shim is for another C library,
/// or says nothing of what it needs.
pub fn inspect(shim: &Path, place: &Place<'_>) -> Option<Finding> {
    let shim = std::fs::read(shim).ok()?;
    let shim = ElfFile64::<Endianness>::parse(&*shim).ok()?;
    let needed = needed_of(&shim)?;
    let Some((name, file)) = place.libc.clone().or_else(|| usual(place.root)) else {
        let found = format!("not found; the shim needs glibc {needed} or newer");
        return Some(Finding::warning(SUBJECT, found, "compare with `ldd --version` there"));
    };
    let version = std::fs::read(&file).ok().and_then(|data| version_of(&data));
    let Some(version) = version else {
        let found = format!("{name}: unknown version; the shim needs glibc {needed} or newer");
        return Some(Finding::warning(SUBJECT, found, "compare with `ldd --version` there"));
    };
    if version < needed {
        let found = format!(
            "{name} is glibc {version}, but the shim needs {needed}: with it the program would not start"
        );
        let advice = match version >= FLOOR {
            true => format!("use the shim of `make portable`, which needs glibc {FLOOR}"),
            false => "use a shim that was built with a glibc as old as this one".into(),
        };
        return Some(Finding::critical(SUBJECT, found, &advice));
    }
    if let Some(missing) = missing(&shim, place.root, &file) {
        let found = format!(
            "glibc {version}, but {missing}, which the shim needs, was not found: without it the program \
             would not start"
        );
        let advice =
            "install it there, or use the shim of `make portable`, which needs glibc alone";
        return Some(Finding::warning(SUBJECT, found, advice));
    }
    Some(Finding::ok(SUBJECT, format!("glibc {version}; the shim needs {needed} or newer")))
}

/// The newest glibc that has a name which this library takes from one.
fn needed_of(library: &ElfFile64<'_, Endianness>) -> Option<Version> {
    let (endian, data) = (library.endian(), library.data());
    let sections = library.elf_section_table();
    let (mut needs, link) = sections.gnu_verneed(endian, data).ok()??;
    let strings = sections.strings(endian, data, link).ok()?;
    let mut newest = None;
    while let Some((_, mut names)) = needs.next().ok()? {
        while let Some(name) = names.next().ok()? {
            newest = newest.max(Version::of_name(name.name(endian, strings).ok()?));
        }
    }
    newest
}

/// The version of a libc.so.6: what it says of itself, or the newest of its names.
fn version_of(data: &[u8]) -> Option<Version> {
    // As `GNU C Library (Debian GLIBC 2.31-13+deb11u11) stable release version 2.31.`
    const SAID: &[u8] = b" release version ";
    let at = data.windows(SAID.len()).position(|window| window == SAID);
    let said = at.and_then(|at| {
        let rest = &data[at + SAID.len()..];
        let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
        Version::parse(std::str::from_utf8(&rest[..end]).ok()?.trim_end_matches('.'))
    });
    said.or_else(|| newest_name(data))
}

fn newest_name(data: &[u8]) -> Option<Version> {
    let library = ElfFile64::<Endianness>::parse(data).ok()?;
    let endian = library.endian();
    let sections = library.elf_section_table();
    let (mut defined, link) = sections.gnu_verdef(endian, data).ok()??;
    let strings = sections.strings(endian, data, link).ok()?;
    let mut newest = None;
    while let Some((_, mut names)) = defined.next().ok()? {
        if let Some(name) = names.next().ok()? {
            newest = newest.max(Version::of_name(name.name(endian, strings).ok()?));
        }
    }
    newest
}

/// A libc.so.6 where distributions have it.
fn usual(root: &Path) -> Option<(String, PathBuf)> {
    let multiarch = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
    let directories = DIRECTORIES.iter().copied().chain([&*multiarch]);
    let mut names = directories.map(|directory| format!("{directory}/libc.so.6"));
    names.find_map(|name| {
        let file = root.join(&name);
        file.is_file().then(|| (format!("/{name}"), file))
    })
}

/// A library that the shim needs and the loader would not find there, as far as can be seen.
fn missing(shim: &ElfFile64<'_, Endianness>, root: &Path, libc: &Path) -> Option<String> {
    let cache = std::fs::read(root.join("etc/ld.so.cache")).unwrap_or_default();
    let multiarch = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
    let is_there = |name: &String| {
        let entry = [name.as_bytes(), b"\0"].concat();
        let mut directories: Vec<PathBuf> = DIRECTORIES.iter().map(|dir| root.join(dir)).collect();
        directories.extend([root.join(&multiarch), root.join("usr").join(&multiarch)]);
        directories.extend(libc.parent().map(PathBuf::from));
        cache.windows(entry.len()).any(|window| window == entry)
            || directories.iter().any(|directory| directory.join(name).exists())
    };
    needed_libraries(shim).into_iter().find(|name| !is_there(name))
}

fn needed_libraries(file: &ElfFile64<'_, Endianness>) -> Vec<String> {
    let (endian, data) = (file.endian(), file.data());
    let Ok(table) = file.elf_section_table().dynamic_table(endian, data) else { return Vec::new() };
    let needed = table.iter().filter(|entry| entry.tag == elf::DT_NEEDED);
    let names = needed.filter_map(|entry| table.string(entry).ok());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let version = |text| Version::of_name(text).unwrap();
        assert!(version(b"GLIBC_2.4") < version(b"GLIBC_2.34"));
        assert!(version(b"GLIBC_2.2.5") < version(b"GLIBC_2.3"));
        assert_eq!(version(b"GLIBC_2.17"), FLOOR);
        assert_eq!([version(b"GLIBC_2.3.4").to_string(), FLOOR.to_string()], ["2.3.4", "2.17"]);
        for name in [&b"GLIBC_PRIVATE"[..], b"GLIBC_ABI_DT_RELR", b"GCC_3.0", b"GLIBC_"] {
            assert_eq!(Version::of_name(name), None);
        }
    }

    #[test]
    fn a_libc_says_its_version() {
        let said = |text: &str| version_of(text.as_bytes()).map(|version| version.to_string());
        let debian =
            "x\0GNU C Library (Debian GLIBC 2.31-13+deb11u11) stable release version 2.31.\nC";
        assert_eq!(said(debian).as_deref(), Some("2.31"));
        let red_hat =
            "GNU C Library (GNU libc) stable release version 2.17, by Roland McGrath et al.";
        assert_eq!(said(red_hat).as_deref(), Some("2.17"));
        assert_eq!(said("musl libc"), None);
    }
}
