use std::time::{Duration, Instant};

use crate::client::Ticket;

/// What a server promises for its tickets: they resume for a lifetime, and their key is gone for
/// good one rotation and one lifetime after it began to encrypt.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// L: every ticket resumes for this long.
    pub lifetime: Duration,
    /// R: how long a key encrypts. None for a server that never rotates.
    pub rotate: Option<Duration>,
    /// For the granularity of clocks. Not for slow machines: ages are bounds, see below.
    pub margin: Duration,
}

/// What must become of a ticket that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Within its lifetime.
    Resumption,
    /// After its lifetime, but its key may still be there.
    Either,
    /// After the end of its key.
    FullHandshake,
}

impl Promise {
    /// For a server with rotation R and lifetime L.
    pub fn rotating(rotate: Duration, lifetime: Duration) -> Promise {
        Promise { lifetime, rotate: Some(rotate), margin: Duration::from_millis(500) }
    }

    /// For a server without rotation.
    pub fn constant(lifetime: Duration) -> Promise {
        Promise { lifetime, rotate: None, margin: Duration::from_millis(500) }
    }

    /// Judges by the greatest and the smallest age that the ticket can have had when the server saw
    /// it, so the verdict does not depend on how fast the machine is.
    pub(super) fn due(&self, ticket: &Ticket, began: Instant, ended: Instant) -> Due {
        let at_most = ended - ticket.requested();
        let at_least = began.saturating_duration_since(ticket.received());
        if at_most + self.margin < self.lifetime {
            Due::Resumption
        } else if self.rotate.is_some_and(|rotate| at_least > rotate + self.lifetime + self.margin)
        {
            Due::FullHandshake
        } else {
            Due::Either
        }
    }
}
