//! The first words on a connection: who is there, and whether it is wanted.
//!
//! The accepting side speaks first. The dialling side answers if it wants the connection, else it
//! closes it. The accepting side then sends a ping if it wants it, too, else it closes it. Each of
//! the two has then seen an answer to what it said, so that it knows a round trip, before the first
//! message that is not about the connection itself.

use std::net::SocketAddr;
use std::rc::Rc;

use tktrot::clock::Time;
use tktrot_fleet::message::NodeId;
use tktrot_fleet::wire::{self, Bytes, Hello, Said};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::OwnedMutexGuard;

use super::age::Ages;
use super::connection::{Connection, End, Flaw, Frames, farewell};
use super::link::{Dialler, Link};
use super::registry::Unwanted;
use super::state::MeshState;
use super::tls::Stream;

/// Nothing that is said here is longer, in bytes.
const MOST: usize = 512;

/// How a greeting ended.
pub enum Greeting {
    /// Both want the connection: it is in the registry, and holds the lock.
    Wanted(Box<Connection>, OwnedMutexGuard<()>),
    /// One of the two does not want it, for this good reason.
    Unwanted(NodeId, Unwanted),
}

/// A connection on which nothing was said yet.
struct Fresh<'a> {
    state: &'a MeshState,
    address: SocketAddr,
    frames: Frames<ReadHalf<Stream>>,
    writer: WriteHalf<Stream>,
    ages: Ages,
}

/// Greets the other end. Takes no longer than a handshake may: the caller sees to that, and removes
/// from the registry what is left there if it gives up ([`forget`]).
///
/// # Errors
///
/// The other end says nothing, or what no peer of this mesh says.
pub async fn greet(
    state: &MeshState,
    stream: Stream,
    address: SocketAddr,
    dialler: Dialler,
    entered: &mut Option<Rc<Link>>,
) -> Result<Greeting, End> {
    let (reader, writer) = tokio::io::split(stream);
    let frames = Frames::new(reader, &state.timing);
    let fresh = Fresh { state, address, frames, writer, ages: Ages::new(state.now()) };
    match dialler {
        Dialler::We => fresh.dialled(entered).await,
        Dialler::They => fresh.accepted(entered).await,
    }
}

/// Removes a connection that did not come about.
pub fn forget(state: &MeshState, entered: Option<Rc<Link>>) {
    if let Some(link) = entered {
        state.registry.borrow_mut().remove(&link);
        state.changed.notify_waiters();
    }
}

impl Fresh<'_> {
    async fn accepted(mut self, entered: &mut Option<Rc<Link>>) -> Result<Greeting, End> {
        let asked = self.state.now();
        self.say(&wire::hello(&self.state.me, asked)).await?;
        let hello = self.hello().await?;
        self.ages.answered(asked, self.state.now());
        let (link, turn) = match self.enter(&hello, Dialler::They, entered).await {
            Ok(entered) => entered,
            Err(unwanted) => return Ok(self.part(&hello, unwanted).await),
        };
        let now = self.state.now();
        link.asked(now);
        self.say(&wire::ping(now.0, now)).await?;
        Ok(self.wanted(link, turn))
    }

    async fn dialled(mut self, entered: &mut Option<Rc<Link>>) -> Result<Greeting, End> {
        let hello = self.hello().await?;
        let (link, turn) = match self.enter(&hello, Dialler::We, entered).await {
            Ok(entered) => entered,
            Err(unwanted) => return Ok(self.part(&hello, unwanted).await),
        };
        let asked = self.state.now();
        self.say(&wire::hello(&self.state.me, asked)).await?;
        let ping = match self.hear().await {
            // It has another one with this node, of which this side may not have heard yet.
            Err(End::Closed | End::Broken(_)) => {
                return Ok(Greeting::Unwanted(hello.node, Unwanted::Duplicate));
            }
            heard => heard?,
        };
        let Said::Ping(number) = ping else {
            return Err(Flaw::NoPing.into());
        };
        let now = self.state.now();
        self.ages.answered(asked, now);
        self.say(&wire::pong(number, now)).await?;
        Ok(self.wanted(link, turn))
    }

    /// Puts the connection into the registry if it is wanted there, and waits for its turn.
    async fn enter(
        &mut self,
        hello: &Hello,
        dialler: Dialler,
        entered: &mut Option<Rc<Link>>,
    ) -> Result<(Rc<Link>, OwnedMutexGuard<()>), Unwanted> {
        let turn = {
            let mut registry = self.state.registry.borrow_mut();
            registry.wants(&self.state.me, hello, dialler)?;
            let link = Rc::new(Link::new(hello.clone(), dialler, self.address));
            *entered = Some(link.clone());
            registry.put(&link)
        };
        let turn = turn.lock_owned().await;
        let link = entered.clone().expect("it was entered above");
        Ok((link, turn))
    }

    async fn part(&mut self, hello: &Hello, unwanted: Unwanted) -> Greeting {
        farewell(&mut self.writer).await;
        Greeting::Unwanted(hello.node, unwanted)
    }

    fn wanted(self, link: Rc<Link>, turn: OwnedMutexGuard<()>) -> Greeting {
        link.round_trip.set(self.ages.round_trip());
        let Fresh { frames, writer, ages, .. } = self;
        Greeting::Wanted(Box::new(Connection { link, frames, writer, ages }), turn)
    }

    async fn say(&mut self, frame: &Bytes) -> Result<(), End> {
        let said = self.writer.write_all(frame).await;
        said.map_err(End::Broken)
    }

    async fn hear(&mut self) -> Result<Said, End> {
        let frame = self.frames.next(MOST).await?;
        let now: Time = self.state.now();
        let frame = wire::decode(&frame)?;
        self.ages.heard(frame.sent, now);
        Ok(frame.said)
    }

    async fn hello(&mut self) -> Result<Hello, End> {
        let Said::Hello(hello) = self.hear().await? else {
            return Err(Flaw::NoHello.into());
        };
        let me = &self.state.me;
        if hello.ring != me.ring {
            return Err(Flaw::OtherRing(hello.ring, me.ring.clone()).into());
        }
        Ok(hello)
    }
}
