//! Connections that this node opens to its peers: their names are looked up again and again, and
//! each address is dialled, by a task of its own, for as long as its node is not connected.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tktrot_fleet::config::{Host, Peer};
use tktrot_fleet::message::NodeId;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::greeting::{self, Greeting, greet};
use super::link::{Dialler, Link};
use super::registry::Unwanted;
use super::state::{MeshEvent, MeshState};
use super::targets::{self, State, Target};

/// How long a lookup may take: a resolver's usual limit for one attempt.
const LOOKUP_WITHIN: Duration = Duration::from_secs(5);

// What complaints are about.
const DIALLING: &str = "cannot connect";
const LOOK_UP: &str = "cannot look up its name";

/// Keeps the addresses of the peer of this number current.
pub async fn follow(state: Rc<MeshState>, number: usize, peer: Peer) {
    let host = match &peer.host {
        Host::Address(address) => {
            update(&state, number, Ok([SocketAddr::new(*address, peer.port)].into()));
            return tell_first_round(&state).await;
        }
        Host::Name(host) => host,
    };
    loop {
        let found = look_up(host, peer.port).await;
        let name = targets::name(&peer);
        match &found {
            Ok(_) => state.is_over(&name, LOOK_UP),
            Err(error) => state.complain_about(&name, LOOK_UP, error),
        }
        let at = state.now();
        update(&state, number, found.map_err(|what| targets::Failure { what, at }));
        tell_first_round(&state).await;
        tokio::time::sleep(state.timing.lookup).await;
    }
}

async fn look_up(host: &str, port: u16) -> Result<BTreeSet<SocketAddr>, String> {
    match timeout(LOOKUP_WITHIN, lookup_host((host, port))).await {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LOOKUP_WITHIN.as_secs())),
    }
}

/// The addresses of the peer of this number are these now.
pub fn update(
    state: &Rc<MeshState>,
    number: usize,
    found: Result<BTreeSet<SocketAddr>, targets::Failure>,
) {
    let dial = |target| tokio::task::spawn_local(dial(state.clone(), target)).abort_handle();
    state.targets.borrow_mut().update(number, found, dial);
}

/// Tells the agent once when every address was tried.
pub async fn tell_first_round(state: &MeshState) {
    if state.targets.borrow_mut().ends_first_round() {
        state.tell(MeshEvent::FirstRound).await;
    }
}

/// Sees to it that the node at this address is connected, for as long as it runs.
pub async fn dial(state: Rc<MeshState>, target: Rc<Target>) {
    let mut pauses = Pauses::new(state.timing.redial);
    let mut choice = 0;
    loop {
        target.state.set(State::Dialling);
        // A task of its own: when the address goes, a connection that is about to come stays.
        let attempt = attempt(state.clone(), target.clone(), choice);
        let Ok((outcome, used)) = tokio::task::spawn_local(attempt).await else { return };
        choice = used;
        match outcome {
            Ok(Outcome::There(node)) => {
                target.answers_as(node);
                if state.registry.borrow().get(node).is_some() {
                    pauses.reset();
                    target.failing.set(None);
                    state.is_over(&target.address, DIALLING);
                } else {
                    fails(&state, &target, "it did not want the connection".into());
                }
            }
            Ok(Outcome::Myself) => {
                target.state.set(State::Myself);
                target.was_tried.set(true);
                return tell_first_round(&state).await;
            }
            Err(reason) => {
                target.state.set(State::Waiting);
                let now = state.now();
                let since = target.failing.get().unwrap_or(now);
                target.failing.set(Some(since));
                // Where all start together, they are there in a moment.
                if since.until(now) >= state.timing.patience {
                    state.complain_about(&target.address, DIALLING, &reason);
                }
                fails(&state, &target, reason);
            }
        }
        target.was_tried.set(true);
        tell_first_round(&state).await;
        stay(&state, &target).await;
        target.state.set(State::Waiting);
        tokio::select! {
            () = tokio::time::sleep(pauses.next()) => {}
            () = target.wake.notified() => {}
        }
        // Somebody there may have dialled us in the meantime.
        stay(&state, &target).await;
    }
}

fn fails(state: &MeshState, target: &Target, what: String) {
    target.failure.replace(Some(targets::Failure { what, at: state.now() }));
}

/// Waits for as long as the node that was there last is connected.
async fn stay(state: &MeshState, target: &Target) {
    loop {
        let changed = state.changed.notified();
        let node = target.node.get();
        if node.is_none_or(|node| state.registry.borrow().get(node).is_none()) {
            return;
        }
        target.state.set(State::Connected);
        target.failing.set(None);
        changed.await;
    }
}

/// How an attempt went that did not fail.
enum Outcome {
    /// This node is there, and connected.
    There(NodeId),
    /// This node itself answered.
    Myself,
}

/// Dials, with every secret that there is, if need be, beginning with the one that was of use last.
/// Returns which was used last.
async fn attempt(
    state: Rc<MeshState>,
    target: Rc<Target>,
    choice: usize,
) -> (Result<Outcome, String>, usize) {
    let choices = state.tls.choices();
    let mut first_error = None;
    for choice in (choice..choice + choices).map(|choice| choice % choices) {
        match attempt_with(&state, &target, choice).await {
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
    state: &Rc<MeshState>,
    target: &Target,
    choice: usize,
) -> Result<Outcome, Failure> {
    let mut entered = None;
    let limit = state.timing.handshake;
    let greeted = timeout(limit, call(state, target, choice, &mut entered)).await;
    let greeted = greeted.unwrap_or_else(|_| {
        let limit = limit.as_secs_f32();
        Err(Failure::Other(format!("it does not answer within {limit} s")))
    });
    match greeted {
        Ok(Greeting::Wanted(connection, turn)) => {
            let node = connection.link.hello.node;
            let state = state.clone();
            tokio::task::spawn_local(async move {
                let link = connection.link.clone();
                connection.run(&state).await;
                drop(turn);
                greeting::forget(&state, Some(link));
            });
            Ok(Outcome::There(node))
        }
        Ok(Greeting::Unwanted(_, Unwanted::Myself)) => Ok(Outcome::Myself),
        Ok(Greeting::Unwanted(node, Unwanted::Duplicate)) => {
            greeting::forget(state, entered);
            Ok(Outcome::There(node))
        }
        Err(failure) => {
            greeting::forget(state, entered);
            Err(failure)
        }
    }
}

async fn call(
    state: &MeshState,
    target: &Target,
    choice: usize,
    entered: &mut Option<Rc<Link>>,
) -> Result<Greeting, Failure> {
    let other = |reason: String| Failure::Other(reason);
    let stream = TcpStream::connect(target.address).await;
    let stream = stream.map_err(|error| other(error.to_string()))?;
    stream.set_nodelay(true).map_err(|error| other(error.to_string()))?;
    let refused = |error: anyhow::Error| Failure::Refused(format!("{error:#}"));
    let stream = state.tls.connect(choice, stream).await.map_err(refused)?;
    let greeted = greet(state, stream, target.address, Dialler::We, entered).await;
    greeted.map_err(|end| other(end.to_string()))
}

/// The pauses between attempts at one address: longer and longer, and never the same for two hosts,
/// which would else dial each other at the same moments for ever.
pub struct Pauses {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Pauses {
    pub fn new((least, most): (Duration, Duration)) -> Self {
        Pauses { least, most, next: least }
    }

    /// It worked: the next pause is a short one.
    pub fn reset(&mut self) {
        self.next = self.least;
    }

    /// The next one: between three quarters of what it would be and that.
    pub fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (2 * pause).min(self.most);
        let mut random = [0; 1];
        // Without randomness it is the whole pause.
        let _ = openssl::rand::rand_bytes(&mut random);
        pause - pause / 4 * u32::from(random[0]) / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_grow_to_the_longest_and_start_again() {
        let ms = Duration::from_millis;
        let mut pauses = Pauses::new((ms(500), ms(5000)));
        for whole in [500, 1000, 2000, 4000, 5000, 5000] {
            let pause = pauses.next();
            assert!(pause >= ms(whole * 3 / 4) && pause <= ms(whole), "{pause:?} of {whole} ms");
        }
        pauses.reset();
        assert!(pauses.next() <= ms(500));
        let several: std::collections::BTreeSet<_> = (0..20).map(|_| pauses.next()).collect();
        assert!(several.len() > 5, "they are random");
    }
}
