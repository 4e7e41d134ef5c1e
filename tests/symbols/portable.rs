//! The same of what `make portable` built, and that it loads with old glibcs: no name is asked for that
//! only a newer one has, and all that protects the usual build is there.

use std::path::{Path, PathBuf};

use testbed::artifacts;

use crate::{Result, check_exports, check_linkage, dynamic, exports, output_of};

/// Of tools/portable.
const FLOOR: [u32; 3] = [2, 17, 0];
/// Parts of glibc, which it comes with everywhere.
const PARTS: [&str; 6] = [
    "libc.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "libm.so.6",
    "librt.so.1",
    "ld-linux-x86-64.so.2",
];

/// Each of what is loaded, and the same of the usual build.
fn both() -> Result<[(PathBuf, &'static Path); 3]> {
    Ok([
        (artifacts::portable("libtktrot.so")?, artifacts::library()?),
        (artifacts::portable("libtktrot_preload.so")?, artifacts::shim()?),
        (artifacts::portable("tktrot")?, artifacts::tktrot()?),
    ])
}

/// Every name that has to be there has a version, or an older glibc that lacks it would not be noticed:
/// linkers let a library ask for whatever they do not know.
#[test]
#[ignore = "make test-portable"]
fn nothing_is_asked_for_that_the_oldest_glibc_does_not_have() -> Result<()> {
    for (file, _) in both()? {
        let listing =
            output_of("nm", &["-D", "--undefined-only", "--with-symbol-versions"], &file)?;
        let names = listing.lines().filter_map(|line| line.trim().strip_prefix("U "));
        let names: Vec<&str> = names.collect();
        assert!(names.len() > 20, "{listing}");
        let unknown: Vec<_> = names.iter().filter(|name| !name.contains('@')).collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", file.display());
    }
    Ok(())
}

/// The version in a name such as `GLIBC_2.3.4`.
fn version(name: &str) -> Result<[u32; 3]> {
    let mut numbers = [0; 3];
    let text = name.strip_prefix("GLIBC_").ok_or_else(|| format!("{name} is not of glibc"))?;
    for (number, part) in numbers.iter_mut().zip(text.split('.')) {
        *number = part.parse().map_err(|_| format!("{name} is not of a release"))?;
    }
    Ok(numbers)
}

#[test]
#[ignore = "make test-portable"]
fn nothing_needs_a_newer_glibc_or_anything_else() -> Result<()> {
    for (file, _) in both()? {
        let listing = output_of("readelf", &["--version-info", "--wide"], &file)?;
        let names = listing.lines().filter_map(|line| line.split_once("Name: "));
        let names: Vec<&str> = names
            .filter(|(before, _)| !before.contains("Rev: "))
            .filter_map(|(_, rest)| rest.split_whitespace().next())
            .collect();
        assert!(!names.is_empty(), "{}: no names with versions\n{listing}", file.display());
        for name in names {
            assert!(version(name)? <= FLOOR, "{} needs {name}", file.display());
        }
        let listing = output_of("readelf", &["--dynamic", "--wide"], &file)?;
        for needed in dynamic(&listing, "NEEDED") {
            let is_part = PARTS.iter().any(|part| needed.ends_with(&format!("[{part}]")));
            assert!(is_part, "{} needs {needed}", file.display());
        }
    }
    Ok(())
}

#[test]
#[ignore = "make test-portable"]
fn libraries_export_and_are_called_what_the_usual_ones_are() -> Result<()> {
    let [(library, _), (shim, _), _] = both()?;
    check_exports(&library, "symbols.txt")?;
    check_exports(&shim, "symbols-preload.txt")?;
    check_linkage(&library, &format!("libtktrot.so.{}", env!("CARGO_PKG_VERSION_MAJOR")))?;
    check_linkage(&shim, "libtktrot_preload.so")
}

/// What a loader and a kernel make of a file, as far as it protects the process.
fn protection(file: &Path) -> Result<Vec<String>> {
    let segments = output_of("readelf", &["--program-headers", "--wide"], file)?;
    let mut told: Vec<String> = Vec::new();
    for line in segments.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Type, offset, two addresses, two sizes, flags, alignment.
        let (Some(kind), true) = (words.first(), words.len() >= 8) else { continue };
        let flags = words[6..words.len() - 1].concat();
        match *kind {
            "GNU_STACK" => told.push(format!("stack {flags}")),
            "GNU_RELRO" => told.push("relro".into()),
            "LOAD" if flags.contains('W') && flags.contains('E') => told.push("W+X".into()),
            _ => {}
        }
    }
    let header = output_of("readelf", &["--file-header"], file)?;
    let kind = header.lines().find_map(|line| line.trim().strip_prefix("Type:"));
    told.push(kind.unwrap_or_default().trim().to_owned());
    let listing = output_of("readelf", &["--dynamic", "--wide"], file)?;
    for tag in ["TEXTREL", "RPATH", "RUNPATH"] {
        told.extend(dynamic(&listing, tag).iter().map(|value| format!("{tag} {value}")));
    }
    let flags = [dynamic(&listing, "FLAGS"), dynamic(&listing, "FLAGS_1")].concat().join(" ");
    let mut flags: Vec<&str> = flags.split_whitespace().filter(|word| *word != "Flags:").collect();
    flags.sort_unstable();
    told.push(flags.join(" "));
    let notes = output_of("readelf", &["--notes", "--wide"], file)?;
    let properties = notes.lines().filter(|line| line.contains("Properties:"));
    told.extend(properties.map(|line| line.trim().to_owned()));
    told.push(format!("build id: {}", notes.contains("Build ID:")));
    Ok(told)
}

#[test]
#[ignore = "make test-portable"]
fn what_protects_the_usual_build_protects_this_one() -> Result<()> {
    for (portable, usual) in both()? {
        let told = protection(&portable)?;
        assert!(told.iter().any(|one| one == "relro"), "{told:?}");
        assert!(told.contains(&"stack RW".to_owned()), "{told:?}");
        assert_eq!(told, protection(usual)?, "{}", portable.display());
    }
    Ok(())
}

/// No TLS library comes with the libraries: neither in the archive nor in the shared ones.
#[test]
#[ignore = "make test-portable"]
fn the_archive_has_the_functions_and_no_tls_library() -> Result<()> {
    let archive = artifacts::portable("libtktrot.a")?;
    let listing = output_of("nm", &["--defined-only", "--format=posix", "--quiet"], &archive)?;
    let defined: Vec<&str> = listing.lines().filter_map(|line| line.split(' ').next()).collect();
    for name in exports(artifacts::library()?)? {
        assert!(defined.contains(&&*name), "there is no {name}");
    }
    for name in ["SSL_CTX_new", "EVP_EncryptInit_ex", "HMAC_Init_ex"] {
        assert!(!defined.contains(&name), "it has {name}");
    }
    Ok(())
}
