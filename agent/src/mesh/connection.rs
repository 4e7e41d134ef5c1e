//! A connection from the moment on when both ends have said who they are.

use std::rc::Rc;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot_fleet::message::Message;
use tktrot_fleet::wire::{self, Frame, MAX, Said};
use tokio::io::{AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::age::Ages;
use super::events::Noticed;
use super::frames::{End, Frames};
use super::link::Link;
use super::queue::Queue;
use super::shared::Shared;
use super::tls::Stream;

/// A connection that this node wants, and whether the other one does.
pub struct Connection {
    pub link: Rc<Link>,
    pub frames: Frames<ReadHalf<Stream>>,
    pub writer: WriteHalf<Stream>,
    pub ages: Ages,
}

/// The agent has nothing more to say.
const CLOSED_HERE: &str = "closed here";

impl Connection {
    /// Tells the agent of it, works until it ends, and tells that, too; returns why.
    pub async fn run(self, shared: &Shared) -> String {
        let Connection { link, mut frames, mut writer, ages } = self;
        let (node, address) = (link.hello.node, link.address);
        link.is_up.set(true);
        tracing::info!(%node, %address, dialler = ?link.dialler, "connected");
        shared.tell(Noticed::Up(link.clone())).await;
        let reason = tokio::select! {
            end = listen(shared, &link, &mut frames, ages) => {
                if let End::Flaw(flaw) = &end {
                    shared.complain(link.address.ip(), flaw);
                }
                end.reason().to_owned()
            }
            reason = speak(&link.queue, &mut writer, shared.timing.silence) => reason,
            reason = ping(shared, &link) => reason,
            reason = link.stop.heard() => reason,
        };
        tracing::info!(%node, %address, reason, "disconnected");
        farewell(&mut writer).await;
        if reason == CLOSED_HERE {
            // A socket that is closed with something unread in it resets the connection, and the
            // last words with it. The other end closes when it has heard them.
            let _ = timeout(shared.timing.farewell, frames.ignore()).await;
        }
        shared.tell(Noticed::Down(link, reason.clone())).await;
        reason
    }
}

/// Says that nothing more comes, if that can be said at once.
pub async fn farewell(writer: &mut (impl AsyncWrite + Unpin)) {
    // Whether it can be said or not, the connection ends.
    let _ = timeout(Duration::from_millis(100), writer.shutdown()).await;
}

async fn listen(
    shared: &Shared,
    link: &Rc<Link>,
    frames: &mut Frames<ReadHalf<Stream>>,
    mut ages: Ages,
) -> End {
    loop {
        let frame = match frames.next(MAX).await {
            Ok(frame) => frame,
            Err(end) => return end,
        };
        let at = shared.now();
        let Frame { sent, said } = match wire::decode(&frame) {
            Ok(frame) => frame,
            Err(flaw) => return End::Flaw(flaw.to_string()),
        };
        let age = ages.heard(sent, at);
        match said {
            Said::Hello(_) => return End::Flaw("it says twice who it is".into()),
            Said::Ping(number) => {
                if !link.queue.push(wire::pong(number, at)) {
                    return End::Closed(NOT_READING.into());
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
            Said::Unknown(kind) => {
                let reason =
                    format!("skipped a message of type {kind}, which is of a later version");
                shared.complain(link.address.ip(), &reason);
            }
            Said::Message(message) => {
                if let Message::Taken(_) = message {
                    link.acknowledged.set(Some(at));
                }
                let from = link.hello.node;
                shared.tell(Noticed::Received { from, message, age, at }).await;
            }
        }
    }
}

/// Why a connection ends whose queue is full.
pub const NOT_READING: &str = "it does not read what it is sent";

/// Sends what is in the queue.
async fn speak(queue: &Queue, writer: &mut (impl AsyncWrite + Unpin), silence: Duration) -> String {
    while let Some(frame) = queue.next().await {
        let mut rest = &frame[..];
        while !rest.is_empty() {
            match timeout(silence, writer.write(rest)).await {
                Ok(Ok(written)) if written > 0 => rest = &rest[written..],
                Ok(Ok(_)) => return "it closed the connection".into(),
                Ok(Err(error)) => return format!("the connection broke: {error}"),
                Err(_) => return NOT_READING.into(),
            }
        }
    }
    CLOSED_HERE.into()
}

/// Gives signs of life, and measures the round trip.
async fn ping(shared: &Shared, link: &Link) -> String {
    let mut ticks = interval(shared.timing.ping);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = shared.now();
        if link.unanswered(now) > 3 * shared.timing.silence {
            return "it does not answer".into();
        }
        link.asked(now);
        if !link.queue.push(wire::ping(now.0, now)) {
            return NOT_READING.into();
        }
    }
}
