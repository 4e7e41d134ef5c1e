//! Five hosts for a minute, in which each makes a dozen keys.
//!
//! What an nginx issued resumes on nginxes, what a HAProxy issued on HAProxies: each kind has a
//! session id context of its own and refuses other tickets whatever their key. So the visitors of
//! a fleet of both go round among each kind.

use testbed::RingDir;
use testbed::fleet::Fleet;
use testbed::fleet::settings::{self, Keys};
use testbed::foreground::give;
use testbed::wait::{self, PATIENCE};

use crate::assertions::{all_resumed, have_met, pass, secs, seen};
use crate::redis::Store;
use crate::{FIVE, Result, fleet, meshed_nginxes};

/// R.
const ROTATE: u64 = 5;
/// How long they are visited.
const MINUTE: u64 = 60;

/// A minute of visits to each of these groups: 100 % resumed within lifetime.
fn visited(fleet: &Fleet, groups: &[&[usize]], what: &str) -> Result<()> {
    let travellers = fleet.visit(groups)?;
    pass(secs(MINUTE));
    let keys = (MINUTE / ROTATE) as usize;
    seen(&travellers, "visits to every host", |journal| {
        let enough = |group: &&[usize]| {
            let among = journal.among(group);
            among.resumed() >= 200 && have_met(&among, group)
        };
        journal.keys() >= keys && groups.iter().all(enough)
    })?;
    let journal = travellers.arrive();
    for group in groups {
        let among = journal.among(group);
        all_resumed(&among, 200, &format!("{what}, hosts {group:?}"), fleet);
        assert!(have_met(&among, group), "{group:?}: {among}");
    }
    assert!(journal.keys() >= keys, "{journal}");
    Ok(())
}

pub fn nginxes_resume_each_others_tickets() -> Result<()> {
    let fleet = meshed_nginxes(&FIVE, Keys::new(secs(ROTATE), secs(20)))?;
    visited(&fleet, &[&FIVE], "5 nginxes")
}

pub fn two_of_them_may_be_haproxies() -> Result<()> {
    let (nginxes, haproxies) = ([0, 1, 2], [3, 4]);
    let mut fleet = fleet(FIVE.len(), Keys::new(secs(ROTATE), secs(20)))?;
    fleet.configure_mesh(&FIVE, |_| String::new())?;
    fleet.start_agents(&FIVE)?;
    fleet.start_nginxes(&nginxes)?;
    fleet.start_haproxies(&haproxies)?;
    visited(&fleet, &[&nginxes, &haproxies], "3 nginxes and 2 HAProxies")
}

/// A HAProxy without libtktrot has three keys: the one before, the one that encrypts and the next.
/// That is a fleet's keys where Redis gives all hosts the same, and tickets live for one rotation.
pub fn one_may_have_nothing_but_exported_files() -> Result<()> {
    let (nginxes, haproxies, stock) = ([0, 1], [2, 3, 4], 4);
    let keys = Keys { plain: true, ..Keys::new(secs(ROTATE), secs(ROTATE)) };
    let mut fleet = fleet(FIVE.len(), keys)?;
    let _store = Store::start(&fleet)?;
    // The agent has no privileges when it writes there.
    let files = RingDir::new()?;
    give(files.path(), "nobody")?;
    let file = files.path().join("haproxy.keys");
    let socket = fleet.hosts[stock].admin_socket();
    let export = format!(
        "\n[[export]]\nformat = \"haproxy\"\noutput = \"{}\"\nsocket = \"{}\"\n",
        file.display(),
        socket.display()
    );
    for host in FIVE {
        let redis = settings::redis(&Store::url(&fleet), fleet.secret());
        let more = if host == stock { &*export } else { "" };
        fleet.hosts[host].configure(&format!("{redis}{more}"))?;
    }
    fleet.start_agents(&FIVE)?;
    fleet.start_nginxes(&nginxes)?;
    fleet.start_haproxies(&[2, 3])?;
    wait::until(PATIENCE, "the exported keys", || file.exists().then_some(()))?;
    fleet.start_stock_haproxy(stock, &format!("tls-ticket-keys {}", file.display()))?;
    visited(&fleet, &[&nginxes, &haproxies], "plain keys and a stock HAProxy")
}
