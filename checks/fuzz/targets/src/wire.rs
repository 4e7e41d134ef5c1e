//! A frame of the mesh.

use std::borrow::Borrow;

use tktrot::clock::Time;
use tktrot::secret::KeySecrets;
use tktrot_fleet::message::{Message, Offer};
use tktrot_fleet::wire::{self, About, Bytes, Flaw, Frame, Hello, MAJOR, MAX, PREFIX, Said};

/// What every frame has.
const HEADER: usize = 11;
/// Types that this version knows.
const KNOWN: [u16; 12] = [1, 2, 3, 4, 16, 17, 18, 19, 20, 21, 22, 23];
/// The least bytes of a key, a name, a name with a reason or with a span.
const SMALLEST: usize = 16;

/// A frame without its length.
pub fn wire(bytes: &[u8]) -> bool {
    if let Some(prefix) = bytes.first_chunk() {
        announced(*prefix);
    }
    let frame = match wire::decode(bytes) {
        Ok(frame) => frame,
        Err(flaw) => {
            is_right(flaw, bytes);
            return false;
        }
    };
    assert_eq!(bytes[0], MAJOR, "another version was understood");
    assert_eq!(frame.sent.0.to_be_bytes(), bytes[3..HEADER]);
    let mut other = bytes.to_vec();
    other[0] ^= 0x40;
    assert_eq!(wire::decode(&other).err(), Some(Flaw::Major(other[0])));

    let kind = u16::from_be_bytes([bytes[1], bytes[2]]);
    let Some(again) = encoded(&frame) else {
        assert!(!KNOWN.contains(&kind), "type {kind} is skipped");
        return true;
    };
    assert!(KNOWN.contains(&kind), "type {kind} means something");
    let decoded: Vec<_> = again.iter().map(decoded).collect();
    for part in &decoded {
        assert_eq!(part.sent, frame.sent);
    }
    assert!(again.iter().eq(decoded.iter().flat_map(encoded).flatten().collect::<Vec<_>>().iter()));
    same(frame.said, decoded.into_iter().map(|part| part.said).collect(), bytes.len());
    true
}

/// The length before a frame is believed within bounds only.
fn announced(prefix: [u8; PREFIX]) {
    let said = u32::from_be_bytes(prefix) as usize;
    for most in [HEADER, 1000, MAX, usize::MAX] {
        let fits = (HEADER..=most.min(MAX)).contains(&said);
        assert_eq!(wire::length(prefix, most).ok(), fits.then_some(said));
    }
}

/// The flaw is the one that is there.
fn is_right(flaw: Flaw, bytes: &[u8]) {
    let kind = || u16::from_be_bytes([bytes[1], bytes[2]]);
    match flaw {
        Flaw::TooLong(length) => assert!(length == bytes.len() && length > MAX),
        Flaw::TooShort(length) => assert!(length == bytes.len() && length < HEADER),
        Flaw::Major(major) => assert!(major == bytes[0] && major != MAJOR),
        Flaw::Malformed(other) => {
            assert!(bytes[0] == MAJOR && kind() == other && KNOWN.contains(&other));
        }
    }
}

fn encoded(frame: &Frame) -> Option<Vec<Bytes>> {
    Some(match &frame.said {
        Said::Hello(hello) => vec![wire::hello(hello, frame.sent)],
        Said::Ping(number) => vec![wire::ping(*number, frame.sent)],
        Said::Pong(number) => vec![wire::pong(*number, frame.sent)],
        Said::About(about) => vec![wire::about(about, frame.sent)],
        Said::Message(message) => frames(message, frame.sent),
        Said::Unknown(_) => return None,
    })
}

/// The frames of a message, each of which says its length.
pub fn frames<S: Borrow<KeySecrets>>(message: &Message<S>, sent: Time) -> Vec<Bytes> {
    wire::message(message, sent)
}

fn decoded(frame: &Bytes) -> Frame {
    let (prefix, rest) = frame.split_first_chunk().expect("a length");
    assert_eq!(wire::length(*prefix, MAX), Ok(rest.len()));
    wire::decode(rest).unwrap_or_else(|flaw| panic!("what was encoded here is {flaw}"))
}

/// What was said is what its encoding says.
fn same(said: Said, again: Vec<Said>, size: usize) {
    match said {
        Said::Hello(hello) => {
            let Hello { ring, .. } = &hello;
            assert!((1..=Hello::MAX_RING).contains(&ring.len()), "{} bytes", ring.len());
            assert!(!ring.contains(char::is_control), "{ring:?}");
            assert!(matches!(&again[..], [Said::Hello(other)] if *other == hello));
        }
        Said::Ping(number) => {
            assert!(matches!(again[..], [Said::Ping(other)] if other == number));
        }
        Said::Pong(number) => {
            assert!(matches!(again[..], [Said::Pong(other)] if other == number));
        }
        Said::About(about) => {
            assert!((1..=About::MAX_RELEASE).contains(&about.release.len()), "{about:?}");
            assert!(about.addresses.len() * SMALLEST <= size, "more than {size} bytes can hold");
            assert!(matches!(&again[..], [Said::About(other)] if *other == about));
        }
        Said::Message(message) => {
            let said = comparable(message);
            assert!(count(&said) * SMALLEST <= size, "more than {size} bytes can hold");
            let parts = again.into_iter().map(|part| match part {
                Said::Message(message) => comparable(message),
                _ => panic!("a message became something else"),
            });
            let whole = parts.reduce(joined).expect("a frame");
            assert!(whole == said, "it is another message when it was encoded again");
        }
        Said::Unknown(_) => unreachable!("it has no encoding"),
    }
}

fn count<S>(message: &Message<S>) -> usize {
    match message {
        Message::Keys(keys) | Message::Held { keys, .. } => keys.len(),
        Message::Taken(names) | Message::Buried(names) => names.len(),
        Message::Refused(names) => names.len(),
        Message::Revoked { keys, .. } => keys.len(),
        Message::Pull | Message::Leaving => 0,
    }
}

type Comparable = Message<[[u8; 32]; 2]>;

/// Secrets cannot be compared by accident; these are none.
fn comparable(message: Message<Box<KeySecrets>>) -> Comparable {
    let plain = |offers: Vec<Offer<Box<KeySecrets>>>| {
        let plain = |offer: Offer<Box<KeySecrets>>| {
            let Offer { name, origin, left, plain, secrets } = offer;
            let secrets = [*secrets.aes.expose(), *secrets.hmac.expose()];
            Offer { name, origin, left, plain, secrets }
        };
        offers.into_iter().map(plain).collect()
    };
    match message {
        Message::Keys(keys) => Message::Keys(plain(keys)),
        Message::Held { keys, last } => Message::Held { keys: plain(keys), last },
        Message::Taken(names) => Message::Taken(names),
        Message::Buried(names) => Message::Buried(names),
        Message::Refused(names) => Message::Refused(names),
        Message::Revoked { keys, all } => Message::Revoked { keys, all },
        Message::Pull => Message::Pull,
        Message::Leaving => Message::Leaving,
    }
}

/// Two frames of one message.
fn joined(first: Comparable, second: Comparable) -> Comparable {
    match (first, second) {
        (Message::Keys(a), Message::Keys(b)) => Message::Keys([a, b].concat()),
        (Message::Held { keys: a, last: false }, Message::Held { keys: b, last }) => {
            Message::Held { keys: [a, b].concat(), last }
        }
        (Message::Taken(a), Message::Taken(b)) => Message::Taken([a, b].concat()),
        (Message::Buried(a), Message::Buried(b)) => Message::Buried([a, b].concat()),
        (Message::Refused(a), Message::Refused(b)) => Message::Refused([a, b].concat()),
        (Message::Revoked { keys: a, all }, Message::Revoked { keys: b, all: false }) => {
            Message::Revoked { keys: [a, b].concat(), all }
        }
        _ => panic!("frames of one message do not belong together"),
    }
}
