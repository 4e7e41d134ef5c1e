//! A connection: the frames that come from it, and, once both ends have said who they are,
//! listening, speaking and signs of life until it ends.

use std::rc::Rc;
use std::time::Duration;
use std::{fmt, io};

use tktrot::clock::Time;
use tktrot_fleet::message::Message;
use tktrot_fleet::wire::{self, Bytes, Frame, MAX, PREFIX, Said};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use super::about::{self, Settings, Theirs};
use super::age::Ages;
use super::link::{Link, Queue};
use super::state::{MeshEvent, MeshState, Timing};
use super::tls::Stream;

/// How often the other end is told of this host: its clock may change at any time.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// A connection that this node wants, and whether the other one does.
pub struct Connection {
    pub link: Rc<Link>,
    pub frames: Frames<ReadHalf<Stream>>,
    pub writer: WriteHalf<Stream>,
    pub ages: Ages,
}

impl Connection {
    /// Tells the agent of it, works until it ends, and tells that, too.
    pub async fn run(self, state: &MeshState) {
        let Connection { link, mut frames, mut writer, ages } = self;
        let (node, address) = (link.hello.node, link.address);
        link.is_up.set(true);
        tracing::info!(%node, %address, dialler = %link.dialler, "connected");
        // First, so that the peer knows with which release it deals.
        if let Some(settings) = state.settings.get() {
            // There is room: nothing was said yet.
            let _ = tell(state, &link, settings);
        }
        state.tell(MeshEvent::Up(link.clone())).await;
        let end = tokio::select! {
            end = listen(state, &link, &mut frames, ages) => end,
            end = speak(&link.queue, &mut writer, state.timing.silence) => end,
            end = ping(state, &link) => end,
            reason = link.stop.heard() => End::Stopped(reason),
        };
        let reason = end.to_string();
        if let End::Flaw(_) = end {
            state.complain(address.ip(), &reason);
        }
        tracing::info!(%node, %address, reason, "disconnected");
        state.targets.borrow().lost(node, &reason, state.now());
        farewell(&mut writer).await;
        if let End::ClosedHere = end {
            // A socket that is closed with something unread in it resets the connection, and the
            // last words with it. The other end closes when it has heard them.
            let _ = timeout(state.timing.farewell, frames.ignore()).await;
        }
        state.tell(MeshEvent::Down(link, reason)).await;
    }
}

/// Why a connection ends.
#[derive(Debug)]
pub enum End {
    /// The agent has nothing more to say.
    ClosedHere,
    /// Somebody here does not want it any more: why.
    Stopped(String),
    /// The other end closed it.
    Closed,
    /// The connection broke.
    Broken(io::Error),
    /// The other end says nothing for so long.
    Silent(Duration),
    /// The other end does not take what is sent to it.
    NotReading,
    /// The other end talks, and does not answer.
    NotAnswering,
    /// The other end does what no honest one does.
    Flaw(Flaw),
}

/// What no honest peer does.
#[derive(Debug)]
pub enum Flaw {
    /// It takes too long over a message.
    Slow,
    /// What it sends is not a message of the protocol.
    Wire(wire::Flaw),
    /// It does not say first who it is.
    NoHello,
    /// It says twice who it is.
    SecondHello,
    /// It does not answer a greeting as it must.
    NoPing,
    /// It shares another ring: its ring, and this node's.
    OtherRing(String, String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::ClosedHere => f.write_str("closed here"),
            End::Stopped(reason) => f.write_str(reason),
            End::Closed => f.write_str("it closed the connection"),
            End::Broken(error) => write!(f, "the connection broke: {error}"),
            End::Silent(span) => write!(f, "silent for {} s", span.as_secs_f32()),
            End::NotReading => f.write_str("it does not read what it is sent"),
            End::NotAnswering => f.write_str("it does not answer"),
            End::Flaw(flaw) => flaw.fmt(f),
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Slow => f.write_str("it takes too long over a message"),
            Flaw::Wire(flaw) => flaw.fmt(f),
            Flaw::NoHello => f.write_str("it does not say who it is"),
            Flaw::SecondHello => f.write_str("it says twice who it is"),
            Flaw::NoPing => f.write_str("it does not answer the greeting with a ping"),
            Flaw::OtherRing(theirs, ours) => write!(
                f,
                "it shares the ring {theirs}, this agent {ours}: all rings of a mesh must have \
                 the same name"
            ),
        }
    }
}

impl From<Flaw> for End {
    fn from(flaw: Flaw) -> Self {
        End::Flaw(flaw)
    }
}

impl From<wire::Flaw> for End {
    fn from(flaw: wire::Flaw) -> Self {
        End::Flaw(Flaw::Wire(flaw))
    }
}

/// Says that nothing more comes, if that can be said at once.
pub async fn farewell(writer: &mut (impl AsyncWrite + Unpin)) {
    // Whether it can be said or not, the connection ends.
    let _ = timeout(Duration::from_millis(100), writer.shutdown()).await;
}

async fn listen(
    state: &MeshState,
    link: &Rc<Link>,
    frames: &mut Frames<ReadHalf<Stream>>,
    mut ages: Ages,
) -> End {
    loop {
        let frame = match frames.next(MAX).await {
            Ok(frame) => frame,
            Err(end) => return end,
        };
        let at = state.now();
        let Frame { sent, said } = match wire::decode(&frame) {
            Ok(frame) => frame,
            Err(flaw) => return flaw.into(),
        };
        let age = ages.heard(sent, at);
        match said {
            Said::Hello(_) => return Flaw::SecondHello.into(),
            Said::Ping(number) => {
                if !link.queue.push(wire::pong(number, at)) {
                    return End::NotReading;
                }
            }
            Said::Pong(number) => {
                // The number is the time at which it was asked.
                let asked = Time(number);
                if link.answered(asked) {
                    ages.answered(asked, at);
                    link.round_trip.set(ages.round_trip());
                }
            }
            Said::About(about) => drop(link.told.replace(Some(Theirs::heard(about, age)))),
            Said::Unknown(kind) => {
                let reason =
                    format!("skipped a message of type {kind}, which a later version sends");
                state.complain(link.address.ip(), &reason);
            }
            Said::Message(message) => {
                if let Message::Taken(_) = message {
                    link.acknowledged.set(Some(at));
                }
                let from = link.hello.node;
                state.tell(MeshEvent::Received { from, message, age, at }).await;
            }
        }
    }
}

/// Sends what is in the queue.
async fn speak(queue: &Queue, writer: &mut (impl AsyncWrite + Unpin), silence: Duration) -> End {
    while let Some(frame) = queue.next().await {
        let mut rest = &frame[..];
        while !rest.is_empty() {
            match timeout(silence, writer.write(rest)).await {
                Ok(Ok(written)) if written > 0 => rest = &rest[written..],
                Ok(Ok(_)) => return End::Closed,
                Ok(Err(error)) => return End::Broken(error),
                Err(_) => return End::NotReading,
            }
        }
    }
    End::ClosedHere
}

/// Tells the other end of this host; false if there is no room for it.
fn tell(state: &MeshState, link: &Link, settings: Settings) -> bool {
    let about = about::own(settings);
    state.addresses.replace(about.addresses.clone());
    link.queue.push(wire::about(&about, state.now()))
}

/// Gives signs of life, and measures the round trip. Now and then, and after a change, tells of this host.
async fn ping(state: &MeshState, link: &Link) -> End {
    let mut told = (state.settings.get(), state.now());
    let mut ticks = interval(state.timing.ping);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = state.now();
        if link.unanswered(now) > 3 * state.timing.silence {
            return End::NotAnswering;
        }
        link.asked(now);
        if !link.queue.push(wire::ping(now.0, now)) {
            return End::NotReading;
        }
        let settings = state.settings.get();
        if let Some(new) =
            settings.filter(|_| settings != told.0 || told.1.until(now) >= TELL_EVERY)
        {
            told = (settings, now);
            if !tell(state, link, new) {
                return End::NotReading;
            }
        }
    }
}

/// The receiving half of a connection: frames are never waited for without an end, and none gets more
/// memory than it may have.
pub struct Frames<R> {
    stream: R,
    silence: Duration,
    message: Duration,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub fn new(stream: R, timing: &Timing) -> Self {
        Frames { stream, silence: timing.silence, message: timing.message }
    }

    /// The next frame, its length left out, of at most `most` bytes.
    ///
    /// # Errors
    ///
    /// It does not come, not in time, or is too long.
    pub async fn next(&mut self, most: usize) -> Result<Bytes, End> {
        let mut prefix = [0; PREFIX];
        let first = self.some(&mut prefix).await?;
        let end = Instant::now() + self.message;
        let rest = self.all(&mut prefix[first..]);
        in_time(timeout_at(end, rest).await)?;
        let length = wire::length(prefix, most)?;
        let mut frame = Bytes::new(vec![0; length]);
        in_time(timeout_at(end, self.all(&mut frame)).await)?;
        Ok(frame)
    }

    /// Reads to the end, for nothing.
    pub async fn ignore(&mut self) {
        let mut nothing = [0; 1024];
        while matches!(self.stream.read(&mut nothing).await, Ok(1..)) {}
    }

    async fn all(&mut self, buffer: &mut [u8]) -> Result<(), End> {
        let mut filled = 0;
        while filled < buffer.len() {
            filled += self.some(&mut buffer[filled..]).await?;
        }
        Ok(())
    }

    /// Reads what there is, a byte at least.
    async fn some(&mut self, buffer: &mut [u8]) -> Result<usize, End> {
        match timeout(self.silence, self.stream.read(buffer)).await {
            Ok(Ok(0)) => Err(End::Closed),
            Ok(Ok(read)) => Ok(read),
            Ok(Err(error)) => Err(End::Broken(error)),
            Err(_) => Err(End::Silent(self.silence)),
        }
    }
}

fn in_time(read: Result<Result<(), End>, tokio::time::error::Elapsed>) -> Result<(), End> {
    read.unwrap_or_else(|_| Err(Flaw::Slow.into()))
}
