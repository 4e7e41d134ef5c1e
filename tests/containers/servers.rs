//! Real servers in containers, as far as namespaces make them: PID, mount, IPC, host name, and time.

use std::time::{Duration, Instant};

use testbed::certificate::{self, Certificate};
use testbed::client::{Client, Ticket, TlsVersion};
use testbed::container::{a_day_apart, own_namespaces};
use testbed::process::Process;
use testbed::solo::Solo;
use testbed::{RingDir, log, wait};
use tktrot::clock::{BootClock, Clock};
use tktrot::ring::file::Place;
use tktrot::ring::view::View;
use tktrot::schedule::KeyState;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const LIMIT: Duration = Duration::from_secs(20);
/// How long after its end a key may be there, where a machine has little time for us.
const LATE: Duration = Duration::from_secs(2);

struct Container {
    server: Solo,
    ahead: i64,
}

impl Container {
    fn start(ring: &RingDir, certificate: &Certificate, ahead: i64) -> Result<Container> {
        let server = Solo::openssl()
            .rotating(ring, Duration::from_secs(1), Duration::from_secs(60))?
            .certificate(certificate)
            .env("TKTROT_RING", "web")
            .env("TKTROT_STRICT", "1")
            .launch_through(&own_namespaces(ahead))
            .start()?;
        Ok(Container { server, ahead })
    }

    /// The server in it, which knows itself as 1.
    fn process(&self) -> Result<Process> {
        let outside = Process::find(self.server.pid()?).ok_or("the container is gone")?;
        Ok(*outside.children().first().ok_or("the server is gone")?)
    }

    fn ticket(&self, version: TlsVersion) -> Result<Ticket> {
        let full = Client::new(version)?.connect(self.server.addr(), None, None)?;
        Ok(full.tickets.into_iter().next_back().ok_or("no ticket")?)
    }

    fn resumes(&self, version: TlsVersion, ticket: &Ticket) -> Result<bool> {
        Ok(Client::new(version)?.connect(self.server.addr(), None, Some(ticket))?.resumed)
    }
}

pub fn view(ring: &RingDir) -> Result<View> {
    let dir = ring.path().to_owned();
    let place = Place { dir, file: "web.ring".into(), dir_mode: 0o700 };
    Ok(place.look().map_err(|refused| refused.to_string())?.ok_or("no ring")?)
}

/// Each ticket resumes at both, and none of the keys is there after its end.
fn all_is_well(containers: &[&Container], ring: &RingDir, for_how_long: Duration) -> Result<()> {
    let view = view(ring)?;
    let end = Instant::now() + for_how_long;
    while Instant::now() < end {
        for version in TlsVersion::ALL {
            for from in containers {
                let ticket = from.ticket(version)?;
                for to in containers {
                    let way = format!("{version:?}, from {} to {}", from.ahead, to.ahead);
                    assert!(to.resumes(version, &ticket)?, "{way}");
                }
            }
        }
        let late = BootClock.now() - LATE;
        let over: Vec<_> = view
            .keys()
            .into_iter()
            .filter(|key| key.times.state(late) == KeyState::Expired)
            .map(|key| key.name.to_string())
            .collect();
        assert_eq!(over, [""; 0], "keys that are over");
    }
    Ok(())
}

#[test]
fn two_containers_a_day_apart_share_a_ring_whoever_is_paused_or_killed() -> Result<()> {
    testbed::process::needs_root("namespaces");
    let ring = RingDir::new()?;
    let dir = tempfile::tempdir()?;
    let certificate = certificate::create(dir.path())?;
    let [behind, ahead] = a_day_apart()?;
    let start = |ahead| Container::start(&ring, &certificate, ahead);
    let (one, mut other) = (start(ahead)?, start(behind)?);
    all_is_well(&[&one, &other], &ring, Duration::from_secs(4))?;
    assert_eq!(ring.rings()?.len(), 1);

    // The one that leads, and the one that does not.
    for (paused, goes_on) in [(&one, &other), (&other, &one)] {
        let before = TlsVersion::ALL.map(|version| (version, paused.ticket(version)));
        assert!(paused.process()?.signal(libc::SIGSTOP));
        let alone = all_is_well(&[goes_on], &ring, Duration::from_secs(5));
        assert!(paused.process()?.signal(libc::SIGCONT));
        alone?;
        for (version, ticket) in before {
            let ticket = ticket?;
            assert!(goes_on.resumes(version, &ticket)? && paused.resumes(version, &ticket)?);
        }
        all_is_well(&[&one, &other], &ring, Duration::from_secs(1))?;
    }

    for _ in 0..3 {
        let ticket = other.ticket(TlsVersion::V13)?;
        assert!(other.process()?.signal(libc::SIGKILL));
        drop(other);
        assert!(one.resumes(TlsVersion::V13, &ticket)?);
        other = start(behind)?;
        assert!(other.resumes(TlsVersion::V13, &ticket)?);
        all_is_well(&[&one, &other], &ring, Duration::from_secs(1))?;
    }
    // Those that were killed are told from those that are there, all of which are process 1.
    let living = || -> Option<usize> {
        let users = view(&ring).ok()?.users(BootClock.now());
        Some(users.iter().filter(|user| user.uses_tickets && !user.is_over).count())
    };
    wait::until(LIMIT, "two users", || (living()? == 2).then_some(()))?;
    for container in [&one, &other] {
        let said = container.server.stderr();
        assert_eq!(log::ours(&said), [""; 0], "{said}");
    }
    Ok(())
}
