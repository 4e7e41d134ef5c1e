//! A recorded ClientHello, and the same with other tickets (RFC 8446, section 4.2.11).

use crate::Result;

const PRE_SHARED_KEY: u16 = 41;
const RECORD_HEADER: usize = 5;
const HANDSHAKE_HEADER: usize = 4;
const LARGEST_RECORD: usize = 1 << 14;

/// A ClientHello without its tickets.
pub struct ClientHello {
    /// The handshake message's body up to the length of its extensions.
    before: Vec<u8>,
    /// The extensions but for pre_shared_key, which is the last.
    extensions: Vec<u8>,
}

impl ClientHello {
    /// Takes a record with nothing else in it.
    pub fn of_record(record: &[u8]) -> Result<ClientHello> {
        let body = record.get(RECORD_HEADER + HANDSHAKE_HEADER..).ok_or("no record")?;
        // Version and random; then session id, cipher suites, compression, each with its length.
        let mut place = 2 + 32;
        for width in [1, 2, 1] {
            place += width + length(body, place, width)?;
        }
        let before = body.get(..place).ok_or("a short ClientHello")?.to_vec();
        let all = body.get(place + 2..).ok_or("a ClientHello without extensions")?;
        let mut at = 0;
        while at < all.len() && length(all, at, 2)? != usize::from(PRE_SHARED_KEY) {
            at += 4 + length(all, at + 2, 2)?;
        }
        let is_last = at < all.len() && at + 4 + length(all, at + 2, 2)? == all.len();
        match is_last {
            true => Ok(ClientHello { before, extensions: all[..at].to_vec() }),
            false => Err("no pre_shared_key at the ClientHello's end".into()),
        }
    }

    /// With these tickets, and binders of zeroes: a server looks at the binder of the ticket that it
    /// takes, and at no other.
    pub fn with_identities(&self, identities: &[Vec<u8>]) -> Result<Vec<u8>> {
        let (mut names, mut binders) = (Vec::new(), Vec::new());
        for identity in identities {
            names.extend(prefixed(identity, 2)?);
            names.extend([0; 4]);
            binders.extend(prefixed(&[0; 32], 1)?);
        }
        let offer = [prefixed(&names, 2)?, prefixed(&binders, 2)?].concat();
        let mut extensions = self.extensions.clone();
        extensions.extend(PRE_SHARED_KEY.to_be_bytes());
        extensions.extend(prefixed(&offer, 2)?);
        let body = [self.before.clone(), prefixed(&extensions, 2)?].concat();
        let mut message = vec![1];
        message.extend(prefixed(&body, 3)?);
        let mut records = Vec::new();
        for part in message.chunks(LARGEST_RECORD) {
            records.extend([22, 3, 1]);
            records.extend(prefixed(part, 2)?);
        }
        Ok(records)
    }
}

/// A big-endian number of so many bytes.
fn length(bytes: &[u8], at: usize, width: usize) -> Result<usize> {
    let number = bytes.get(at..at + width).ok_or("a message that ends too early")?;
    Ok(number.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)))
}

/// The bytes behind their number, which is so wide.
fn prefixed(bytes: &[u8], width: usize) -> Result<Vec<u8>> {
    let number = bytes.len().to_be_bytes();
    let (zeroes, number) = number.split_at(number.len() - width);
    match zeroes.iter().all(|&byte| byte == 0) {
        true => Ok([number, bytes].concat()),
        false => Err("too many identities for one ClientHello".into()),
    }
}
