//! The bodies of frames. Their structures are separate from those of [`crate::message`]: changing
//! those must not change what is on the wire.

use std::borrow::Borrow;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tktrot::clock::{Time, nanos};
use tktrot::secret::{KeyName, KeySecrets};
use zeroize::Zeroizing;

use super::{Bytes, HEADER, MAJOR, MAX, PREFIX, Said};
use crate::message::{Left, Message, NodeId, Offer, Refusal, Tombstone};

const HELLO: u16 = 1;
pub(super) const PING: u16 = 2;
pub(super) const PONG: u16 = 3;
const ABOUT: u16 = 4;
const KEYS: u16 = 16;
const TAKEN: u16 = 17;
const REFUSED: u16 = 18;
const REVOKED: u16 = 19;
const PULL: u16 = 20;
const HELD: u16 = 21;
const LEAVING: u16 = 22;
const BURIED: u16 = 23;

/// The longest encoding of a number of 64 bits.
const VARINT: usize = 10;
/// The longest encodings of what there are many of.
const NAME_SIZE: usize = 16;
const KEY_SIZE: usize = NAME_SIZE + 4 * VARINT + 1 + 2 * (1 + 32);
const REFUSED_SIZE: usize = NAME_SIZE + 1;
const TOMBSTONE_SIZE: usize = NAME_SIZE + VARINT;
/// What a body has beside them: how many, and a flag.
const BESIDE: usize = VARINT + 1;

type Name = [u8; NAME_SIZE];

#[derive(Serialize, Deserialize)]
struct Hello<'a> {
    node: u64,
    instance: u64,
    ring: &'a str,
}

#[derive(Serialize, Deserialize)]
struct About<'a> {
    release: &'a str,
    rotate_every: u64,
    lifetime: u64,
    plain: bool,
    wall: u64,
    /// As addresses of IPv6.
    addresses: Vec<[u8; 16]>,
}

/// A key; the secrets stay where they are.
#[derive(Serialize, Deserialize)]
struct Key<'a> {
    name: Name,
    origin: u64,
    begins: u64,
    encrypts: u64,
    decrypts: u64,
    plain: bool,
    aes: &'a [u8],
    hmac: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct Keys<'a> {
    #[serde(borrow)]
    keys: Vec<Key<'a>>,
}

#[derive(Serialize, Deserialize)]
struct Held<'a> {
    #[serde(borrow)]
    keys: Vec<Key<'a>>,
    last: bool,
}

#[derive(Serialize, Deserialize)]
struct Revoked {
    keys: Vec<(Name, u64)>,
    all: bool,
}

impl<'a> Key<'a> {
    fn of<S: Borrow<KeySecrets>>(offer: &'a Offer<S>) -> Self {
        let secrets = offer.secrets.borrow();
        Key {
            name: offer.name.0,
            origin: offer.origin.0,
            begins: nanos(offer.left.begins),
            encrypts: nanos(offer.left.encrypts),
            decrypts: nanos(offer.left.decrypts),
            plain: offer.plain,
            aes: secrets.aes.expose(),
            hmac: secrets.hmac.expose(),
        }
    }

    fn offer(&self) -> Option<Offer<Box<KeySecrets>>> {
        let span = Duration::from_nanos;
        let mut secrets = Box::new(KeySecrets::zeroed());
        fill(secrets.aes.expose_mut(), self.aes)?;
        fill(secrets.hmac.expose_mut(), self.hmac)?;
        Some(Offer {
            name: KeyName(self.name),
            origin: NodeId(self.origin),
            left: Left {
                begins: span(self.begins),
                encrypts: span(self.encrypts),
                decrypts: span(self.decrypts),
            },
            plain: self.plain,
            secrets,
        })
    }
}

fn fill(secret: &mut [u8; 32], bytes: &[u8]) -> Option<()> {
    (bytes.len() == secret.len()).then(|| secret.copy_from_slice(bytes))
}

fn refusal_code(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::Ended => 1,
        Refusal::TooMany => 2,
        Refusal::Full => 3,
        Refusal::Unusable => 4,
        Refusal::Busy => 5,
        Refusal::Other => u8::MAX,
    }
}

fn refusal(code: u8) -> Refusal {
    match code {
        1 => Refusal::Ended,
        2 => Refusal::TooMany,
        3 => Refusal::Full,
        4 => Refusal::Unusable,
        5 => Refusal::Busy,
        _ => Refusal::Other,
    }
}

pub(super) fn hello(hello: &super::Hello, sent: Time) -> Bytes {
    let ring = hello.ring.as_str();
    let body = Hello { node: hello.node.0, instance: hello.instance, ring };
    frame(HELLO, sent, &body, 3 * VARINT + ring.len())
}

pub(super) fn about(about: &super::About, sent: Time) -> Bytes {
    let bits = |address: &IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    let super::About { release, rotate_every, lifetime, plain, wall, addresses } = about;
    let body = About {
        release,
        rotate_every: nanos(*rotate_every),
        lifetime: nanos(*lifetime),
        plain: *plain,
        wall: *wall,
        addresses: addresses.iter().map(bits).collect(),
    };
    let size = 4 * VARINT + 1 + release.len() + VARINT + addresses.len() * 16;
    frame(ABOUT, sent, &body, size)
}

pub(super) fn number(kind: u16, number: u64, sent: Time) -> Bytes {
    frame(kind, sent, &number, VARINT)
}

pub(super) fn message<S: Borrow<KeySecrets>>(message: &Message<S>, sent: Time) -> Vec<Bytes> {
    match message {
        Message::Keys(keys) => parts(keys, KEY_SIZE, |keys, _| {
            let size = size(keys.len(), KEY_SIZE);
            frame(KEYS, sent, &Keys { keys: keys.iter().map(Key::of).collect() }, size)
        }),
        Message::Held { keys, last } => parts(keys, KEY_SIZE, |keys, place| {
            let size = size(keys.len(), KEY_SIZE);
            let last = *last && place.is_last;
            frame(HELD, sent, &Held { keys: keys.iter().map(Key::of).collect(), last }, size)
        }),
        Message::Taken(names) => parts(names, NAME_SIZE, |names, _| {
            let body: Vec<Name> = names.iter().map(|name| name.0).collect();
            frame(TAKEN, sent, &body, size(names.len(), NAME_SIZE))
        }),
        Message::Refused(keys) => parts(keys, REFUSED_SIZE, |keys, _| {
            let code = |(name, refusal): &(KeyName, _)| (name.0, refusal_code(*refusal));
            let body: Vec<(Name, u8)> = keys.iter().map(code).collect();
            frame(REFUSED, sent, &body, size(keys.len(), REFUSED_SIZE))
        }),
        Message::Revoked { keys, all } => parts(keys, TOMBSTONE_SIZE, |keys, place| {
            let tombstones = keys.iter().map(|key| (key.name.0, nanos(key.left))).collect();
            // With the first: none of the others may wait for it.
            let body = Revoked { keys: tombstones, all: *all && place.is_first };
            frame(REVOKED, sent, &body, size(keys.len(), TOMBSTONE_SIZE))
        }),
        Message::Buried(names) => parts(names, NAME_SIZE, |names, _| {
            let body: Vec<Name> = names.iter().map(|name| name.0).collect();
            frame(BURIED, sent, &body, size(names.len(), NAME_SIZE))
        }),
        Message::Pull => vec![frame(PULL, sent, &(), 0)],
        Message::Leaving => vec![frame(LEAVING, sent, &(), 0)],
    }
}

/// Which of the parts of a message it is.
struct Place {
    is_first: bool,
    is_last: bool,
}

/// A frame for as many items as go into one, and so on; one without items if there are none.
fn parts<T>(
    items: &[T],
    item_size: usize,
    mut frame: impl FnMut(&[T], Place) -> Bytes,
) -> Vec<Bytes> {
    if items.is_empty() {
        return vec![frame(items, Place { is_first: true, is_last: true })];
    }
    let parts = items.chunks((MAX - HEADER - BESIDE) / item_size);
    let last = parts.len() - 1;
    let place = |number| Place { is_first: number == 0, is_last: number == last };
    parts.enumerate().map(|(number, part)| frame(part, place(number))).collect()
}

/// The size of a body with so many items, at most.
fn size(count: usize, item_size: usize) -> usize {
    BESIDE + count * item_size
}

/// A frame with this body, which needs at most `size` bytes.
fn frame(kind: u16, sent: Time, body: &impl Serialize, size: usize) -> Bytes {
    let start = PREFIX + HEADER;
    let mut bytes = Zeroizing::new(vec![0; start + size]);
    let (head, rest) = bytes.split_at_mut(start);
    let used = postcard::to_slice(body, rest).expect("a size that is enough").len();
    let length = u32::try_from(HEADER + used).expect("a frame below 4 GiB");
    head[..4].copy_from_slice(&length.to_be_bytes());
    head[4] = MAJOR;
    head[5..7].copy_from_slice(&kind.to_be_bytes());
    head[7..].copy_from_slice(&sent.0.to_be_bytes());
    bytes.truncate(start + used);
    bytes
}

/// None if the body is not what its type says.
pub(super) fn decode(kind: u16, body: &[u8]) -> Option<Said> {
    Some(match kind {
        HELLO => {
            let Hello { node, instance, ring } = read(body)?;
            let hello = super::Hello { node: NodeId(node), instance, ring: ring.to_owned() };
            Said::Hello(hello.is_sound().then_some(hello)?)
        }
        ABOUT => {
            let About { release, rotate_every, lifetime, plain, wall, addresses } = read(body)?;
            let span = Duration::from_nanos;
            let address = |bits| IpAddr::V6(Ipv6Addr::from(bits)).to_canonical();
            let about = super::About {
                release: release.to_owned(),
                rotate_every: span(rotate_every),
                lifetime: span(lifetime),
                plain,
                wall,
                addresses: addresses.into_iter().map(address).collect(),
            };
            Said::About(about.is_sound().then_some(about)?)
        }
        PING => Said::Ping(read(body)?),
        PONG => Said::Pong(read(body)?),
        KEYS => {
            let Keys { keys } = read(body)?;
            Said::Message(Message::Keys(offers(&keys)?))
        }
        HELD => {
            let Held { keys, last } = read(body)?;
            Said::Message(Message::Held { keys: offers(&keys)?, last })
        }
        TAKEN => {
            let names: Vec<Name> = read(body)?;
            Said::Message(Message::Taken(names.into_iter().map(KeyName).collect()))
        }
        REFUSED => {
            let keys: Vec<(Name, u8)> = read(body)?;
            let refused = |(name, code)| (KeyName(name), refusal(code));
            Said::Message(Message::Refused(keys.into_iter().map(refused).collect()))
        }
        REVOKED => {
            let Revoked { keys, all } = read(body)?;
            let tombstone =
                |(name, left)| Tombstone { name: KeyName(name), left: Duration::from_nanos(left) };
            Said::Message(Message::Revoked { keys: keys.into_iter().map(tombstone).collect(), all })
        }
        BURIED => {
            let names: Vec<Name> = read(body)?;
            Said::Message(Message::Buried(names.into_iter().map(KeyName).collect()))
        }
        PULL => read(body).map(|()| Said::Message(Message::Pull))?,
        LEAVING => read(body).map(|()| Said::Message(Message::Leaving))?,
        unknown => Said::Unknown(unknown),
    })
}

fn offers(keys: &[Key<'_>]) -> Option<Vec<Offer<Box<KeySecrets>>>> {
    keys.iter().map(Key::offer).collect()
}

/// The whole body and nothing else.
fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}
