//! What happens to a node that shares through a Redis in which anybody of the fleet may write
//! anything, and which may lose all, or have another clock: each byte string is a sequence of events
//! and of spans between them. What must hold is in [`crate::redis`].

use std::time::Duration;

use tktrot::schedule::KeyTimes;
use tktrot::secret::KeyName;
use tktrot_fleet::message::NodeId;
use tktrot_fleet::redis::clock::RedisTime;
use tktrot_fleet::redis::event::RedisEvent;
use tktrot_fleet::redis::stored::{Flaw, Grave, Revoked, Slot, Terms, Turn};

use crate::node::{policy, span};
use crate::passing::{Host, Input, byte, play};
use crate::redis::{ME, World};

/// What happens next; the first byte of it, modulo their number.
pub const EVENTS: [&str; 16] = [
    "pass", "jump", "up", "down", "heard", "key", "turn", "strange", "grave", "flaw", "lost",
    "clock", "mark", "host", "operator", "trouble",
];
/// An input is long enough then.
const MOST: usize = 100;

/// The first byte chooses the policy, and each of the next one an event.
pub fn shared(bytes: &[u8]) -> bool {
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
        "up" => world.comes_up(),
        "down" => world.goes_down(),
        "heard" => world.handle(RedisEvent::Heard),
        // Another node makes the key of this period or the next.
        "key" | "turn" => {
            let number = if event == "key" { 0 } else { u32::from(byte(input) % 4) };
            let period = world.period() + u64::from(byte(input) % 2);
            let turn = Turn { period, number };
            let lead = Duration::from_secs(1).min(world.policy.rotate_every / 2);
            let terms = Terms::new(turn, &world.policy, lead, world.redis_now());
            let terms = Terms { epoch: world.epoch(), ..terms };
            world.stores(Slot::At(turn), terms);
        }
        "strange" => {
            let terms = strange(world, input);
            let kept = byte(input) & 1 == 1;
            let slot = if kept { world.kept() } else { Slot::At(terms.turn) };
            world.stores(slot, terms);
        }
        "grave" => {
            let what = match byte(input) {
                all if all >= 240 => Revoked::All(u64::from(all - 239)),
                one => Revoked::Key(name(world, one)),
            };
            let ends = world.redis_now().after(span(byte(input)));
            world.graves.push(Grave { what, ends });
            world.changes();
        }
        "flaw" => {
            let kinds = [
                Flaw::NoKey,
                Flaw::Version(2),
                Flaw::Secret([1; 8]),
                Flaw::Damaged,
                Flaw::Misplaced,
            ];
            let flaw = kinds[usize::from(byte(input)) % kinds.len()];
            let turn = Turn { period: world.period() + u64::from(byte(input) % 2), number: 0 };
            world.spoils(Slot::At(turn), flaw);
        }
        "lost" => world.loses_all(byte(input)),
        "clock" => {
            let (how, by) = (byte(input), span(byte(input)));
            world.sets_clock(how & 1 == 1, by);
        }
        "mark" => world.changes(),
        "host" => on_the_host(world, input),
        "operator" => operator(world, input),
        _ => world.trouble(byte(input)),
    }
}

/// Terms that nobody honest would give a key; in order, as others are no key.
fn strange(world: &World, input: &mut Input<'_>) -> Terms {
    let now = world.redis_now();
    let mut at = |earlier: bool| {
        let span = span(byte(input));
        if earlier { now.0.saturating_sub(span.as_nanos() as u64) } else { now.after(span).0 }
    };
    let mut times = [at(true), at(false), at(false)];
    times.sort_unstable();
    let made = at(true);
    let how = byte(input);
    let [begins, retires, ends] = times.map(RedisTime);
    let period = match how % 8 {
        6 => u64::MAX,
        7 => 0,
        near => (world.period() + u64::from(near)).saturating_sub(2),
    };
    let number = if how & 128 != 0 { u32::MAX } else { u32::from(how >> 3) };
    Terms {
        turn: Turn { period, number },
        rotate_every: if how & 64 != 0 {
            world.policy.rotate_every * 2
        } else {
            world.policy.rotate_every
        },
        made: RedisTime(made),
        begins,
        retires,
        ends,
        epoch: u64::from(how & 16 != 0),
        plain: how & 32 != 0,
    }
}

/// A server of this host, or somebody else who has its ring, did something to it.
fn on_the_host(world: &mut World, input: &mut Input<'_>) {
    let (what, which, when) = (byte(input), byte(input), span(byte(input)));
    match what % 4 {
        0 => world.finds_new(ME, world.policy.times_from(world.now)),
        1 => {
            let end = world.now + when.min(world.policy.lifetime);
            let times =
                KeyTimes { encrypt_from: world.now, encrypt_until: world.now, decrypt_until: end };
            world.finds_new(NodeId(100), times);
        }
        2 => world.loses(which),
        _ => {
            let policy = policy(which);
            world.has_policy(policy);
        }
    }
}

fn operator(world: &mut World, input: &mut Input<'_>) {
    let (what, which) = (byte(input), byte(input));
    match what % 4 {
        0 | 1 => world.handle(RedisEvent::Rotate),
        2 if what >= 192 => world.revokes_all(),
        2 => world.revokes(world.some(which).into_iter().collect()),
        _ => world.revokes(vec![name(world, which)]),
    }
}

fn name(world: &World, byte: u8) -> KeyName {
    match byte % 4 {
        0 => world.past(u32::from(byte % 8) + 1),
        _ => world.some(byte).unwrap_or_else(|| world.past(1)),
    }
}
