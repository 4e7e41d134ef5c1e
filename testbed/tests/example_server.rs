//! The fixture of `examples/server`: its operations do what they say.

use std::time::Duration;

use anyhow::Result;
use testbed::RingDir;
use testbed::client::{Client, TlsVersion};
use testbed::example::Example;

#[test]
fn every_operation_leaves_a_server_that_answers() -> Result<()> {
    for daemon in [false, true] {
        let ring = RingDir::new()?;
        let builder = Example::builder()?.workers(3).ring(&ring);
        let mut server = if daemon { builder.daemon() } else { builder }.start()?;
        let client = Client::new(TlsVersion::V13)?;
        let answers = |server: &Example| client.connect(server.addr(), Some("localhost"), None);
        answers(&server)?;

        let (master, workers) = (server.master_pid()?, server.worker_pids()?);
        assert_eq!(workers.len(), 3);
        server.reload()?;
        answers(&server)?;
        assert_eq!(server.master_pid()?, master);
        assert!(server.worker_pids()?.iter().all(|pid| !workers.contains(pid)));

        let victim = server.worker_pids()?[0];
        assert!(server.kill_worker(victim)?);
        testbed::wait::until(Duration::from_secs(20), "a new worker", || {
            let workers = server.worker_pids().ok()?;
            (workers.len() == 3 && !workers.contains(&victim)).then_some(())
        })?;

        server.stop()?;
        assert!(answers(&server).is_err());
        server.start()?;
        answers(&server)?;
        assert_ne!(server.master_pid()?, master);
    }
    Ok(())
}
