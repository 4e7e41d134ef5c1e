//! nginx as containers and debuggers run it: in the foreground, or as one process without a master.

use std::fs;
use std::time::Duration;

use testbed::client::{Client, TlsVersion};
use testbed::journey::{Event, Journey};
use testbed::nginx::{Builder, Nginx};
use testbed::wait::{self, PATIENCE};
use testbed::{RingDir, Server, log};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const ROTATE: Duration = Duration::from_secs(1);
const LIFETIME: Duration = Duration::from_secs(60);

fn rotating(builder: Builder, ring: &RingDir) -> Result<Nginx> {
    Ok(builder.rotating(ring, ROTATE, LIFETIME)?.start()?)
}

/// Load over rotations, over what `event` does, and over a restart: every ticket must resume.
fn all_tickets_resume(nginx: &mut Nginx, event: fn(&mut Nginx) -> Result) -> Result {
    let journey = Journey { visitors: 2, handshakes: 20, ..Journey::new(ROTATE, LIFETIME) };
    journey.run(nginx, vec![Event::new(event)])?;
    assert_eq!(log::ours(&nginx.log()), [""; 0]);
    Ok(())
}

#[test]
fn four_workers_of_a_master_in_the_foreground() -> Result {
    let ring = RingDir::new()?;
    let mut nginx = rotating(Nginx::builder().workers(4).foreground(), &ring)?;
    all_tickets_resume(&mut nginx, |nginx| Ok(nginx.reload_by_signal()?))?;
    let master = nginx.master_process()?;
    assert_eq!((master.thread_names(), master.children().len()), (vec!["nginx".to_owned()], 4));
    nginx.stop()?;
    Ok(())
}

/// There is no reload here: after HUP such an nginx 1.22 answers no connection any more, without the
/// shim either.
#[test]
fn a_single_process() -> Result {
    let ring = RingDir::new()?;
    let mut nginx = rotating(Nginx::builder().single_process(), &ring)?;
    all_tickets_resume(&mut nginx, reopen_logs)?;
    let process = nginx.master_process()?;
    process.wait_for_threads("nginx", 1, 1)?;
    assert_eq!(process.children(), []);
    nginx.stop()?;
    Ok(())
}

/// Rotates the log as logrotate does, once.
fn reopen_logs(nginx: &mut Nginx) -> Result {
    let error_log = nginx.dir().join("error.log");
    fs::rename(&error_log, nginx.dir().join("error.log.1"))?;
    assert!(nginx.master_process()?.signal(libc::SIGUSR1));
    wait::until(PATIENCE, "the log to be reopened", || error_log.exists().then_some(()))?;
    Ok(())
}

/// In this mode the process that gets nginx' signals is one that has the thread.
#[test]
fn a_single_process_hears_all_its_signals() -> Result {
    let ring = RingDir::new()?;
    let mut nginx = rotating(Nginx::builder().single_process(), &ring)?;
    let process = nginx.master_process()?;
    let client = Client::new(TlsVersion::V12)?;
    let first = client.connect(nginx.addr(), None, None)?.tickets.pop().ok_or("no ticket")?;
    for number in 0..100 {
        process.wait_for_threads("nginx", 1, 1)?;
        reopen_logs(&mut nginx).map_err(|late| format!("USR1 number {number}: {late}"))?;
        assert!(client.connect(nginx.addr(), None, Some(&first))?.resumed, "USR1 {number}");
    }
    assert_eq!(nginx.master_process()?, process, "it is still the same one");
    for signal in [libc::SIGHUP, libc::SIGUSR1, libc::SIGQUIT, libc::SIGTERM, libc::SIGALRM] {
        let threads = process.threads();
        assert!(threads[1].blocks(signal) && !threads[0].blocks(signal), "signal {signal}");
    }
    nginx.stop()?;
    Ok(())
}
