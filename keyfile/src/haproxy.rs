//! HAProxy: `tls-ticket-keys FILE`, text, a key in base64 on each line, three of them or more, all
//! of one size: 80 bytes are name, AES-256 key, HMAC key; 48 bytes the same with AES-128. The
//! penultimate line encrypts; of more than three lines HAProxy keeps the last three
//! (`bind_parse_tls_ticket_keys` in src/cfgparse-ssl.c).

use openssl::base64;
use tktrot::ring::key::Key;
use zeroize::Zeroizing;

use super::record::{self, LONG, Order, SHORT};
use super::{Bytes, Keys, Short, buffer};

/// What HAProxy keeps, and demands.
pub const LINES: usize = 3;

const LONG_LINE: usize = LONG.div_ceil(3) * 4;
const SHORT_LINE: usize = SHORT.div_ceil(3) * 4;

/// The keys of a file.
///
/// # Errors
///
/// What is wrong with it, and in which line.
pub fn parse(bytes: &[u8], short: Short) -> Result<Keys, String> {
    let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|byte| *byte == b'\n');
    let mut keys = Keys::new();
    for (number, line) in (1..).zip(lines) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let key = key(line, short).map_err(|flaw| format!("line {number}: {flaw}"))?;
        if keys.first().is_some_and(|first| first.aes_128 != key.aes_128) {
            return Err(format!("line {number}: its key has a different size than the first"));
        }
        keys.push(key);
    }
    if keys.len() < LINES {
        return Err(format!("it has {} lines; HAProxy's files have {LINES} or more", keys.len()));
    }
    Ok(keys)
}

fn key(line: &[u8], short: Short) -> Result<Box<Key>, String> {
    let size = match line.len() {
        LONG_LINE => LONG,
        SHORT_LINE => SHORT,
        other => {
            return Err(format!(
                "it has {other} characters, not {LONG_LINE} (80 bytes in base64) or {SHORT_LINE} \
                 (48 bytes)"
            ));
        }
    };
    // OpenSSL takes a '=' anywhere, and blanks around.
    let padding = size.next_multiple_of(3) - size;
    let digits = &line[..line.len() - padding];
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    let text = std::str::from_utf8(line).ok();
    let text =
        text.filter(|text| digits.iter().all(is_digit) && text[digits.len()..] == "="[..padding]);
    let decoded = text.and_then(|text| base64::decode_block(text).ok()).map(Zeroizing::new);
    let decoded = decoded.filter(|bytes| bytes.len() == size).ok_or("it is not base64")?;
    if size == SHORT {
        short.check()?;
    }
    record::parse(&decoded, Order::AesFirst).ok_or_else(|| "it is not a key".into())
}

/// The file of keys, of which the penultimate one encrypts.
pub fn format(keys: [&Key; LINES]) -> Bytes {
    let mut text = buffer(LINES * (LONG_LINE + 1));
    for key in keys {
        let mut bytes = buffer(LONG);
        record::append(key, Order::AesFirst, &mut bytes);
        text.extend_from_slice(Zeroizing::new(base64::encode_block(&bytes)).as_bytes());
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::distinct;
    use super::*;

    fn line(len: usize, salt: u8) -> String {
        base64::encode_block(&distinct(len, salt))
    }

    fn file(lines: &[String], end: &str) -> Vec<u8> {
        lines.iter().map(|line| format!("{line}{end}")).collect::<String>().into_bytes()
    }

    fn three(len: usize) -> Vec<String> {
        [1, 2, 3].map(|salt| line(len, salt)).to_vec()
    }

    fn flaw(bytes: &[u8]) -> String {
        parse(bytes, Short::Allowed).err().expect("a flaw")
    }

    #[test]
    fn both_ends_of_lines_are_taken_and_the_last_may_be_missing() {
        for end in ["\n", "\r\n"] {
            let bytes = file(&three(LONG), end);
            for bytes in [&bytes[..], bytes.strip_suffix(end.as_bytes()).unwrap()] {
                let keys = parse(bytes, Short::Refused).unwrap();
                assert_eq!(keys.len(), 3);
                assert_eq!(keys[2].secrets.aes.expose()[..], distinct(LONG, 3)[16..48]);
            }
        }
        assert_eq!(parse(&file(&three(LONG), "\n"), Short::Refused).unwrap().len(), 3);
        let five: Vec<_> = (1..6).map(|salt| line(LONG, salt)).collect();
        assert_eq!(parse(&file(&five, "\n"), Short::Refused).unwrap().len(), 5);
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_refused() {
        let whole = file(&three(LONG), "\n");
        for len in 0..whole.len() - 1 {
            assert!(parse(&whole[..len], Short::Allowed).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn fewer_than_three_lines_are_refused() {
        for count in 1..3 {
            let error = flaw(&file(&three(LONG)[..count], "\n"));
            assert_eq!(error, format!("it has {count} lines; HAProxy's files have 3 or more"));
        }
    }

    #[test]
    fn a_line_of_any_other_length_is_refused_with_its_number() {
        for len in (0..=200).filter(|len| *len != LONG && *len != SHORT) {
            let mut lines = three(LONG);
            lines[1] = line(len, 2);
            assert!(flaw(&file(&lines, "\n")).starts_with("line 2: it "), "{len} bytes");
        }
        let mut lines = three(LONG);
        lines.insert(1, String::new());
        assert!(flaw(&file(&lines, "\n")).starts_with("line 2: it has 0 characters"));
        lines[1] = "# a comment".into();
        assert!(flaw(&file(&lines, "\n")).starts_with("line 2: it has 11 characters"));
    }

    #[test]
    fn every_character_that_is_no_digit_is_refused_wherever_it_is() {
        let whole = file(&three(LONG), "\n");
        let end_of_last = whole.len() - 2;
        for place in (0..whole.len()).filter(|place| whole[*place] != b'\n') {
            for wrong in *b"=-_ .\t\r\0\xff" {
                let mut bytes = whole.clone();
                if bytes[place] != wrong {
                    bytes[place] = wrong;
                    assert!(parse(&bytes, Short::Allowed).is_err(), "{wrong} at {place}");
                }
            }
        }
        let mut bytes = whole.clone();
        bytes[end_of_last] = b'A';
        assert!(flaw(&bytes).starts_with("line 3: it is not base64"));
    }

    #[test]
    fn sizes_do_not_mix_and_short_ones_need_to_be_allowed() {
        let bytes = file(&three(SHORT), "\n");
        assert!(parse(&bytes, Short::Allowed).unwrap().iter().all(|key| key.aes_128));
        let error = parse(&bytes, Short::Refused).err().unwrap();
        assert!(error.contains("--allow-48"), "{error}");
        let mut lines = three(LONG);
        lines[2] = line(SHORT, 3);
        assert!(flaw(&file(&lines, "\n")).starts_with("line 3: its key has a different size"));
    }

    #[test]
    fn a_file_comes_back() {
        let bytes = file(&three(LONG), "\n");
        let keys = parse(&bytes, Short::Refused).unwrap();
        assert_eq!(*format([&keys[0], &keys[1], &keys[2]]), bytes);
    }
}
