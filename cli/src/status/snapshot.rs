//! A ring at a moment at which nobody writes it.

use std::thread;
use std::time::Duration;

use tktrot::clock::{Clock, Time};
use tktrot::ring::lock::Holder;
use tktrot::ring::view::{KeyFacts, View};

/// How often a ring is looked at that somebody writes. He needs microseconds, unless he is stopped.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);

/// What belongs together in a ring.
pub struct Snapshot {
    /// When it was taken.
    pub now: Time,
    /// The keys there are.
    pub keys: Vec<KeyFacts>,
    /// From this time on there is something for a writer to do.
    pub deadline: Time,
    /// Who has the writer lock.
    pub writer: Holder,
    /// True if one thread had the writer lock on every look, and nothing changed.
    pub stuck: bool,
}

impl Snapshot {
    /// Looks until nobody writes, but not for ever.
    pub fn take(view: &View, clock: &impl Clock) -> Snapshot {
        let first = look(view, clock);
        let (mut before, mut stuck) = (first.writer, true);
        let mut last = first;
        for _ in 1..LOOKS {
            if !matches!(last.writer, Holder::Thread(_)) {
                return last;
            }
            thread::sleep(BETWEEN_LOOKS);
            let next = look(view, clock);
            stuck &= next.writer == before && next.deadline == last.deadline;
            before = next.writer;
            last = next;
        }
        let stuck = stuck && matches!(last.writer, Holder::Thread(_));
        Snapshot { stuck, ..last }
    }
}

fn look(view: &View, clock: &impl Clock) -> Snapshot {
    let before = (view.writer(), view.deadline());
    let keys = view.keys();
    let mut writer = view.writer();
    // Somebody who wrote meanwhile counts as one who writes.
    if let (Holder::Thread(_), _) = before {
        writer = before.0;
    }
    Snapshot { now: clock.now(), keys, deadline: view.deadline(), writer, stuck: false }
}
