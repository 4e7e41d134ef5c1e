//! A short soak: `make soak MINUTES=10` is one worth the name.

use std::time::Duration;

use testbed::soak::{self, Plan, Report};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[test]
fn no_ticket_is_lost_while_servers_are_reloaded_killed_stopped_and_starved() -> Result<()> {
    // The longer ones are for a machine that hardly runs.
    let mut report = brief(Duration::from_secs(6))?;
    for seconds in [30, 120] {
        if !says_enough(&report) {
            report = brief(Duration::from_secs(seconds))?;
        }
    }
    assert!(says_enough(&report), "{report}");
    Ok(())
}

/// A soak of that length, without any problem.
fn brief(duration: Duration) -> Result<Report> {
    let plan = Plan {
        duration,
        handshakes: u64::MAX,
        // Printed with the report, and another each time: what one does not meet the next may.
        seed: std::process::id().into(),
        threads: 8,
        sample_every: Duration::from_millis(500),
        talks: false,
    };
    let report = soak::run(&plan)?;
    assert_eq!(report.problems(), [""; 0], "{report}");
    Ok(report)
}

/// There were visits, mischief and new keys.
fn says_enough(report: &Report) -> bool {
    let deeds = &report.deeds;
    let mischief = deeds.reloads > 0 && deeds.kills + deeds.stops > 0;
    report.counts.total().resumed > 100 && mischief && report.ring.made > 2
}
