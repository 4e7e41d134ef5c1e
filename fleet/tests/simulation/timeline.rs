//! What happens next, on one line of virtual milliseconds.

use std::collections::{BTreeMap, VecDeque};

/// Milliseconds of virtual time since the simulation began.
pub type Millis = u64;

/// Nearly all that is planned is a message that arrives within seconds: it is put into the slot of
/// its millisecond, without any comparison. The rest waits in a tree.
const SLOTS: u64 = 8192;

/// Things to come, in the order of time; those of one millisecond place by place, so that what one
/// host has to do is done together, and those of one place in the order they were planned. What was
/// planned long before, or for the present itself, comes last.
pub struct Timeline<E> {
    now: Millis,
    place: fn(&E) -> u16,
    near: Vec<VecDeque<E>>,
    waiting: usize,
    far: BTreeMap<Millis, Vec<E>>,
    far_next: Millis,
}

impl<E> Timeline<E> {
    /// Nothing is planned, and it is zero.
    pub fn new(place: fn(&E) -> u16) -> Self {
        let near = (0..SLOTS).map(|_| VecDeque::new()).collect();
        Timeline { now: 0, place, near, waiting: 0, far: BTreeMap::new(), far_next: Millis::MAX }
    }

    /// The present.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Plans something, at once if its time has passed.
    pub fn plan(&mut self, at: Millis, what: E) {
        let at = at.max(self.now);
        if at - self.now < SLOTS {
            self.near[(at % SLOTS) as usize].push_back(what);
            self.waiting += 1;
        } else {
            self.far.entry(at).or_default().push(what);
            self.far_next = self.far_next.min(at);
        }
    }

    /// The next thing before `end`, whose time is then the present.
    pub fn next(&mut self, end: Millis) -> Option<E> {
        loop {
            if self.far_next <= self.now {
                self.fetch();
            }
            if let Some(what) = self.near[(self.now % SLOTS) as usize].pop_front() {
                self.waiting -= 1;
                return Some(what);
            }
            self.now =
                if self.waiting == 0 { self.far_next.max(self.now + 1) } else { self.now + 1 };
            if self.now >= end {
                self.now = end;
                return None;
            }
            let place = self.place;
            self.near[(self.now % SLOTS) as usize].make_contiguous().sort_by_key(place);
        }
    }

    fn fetch(&mut self) {
        if let Some((_, due)) = self.far.pop_first() {
            self.waiting += due.len();
            self.near[(self.now % SLOTS) as usize].extend(due);
        }
        self.far_next = self.far.keys().next().copied().unwrap_or(Millis::MAX);
    }
}

#[test]
fn things_happen_in_order_near_and_far() {
    let mut timeline = Timeline::new(|_| 0);
    for at in [70_000, 5, 8_192, 5, 0, 70_000, 20_000] {
        timeline.plan(at, at);
    }
    let mut seen = Vec::new();
    while let Some(at) = timeline.next(60_000) {
        assert_eq!(at, timeline.now());
        if at == 0 {
            timeline.plan(at, 9_000);
            timeline.plan(9_000, 9_000);
            break;
        }
    }
    seen.push(timeline.next(60_000));
    assert_eq!(seen, [Some(9_000)]);
    let rest: Vec<_> = std::iter::from_fn(|| timeline.next(60_000)).collect();
    assert_eq!(rest, [5, 5, 8_192, 9_000, 20_000]);
    assert_eq!(timeline.now(), 60_000);
    assert_eq!(timeline.next(80_000), Some(70_000));
    assert_eq!(timeline.next(80_000), Some(70_000));
    assert_eq!(timeline.next(80_000), None);
}
