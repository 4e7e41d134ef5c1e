//! Python's ssl as a server: its libssl comes with a module that is loaded under RTLD_LOCAL, where
//! the usual way to the next definition of a function (RTLD_NEXT) finds nothing.

use testbed::solo::Solo;
use testbed::{RingDir, artifacts, log};

use crate::Result;
use crate::opt_out::tickets_survive_a_restart;

#[test]
fn the_tickets_of_a_python_server_survive_its_restart() -> Result<()> {
    let ring = RingDir::new()?;
    let builder = Solo::python().preload(artifacts::shim()?).ring(&ring);
    let mut server = builder.start()?;
    assert!(tickets_survive_a_restart(&mut server)?);
    assert_eq!(ring.entries()?.len(), 1);
    assert_eq!(log::ours(&server.stderr()), [""; 0]);
    Ok(())
}

#[test]
fn without_the_shim_a_python_server_loses_them() -> Result<()> {
    assert!(!tickets_survive_a_restart(&mut Solo::python().start()?)?);
    Ok(())
}
