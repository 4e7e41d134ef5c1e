//! What a ticket is bound to of a ClientHello, read from the message itself (RFC 5246 §7.4.1.2;
//! RFC 6347 §4.2.1 for DTLS).

use super::sni::{self, ServerName};

/// `client_hello` of the handshake types.
const CLIENT_HELLO: u8 = 1;
/// The first byte of every version of DTLS.
const DTLS_MAJOR: u8 = 0xfe;

/// A ClientHello, as far as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello<'m> {
    /// Tells it from others.
    pub random: &'m [u8; 32],
    /// What it asks for.
    pub server_name: ServerName<'m>,
}

/// True for a handshake message that is a ClientHello, whatever is in it.
pub fn is_one(message: &[u8]) -> bool {
    message.first() == Some(&CLIENT_HELLO)
}

impl<'m> ClientHello<'m> {
    /// Reads a handshake message, header included. `None` if it is none that a TLS library goes on
    /// with, or names the extension twice.
    pub fn read(message: &'m [u8]) -> Option<Self> {
        let [kind, header @ ..] = message else { return None };
        let (length, body) = split::<3>(header)?;
        let length = usize::from_be_bytes([&[0; 5], &length[..]].concat().try_into().ok()?);
        // DTLS has sequence number, offset and length of the fragment, which is the whole here.
        let (body, is_datagram) = match body.len().checked_sub(length)? {
            0 => (body, false),
            8 => (&body[8..], true),
            _ => return None,
        };
        let (version, body) = split::<2>(body)?;
        if *kind != CLIENT_HELLO || (version[0] == DTLS_MAJOR) != is_datagram {
            return None;
        }
        let (random, body) = split::<32>(body)?;
        let (_session_id, mut body) = vector::<1>(body)?;
        if is_datagram {
            (_, body) = vector::<1>(body)?;
        }
        let (_ciphers, body) = vector::<2>(body)?;
        let (_compression, body) = vector::<1>(body)?;
        let server_name = if body.is_empty() { ServerName::None } else { name_in(body)? };
        Some(ClientHello { random, server_name })
    }
}

/// The name in a block of extensions, if it is well-formed.
fn name_in(block: &[u8]) -> Option<ServerName<'_>> {
    let (mut extensions, after) = vector::<2>(block)?;
    let mut name = ServerName::None;
    while !extensions.is_empty() {
        let (kind, rest) = split::<2>(extensions)?;
        let (data, rest) = vector::<2>(rest)?;
        if *kind == sni::EXTENSION.to_be_bytes() {
            if name != ServerName::None {
                return None;
            }
            name = ServerName::from_extension(data);
        }
        extensions = rest;
    }
    after.is_empty().then_some(name)
}

fn split<const LEN: usize>(bytes: &[u8]) -> Option<(&[u8; LEN], &[u8])> {
    bytes.split_first_chunk()
}

/// Bytes behind a length of so many bytes, and what is after them.
fn vector<const LEN: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = split::<LEN>(bytes)?;
    let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: [u8; 32] = [7; 32];

    fn counted(width: usize, bytes: &[u8]) -> Vec<u8> {
        [&bytes.len().to_be_bytes()[8 - width..], bytes].concat()
    }

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &counted(2, data)].concat()
    }

    fn name(host: &[u8]) -> Vec<u8> {
        extension(0, &counted(2, &[&[0][..], &counted(2, host)].concat()))
    }

    /// Of TLS, or of DTLS; with those extensions, if it has any.
    fn hello(is_datagram: bool, extensions: Option<&[u8]>) -> Vec<u8> {
        let mut body = if is_datagram { vec![0xfe, 0xfd] } else { vec![3, 3] };
        body.extend(RANDOM);
        body.extend(counted(1, b"session id"));
        if is_datagram {
            body.extend(counted(1, b"cookie"));
        }
        body.extend(counted(2, &[0xc0, 0x2b, 0xc0, 0x2f]));
        body.extend(counted(1, &[0]));
        body.extend(extensions.map(|all| counted(2, all)).unwrap_or_default());
        let length = &body.len().to_be_bytes()[5..];
        let fragment = [&[0; 5], length].concat();
        let fragment = if is_datagram { &fragment[..] } else { &[] };
        [&[CLIENT_HELLO], length, fragment, &body].concat()
    }

    fn named(message: &[u8]) -> Option<ServerName<'_>> {
        assert!(is_one(message));
        let hello = ClientHello::read(message)?;
        assert_eq!(hello.random, &RANDOM);
        Some(hello.server_name)
    }

    #[test]
    fn the_name_is_found_among_other_extensions() {
        let ticket = extension(35, b"a ticket");
        let with = [&ticket[..], &name(b"a.test"), &extension(23, b"")].concat();
        for is_datagram in [false, true] {
            let found = hello(is_datagram, Some(&with));
            assert_eq!(named(&found), Some(ServerName::Name(b"a.test")));
            for without in [None, Some(&b""[..]), Some(&ticket[..])] {
                assert_eq!(named(&hello(is_datagram, without)), Some(ServerName::None));
            }
        }
    }

    #[test]
    fn a_name_in_the_data_of_another_extension_is_none() {
        let inside = extension(35, &hello(false, Some(&name(b"b.test"))));
        let with = [&inside[..], &name(b"a.test")].concat();
        assert_eq!(named(&hello(false, Some(&with))), Some(ServerName::Name(b"a.test")));
        assert_eq!(named(&hello(false, Some(&inside))), Some(ServerName::None));
    }

    #[test]
    fn what_is_malformed_stays_as_it_is() {
        let with = extension(0, b"?");
        assert_eq!(named(&hello(false, Some(&with))), Some(ServerName::Malformed(b"?")));
    }

    #[test]
    fn what_is_not_whole_or_says_two_things_is_not_read() {
        let whole = hello(false, Some(&name(b"a.test")));
        for len in 1..whole.len() {
            assert_eq!(named(&whole[..len]), None, "{len} bytes");
        }
        assert_eq!(named(&[&whole[..], &[0]].concat()), None);
        let twice = [name(b"a.test"), name(b"b.test")].concat();
        assert_eq!(named(&hello(false, Some(&twice))), None);
        let cut = &name(b"a.test")[..8];
        assert_eq!(named(&hello(false, Some(cut))), None);
        assert!(!is_one(&[]) && !is_one(&[2]) && ClientHello::read(&[]).is_none());
    }

    #[test]
    fn a_header_of_dtls_is_not_taken_for_one_of_tls() {
        let mut other = hello(true, None);
        (other[12], other[13]) = (3, 3);
        assert_eq!(named(&other), None);
        let mut other = hello(false, None);
        (other[4], other[5]) = (0xfe, 0xfd);
        assert_eq!(named(&other), None);
    }
}
