//! What is to be sent on a connection: bounded, for a peer that does not read is never waited for.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use tktrot_fleet::wire::Bytes;
use tokio::sync::Notify;

/// So many bytes may wait: twice all keys of the largest ring there can be.
pub const MOST: usize = 8 * 1024 * 1024;

/// The frames, in order.
#[derive(Default)]
pub struct Queue {
    frames: RefCell<VecDeque<Bytes>>,
    bytes: Cell<usize>,
    closed: Cell<bool>,
    changed: Notify,
}

impl Queue {
    /// Puts a frame at the end; false if there are too many.
    #[must_use]
    pub fn push(&self, frame: Bytes) -> bool {
        let bytes = self.bytes.get() + frame.len();
        if bytes > MOST {
            return false;
        }
        if !self.closed.get() {
            self.bytes.set(bytes);
            self.frames.borrow_mut().push_back(frame);
            self.changed.notify_one();
        }
        true
    }

    /// Nothing more comes: once all is taken, there is no next frame.
    pub fn close(&self) {
        self.closed.set(true);
        self.changed.notify_one();
    }

    /// Takes the next frame, or waits for one. Only one may wait.
    pub async fn next(&self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.frames.borrow_mut().pop_front() {
                self.bytes.set(self.bytes.get() - frame.len());
                return Some(frame);
            }
            if self.closed.get() {
                return None;
            }
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize) -> Bytes {
        Bytes::new(vec![0; length])
    }

    #[tokio::test(flavor = "current_thread")]
    async fn it_is_bounded_and_ends_when_it_is_empty() {
        let queue = Queue::default();
        assert!(queue.push(frame(MOST - 1)));
        assert!(!queue.push(frame(2)));
        assert!(queue.push(frame(1)));
        queue.close();
        assert!(queue.push(frame(0)), "silently dropped");
        let lengths = [queue.next().await, queue.next().await, queue.next().await];
        assert_eq!(
            lengths.map(|frame| frame.map(|frame| frame.len())),
            [Some(MOST - 1), Some(1), None]
        );
        assert!(queue.bytes.get() == 0);
    }
}
