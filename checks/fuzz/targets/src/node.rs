//! What happens to a node of the mesh, among peers of which any may lie: each byte string is a
//! sequence of events and of spans between them. What must hold is in [`crate::mesh`].

use std::time::Duration;

use tktrot::schedule::{KeyTimes, MAX_LIFETIME, Policy};
use tktrot::secret::KeyName;
use tktrot_fleet::message::{Left, Message, NodeId, Offer, Refusal, Tombstone};
use tktrot_fleet::node::event::Event;

use crate::made_up;
use crate::mesh::{ME, World};
use crate::passing::{Host, Input, byte, play};

/// What happens next; the first byte of it, modulo their number.
pub const EVENTS: [&str; 16] = [
    "pass", "jump", "up", "down", "keys", "held", "taken", "refused", "revoked", "pull", "leaving",
    "answers", "host", "operator", "policy", "trouble",
];
/// An input is long enough then.
const MOST: usize = 200;
/// Peers, from [`ME`] + 1 on.
const PEERS: u64 = 5;

/// The first byte chooses the policy, and each of the next one an event.
pub fn node(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let mut world = World::new(policy(byte(&mut input)));
    play(&mut world, &mut input, MOST, happens);
    world.calm_down();
    world.has_taken
}

fn happens(world: &mut World, input: &mut Input<'_>) {
    let event = EVENTS[usize::from(byte(input)) % EVENTS.len()];
    match event {
        "pass" => world.pass(span(byte(input))),
        "jump" => world.jump(span(byte(input))),
        "up" => {
            let peer = peer(input);
            world.comes_up(peer);
        }
        "down" => {
            let peer = peer(input);
            world.goes_down(peer);
        }
        "answers" => {
            let peer = peer(input);
            world.answers(peer);
        }
        "host" => on_the_host(world, input),
        "operator" => operator(world, input),
        "policy" => world.has_policy(policy(byte(input))),
        "trouble" => world.trouble(byte(input)),
        message => {
            let from = peer(input);
            let message = said(world, message, from, input);
            let age = span(byte(input)).min(Duration::from_secs(3600));
            world.hears(from, message, age);
        }
    }
}

fn said(world: &World, kind: &str, from: NodeId, input: &mut Input<'_>) -> Message<()> {
    let count = usize::from(byte(input) % 5);
    match kind {
        "keys" => Message::Keys((0..count).map(|_| offer(world, from, input)).collect()),
        "held" => {
            let keys = (0..count).map(|_| offer(world, from, input)).collect();
            Message::Held { keys, last: byte(input) % 2 == 1 }
        }
        "taken" => Message::Taken((0..count).map(|_| name(world, input)).collect()),
        "refused" => {
            let why = [Refusal::Ended, Refusal::TooMany, Refusal::Full, Refusal::Busy];
            let one = |_| (name(world, input), why[usize::from(byte(input) % 4)]);
            Message::Refused((0..count).map(one).collect())
        }
        "revoked" => {
            let one = |_| Tombstone { name: name(world, input), left: span(byte(input)) };
            let keys = (0..count).map(one).collect();
            Message::Revoked { keys, all: byte(input) % 8 == 7 }
        }
        "pull" => Message::Pull,
        _ => Message::Leaving,
    }
}

fn offer(world: &World, from: NodeId, input: &mut Input<'_>) -> Offer<()> {
    let name = name(world, input);
    let how = byte(input);
    let origin = match how % 8 {
        6 => ME,
        7 => peer(input),
        _ => from,
    };
    let mut spans = [(); 3].map(|()| span(byte(input)));
    if how & 8 == 0 {
        spans.sort();
    }
    let [begins, encrypts, decrypts] = spans;
    let left = Left { begins, encrypts, decrypts };
    Offer { name, origin, left, plain: how & 16 != 0, secrets: () }
}

/// A server of this host, or somebody else who has its ring, did something to it.
fn on_the_host(world: &mut World, input: &mut Input<'_>) {
    let (what, which, when) = (byte(input), byte(input), span(byte(input)));
    let times = |from| world.policy.times_from(from);
    match what % 5 {
        0 => world.finds_new(ME, times(world.now)),
        1 => {
            let times = times(world.now - when.min(world.policy.rotate_every / 2));
            world.finds_new(ME, times);
        }
        2 => {
            let end = world.now + when.min(world.limits.longest);
            let times =
                KeyTimes { encrypt_from: world.now, encrypt_until: world.now, decrypt_until: end };
            world.finds_new(NodeId(100 + u64::from(which % 4)), times);
        }
        3 => world.retires(which),
        _ if what >= 128 => world.buries(which),
        _ => world.loses(which),
    }
}

fn operator(world: &mut World, input: &mut Input<'_>) {
    let what = byte(input);
    match what % 4 {
        0 => world.handle(Event::Rotate),
        1 => {
            let names = (0..what / 4 % 4).map(|_| name(world, input)).collect();
            world.revokes(names);
        }
        2 if what >= 128 => world.revokes_all(),
        2 => world.revokes(world.some(what).into_iter().collect()),
        _ => world.handle(Event::Leave),
    }
}

/// One of few, so that the same are meant again: keys of peers, the node's own, or none at all.
fn name(world: &World, input: &mut Input<'_>) -> KeyName {
    match byte(input) {
        255 => KeyName([3; 16]),
        one if one < 160 => made_up::name(1000 + u32::from(one % 24)),
        // Not one that the node will make.
        one => match world.made.saturating_sub(u32::from(one % 8)) {
            0 => made_up::name(999),
            made => made_up::name(made),
        },
    }
}

fn peer(input: &mut Input<'_>) -> NodeId {
    NodeId(ME.0 + 1 + u64::from(byte(input)) % PEERS)
}

/// From nothing to two weeks, and one that no clock holds.
pub fn span(byte: u8) -> Duration {
    match byte {
        0 => Duration::ZERO,
        255 => Duration::from_nanos(u64::MAX),
        byte => Duration::from_millis(u64::from(1 + (byte & 7)) << (byte >> 3)),
    }
}

/// Long and short rotations, and ones that do not fit.
pub fn policy(byte: u8) -> Policy {
    let rotate_every = [1, 10, 60, 3600, 24 * 3600][usize::from(byte) % 5];
    let rotate_every = Duration::from_secs(rotate_every);
    let lifetime = rotate_every * [1, 2, 5, 50][usize::from(byte / 5) % 4];
    let lifetime = lifetime.min(MAX_LIFETIME);
    Policy { rotate_every, lifetime, lead: Policy::default_lead(rotate_every) }
}
