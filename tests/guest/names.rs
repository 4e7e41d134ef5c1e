//! Programs that have several names: what their rings are called, and what `TKTROT_ONLY` may say.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use testbed::client::{Client, TlsVersion};
use testbed::foreground::Foreground;
use testbed::{RingDir, artifacts};

use crate::Result;

const OPENSSL: &str = "/usr/bin/openssl";

/// Starts what `program` makes of its directory, with the arguments of `openssl s_server` or of a
/// script, and returns the names of the rings that it made.
fn rings(only: &str, link: Option<&str>, script: Option<&str>) -> Result<Vec<String>> {
    let ring = RingDir::new()?;
    let builder = Foreground::builder()?.preload(artifacts::shim()?).ring(&ring);
    let builder = match only {
        "" => builder,
        only => builder.env("TKTROT_ONLY", only),
    };
    let (dir, certificate) = (builder.dir(), builder.certificate());
    let path = dir.join(link.unwrap_or("script"));
    let (addr, port) = (builder.addr().to_string(), builder.addr().port().to_string());
    let (cert, key) =
        (certificate.cert.display().to_string(), certificate.key.display().to_string());
    let arguments = match script {
        None => {
            symlink(OPENSSL, &path)?;
            vec!["s_server", "-www", "-quiet", "-accept", &addr, "-cert", &cert, "-key", &key]
        }
        Some(script) => {
            fs::write(&path, script)?;
            fs::set_permissions(&path, Permissions::from_mode(0o755))?;
            vec![&*port, &cert, &key]
        }
    };
    let program = path.display().to_string();
    let server = builder.start(&program, &arguments)?;
    let full = Client::new(TlsVersion::V13)?.connect(server.addr(), None, None)?;
    assert!(!full.tickets.is_empty());
    let name = |path: std::path::PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    Ok(ring.rings()?.into_iter().map(name).collect())
}

#[test]
fn a_link_names_the_ring_and_either_name_is_meant() -> Result<()> {
    for (only, served) in [("", true), ("shop", true), ("openssl", true), ("nginx", false)] {
        let expected = Vec::from_iter(served.then_some("shop"));
        assert_eq!(rings(only, Some("shop"), None)?, expected, "{only:?}");
    }
    Ok(())
}

/// What starts a script is its interpreter's file: the kernel tells of no link to that.
#[test]
fn a_script_has_the_name_of_its_interpreters_file() -> Result<()> {
    let python = fs::canonicalize("/usr/bin/python3")?;
    let name = python.file_name().and_then(|name| name.to_str()).ok_or("no name")?;
    let script =
        concat!("#!/usr/bin/python3\n", include_str!("../../testbed/src/servers/server.py"));
    for (only, served) in [("", true), (name, true), ("script", false)] {
        let expected = Vec::from_iter(served.then_some(name));
        assert_eq!(rings(only, None, Some(script))?, expected, "{only:?}");
    }
    Ok(())
}
