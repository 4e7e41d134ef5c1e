//! A format of no server, for programs of one's own: 80 bytes for each key, one after the other,
//! the one that encrypts first: name (16), AES-256 key (32), HMAC-SHA-256 key (32).

use tktrot::ring::key::Key;

use super::record::{self, LONG, Order};
use super::{Bytes, Keys, buffer};

/// The keys of a file.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Keys, String> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(LONG) {
        return Err(format!("it has {} bytes, not 80 for each key", bytes.len()));
    }
    Ok(bytes.chunks(LONG).filter_map(|bytes| record::parse(bytes, Order::AesFirst)).collect())
}

/// The file of keys.
pub fn format(keys: &[&Key]) -> Bytes {
    let mut bytes = buffer(keys.len() * LONG);
    keys.iter().for_each(|key| record::append(key, Order::AesFirst, &mut bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::distinct;
    use super::*;

    #[test]
    fn only_whole_keys_are_taken() {
        for len in 0..=3 * LONG + 1 {
            let keys = parse(&distinct(len, 1)).ok().map(|keys| keys.len());
            let whole = len > 0 && len % LONG == 0;
            assert_eq!(keys, whole.then_some(len / LONG), "{len} bytes");
        }
    }

    #[test]
    fn a_file_comes_back() {
        let bytes = distinct(2 * LONG, 5);
        let keys = parse(&bytes).unwrap();
        assert_eq!(keys[0].secrets.aes.expose()[..], bytes[16..48]);
        let keys: Vec<&Key> = keys.iter().map(|key| &**key).collect();
        assert_eq!(*format(&keys), bytes);
    }
}
