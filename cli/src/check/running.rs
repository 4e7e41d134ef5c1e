//! A process that runs: whether the shim is in it, with which TLS library and which rings.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Finding, binary};

/// The executable of a process.
pub fn executable(pid: u32) -> Result<PathBuf> {
    let link = format!("/proc/{pid}/exe");
    let path = fs::read_link(&link).with_context(|| {
        format!("{link}: there is no such process, or it is not yours (run this as root)")
    })?;
    // proc(5): what an upgrade replaced is marked so.
    Ok(PathBuf::from(path.to_string_lossy().trim_end_matches(" (deleted)")))
}

/// Looks at a process.
///
/// # Errors
///
/// It cannot be looked into.
pub fn inspect(pid: u32) -> Result<Vec<Finding>> {
    let file = format!("/proc/{pid}/maps");
    let maps = fs::read_to_string(&file)
        .with_context(|| format!("{file}: it cannot be read (run this as root)"))?;
    let mapped: BTreeSet<&str> = maps.lines().filter_map(path_of).collect();
    Ok(vec![shim(&mapped), tls_library(&mapped), rings(&mapped)])
}

/// The file that a line of /proc/PID/maps names (proc(5)).
fn path_of(line: &str) -> Option<&str> {
    let path = &line[line.find('/')?..];
    Some(path.trim_end_matches(" (deleted)"))
}

fn shim(mapped: &BTreeSet<&str>) -> Finding {
    match mapped.iter().find(|path| path.contains("libtktrot")) {
        Some(path) => Finding::fine("shim", format!("{path} is in the process")),
        None => Finding::wrong(
            "shim",
            "it is not in the process",
            "start the server with LD_PRELOAD (tktrot run), and see that nothing cleans its environment",
        ),
    }
}

fn tls_library(mapped: &BTreeSet<&str>) -> Finding {
    let find = |name| mapped.iter().find(|path| path.contains(name));
    match find("libssl.so") {
        Some(libssl) => {
            let version = find("libcrypto.so").and_then(|libcrypto| binary::version_in(libcrypto));
            let version = version.unwrap_or_else(|| "a version it does not tell".into());
            Finding::fine("TLS library", format!("{libssl}: {version}"))
        }
        None => Finding::doubtful(
            "TLS library",
            "no libssl is mapped",
            "the process speaks no TLS, or has a library linked in that the shim cannot reach",
        ),
    }
}

fn rings(mapped: &BTreeSet<&str>) -> Finding {
    let rings: Vec<_> = mapped.iter().filter(|path| path.ends_with(".ring")).copied().collect();
    if rings.is_empty() {
        let advice = "it has made no SSL_CTX yet, or a ring could not be used: see its log for lines of tktrot";
        Finding::doubtful("ring", "none is mapped", advice)
    } else {
        Finding::fine("ring", rings.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_names_its_file() {
        let line = "7f0-7f1 rw-s 00000000 00:1a 5  /run/tktrot/a b.ring (deleted)";
        assert_eq!(path_of(line), Some("/run/tktrot/a b.ring"));
        assert_eq!(path_of("7f0-7f1 rw-p 00000000 00:00 0    [heap]"), None);
    }
}
