//! Sixteen threads on one listener that replace their SSL_CTXs under each other's hands.

use std::time::Duration;

use testbed::RingDir;
use testbed::client::{Client, TlsVersion};
use testbed::journey::LIMIT;
use testbed::process::Process;
use testbed::solo::Solo;
use testbed::wait;

use crate::{Result, every_ticket_resumes, rotating};

/// Threads of the server, beside its main thread and ours.
const SERVING: usize = 16;
/// It begins with so many contexts: a shared one, and one for each thread that does not share.
const CONTEXTS: usize = 9;

/// How many contexts the server says that it has made.
fn contexts_made(server: &Solo) -> Result<usize> {
    let answer = Client::new(TlsVersion::V13)?.connect(server.addr(), None, None)?;
    Ok(answer.body.parse()?)
}

#[test]
fn every_ticket_resumes_while_contexts_are_replaced_at_run_time() -> Result {
    let ring = RingDir::new()?;
    let mut server = rotating(Solo::built("threaded", &[])?, &ring)?;
    let mut load = every_ticket_resumes(&mut server, 8, |server| {
        for _ in 0..3 {
            let before = contexts_made(server)?;
            server.hang_up()?;
            wait::until(LIMIT, "new contexts", || {
                (contexts_made(server).ok()? >= before + CONTEXTS).then_some(())
            })?;
        }
        Ok(())
    })?;
    // No context is old: each had its 20 connections at most.
    let made = contexts_made(&server)?;
    assert!(made > CONTEXTS, "{made} contexts");

    // As fast as it goes: the contexts change all the time then.
    load = load.pace(Duration::ZERO);
    let report = load.run(LIMIT, |progress| progress.handshakes >= 3000);
    let total = report.total();
    assert_eq!((total.unexpected_full, total.failed()), (0, 0), "{report}\n{}", server.stderr());
    assert!(contexts_made(&server)? >= made + 100, "{made} contexts, and hardly more later");

    let process = Process::find(server.pid()?).ok_or("the server is gone")?;
    assert_eq!(process.threads().len(), 1 + SERVING + 1, "{:?}", process.thread_names());
    let ended = server.terminate()?;
    assert!(ended.success(), "{ended}\n{}", server.stderr());
    Ok(())
}
