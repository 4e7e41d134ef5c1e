//! What goes in comes out; what is no frame is told so, whatever it is.

use std::time::Duration;

use tktrot::secret::KeyName;

use super::*;
use crate::message::{Left, Offer, Refusal, Tombstone};

const SENT: Time = Time(0x0102_0304_0506_0708);

/// Numbers that look random and are the same in every run (Marsaglia's xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Short and long ones, as varints are.
    fn span(&mut self) -> Duration {
        let bits = self.below(64) as u32;
        Duration::from_nanos(self.next() >> bits)
    }

    fn name(&mut self) -> KeyName {
        KeyName((u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes())
    }

    fn secrets(&mut self) -> Box<KeySecrets> {
        let mut secrets = Box::new(KeySecrets::zeroed());
        secrets.aes.expose_mut().fill_with(|| self.next() as u8);
        secrets.hmac.expose_mut().fill_with(|| self.next() as u8);
        secrets
    }

    fn offer(&mut self) -> Offer<Box<KeySecrets>> {
        Offer {
            name: self.name(),
            origin: NodeId(self.next()),
            left: Left { begins: self.span(), encrypts: self.span(), decrypts: self.span() },
            plain: self.next() & 1 == 1,
            secrets: self.secrets(),
        }
    }

    fn refusal(&mut self) -> Refusal {
        use Refusal::*;
        [Ended, TooMany, Full, Unusable, Busy, Other][self.below(6)]
    }

    fn tombstone(&mut self) -> Tombstone {
        Tombstone { name: self.name(), left: self.span() }
    }

    /// Every kind in turn.
    fn message(&mut self, kind: usize, count: usize) -> Message<Box<KeySecrets>> {
        let flag = self.next() & 1 == 1;
        match kind % 8 {
            0 => Message::Keys((0..count).map(|_| self.offer()).collect()),
            1 => Message::Taken((0..count).map(|_| self.name()).collect()),
            2 => Message::Refused((0..count).map(|_| (self.name(), self.refusal())).collect()),
            3 => {
                let keys = (0..count).map(|_| self.tombstone()).collect();
                Message::Revoked { keys, all: flag }
            }
            4 => Message::Pull,
            6 => Message::Buried((0..count).map(|_| self.name()).collect()),
            5 => Message::Held { keys: (0..count).map(|_| self.offer()).collect(), last: flag },
            _ => Message::Leaving,
        }
    }
}

/// The frame without its length, which is checked.
fn unprefixed(bytes: &Bytes) -> &[u8] {
    let (prefix, frame) = bytes.split_first_chunk().unwrap();
    assert_eq!(length(*prefix, MAX), Ok(frame.len()));
    frame
}

fn flaw(frame: &[u8]) -> Flaw {
    decode(frame).err().expect("a flaw")
}

/// What a frame says that is a message.
fn heard(frame: &[u8]) -> Message<Box<KeySecrets>> {
    heard_at(frame, SENT)
}

fn heard_at(frame: &[u8], sent: Time) -> Message<Box<KeySecrets>> {
    let frame = decode(frame).unwrap_or_else(|flaw| panic!("{flaw}"));
    assert_eq!(frame.sent, sent);
    match frame.said {
        Said::Message(message) => message,
        _ => panic!("no message"),
    }
}

fn same_keys(a: &[Offer<Box<KeySecrets>>], b: &[Offer<Box<KeySecrets>>]) -> bool {
    let facts = |key: &Offer<_>| (key.name, key.origin, key.left, key.plain);
    let same = |(a, b): (&Offer<Box<KeySecrets>>, &Offer<Box<KeySecrets>>)| {
        let (secrets, others) = (&a.secrets, &b.secrets);
        let same_aes = secrets.aes.same_as(&others.aes);
        facts(a) == facts(b) && same_aes && secrets.hmac.same_as(&others.hmac)
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

fn same(a: &Message<Box<KeySecrets>>, b: &Message<Box<KeySecrets>>) -> bool {
    match (a, b) {
        (Message::Keys(a), Message::Keys(b)) => same_keys(a, b),
        (Message::Held { keys: a, last }, Message::Held { keys: b, last: other }) => {
            last == other && same_keys(a, b)
        }
        (Message::Taken(a), Message::Taken(b)) | (Message::Buried(a), Message::Buried(b)) => a == b,
        (Message::Refused(a), Message::Refused(b)) => a == b,
        (Message::Revoked { keys: a, all }, Message::Revoked { keys: b, all: other }) => {
            all == other && a == b
        }
        (Message::Pull, Message::Pull) | (Message::Leaving, Message::Leaving) => true,
        _ => false,
    }
}

#[test]
fn messages_come_out_as_they_went_in() {
    let mut numbers = Numbers(1);
    for kind in 0..800 {
        let count = numbers.below(9);
        let message = numbers.message(kind, count);
        let frames = super::message(&message, SENT);
        let [frame] = &frames[..] else { panic!("{} frames", frames.len()) };
        assert!(same(&heard(unprefixed(frame)), &message), "kind {}", kind % 8);
    }
}

#[test]
fn what_connections_say_comes_out_as_it_went_in() {
    let ring = "é".repeat(127);
    let said = Hello { node: NodeId(u64::MAX), instance: 0, ring };
    let frame = decode(unprefixed(&hello(&said, SENT))).ok().unwrap();
    assert!(matches!(frame.said, Said::Hello(heard) if heard == said));
    for number in [0, 127, 128, u64::MAX] {
        let frame = decode(unprefixed(&ping(number, SENT))).ok().unwrap();
        assert!(frame.sent == SENT && matches!(frame.said, Said::Ping(heard) if heard == number));
        let frame = decode(unprefixed(&pong(number, SENT))).ok().unwrap();
        assert!(matches!(frame.said, Said::Pong(heard) if heard == number));
    }
}

#[test]
fn what_a_node_tells_of_its_host_comes_out_as_it_went_in() {
    let about = About {
        release: "1.2.3-beta".into(),
        rotate_every: Duration::from_secs(3600),
        lifetime: Duration::MAX,
        plain: true,
        wall: u64::MAX,
        addresses: vec![[10, 0, 0, 2].into(), [0xfd; 16].into()],
    };
    let lifetime = Duration::from_nanos(u64::MAX);
    let addresses = vec![[1; 16].into(); About::MAX_ADDRESSES];
    for said in
        [About { lifetime, ..about.clone() }, About { addresses, lifetime, ..about.clone() }]
    {
        let frame = decode(unprefixed(&super::about(&said, SENT))).ok().unwrap();
        assert!(matches!(frame.said, Said::About(heard) if heard == said));
    }
    let addresses = vec![[1; 16].into(); About::MAX_ADDRESSES + 1];
    let unsound = [
        About { release: String::new(), ..about.clone() },
        About { release: "a b".into(), ..about.clone() },
        About { release: "x".repeat(65), ..about.clone() },
        About { addresses, ..about },
    ];
    for about in unsound {
        assert_eq!(flaw(unprefixed(&body::about(&about, SENT))), Flaw::Malformed(4), "{about:?}");
    }
}

#[test]
fn a_message_that_is_too_long_for_a_frame_comes_in_several() {
    let mut numbers = Numbers(2);
    const COUNT: usize = 20_000;
    let keys: Vec<_> = (0..COUNT).map(|_| numbers.offer()).collect();
    let frames = super::message(&Message::Held { keys, last: true }, SENT);
    assert!(frames.len() > 1);
    let mut heard_keys = Vec::new();
    for (number, frame) in frames.iter().enumerate() {
        let Message::Held { keys, last } = heard(unprefixed(frame)) else { panic!("not held") };
        assert_eq!(last, number == frames.len() - 1, "only the last is the last");
        heard_keys.extend(keys);
    }
    let again = super::message(&Message::Held { keys: heard_keys, last: true }, SENT);
    assert!(frames == again, "the same keys in the same order");

    let tombstones: Vec<_> = (0..100_000).map(|_| numbers.tombstone()).collect();
    let revoked = Message::<Box<KeySecrets>>::Revoked { keys: tombstones.clone(), all: true };
    let frames = super::message(&revoked, SENT);
    let parts: Vec<_> = frames.iter().map(|frame| heard(unprefixed(frame))).collect();
    let mut heard_tombstones = Vec::new();
    for (number, part) in parts.into_iter().enumerate() {
        let Message::Revoked { keys, all } = part else { panic!("not revoked") };
        assert_eq!(all, number == 0, "once, and first");
        heard_tombstones.extend(keys);
    }
    assert_eq!(heard_tombstones, tombstones);
}

#[test]
fn a_longest_key_fits_where_it_is_expected_to() {
    let mut numbers = Numbers(3);
    let longest = |_| {
        let most = Duration::from_nanos(u64::MAX);
        let left = Left { begins: most, encrypts: most, decrypts: most };
        Offer { origin: NodeId(u64::MAX), left, ..numbers.offer() }
    };
    let keys = (0..9000).map(longest).collect();
    for frame in super::message(&Message::Keys(keys), SENT) {
        heard(unprefixed(&frame));
    }
}

#[test]
fn a_part_of_a_frame_is_none() {
    let mut numbers = Numbers(4);
    for kind in 0..8 {
        let frames = super::message(&numbers.message(kind, 3), SENT);
        let whole = unprefixed(&frames[0]);
        for end in 0..whole.len() {
            let is_header = end >= HEADER;
            let kind = u16::from_be_bytes([whole[1], whole[2]]);
            let expected = if is_header { Flaw::Malformed(kind) } else { Flaw::TooShort(end) };
            assert_eq!(flaw(&whole[..end]), expected);
        }
        let mut longer = whole.to_vec();
        longer.push(0);
        assert!(matches!(flaw(&longer), Flaw::Malformed(_)), "bytes after the end");
    }
}

#[test]
fn flipped_bits_and_noise_never_panic() {
    let mut numbers = Numbers(5);
    for kind in 0..8 {
        let frames = super::message(&numbers.message(kind, 2), SENT);
        let whole = unprefixed(&frames[0]).to_vec();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = decode(&flipped);
        }
    }
    for kind in (0..30).cycle().take(30_000) {
        let mut noise: Vec<u8> = (0..numbers.below(200)).map(|_| numbers.next() as u8).collect();
        let header = [MAJOR, 0, kind, 0, 0, 0, 0, 0, 0, 0, 0];
        noise.splice(..0, header);
        let _ = decode(&noise);
    }
}

#[test]
fn an_announced_length_is_believed_only_within_bounds() {
    let prefix = |length: u32| length.to_be_bytes();
    assert_eq!(length(prefix(0), MAX), Err(Flaw::TooShort(0)));
    assert_eq!(length(prefix(10), MAX), Err(Flaw::TooShort(10)));
    assert_eq!(length(prefix(11), MAX), Ok(11));
    assert_eq!(length(prefix(MAX as u32), MAX), Ok(MAX));
    assert_eq!(length(prefix(MAX as u32 + 1), usize::MAX), Err(Flaw::TooLong(MAX + 1)));
    assert_eq!(length(prefix(1001), 1000), Err(Flaw::TooLong(1001)));
    assert_eq!(length(prefix(u32::MAX), MAX), Err(Flaw::TooLong(u32::MAX as usize)));
    assert_eq!(flaw(&vec![1; MAX + 1]), Flaw::TooLong(MAX + 1));
    // A count that no memory could hold, in a short body.
    let body = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    for kind in 16..=22 {
        let frame = [&[MAJOR, 0, kind, 0, 0, 0, 0, 0, 0, 0, 0], &body[..]].concat();
        assert_eq!(flaw(&frame), Flaw::Malformed(u16::from(kind)));
    }
}

#[test]
fn later_types_are_skipped_and_other_versions_refused() {
    let frame = |major| [major, 0x7f, 0xff, 0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3];
    let skipped = decode(&frame(MAJOR)).ok().unwrap();
    assert!(matches!(skipped.said, Said::Unknown(0x7fff)));
    assert_eq!(flaw(&frame(2)), Flaw::Major(2));
    assert_eq!(flaw(&frame(0)), Flaw::Major(0));
}

#[test]
fn secrets_of_another_length_and_unsound_names_are_refused() {
    let mut numbers = Numbers(6);
    let frames = super::message(&Message::Keys(vec![numbers.offer()]), SENT);
    let whole = unprefixed(&frames[0]);
    // A key ends with its HMAC secret: a byte for the length, then that.
    let mut shorter = whole[..whole.len() - 1].to_vec();
    let length = shorter.len() - 32;
    assert_eq!(shorter[length], 32);
    shorter[length] = 31;
    assert_eq!(flaw(&shorter), Flaw::Malformed(16));

    for ring in ["", "line\nfeed", &"x".repeat(256)] {
        let hello = Hello { node: NodeId(1), instance: 2, ring: ring.to_owned() };
        assert_eq!(flaw(unprefixed(&body::hello(&hello, SENT))), Flaw::Malformed(1), "{ring:?}");
    }
    let reason = [&[MAJOR, 0, 18, 0, 0, 0, 0, 0, 0, 0, 0, 1], &[7; 16][..], &[5]].concat();
    assert!(
        matches!(heard_at(&reason, Time(0)), Message::Refused(why) if why[0].1 == Refusal::Busy)
    );
    let mut later = reason;
    *later.last_mut().unwrap() = 99;
    let heard = heard_at(&later, Time(0));
    assert!(matches!(heard, Message::Refused(why) if why[0].1 == Refusal::Other), "a later reason");
}
