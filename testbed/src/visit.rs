//! One connection of somebody who comes back, and what the server owed to them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::client::{Client, Error, Handshake, Ticket};

/// For the granularity of clocks. Not for slow machines: ages are bounds.
pub const MARGIN: Duration = Duration::from_millis(500);

/// What a server promises for its tickets: they resume for a lifetime, and their key is gone for
/// good one rotation and one lifetime after it began to encrypt.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// L: every ticket resumes for this long.
    pub lifetime: Duration,
    /// R: how long a key encrypts. None for a server that never rotates.
    pub rotate: Option<Duration>,
    /// [`MARGIN`], unless a test wants another.
    pub margin: Duration,
}

/// What must become of a ticket that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
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
        Promise { lifetime, rotate: Some(rotate), margin: MARGIN }
    }

    /// For a server without rotation.
    pub fn constant(lifetime: Duration) -> Promise {
        Promise { lifetime, rotate: None, margin: MARGIN }
    }
}

/// One connection, however it ended.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The ticket that was offered, if one was.
    pub offered: Option<Ticket>,
    /// When it began.
    pub began: Instant,
    /// When it was over.
    pub ended: Instant,
    /// What became of it.
    pub result: Result<Handshake, Error>,
}

impl Visit {
    /// Makes one, with the ticket if OpenSSL would still offer it.
    pub fn new(
        client: &Client,
        addr: SocketAddr,
        sni: Option<&str>,
        offered: Option<&Ticket>,
    ) -> Visit {
        let began = Instant::now();
        let result = client.connect(addr, sni, offered);
        Visit { offered: offered.cloned(), began, ended: Instant::now(), result }
    }

    /// What had to become of the ticket. It is judged by the greatest and the smallest age that it can
    /// have had when the server saw it, so that the verdict does not depend on how fast the machine is.
    pub fn due(&self, promise: &Promise) -> Option<Due> {
        let ticket = self.offered.as_ref()?;
        let at_most = self.ended - ticket.requested();
        let at_least = self.began.saturating_duration_since(ticket.received());
        let keys_end = promise.rotate.map(|rotate| rotate + promise.lifetime + promise.margin);
        Some(if at_most + promise.margin < promise.lifetime {
            Due::Resumption
        } else if keys_end.is_some_and(|end| at_least > end) {
            Due::FullHandshake
        } else {
            Due::Either
        })
    }

    /// Names of the keys of the tickets that it brought.
    pub fn new_keys(&self) -> impl Iterator<Item = [u8; 16]> {
        self.result.iter().flat_map(|handshake| &handshake.tickets).map(Ticket::key_name)
    }
}
