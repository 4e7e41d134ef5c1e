//! The fleet secret: random bytes that every host of a fleet has in a file. What is done with it
//! uses keys derived from it (HKDF-SHA-384, RFC 5869), a separate one for each purpose, so that one
//! says nothing about another.
//!
//! In the file it is a line of text, hexadecimal or base64, or the random bytes as they are. Who knows it
//! can join the fleet; who knows it later cannot read what the mesh said before, as connections have
//! ephemeral keys, too.

use std::fmt;
use std::sync::LazyLock;

use data_encoding::{Encoding, HEXLOWER, HEXLOWER_PERMISSIVE, Specification};
use openssl::error::ErrorStack;
use openssl::md::Md;
use openssl::pkey::Id;
use openssl::pkey_ctx::PkeyCtx;
use tktrot::secret::Secret;
use zeroize::Zeroizing;

/// It must not be shorter, in bytes.
pub const MIN: usize = 32;

/// It must not be longer, in bytes: nobody needs it, and a file with more is something else.
pub const MAX: usize = 1024;

/// So many different bytes are in it at least. Of 32 random ones fewer differ less than once in
/// 10^30 times; a repeated pattern or a digit held down has fewer.
const MIN_DISTINCT: usize = 10;

/// One fleet secret.
pub struct FleetSecret(Zeroizing<Vec<u8>>);

/// What two peers of the mesh prove to each other that they have.
pub struct Psk {
    /// Says on the wire which secret is meant, and nothing about it.
    pub identity: String,
    /// The key.
    pub key: Box<Secret<48>>,
}

/// Why text is no fleet secret. Does not say what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Text that is neither hexadecimal nor base64.
    NotText,
    /// It has so many bytes.
    Length(usize),
    /// It repeats itself.
    Repetitive,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::NotText => {
                f.write_str("it is neither a line of hexadecimal or base64 nor random bytes")?;
            }
            Flaw::Length(length) => {
                write!(f, "it holds {length} bytes, and a fleet secret has {MIN} to {MAX}")?;
            }
            Flaw::Repetitive => f.write_str("it repeats itself, so it is not a secret")?,
        }
        f.write_str(": `tktrot secret new FILE` makes one")
    }
}

impl std::error::Error for Flaw {}

impl FleetSecret {
    /// The secret that a file holds.
    ///
    /// # Errors
    ///
    /// It holds none that can be used.
    pub fn parse(text: &[u8]) -> Result<Self, Flaw> {
        let line = text.trim_ascii();
        let decoded = from_hex(line).or_else(|| from_base64(line));
        let bytes = decoded.or_else(|| as_they_are(text)).ok_or(Flaw::NotText)?;
        if !(MIN..=MAX).contains(&bytes.len()) {
            return Err(Flaw::Length(bytes.len()));
        }
        if distinct(&bytes) < MIN_DISTINCT {
            return Err(Flaw::Repetitive);
        }
        Ok(FleetSecret(bytes))
    }

    /// The text of a new one, a line.
    ///
    /// # Errors
    ///
    /// OpenSSL's generator gives nothing.
    pub fn generate() -> Result<Zeroizing<String>, ErrorStack> {
        let mut bytes = Zeroizing::new([0; MIN]);
        openssl::rand::rand_priv_bytes(&mut *bytes)?;
        let mut text = Zeroizing::new(String::with_capacity(2 * MIN + 1));
        HEXLOWER.encode_append(&*bytes, &mut text);
        text.push('\n');
        Ok(text)
    }

    /// For the mesh.
    ///
    /// # Errors
    ///
    /// OpenSSL has no HKDF or no SHA-384.
    pub fn mesh(&self) -> Result<Psk, ErrorStack> {
        let key = self.derive("tktrot mesh psk 1")?;
        let identity = self.derive::<8>("tktrot mesh identity 1")?;
        Ok(Psk { identity: format!("tktrot-{}", HEXLOWER.encode(identity.expose())), key })
    }

    /// Wraps keys that are kept in Redis.
    ///
    /// # Errors
    ///
    /// As for [`FleetSecret::mesh`].
    pub fn redis_wrapping_key(&self) -> Result<Box<Secret<32>>, ErrorStack> {
        self.derive("tktrot redis wrap 1")
    }

    /// HKDF-SHA-384 without a salt.
    fn derive<const N: usize>(&self, purpose: &str) -> Result<Box<Secret<N>>, ErrorStack> {
        let mut derived = Box::new(Secret::zeroed());
        let mut hkdf = PkeyCtx::new_id(Id::HKDF)?;
        hkdf.derive_init()?;
        hkdf.set_hkdf_md(Md::sha384())?;
        hkdf.set_hkdf_key(&self.0)?;
        hkdf.add_hkdf_info(purpose.as_bytes())?;
        hkdf.derive(Some(derived.expose_mut()))?;
        Ok(derived)
    }
}

/// Bytes that are no text in any coding that one is written in: a sentence is not taken for a secret, nor the
/// page that was fetched in its place. Random ones are UTF-8 less than once in 10^9 times, and have a mark of
/// UTF-16 at their beginning once in 32768.
fn as_they_are(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let marked = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    let is_text = marked || std::str::from_utf8(bytes).is_ok();
    (!is_text).then(|| Zeroizing::new(bytes.to_vec()))
}

/// How many different bytes there are.
fn distinct(bytes: &[u8]) -> usize {
    let mut seen = Zeroizing::new([false; 256]);
    bytes.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    seen.iter().filter(|seen| **seen).count()
}

fn from_hex(line: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    decoded(&HEXLOWER_PERMISSIVE, line)
}

/// With or without the padding at its end, of both alphabets (RFC 4648 §4 and §5).
fn from_base64(line: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    static BOTH: LazyLock<Encoding> = LazyLock::new(|| {
        let mut both = Specification::new();
        both.symbols.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
        both.translate.from.push_str("-_");
        both.translate.to.push_str("+/");
        // Whoever wrote it may have left something in the bits that stand for nothing.
        both.check_trailing_bits = false;
        both.encoding().expect("a valid specification")
    });
    let padding = line.iter().rev().take_while(|letter| **letter == b'=').count();
    if padding > 2 || (padding > 0 && !line.len().is_multiple_of(4)) {
        return None;
    }
    decoded(&BOTH, &line[..line.len() - padding])
}

/// Into memory that is wiped, which does not grow: that would leave a copy behind.
fn decoded(encoding: &Encoding, text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; encoding.decode_len(text.len()).ok()?]);
    let length = encoding.decode_mut(text, &mut bytes).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes 0 to 31.
    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn secret(text: &str) -> FleetSecret {
        FleetSecret::parse(text.as_bytes()).unwrap_or_else(|flaw| panic!("{flaw}"))
    }

    fn flaw(text: &str) -> Flaw {
        FleetSecret::parse(text.as_bytes()).err().expect("a flaw")
    }

    #[test]
    fn hexadecimal_and_base64_are_the_same_secret() {
        let expected: Vec<u8> = (0..32).collect();
        let base64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
        for text in [HEX, &HEX.to_uppercase(), base64, &format!(" {base64}=\r\n")] {
            assert_eq!(*secret(text).0, expected, "{text:?}");
        }
        let coded = openssl::base64::encode_block(&[0xfb; 7].repeat(9));
        let url = coded.replace('+', "-").replace('/', "_");
        assert_ne!(coded, url);
        for text in [coded, url] {
            assert_eq!(*from_base64(text.as_bytes()).unwrap(), [0xfb; 63]);
        }
    }

    #[test]
    fn random_bytes_are_taken_as_they_are() {
        let bytes: Vec<u8> = (200..232).chain([b'\n']).collect();
        assert_eq!(*FleetSecret::parse(&bytes).ok().unwrap().0, bytes);
        assert_eq!(FleetSecret::parse(&bytes[..31]).err(), Some(Flaw::Length(31)));
        assert_eq!(FleetSecret::parse(&[200; 64]).err(), Some(Flaw::Repetitive));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        assert_eq!(flaw(""), Flaw::Length(0));
        assert_eq!(flaw(&HEX[2..]), Flaw::Length(31));
        assert_eq!(flaw(&HEX.repeat(33)), Flaw::Length(33 * 32));
        assert_eq!(flaw(&"0".repeat(64)), Flaw::Repetitive);
        assert_eq!(flaw(&"0123456789abcdef".repeat(4)), Flaw::Repetitive);
        let page = "<!DOCTYPE html><title>404 — page not found</title>";
        let others = ["Größer als jede Länge: schöne Schlüssel", page, &format!("\u{feff}{HEX}")];
        let sentences =
            ["correct horse battery staple", &format!("{HEX}\n{HEX}"), "AAAAA", "AAA=="];
        for text in sentences.into_iter().chain(others) {
            assert_eq!(flaw(text), Flaw::NotText, "{text:?}");
        }
        let utf16: Vec<u8> = "\u{feff}"
            .chars()
            .chain(HEX.chars())
            .flat_map(|it| (it as u16).to_le_bytes())
            .collect();
        assert_eq!(FleetSecret::parse(&utf16).err(), Some(Flaw::NotText));
    }

    #[test]
    fn new_ones_can_be_used_and_differ() {
        let texts = [(); 2].map(|()| FleetSecret::generate().unwrap());
        assert_ne!(*texts[0], *texts[1]);
        for text in texts {
            assert!(text.len() == 65 && text.ends_with('\n'));
            assert_eq!(secret(&text).0.len(), MIN);
        }
    }

    /// Made with Python's hmac: HKDF-Extract with a salt of 48 zeroes, then HKDF-Expand.
    #[test]
    fn derived_keys_are_those_of_rfc_5869() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let psk = secret(HEX).mesh().unwrap();
        assert_eq!(psk.identity, "tktrot-9b7e5a3855ea21a5");
        assert_eq!(
            hex(psk.key.expose()),
            "023b82acc29e2c7c6254ef7ecebd041d3ea4c24e313ace8d7444ab0558b370d604d8e5ddd333a7d5dd5ad240c9d82a5e"
        );
        assert_eq!(
            hex(secret(HEX).redis_wrapping_key().unwrap().expose()),
            "98788fa0a850841346e186a0f12a52b8a1e3ef65be54561cb11fc7cdd891b9ac"
        );
    }
}
