//! Which TLS library a program has, and whether the shim reaches it.

use std::path::{Path, PathBuf};

use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSymbol};

use super::Finding;

const SUBJECT: &str = "TLS library";

/// A library of a program: its name, and where it can be read.
pub type Library = (String, PathBuf);

/// Libraries without a libssl's functions, by the beginnings of their files' names.
const OTHERS: [(&str, &str); 5] = [
    ("libgnutls.so", "GnuTLS"),
    ("libssl3.so", "NSS"),
    ("libnss3.so", "NSS"),
    ("libmbedtls.so", "Mbed TLS"),
    ("libwolfssl.so", "wolfSSL"),
];

/// Texts in a file that show which TLS library was compiled into it. What others were made from comes
/// after them: they name it.
const MARKS: [(&[u8], &str); 6] = [
    (b"BoringSSL", "BoringSSL"),
    (b"AWS-LC", "AWS-LC"),
    (b"LibreSSL ", "LibreSSL"),
    (b"/rustls-0.", "rustls"),
    (b"OpenSSL 1.1.1", "OpenSSL 1.1.1"),
    (b"OpenSSL 3.", "OpenSSL 3"),
];

/// Looks at the libraries of a program, and at the program itself.
pub fn inspect(
    libraries: &[Library],
    file: &ElfFile64<'_, Endianness>,
    data: &[u8],
    is_running: bool,
) -> Finding {
    if let Some((libssl, read_at)) = find(libraries, "libssl.so") {
        let crypto = find(libraries, "libcrypto.so").map(|(_, at)| at.as_path());
        return with_libssl(libssl, read_at, crypto);
    }
    if let Some(name) = compiled_in(file, data) {
        let advice = match name {
            "Go" => "it has an interface of its own for ticket keys (SetSessionTicketKeys)",
            "rustls" => "it has an interface of its own for ticket keys (ServerConfig::ticketer)",
            _ => "link libtktrot into the program and call tkt_install_api with TKT_TLS_API_INIT",
        };
        let found =
            format!("{name} is compiled into the program, where the shim does not reach it");
        return Finding::critical(SUBJECT, found, advice);
    }
    let other = OTHERS.iter().find_map(|(file, name)| Some((find(libraries, file)?, name)));
    if let Some(((path, _), name)) = other {
        let found = format!("{path}: {name}, which the shim does not serve, and no libssl");
        let advice = "use a build of the program with OpenSSL, if there is one (Debian's squid-openssl is one)";
        return Finding::critical(SUBJECT, found, advice);
    }
    match is_running {
        true => Finding::warning(
            SUBJECT,
            "no libssl is mapped",
            "the process speaks no TLS, or has a library linked in that the shim cannot reach; its children \
             may have one",
        ),
        false => Finding::warning(
            SUBJECT,
            "not linked with libssl",
            "fine if it loads libssl later, as modules do (Apache, lighttpd, Python): start it under \
             tktrot run and check its process with --pid",
        ),
    }
}

/// The library whose file's name begins so.
fn find<'l>(libraries: &'l [Library], name: &str) -> Option<&'l Library> {
    libraries.iter().find(|library| file_name(library).starts_with(name))
}

/// How a library's file is called.
pub fn file_name((path, _): &Library) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

fn with_libssl(libssl: &str, read_at: &Path, libcrypto: Option<&Path>) -> Finding {
    // A libssl may have its libcrypto inside.
    let files = libcrypto.into_iter().chain([read_at]);
    let Some(version) = files.filter_map(version_in).next() else {
        let advice =
            "OpenSSL 1.1.1 and newer, AWS-LC and BoringSSL are served: see which one it is";
        return Finding::warning(SUBJECT, format!("{libssl}: unknown version"), advice);
    };
    let found = format!("{libssl}: {version}");
    let is_old =
        ["OpenSSL 0.", "OpenSSL 1.0.", "OpenSSL 1.1.0"].iter().any(|old| version.starts_with(old));
    if is_old {
        let advice = "libtktrot is for OpenSSL 1.1.1 and newer: use a newer build of the program";
        return Finding::critical(SUBJECT, found, advice);
    }
    if version.starts_with("LibreSSL") {
        let advice =
            "it is served in TLS 1.2: its servers issue no tickets in TLS 1.3 (docs/servers.md)";
        return Finding::warning(SUBJECT, found, advice);
    }
    Finding::ok(SUBJECT, found)
}

/// What a libcrypto says that it is, such as `OpenSSL 3.0.17 1 Jul 2025`.
fn version_in(libcrypto: &Path) -> Option<String> {
    let data = std::fs::read(libcrypto).ok()?;
    // These have texts of OpenSSL in them, too.
    if let Some(said) = said(&data, b"LibreSSL ") {
        return Some(said);
    }
    let other = [("AWS-LC", &b"AWS-LC"[..]), ("BoringSSL", b"BoringSSL")];
    let other = other.iter().find(|(_, mark)| holds(&data, mark));
    other.map(|(name, _)| (*name).to_owned()).or_else(|| said(&data, b"OpenSSL "))
}

/// The text that begins so, and goes on with a number.
fn said(data: &[u8], start: &[u8]) -> Option<String> {
    let begins = |window: &[u8]| window.starts_with(start) && window[start.len()].is_ascii_digit();
    let at = data.windows(start.len() + 1).position(begins)?;
    let text = data[at..].split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn holds(data: &[u8], mark: &[u8]) -> bool {
    data.windows(mark.len()).any(|window| window == mark)
}

/// The TLS library that is part of the program, by name.
fn compiled_in(file: &ElfFile64<'_, Endianness>, data: &[u8]) -> Option<&'static str> {
    if file.section_by_name(".go.buildinfo").is_some() {
        return Some("Go");
    }
    let defines = file.symbols().chain(file.dynamic_symbols()).any(|symbol| {
        symbol.is_definition() && symbol.name_bytes().is_ok_and(|name| name == b"SSL_CTX_new")
    });
    let mark = MARKS.iter().find(|(mark, _)| holds(data, mark)).map(|(_, name)| *name);
    // A program that can load libraries may only mention the name; the path of a source is none that
    // is mentioned.
    if defines || mark == Some("rustls") || !loads(file) {
        return mark.or(defines.then_some("a TLS library"));
    }
    None
}

/// True if the program can load libraries while it runs.
fn loads(file: &ElfFile64<'_, Endianness>) -> bool {
    file.dynamic_symbols().any(|symbol| {
        symbol.is_undefined() && symbol.name_bytes().is_ok_and(|name| name.starts_with(b"dlopen"))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::severity::Severity;

    #[test]
    fn a_libcrypto_says_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("libcrypto.so");
        for (text, said, severity) in [
            ("x\0OpenSSL 3.0.17 1 Jul 2025\0y", "OpenSSL 3.0.17 1 Jul 2025", Severity::Ok),
            ("OpenSSL 1.1.1w  11 Sep 2023\0", "OpenSSL 1.1.1w  11 Sep 2023", Severity::Ok),
            ("OpenSSL 1.0.2u  20 Dec 2019\0", "OpenSSL 1.0.2u  20 Dec 2019", Severity::Critical),
            ("OpenSSL 2.0.0\0LibreSSL 4.3.2\0", "LibreSSL 4.3.2", Severity::Warning),
            ("OpenSSL 1.1.1 (compatible; AWS-LC 1.61.0)\0", "AWS-LC", Severity::Ok),
            ("OpenSSL 1.1.1 (compatible; BoringSSL)\0", "BoringSSL", Severity::Ok),
            ("OpenSSL\0", "unknown version", Severity::Warning),
        ] {
            fs::write(&file, text).unwrap();
            let finding = with_libssl("libssl.so", &file, Some(&file));
            assert_eq!(finding.found, format!("libssl.so: {said}"));
            assert_eq!(finding.severity, severity, "{text:?}");
        }
    }
}
