//! The crypto of one ticket alone: the callback that a server has and what libssl does around it,
//! called in the middle of a handshake, without the rest of that.

mod aes;
pub mod callback;
pub mod crypto;
pub mod form;
pub mod in_handshake;

use openssl::ssl::SslContext;
use testbed::client::TlsVersion;

use crate::clock::ThreadTime;
use crate::servers;
use crate::{Result, connection};
use callback::Callback;
use crypto::{Contexts, Ticket};
use in_handshake::{Asked, Moment};

/// How many contexts are made before the clock runs: enough that the clock costs little, few enough
/// that they are still in the processor's nearest cache, as those are that libssl has just made.
pub const BATCH: usize = 8;

/// A server whose callback can be asked, and a client that lets it be asked.
pub struct Desk {
    pub server: SslContext,
    client: SslContext,
    /// What makes the server open a ticket.
    session: Vec<u8>,
}

impl Desk {
    pub fn new(server: SslContext) -> Result<Desk> {
        callback::stand_in_front(&server)?;
        let client = servers::client(TlsVersion::V13)?;
        let session = connection::connect(&server, &client, None)?.session;
        Ok(Desk { server, client, session })
    }

    /// Does this while the server is asked to seal or to open a ticket.
    pub fn when<T>(&self, moment: Moment, work: impl FnOnce(Asked) -> Result<T>) -> Result<T> {
        let session = (moment == Moment::Opening).then_some(self.session.as_slice());
        in_handshake::run(&self.server, &self.client, session, moment, work)
    }

    /// Tickets that this server has sealed.
    pub fn seal(&self, count: usize) -> Result<Vec<Ticket>> {
        let mut tickets = vec![Ticket::blank(); count];
        self.when(Moment::Sealing, |asked| each(asked, &mut tickets, Contexts::seal))?;
        Ok(tickets)
    }
}

/// Something done with a ticket; whether it went well.
pub type Step = fn(&mut Contexts, Asked, &mut Ticket) -> bool;

/// Does this with each ticket; nanoseconds of this thread for one, without the making of contexts
/// and without the clock's own.
pub fn each(asked: Asked, tickets: &mut [Ticket], step: Step) -> Result<f64> {
    let make = || Contexts::new(asked.callback);
    in_batches(tickets, make, |contexts, ticket| step(contexts, asked, ticket))
}

/// The same, whoever makes the contexts and sets them.
pub fn in_batches(
    tickets: &mut [Ticket],
    make: impl Fn() -> Contexts,
    step: impl Fn(&mut Contexts, &mut Ticket) -> bool,
) -> Result<f64> {
    let count = tickets.len();
    let mut time = ThreadTime::default();
    for batch in tickets.chunks_mut(BATCH) {
        let mut contexts: Vec<_> = batch.iter().map(|_| make()).collect();
        let all = time.measure(|| contexts.iter_mut().zip(batch).all(|(one, t)| step(one, t)));
        if !all {
            return Err("a callback did not do with a ticket what it should".into());
        }
    }
    Ok(time.net_nanos() / count as f64)
}

/// Contexts for so many tickets.
pub fn fresh(callback: Callback, count: usize) -> Vec<Contexts> {
    (0..count).map(|_| Contexts::new(callback)).collect()
}
