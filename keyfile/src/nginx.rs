//! nginx: `ssl_session_ticket_key FILE`, one key in each file; the first of several encrypts. The
//! size of the file decides: 80 bytes are name, HMAC key, AES-256 key; 48 bytes are name, AES-128
//! key, HMAC key. That order is not the same is nginx's own
//! (`ngx_ssl_session_ticket_keys` in src/event/ngx_event_openssl.c).

use std::fmt::Write;
use std::path::Path;

use tktrot::ring::key::Key;

use super::record::{self, LONG, Order, SHORT};
use super::{Bytes, Keys, Short, buffer};

/// The key of a file of 80 bytes.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse_80(bytes: &[u8]) -> Result<Keys, String> {
    of_size(bytes, LONG, Order::HmacFirst)
}

/// The key of a file of 48 bytes.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse_48(bytes: &[u8], short: Short) -> Result<Keys, String> {
    short.check()?;
    of_size(bytes, SHORT, Order::AesFirst)
}

fn of_size(bytes: &[u8], size: usize, order: Order) -> Result<Keys, String> {
    let key = Some(bytes).filter(|bytes| bytes.len() == size);
    let key = key.and_then(|bytes| record::parse(bytes, order));
    let key = key.ok_or_else(|| format!("it has {} bytes, not {size}", bytes.len()))?;
    Ok(vec![key])
}

/// The file of a key.
pub fn format(key: &Key) -> Bytes {
    let mut bytes = buffer(LONG);
    record::append(key, Order::HmacFirst, &mut bytes);
    bytes
}

/// What a configuration includes: a directive for each file.
pub fn directives<'a>(files: impl Iterator<Item = &'a Path>) -> String {
    files.fold(String::new(), |mut text, file| {
        let path = file.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "ssl_session_ticket_key \"{path}\";");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::distinct;
    use super::*;

    #[test]
    fn every_other_length_is_refused_and_both_are_told() {
        for len in (0..=200).filter(|len| *len != LONG) {
            let error = parse_80(&distinct(len, 1)).err().unwrap();
            assert_eq!(error, format!("it has {len} bytes, not 80"));
        }
        for len in (0..=200).filter(|len| *len != SHORT) {
            assert!(parse_48(&distinct(len, 1), Short::Allowed).is_err());
        }
    }

    #[test]
    fn short_keys_are_taken_only_where_allowed() {
        let bytes = distinct(SHORT, 1);
        assert!(parse_48(&bytes, Short::Allowed).unwrap()[0].aes_128);
        let error = parse_48(&bytes, Short::Refused).err().unwrap();
        assert!(error.contains("--allow-48"), "{error}");
    }

    #[test]
    fn a_file_comes_back() {
        let bytes = distinct(LONG, 5);
        let keys = parse_80(&bytes).unwrap();
        assert_eq!(keys[0].secrets.hmac.expose()[..], bytes[16..48]);
        assert_eq!(*format(&keys[0]), bytes);
    }

    #[test]
    fn a_path_is_quoted() {
        let files = [Path::new("/a b/k.0"), Path::new("/\"\\")];
        let text = "ssl_session_ticket_key \"/a b/k.0\";\nssl_session_ticket_key \"/\\\"\\\\\";\n";
        assert_eq!(directives(files.into_iter()), text);
    }
}
