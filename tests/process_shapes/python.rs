//! Python's ssl module in the ways in which servers use it.

use std::{fs, thread};

use testbed::RingDir;
use testbed::artifacts;
use testbed::client::{Client, TlsVersion};
use testbed::solo::{Python, Solo};

use crate::{Result, every_ticket_resumes, rotating};

#[test]
fn every_ticket_resumes_however_python_serves() -> Result {
    thread::scope(|scope| {
        let one = |kind| every_ticket_resumes_with(kind).map_err(|error| error.to_string());
        let all = Python::ALL.map(|kind| scope.spawn(move || (kind, one(kind))));
        for test in all {
            let (kind, result) = test.join().map_err(|_| "see above")?;
            result.map_err(|error| format!("{kind:?}: {error}"))?;
        }
        Ok(())
    })
}

fn every_ticket_resumes_with(kind: Python) -> Result {
    let ring = RingDir::new()?;
    let mut server = rotating(Solo::python_with(kind), &ring)?;
    // A script has no reload.
    every_ticket_resumes(&mut server, 2, |_| Ok(()))?;
    Ok(())
}

/// The program is the interpreter: by the name that a user gives, a link's on Debian, or the file's.
#[test]
fn a_script_is_named_by_its_interpreter() -> Result {
    let python = fs::canonicalize("/usr/bin/python3")?;
    let name = python.file_name().and_then(|name| name.to_str()).ok_or("no name")?;
    for (only, served) in [("python3", true), (name, true), ("server.py", false)] {
        let ring = RingDir::new()?;
        let builder = Solo::python().preload(artifacts::shim()?).ring(&ring);
        let server = builder.env("TKTROT_ONLY", only).start()?;
        let full = Client::new(TlsVersion::V13)?.connect(server.addr(), None, None)?;
        assert!(!full.tickets.is_empty(), "{only}");
        let rings = ring.rings()?;
        let wanted = served.then_some(ring.path().join("python3.ring"));
        assert_eq!(rings, Vec::from_iter(wanted), "{only}");
    }
    Ok(())
}
