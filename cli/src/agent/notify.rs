//! What the service manager is told (sd_notify(3)), if there is one that wants to know.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The service manager.
pub struct Manager {
    status: String,
    is_ready: bool,
    /// How often it wants a sign of life, and when it had the last one.
    watchdog: Option<(Duration, Instant)>,
}

impl Manager {
    /// As the environment says.
    pub fn new() -> Self {
        let limit = sd_notify::watchdog_enabled();
        Manager {
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
        self.is_ready = true;
        tell(NotifyState::Ready);
    }

    /// In a line, how it goes.
    pub fn status(&mut self, status: String) {
        if status != self.status {
            tell(NotifyState::Status(&status));
            self.status = status;
        }
    }

    /// The agent lives. May be called often.
    pub fn alive(&mut self) {
        if let Some((every, last)) = &mut self.watchdog
            && last.elapsed() >= *every
        {
            *last = Instant::now();
            tell(NotifyState::Watchdog);
        }
    }

    /// The agent stops.
    pub fn stopping(&mut self) {
        tell(NotifyState::Stopping);
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
