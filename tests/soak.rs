//! A short soak: `make soak MINUTES=10` is one worth the name.

use std::time::Duration;

use testbed::soak::{self, Plan};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[test]
fn no_ticket_is_lost_while_servers_are_reloaded_killed_stopped_and_starved() -> Result<()> {
    let plan = Plan {
        duration: Duration::from_secs(6),
        handshakes: u64::MAX,
        // Printed with the report, and another each time: what one does not meet the next may.
        seed: std::process::id().into(),
        threads: 8,
        sample_every: Duration::from_millis(500),
        talks: false,
    };
    let report = soak::run(&plan)?;
    assert_eq!(report.problems(), [""; 0], "{report}");
    assert!(report.counts.total().resumed > 100, "{report}");
    let deeds = report.deeds;
    assert!(deeds.reloads > 0 && deeds.kills + deeds.stops > 0, "{report}");
    assert!(report.ring.made > 2, "{report}");
    Ok(())
}
