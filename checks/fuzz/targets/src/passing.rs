//! What the two state machines of the agent have in common here: events that bytes choose, and time
//! that passes between them.

use std::time::Duration;

use arbitrary::Unstructured;
use tktrot::clock::Time;

/// Deadlines that are heeded one by one; what is longer is jumped over, as by a host that slept.
const TICKS: usize = 60;
/// A deadline that does not move is one of a node that keeps its host busy for ever.
const AT_ONCE: usize = 8;
/// No host is left alone for longer.
const LONGEST: Duration = Duration::from_secs(14 * 24 * 3600);

/// What is not read yet.
pub type Input<'b> = Unstructured<'b>;

/// The bytes of spans and the like; zeroes behind the end.
pub fn byte(input: &mut Input<'_>) -> u8 {
    input.arbitrary().unwrap_or(0)
}

/// Lets things happen until the input ends, or as many as `most`.
pub fn play<W>(
    world: &mut W,
    input: &mut Input<'_>,
    most: usize,
    happens: fn(&mut W, &mut Input<'_>),
) {
    for _ in 0..most {
        if input.is_empty() {
            break;
        }
        happens(world, input);
    }
}

/// A host with its node, and the clock that both have.
pub trait Host {
    /// The clock.
    fn now(&mut self) -> &mut Time;
    /// When the node wants to be called.
    fn deadline(&self) -> Time;
    /// It is called.
    fn tick(&mut self);

    /// Time passes, and the node is called when it wants to be.
    fn pass(&mut self, span: Duration) {
        let end = *self.now() + span.min(LONGEST);
        let mut at_once = 0;
        for _ in 0..TICKS {
            let next = self.deadline();
            if next > end {
                break;
            }
            let now = *self.now();
            at_once = if next > now { 0 } else { at_once + 1 };
            assert!(at_once <= AT_ONCE, "the node has something to do for ever");
            *self.now() = now.max(next);
            self.tick();
        }
        *self.now() = end;
        self.tick();
    }

    /// Time passes, and nobody calls the node.
    fn jump(&mut self, span: Duration) {
        *self.now() = *self.now() + span.min(LONGEST);
        self.tick();
    }
}
