//! The connection to Redis: kept up, and asked one thing after the other. It never holds up the agent,
//! which hears of every answer, and of every end, through a channel. A Redis that writes keys to disk is
//! not used.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisResult, pipe};
use tktrot::clock::{BootClock, Clock, nanos};
use tktrot_fleet::redis::clock::{ClockReading, RedisTime};
use tktrot_fleet::redis::stored::Slot;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::groups;
use super::script::{Burial, Found, Names, Parcel, Polled};
use super::target::{Target, in_words, is_moving};

/// After a failure, the first pause; each one is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After this time, a Redis that is not to be used is looked at again.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// For so long, keys that move from one node of a cluster to another one are no reason to be alone.
const MOVING: Duration = Duration::from_secs(10);

/// What Redis is asked.
#[derive(Debug)]
pub enum Request {
    /// The time, and the mark.
    Poll,
    /// All that the ring has there, and what is in these slots.
    Look(Vec<Slot>),
    /// To store these keys, and to record what was revoked.
    Write(Vec<Parcel>, Option<Burial>),
}

/// What the client tells the agent.
#[derive(Debug)]
pub enum ClientEvent {
    /// Redis at this address can be asked; and what an operator should know of it.
    Up { address: String, warning: Option<String> },
    /// Redis cannot be asked, or no longer: why.
    Down(String),
    /// Redis answers but must not be used: why.
    Refused(String),
    /// The answer to [`Request::Poll`].
    Polled(ClockReading, Polled),
    /// The answer to [`Request::Look`].
    Looked(ClockReading, Found),
    /// The answer to [`Request::Write`].
    Written,
    /// Somebody has changed something.
    Heard,
}

/// How to be a client of Redis.
pub struct Options {
    /// Where Redis is.
    pub target: Target,
    /// What the ring's things are called there.
    pub names: Names,
    /// Goes on with one that writes to disk.
    pub allow_persistence: bool,
    /// How often it is asked at least.
    pub poll: Duration,
    /// A change is looked at within this time, a revocation within half of it: not by all hosts at once.
    pub spread: Duration,
}

/// A connection that is kept up; it ends when this is dropped.
pub struct RedisClient {
    requests: mpsc::UnboundedSender<Request>,
    task: JoinHandle<()>,
}

impl RedisClient {
    /// Begins to connect. To be called inside a `LocalSet`.
    pub fn start(options: Options) -> (RedisClient, mpsc::Receiver<ClientEvent>) {
        // No more requests are on their way than the state machine has open.
        let (requests, asked) = mpsc::unbounded_channel();
        let (events, heard) = mpsc::channel(16);
        let keeper = Keeper { options, asked, events, moving_since: None };
        (RedisClient { requests, task: tokio::task::spawn_local(keeper.keep()) }, heard)
    }

    /// Asks, if Redis can be asked.
    pub fn ask(&self, request: Request) {
        // It fails only at the very end.
        let _ = self.requests.send(request);
    }
}

impl Drop for RedisClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Keeper {
    options: Options,
    asked: mpsc::UnboundedReceiver<Request>,
    events: mpsc::Sender<ClientEvent>,
    /// Since then a cluster moves the ring's keys, or has moved them, and they were not found since.
    moving_since: Option<Instant>,
}

/// Messages that came, of which it does not matter how many.
#[derive(Default)]
struct Bell {
    rung: Notify,
    urgent: AtomicBool,
    broken: AtomicBool,
}

/// Why there is no connection.
enum End {
    Failed(anyhow::Error),
    Refused(&'static str),
    /// The keys move to another node, or have moved.
    Moving(anyhow::Error),
    /// The agent does not listen any more.
    Unwanted,
}

impl From<anyhow::Error> for End {
    fn from(error: anyhow::Error) -> End {
        if is_moving(&error) { End::Moving(error) } else { End::Failed(error) }
    }
}

impl Keeper {
    async fn keep(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let down = |error| Some(ClientEvent::Down(in_words(&error)));
            let (event, least) = match self.connect_and_serve().await {
                End::Unwanted => return,
                End::Refused(why) => (Some(ClientEvent::Refused(why.into())), REFUSED_PAUSE),
                End::Failed(error) => (down(error), Duration::ZERO),
                End::Moving(error) => {
                    let since = self.moving_since.get_or_insert_with(Instant::now);
                    (if since.elapsed() < MOVING { None } else { down(error) }, Duration::ZERO)
                }
            };
            if let Some(event) = event
                && self.events.send(event).await.is_err()
            {
                return;
            }
            pause = if began.elapsed() > LONGEST_PAUSE { FIRST_PAUSE } else { pause * 2 };
            pause = pause.min(LONGEST_PAUSE);
            let pause = least.max(pause / 2 + pause.mul_f64(chance() / 2.0));
            // All hosts may have lost it at the same moment.
            sleep(pause + 2 * self.options.spread.mul_f64(chance())).await;
        }
    }

    async fn connect_and_serve(&mut self) -> End {
        let mut bell = Arc::new(Bell::default());
        // Each connection has its own: the end of one is not that of the next.
        let pushed = || {
            bell = Arc::default();
            let bell = bell.clone();
            move |info: PushInfo| {
                bell.ring(&info);
                Ok::<_, redis::aio::SendError>(())
            }
        };
        let Options { target, names, .. } = &self.options;
        let (mut connection, address) = match target.connect(&names.state(), pushed).await {
            Ok(connected) => connected,
            Err(error) => return error.into(),
        };
        let persistence = Persistence::of(&mut connection).await;
        if let Some(why) = persistence.objection(self.options.allow_persistence) {
            return End::Refused(why);
        }
        if let Err(error) = connection.subscribe(self.options.names.channel()).await {
            return End::Failed(error.into());
        }
        // Or it would be up and down again, up and down.
        if let Err(error) = self.options.names.try_writing(&mut connection).await {
            return error.context(format!("Redis at {address} stores nothing")).into();
        }
        while self.asked.try_recv().is_ok() {
            // Asked of a connection that is gone: asked again, where it still matters.
        }
        if self
            .events
            .send(ClientEvent::Up { address, warning: persistence.warning() })
            .await
            .is_err()
        {
            return End::Unwanted;
        }
        match self.serve(&mut connection, &bell).await {
            Ok(()) => End::Unwanted,
            Err(error) => error.into(),
        }
    }

    async fn serve(&mut self, connection: &mut MultiplexedConnection, bell: &Bell) -> Result<()> {
        let mut heard_at: Option<Instant> = None;
        loop {
            let due = heard_at.unwrap_or_else(Instant::now);
            let event = tokio::select! {
                request = self.asked.recv() => match request {
                    Some(request) => self.answer(connection, request).await?,
                    None => return Ok(()),
                },
                () = bell.rung.notified() => {
                    if bell.broken.load(Ordering::Relaxed) {
                        bail!("the connection was closed");
                    }
                    let urgent = bell.urgent.swap(false, Ordering::Relaxed);
                    let due = Instant::now() + pause_after_news(self.options.spread, urgent);
                    heard_at = Some(heard_at.map_or(due, |before| before.min(due)));
                    continue;
                },
                () = sleep_until(due), if heard_at.is_some() => {
                    heard_at = None;
                    ClientEvent::Heard
                },
            };
            if matches!(event, ClientEvent::Looked(..)) {
                self.moving_since = None;
            }
            if self.events.send(event).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn answer(
        &self,
        connection: &mut MultiplexedConnection,
        request: Request,
    ) -> Result<ClientEvent> {
        let names = &self.options.names;
        let asked = BootClock.now();
        let reading = |redis| {
            let (answered, host) = (BootClock.now(), RedisTime(time_of_day()));
            ClockReading { asked, answered, redis, host }
        };
        Ok(match request {
            Request::Poll => {
                let polled = names.poll(connection, groups::life(self.options.poll)).await?;
                ClientEvent::Polled(reading(polled.time), polled)
            }
            Request::Look(slots) => {
                let found = names.look(connection, &slots).await?;
                ClientEvent::Looked(reading(found.time), found)
            }
            Request::Write(parcels, burial) => {
                if let Some(burial) = &burial {
                    names.bury(connection, burial).await?;
                }
                names.store(connection, &parcels).await?;
                ClientEvent::Written
            }
        })
    }
}

impl Bell {
    fn ring(&self, info: &PushInfo) {
        match info.kind {
            PushKind::Disconnection => self.broken.store(true, Ordering::Relaxed),
            PushKind::Message => {
                let revoked = redis::Value::BulkString(b"revoked".into());
                if info.data.last() == Some(&revoked) {
                    self.urgent.store(true, Ordering::Relaxed);
                }
            }
            _ => return,
        }
        self.rung.notify_one();
    }
}

/// How long after it has heard something a host asks what it is.
fn pause_after_news(spread: Duration, urgent: bool) -> Duration {
    spread.mul_f64(chance()) / if urgent { 2 } else { 1 }
}

/// Nanoseconds since 1970, as this host believes.
fn time_of_day() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, nanos)
}

/// A number from 0 to 1, so that not all hosts do the same at the same moment.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without a generator all do; keys are not made then either.
    let _ = openssl::rand::rand_bytes(&mut bytes);
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

/// Whether a Redis writes to disk what it holds, as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It writes nothing.
    None,
    /// It writes a snapshot now and then.
    Snapshots,
    /// It writes every change.
    EveryChange,
    /// It does not say: why.
    Unknown(String),
}

impl Persistence {
    /// Asks Redis whether it writes to disk (CONFIG GET).
    pub async fn of(connection: &mut MultiplexedConnection) -> Persistence {
        // At once: an answer may take seconds.
        let mut questions = pipe();
        for name in ["appendonly", "save"] {
            questions.cmd("CONFIG").arg("GET").arg(name);
        }
        let answers: RedisResult<[HashMap<String, String>; 2]> =
            questions.query_async(connection).await;
        let [appends, points] = match answers {
            Ok(answers) => answers,
            Err(error) => return Persistence::Unknown(error.to_string()),
        };
        match (appends.get("appendonly"), points.get("save")) {
            (Some(appends), _) if appends == "yes" => Persistence::EveryChange,
            (_, Some(points)) if !points.is_empty() => Persistence::Snapshots,
            _ => Persistence::None,
        }
    }

    /// Why a Redis like this is not used; `None` if it is.
    pub fn objection(&self, allowed: bool) -> Option<&'static str> {
        (*self == Persistence::EveryChange && !allowed).then_some(
            "it writes every change to disk (appendonly yes), so that keys outlive their end there: \
             whoever gets the disk and the fleet secret later can read recorded traffic. Give keys \
             a Redis of their own with appendonly no and save \"\" (nothing is lost with it: the \
             agents put back what it forgets), or set allow_persistence = true in [redis]",
        )
    }

    /// What an operator should know of a Redis that is used.
    pub fn warning(&self) -> Option<String> {
        match self {
            Persistence::None => None,
            Persistence::Snapshots => Some(
                "it writes snapshots to disk (save is not empty), in which wrapped keys may outlive \
                 their end: with the fleet secret they can be read. Set save \"\" there"
                    .into(),
            ),
            Persistence::EveryChange => Some(
                "it writes every change to disk (appendonly yes), which allow_persistence allows: \
                 recorded traffic stays secret only as long as the fleet secret does"
                    .into(),
            ),
            Persistence::Unknown(why) => Some(format!(
                "cannot check whether it writes keys to disk ({why}); allow this user \
                 `+config|get`, or make sure that appendonly is no and save is empty"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With `poll = "30s"`, as `docs/fleet.md` has it for so many hosts.
    #[test]
    fn a_hundred_thousand_hosts_do_not_ask_at_once_what_was_revoked() {
        let spread = Duration::from_secs(15);
        // How many ask in each tenth of a second.
        let busiest = |urgent| {
            let mut asking = [0_u32; 150];
            for _ in 0..100_000 {
                let pause = pause_after_news(spread, urgent).as_millis() as usize;
                asking[(pause / 100).min(149)] += 1;
            }
            let last = asking.iter().rposition(|hosts| *hosts > 0).unwrap();
            (asking.into_iter().max().unwrap(), last)
        };
        let (most, last) = busiest(true);
        assert!(most < 1_600 && last < 76, "{most} in a tenth of a second, up to {last}");
        let (most, _) = busiest(false);
        assert!(most < 900, "{most} in a tenth of a second");
    }
}
