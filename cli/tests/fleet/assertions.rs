//! What a fleet owes its visitors.

use std::thread;
use std::time::{Duration, Instant};

use testbed::client::TlsVersion;
use testbed::fleet::Fleet;
use testbed::fleet::journal::Journal;
use testbed::fleet::travel::Travellers;
use testbed::wait;

use crate::Result;

/// For visitors on a machine that hardly runs: which host gives them a ticket is a matter of chance, at
/// each rotation, and all have to.
pub const LONG: Duration = secs(300);

pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Lets this time pass, and returns when that was.
pub fn pass(time: Duration) -> Instant {
    thread::sleep(time);
    Instant::now()
}

/// Every ticket within its lifetime resumed, no visit failed, and there were so many at least.
pub fn all_resumed(journal: &Journal, least: usize, what: &str, fleet: &Fleet) {
    println!("{what}: {}", summary(journal));
    let (lost, failed) = (journal.lost(), journal.failed());
    assert!(lost == 0 && failed == 0, "{what}: {journal}\n{}", fleet.logs());
    assert!(journal.resumed() >= least, "{what}: {journal}");
}

/// Waits until visitors have seen that much. How soon depends on the machine alone.
pub fn seen(
    travellers: &Travellers,
    what: &str,
    is_enough: impl Fn(&Journal) -> bool,
) -> Result<()> {
    wait::until(LONG, what, || is_enough(&travellers.journal()).then_some(()))
        .map_err(|late| format!("{late}\n{}", travellers.journal()))?;
    Ok(())
}

/// Waits until tickets of each of these hosts have resumed on each of them in visits since then, and
/// returns all visits since.
pub fn met_since(travellers: &Travellers, then: Instant, hosts: &[usize]) -> Result<Journal> {
    seen(travellers, "tickets of each host to resume on each", |all| {
        have_met(&all.since(then), hosts)
    })?;
    Ok(travellers.journal().since(then))
}

/// True if tickets of each of these hosts resumed on each of them, with every version.
pub fn have_met(journal: &Journal, hosts: &[usize]) -> bool {
    TlsVersion::ALL.iter().all(|version| journal.strangers(hosts, *version).is_empty())
}

/// The rate, in one line.
fn summary(journal: &Journal) -> String {
    let (resumed, lost) = (journal.resumed(), journal.lost());
    let percent = 100.0 * resumed as f64 / (resumed + lost).max(1) as f64;
    let (failed, keys) = (journal.failed(), journal.keys());
    format!("{percent:.1} % of {} resumed, {failed} failed, {keys} keys", resumed + lost)
}
