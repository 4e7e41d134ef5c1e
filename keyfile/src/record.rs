//! A key as bytes: its name, then two secrets. What differs between the formats is which of them
//! comes first, and how long they are.

use tktrot::clock::Time;
use tktrot::ring::key::Key;

use super::Bytes;

/// A name and two secrets of 32 bytes: AES-256.
pub const LONG: usize = 80;
/// A name and two secrets of 16 bytes: AES-128.
pub const SHORT: usize = 48;

const NAME: usize = 16;

/// Which secret follows the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Name, AES key, HMAC key.
    AesFirst,
    /// Name, HMAC key, AES key.
    HmacFirst,
}

/// The key that these bytes are; `None` unless they are [`LONG`] or [`SHORT`]. Its end is open.
pub fn parse(bytes: &[u8], order: Order) -> Option<Box<Key>> {
    let mut key = Box::new(Key::blank());
    key.aes_128 = match bytes.len() {
        LONG => false,
        SHORT => true,
        _ => return None,
    };
    key.times.decrypt_until = Time::NEVER;
    let (name, secrets) = bytes.split_at(NAME);
    let (first, second) = secrets.split_at(secrets.len() / 2);
    let (aes, hmac) = match order {
        Order::AesFirst => (first, second),
        Order::HmacFirst => (second, first),
    };
    key.name.0.copy_from_slice(name);
    key.secrets.aes.expose_mut()[..aes.len()].copy_from_slice(aes);
    key.secrets.hmac.expose_mut()[..hmac.len()].copy_from_slice(hmac);
    Some(key)
}

/// Appends the [`LONG`] bytes of a key, for which there is room.
pub fn append(key: &Key, order: Order, bytes: &mut Bytes) {
    assert!(bytes.capacity() - bytes.len() >= LONG && !key.aes_128);
    let (aes, hmac) = (key.secrets.aes.expose(), key.secrets.hmac.expose());
    let (first, second) = match order {
        Order::AesFirst => (aes, hmac),
        Order::HmacFirst => (hmac, aes),
    };
    bytes.extend_from_slice(&key.name.0);
    bytes.extend_from_slice(first);
    bytes.extend_from_slice(second);
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::buffer;

    /// Bytes that all differ, so that a swap is seen. Nothing secret.
    pub fn distinct(len: usize, salt: u8) -> Vec<u8> {
        (0..len).map(|index| (index as u8).wrapping_mul(7).wrapping_add(salt)).collect()
    }

    #[test]
    fn a_key_has_80_or_48_bytes_and_no_others() {
        for len in 0..=200 {
            let key = parse(&distinct(len, 1), Order::AesFirst);
            assert_eq!(key.is_some(), len == LONG || len == SHORT, "{len} bytes");
        }
    }

    #[test]
    fn what_is_parsed_is_what_was_appended() {
        for order in [Order::AesFirst, Order::HmacFirst] {
            let bytes = distinct(LONG, 3);
            let mut back = buffer(LONG);
            append(&parse(&bytes, order).unwrap(), order, &mut back);
            assert_eq!(*back, bytes);
        }
    }

    #[test]
    fn each_part_is_where_the_order_says() {
        let bytes = distinct(SHORT, 9);
        let key = parse(&bytes, Order::HmacFirst).unwrap();
        assert_eq!(key.name.0, bytes[..16]);
        assert_eq!(key.secrets.hmac.expose()[..16], bytes[16..32]);
        assert_eq!(key.secrets.aes.expose()[..16], bytes[32..]);
        assert_eq!(key.secrets.aes.expose()[16..], [0; 16]);
        let key = parse(&bytes, Order::AesFirst).unwrap();
        assert_eq!(key.secrets.aes.expose()[..16], bytes[16..32]);
        assert!(key.aes_128 && !key.is_weak());
    }
}
