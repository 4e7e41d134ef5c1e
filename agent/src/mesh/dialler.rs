//! Those who are called: one task for each address.

use std::rc::Rc;

use tktrot_fleet::message::NodeId;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::greeting::{self, Greeting, greet};
use super::link::Link;
use super::pause::Pauses;
use super::registry::{Dialler, Unwanted};
use super::shared::Shared;
use super::targets::{State, Target, tell_first_round};

/// What the complaints are about.
const DIALLING: &str = "it cannot be connected to";

/// Sees to it that the node at this address is connected, for as long as it runs.
pub async fn dial(shared: Rc<Shared>, target: Rc<Target>) {
    let mut pauses = Pauses::new(shared.timing.redial);
    let mut choice = 0;
    loop {
        target.state.set(State::Dialling);
        // A task of its own: when the address goes, a connection that is about to come stays.
        let attempt = attempt(shared.clone(), target.clone(), choice);
        let Ok((outcome, used)) = tokio::task::spawn_local(attempt).await else { return };
        choice = used;
        match outcome {
            Ok(Outcome::There(node)) => {
                target.node.set(Some(node));
                if shared.registry.borrow().get(node).is_some() {
                    pauses.reset();
                    shared.is_over(&target.address, DIALLING);
                } else {
                    target.error.replace(Some("it did not want the connection".into()));
                }
            }
            Ok(Outcome::Myself) => {
                target.state.set(State::Myself);
                target.was_tried.set(true);
                return tell_first_round(&shared).await;
            }
            Err(reason) => {
                target.state.set(State::Waiting);
                shared.complain_about(&target.address, DIALLING, &reason);
                target.error.replace(Some(reason));
            }
        }
        target.was_tried.set(true);
        tell_first_round(&shared).await;
        stay(&shared, &target).await;
        target.state.set(State::Waiting);
        tokio::select! {
            () = tokio::time::sleep(pauses.next()) => {}
            () = target.wake.notified() => {}
        }
        // Somebody there may have dialled us in the meantime.
        stay(&shared, &target).await;
    }
}

/// Waits for as long as the node that was there last is connected.
async fn stay(shared: &Shared, target: &Target) {
    loop {
        let changed = shared.changed.notified();
        let node = target.node.get();
        if node.is_none_or(|node| shared.registry.borrow().get(node).is_none()) {
            return;
        }
        target.state.set(State::Connected);
        changed.await;
    }
}

/// How an attempt went that did not fail.
enum Outcome {
    /// This node is there, and connected.
    There(NodeId),
    /// This node is.
    Myself,
}

/// Dials, with every secret that there is, if need be, beginning with the one that was of use last.
/// Returns which was used last.
async fn attempt(
    shared: Rc<Shared>,
    target: Rc<Target>,
    choice: usize,
) -> (Result<Outcome, String>, usize) {
    let choices = shared.tls.choices();
    let mut first_error = None;
    for choice in (choice..choice + choices).map(|choice| choice % choices) {
        match attempt_with(&shared, &target, choice).await {
            Ok(outcome) => return (Ok(outcome), choice),
            Err(Failure::Refused(reason)) => {
                first_error.get_or_insert(reason);
            }
            Err(Failure::Other(reason)) => return (Err(reason), choice),
        }
    }
    // None was of use: the preferred one begins.
    (Err(first_error.unwrap_or_default()), 0)
}

enum Failure {
    /// TLS failed: another secret may do.
    Refused(String),
    Other(String),
}

async fn attempt_with(
    shared: &Rc<Shared>,
    target: &Target,
    choice: usize,
) -> Result<Outcome, Failure> {
    let mut entered = None;
    let limit = shared.timing.handshake;
    let greeted = timeout(limit, call(shared, target, choice, &mut entered)).await;
    let greeted = greeted.unwrap_or_else(|_| {
        let limit = limit.as_secs_f32();
        Err(Failure::Other(format!("it does not answer within {limit} s")))
    });
    match greeted {
        Ok(Greeting::Wanted(connection, turn)) => {
            let node = connection.link.hello.node;
            let shared = shared.clone();
            tokio::task::spawn_local(async move {
                let link = connection.link.clone();
                connection.run(&shared).await;
                drop(turn);
                greeting::forget(&shared, Some(link));
            });
            Ok(Outcome::There(node))
        }
        Ok(Greeting::Unwanted(_, Unwanted::Myself)) => Ok(Outcome::Myself),
        Ok(Greeting::Unwanted(node, Unwanted::Duplicate)) => {
            greeting::forget(shared, entered);
            Ok(Outcome::There(node))
        }
        Err(failure) => {
            greeting::forget(shared, entered);
            Err(failure)
        }
    }
}

async fn call(
    shared: &Shared,
    target: &Target,
    choice: usize,
    entered: &mut Option<Rc<Link>>,
) -> Result<Greeting, Failure> {
    let other = |reason: String| Failure::Other(reason);
    let stream = TcpStream::connect(target.address).await;
    let stream = stream.map_err(|error| other(error.to_string()))?;
    stream.set_nodelay(true).map_err(|error| other(error.to_string()))?;
    let refused = |error: anyhow::Error| Failure::Refused(format!("{error:#}"));
    let stream = shared.tls.connect(choice, stream).await.map_err(refused)?;
    let greeted = greet(shared, stream, target.address, Dialler::We, entered).await;
    greeted.map_err(|end| other(end.reason().to_owned()))
}
