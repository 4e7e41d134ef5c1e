//! Frames, as they come from a connection: never waited for without an end, and no more memory for
//! one than it may have.

use std::time::Duration;

use tktrot_fleet::wire::{self, Bytes, PREFIX};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::timing::Timing;

/// Why there is no more.
#[derive(Debug)]
pub enum End {
    /// The other end closed the connection, or it broke.
    Closed(String),
    /// The other end says nothing for too long.
    Silent(String),
    /// The other end does what no honest one does.
    Flaw(String),
}

impl End {
    /// The reason.
    pub fn reason(&self) -> &str {
        match self {
            End::Closed(reason) | End::Silent(reason) | End::Flaw(reason) => reason,
        }
    }
}

/// The receiving half of a connection.
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
        let length = wire::length(prefix, most).map_err(|flaw| End::Flaw(flaw.to_string()))?;
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
            Ok(Ok(0)) => Err(End::Closed("it closed the connection".into())),
            Ok(Ok(read)) => Ok(read),
            Ok(Err(error)) => Err(End::Closed(format!("the connection broke: {error}"))),
            Err(_) => Err(End::Silent(format!("silent for {} s", self.silence.as_secs_f32()))),
        }
    }
}

fn in_time(read: Result<Result<(), End>, tokio::time::error::Elapsed>) -> Result<(), End> {
    read.unwrap_or_else(|_| Err(End::Flaw("it takes too long over a message".into())))
}
