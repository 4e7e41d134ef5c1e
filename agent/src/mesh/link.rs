//! A connection with a node, as the others see it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot_fleet::wire::Hello;

use super::queue::Queue;
use super::registry::Dialler;
use super::stop::Stop;

/// Its facts, and its handles.
pub struct Link {
    /// Who is at its other end.
    pub hello: Hello,
    /// Who began it.
    pub dialler: Dialler,
    /// The address of its other end; the port is one for calls only if we dialled.
    pub address: SocketAddr,
    /// What is to be sent.
    pub queue: Rc<Queue>,
    /// Ends it.
    pub stop: Stop,
    /// True once the other end has shown that it wants it, too.
    pub is_up: Cell<bool>,
    /// The least round trip of late.
    pub round_trip: Cell<Option<Duration>>,
    /// When the other end last said that it took keys.
    pub acknowledged: Cell<Option<Time>>,
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
