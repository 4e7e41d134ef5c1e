//! Units of systemd that share a ring: what systemd makes of the drop-in, as far as it can be asked
//! where none runs.

use std::fs;
use std::path::Path;
use std::process::Command;

use testbed::log;

use crate::servers::Result;

#[test]
fn systemd_understands_the_drop_in_of_units_that_share_a_ring() -> Result<()> {
    let drop_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/systemd/shared-ring.conf");
    let dir = tempfile::tempdir()?;
    let units = ["one.service", "other.service"];
    for unit in units {
        fs::write(dir.path().join(unit), "[Service]\nExecStart=/bin/true\n")?;
        fs::create_dir(dir.path().join(format!("{unit}.d")))?;
        fs::copy(&drop_in, dir.path().join(format!("{unit}.d/tktrot.conf")))?;
    }
    let verify = || -> Result<String> {
        let mut command = Command::new("systemd-analyze");
        // Ours, and then those of the system.
        command.env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display()));
        let output = command.args(["--man=no", "verify"]).args(units).output()?;
        Ok(log::said(&output))
    };
    assert!(!verify()?.contains("tktrot.conf"), "{}", verify()?);
    // It was read.
    fs::write(dir.path().join("one.service.d/tktrot.conf"), "[Service]\nRuntimeDirectry=x\n")?;
    assert!(verify()?.contains("one.service.d/tktrot.conf"), "{}", verify()?);
    Ok(())
}
