//! A connection with a node, as other tasks see it: its facts, what is to be sent, and how it
//! ends.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot_fleet::wire::{Bytes, Hello};
use tokio::sync::Notify;

use super::about::Theirs;

/// A connection with a node.
pub struct Link {
    /// Who is at its other end.
    pub hello: Hello,
    pub dialler: Dialler,
    /// The address of its other end; the port is one for calls only if we dialled.
    pub address: SocketAddr,
    /// Frames that are waiting to be sent.
    pub queue: Rc<Queue>,
    /// Ends the connection.
    pub stop: Stop,
    /// True once the other end has shown that it wants the connection, too.
    pub is_up: Cell<bool>,
    /// The least round trip of late.
    pub round_trip: Cell<Option<Duration>>,
    /// When the other end last said that it took keys.
    pub acknowledged: Cell<Option<Time>>,
    /// What the other end last told of its host.
    pub told: RefCell<Option<Theirs>>,
    /// Pings without an answer, oldest first.
    questions: RefCell<VecDeque<Time>>,
}

impl Link {
    pub fn new(hello: Hello, dialler: Dialler, address: SocketAddr) -> Self {
        Link {
            hello,
            dialler,
            address,
            queue: Rc::default(),
            stop: Stop::default(),
            is_up: Cell::new(false),
            round_trip: Cell::new(None),
            acknowledged: Cell::new(None),
            told: RefCell::default(),
            questions: RefCell::default(),
        }
    }

    /// A ping is sent.
    pub fn asked(&self, now: Time) {
        self.questions.borrow_mut().push_back(now);
    }

    /// How long the oldest ping is without an answer.
    pub fn unanswered(&self, now: Time) -> Duration {
        self.questions.borrow().front().map_or(Duration::ZERO, |asked| asked.until(now))
    }

    /// It is answered; false if it was never asked, or has been answered before.
    pub fn answered(&self, asked: Time) -> bool {
        let mut questions = self.questions.borrow_mut();
        let place = questions.iter().position(|question| *question == asked);
        // Answers come in the order of the questions.
        place.is_some_and(|place| questions.drain(..=place).next().is_some())
    }
}

/// Which of the two ends dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialler {
    We,
    They,
}

impl fmt::Display for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dialler::We => "this node",
            Dialler::They => "the peer",
        })
    }
}

/// So many bytes may wait: twice all keys of the largest ring there can be.
const MOST: usize = 8 * 1024 * 1024;

/// What is to be sent on a connection, in order: bounded, for a peer that does not read is never
/// waited for.
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

/// The end of a connection, with the reason that was said first.
#[derive(Default)]
pub struct Stop {
    reason: RefCell<Option<String>>,
    said: Notify,
}

impl Stop {
    /// Says it; later ones are not heard.
    pub fn say(&self, reason: &str) {
        self.reason.borrow_mut().get_or_insert_with(|| reason.to_owned());
        self.said.notify_one();
    }

    /// Waits for it. Only one may wait.
    pub async fn heard(&self) -> String {
        loop {
            if let Some(reason) = &*self.reason.borrow() {
                return reason.clone();
            }
            self.said.notified().await;
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
    async fn a_queue_is_bounded_and_ends_when_it_is_empty() {
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
