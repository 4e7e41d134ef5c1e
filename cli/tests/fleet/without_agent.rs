//! The same hosts and visitors, but no agent: the visitors see it.

use testbed::fleet::journal::Journal;
use testbed::fleet::settings::Keys;

use crate::assertions::{pass, secs, seen};
use crate::{FIVE, Result, fleet};

pub fn hosts_refuse_each_others_tickets() -> Result<()> {
    let mut fleet = fleet(FIVE.len(), Keys::new(secs(5), secs(20)))?;
    fleet.start_nginxes(&FIVE)?;
    // In turn all of them, and the last alone.
    let travellers = fleet.visit(&[&FIVE, &[4]])?;
    pass(secs(10));
    let at_home = |journal: &Journal| journal.among(&[4]);
    seen(&travellers, "visits to refuse and to resume", |journal| {
        journal.lost() > 50 && at_home(journal).resumed() > 50
    })?;
    let journal = travellers.arrive();
    assert_eq!(journal.failed(), 0, "{journal}");
    assert!(journal.visits.iter().all(|visit| !visit.is_shared()), "{journal}");
    assert!(journal.lost() > 50, "{journal}");
    let at_home = at_home(&journal);
    assert_eq!(at_home.lost(), 0, "{at_home}");
    assert!(at_home.resumed() > 50, "{at_home}");
    Ok(())
}
