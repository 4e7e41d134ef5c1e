//! What the service manager is told (sd_notify(3)), if there is one.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// What is not yet told, at most: a manager that does not listen is not waited for.
const UNTOLD: usize = 16;
/// How long a manager that does not listen keeps an agent that stops.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The service manager.
pub struct Manager {
    /// To the thread that tells it, if there is one to be told.
    teller: Option<Teller>,
    status: String,
    is_ready: bool,
    /// How often it wants a sign of life, and when it had the last one.
    watchdog: Option<(Duration, Instant)>,
}

struct Teller {
    say: SyncSender<Notice>,
    /// Closed when all is told.
    done: Receiver<()>,
}

enum Notice {
    Ready,
    Reloading,
    Status(String),
    Alive,
    Stopping,
}

impl Manager {
    /// The service manager that the environment names ($NOTIFY_SOCKET), if any.
    pub fn new() -> Self {
        let limit = sd_notify::watchdog_enabled();
        Manager {
            teller: std::env::var_os("NOTIFY_SOCKET").map(|_| teller()),
            status: String::new(),
            is_ready: false,
            // Twice as often as it must be (sd_watchdog_enabled(3)).
            watchdog: limit.map(|limit| (limit / 2, Instant::now())),
        }
    }

    /// Whether [`Manager::ready`] was called.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Servers may start.
    pub fn ready(&mut self) {
        self.is_ready = self.tell(Notice::Ready);
    }

    /// Settings are read again; [`Manager::ready`] is to be told afterwards.
    pub fn reloading(&mut self) {
        self.is_ready = false;
        self.tell(Notice::Reloading);
    }

    /// In a line, how it goes.
    pub fn status(&mut self, status: String) {
        if status != self.status && self.tell(Notice::Status(status.clone())) {
            self.status = status;
        }
    }

    /// The agent lives. May be called often.
    pub fn alive(&mut self) {
        if let Some((every, last)) = &mut self.watchdog
            && last.elapsed() >= *every
        {
            *last = Instant::now();
            self.tell(Notice::Alive);
        }
    }

    /// The agent stops.
    pub fn stopping(&mut self) {
        self.tell(Notice::Stopping);
    }

    /// Waits, not for long, until all is told: what is not is lost when the process ends.
    pub fn hang_up(self) {
        if let Some(Teller { say, done }) = self.teller {
            drop(say);
            let _ = done.recv_timeout(LAST_WORDS);
        }
    }

    /// False if it is to be said again.
    fn tell(&self, said: Notice) -> bool {
        self.teller.as_ref().is_none_or(|teller| teller.say.try_send(said).is_ok())
    }
}

/// A thread, because the manager's socket may be full for as long as it likes.
fn teller() -> Teller {
    let (say, told) = sync_channel(UNTOLD);
    let (all_told, done) = sync_channel(0);
    thread::spawn(move || {
        let _all_told: SyncSender<()> = all_told;
        for said in told {
            match said {
                Notice::Ready => tell(&[NotifyState::Ready]),
                // With the time, or a manager of systemd 253 or later takes it for a failure.
                Notice::Reloading => match NotifyState::monotonic_usec_now() {
                    Ok(now) => tell(&[NotifyState::Reloading, now]),
                    Err(error) => tracing::warn!(%error, "cannot read the clock"),
                },
                Notice::Status(status) => tell(&[NotifyState::Status(&status)]),
                Notice::Alive => tell(&[NotifyState::Watchdog]),
                Notice::Stopping => tell(&[NotifyState::Stopping]),
            }
        }
    });
    Teller { say, done }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
