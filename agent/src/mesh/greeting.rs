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
use super::connection::{Connection, farewell};
use super::frames::{End, Frames};
use super::link::Link;
use super::registry::{Dialler, Unwanted};
use super::shared::Shared;
use super::tls::Stream;

/// Nothing that is said here is longer, in bytes.
const MOST: usize = 512;

/// How it went.
pub enum Greeting {
    /// Both want the connection: it is in the registry, and the lock is its.
    Wanted(Box<Connection>, OwnedMutexGuard<()>),
    /// One of the two does not want it, for this good reason.
    Unwanted(NodeId, Unwanted),
}

/// A connection on which nothing was said yet.
struct Fresh<'a> {
    shared: &'a Shared,
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
    shared: &Shared,
    stream: Stream,
    address: SocketAddr,
    dialler: Dialler,
    entered: &mut Option<Rc<Link>>,
) -> Result<Greeting, End> {
    let (reader, writer) = tokio::io::split(stream);
    let frames = Frames::new(reader, &shared.timing);
    let fresh = Fresh { shared, address, frames, writer, ages: Ages::new(shared.now()) };
    match dialler {
        Dialler::We => fresh.dialled(entered).await,
        Dialler::They => fresh.accepted(entered).await,
    }
}

/// Removes a connection that did not come about.
pub fn forget(shared: &Shared, entered: Option<Rc<Link>>) {
    if let Some(link) = entered {
        shared.registry.borrow_mut().remove(&link);
        shared.changed.notify_waiters();
    }
}

impl Fresh<'_> {
    async fn accepted(mut self, entered: &mut Option<Rc<Link>>) -> Result<Greeting, End> {
        let asked = self.shared.now();
        self.say(&wire::hello(&self.shared.me.hello(), asked)).await?;
        let hello = self.hello().await?;
        self.ages.answered(asked, self.shared.now());
        let (link, turn) = match self.enter(&hello, Dialler::They, entered).await {
            Ok(entered) => entered,
            Err(unwanted) => return Ok(self.part(&hello, unwanted).await),
        };
        let now = self.shared.now();
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
        let asked = self.shared.now();
        self.say(&wire::hello(&self.shared.me.hello(), asked)).await?;
        let ping = match self.hear().await {
            // It has another one with this node, of which this side may not have heard yet.
            Err(End::Closed(_)) => return Ok(Greeting::Unwanted(hello.node, Unwanted::Duplicate)),
            heard => heard?,
        };
        let Said::Ping(number) = ping else {
            return Err(End::Flaw("it answers with something else than a ping".into()));
        };
        let now = self.shared.now();
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
            let mut registry = self.shared.registry.borrow_mut();
            registry.wants(&self.shared.me, hello, dialler)?;
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
        said.map_err(|error| End::Closed(format!("the connection broke: {error}")))
    }

    async fn hear(&mut self) -> Result<Said, End> {
        let frame = self.frames.next(MOST).await?;
        let now: Time = self.shared.now();
        let frame = wire::decode(&frame).map_err(|flaw| End::Flaw(flaw.to_string()))?;
        self.ages.heard(frame.sent, now);
        Ok(frame.said)
    }

    async fn hello(&mut self) -> Result<Hello, End> {
        let Said::Hello(hello) = self.hear().await? else {
            return Err(End::Flaw("it does not say who it is".into()));
        };
        let me = &self.shared.me;
        if hello.ring != me.ring {
            return Err(End::Flaw(format!(
                "it shares the ring {:?}, and this agent {:?}: a mesh is for rings of one name",
                hello.ring, me.ring
            )));
        }
        Ok(hello)
    }
}
