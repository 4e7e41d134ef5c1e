//! How long is waited for what.

use std::time::Duration;

/// The times of a mesh; tests have shorter ones.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Until a new connection's other end has proved who it is, and has said so.
    pub handshake: Duration,
    /// Between signs of life.
    pub ping: Duration,
    /// Without a sign of life the other end is gone; so is one that takes nothing.
    pub silence: Duration,
    /// From the first byte of a message to its last.
    pub message: Duration,
    /// Between attempts to connect: at first, and at last.
    pub redial: (Duration, Duration),
    /// Between look-ups of a name.
    pub lookup: Duration,
    /// For what is still to be sent when the agent stops.
    pub farewell: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            handshake: Duration::from_secs(5),
            ping: Duration::from_secs(1),
            silence: Duration::from_secs(3),
            message: Duration::from_secs(10),
            redial: (Duration::from_millis(500), Duration::from_secs(5)),
            lookup: Duration::from_secs(30),
            farewell: Duration::from_secs(1),
        }
    }
}
