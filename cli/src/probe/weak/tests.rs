use super::*;

const NAME: [u8; 16] = *b"a random keyname";
const IV: [u8; 16] = [7; 16];
/// Stands for a key that nobody guesses.
const STRONG: [u8; 32] = *b"\x8e\x01\xd3\x55\x9a\x20\x7fC0\xcf\xb2\x13\x66\xe8\x91\x04\
    \xfa\x3d\x72\x18\xa5\xc9\x0b\xee\x47\x5c\x88\x29\xd6\x31\x6f\xb4";

/// As OpenSSL encodes one: a sequence of the version and more.
fn session() -> Vec<u8> {
    let content = [&SESSION_VERSION[..], &[0x02, 0x02, 0x03, 0x03], &[0xaa; 150]].concat();
    [&[0x30, 0x81, content.len() as u8][..], &content].concat()
}

fn hmac(digest: MessageDigest, key: &[u8], signed: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(key).unwrap();
    Signer::new(digest, &key).unwrap().sign_oneshot_to_vec(signed).unwrap()
}

/// Name, IV, AES-CBC, MAC.
fn ticket(name: &[u8], aes: &[u8], mac: &[u8], digest: MessageDigest) -> Vec<u8> {
    let cipher = if aes.len() == 16 { Cipher::aes_128_cbc() } else { Cipher::aes_256_cbc() };
    let encrypted = symm::encrypt(cipher, aes, Some(&IV), &session()).unwrap();
    let signed = [name, &IV, &encrypted].concat();
    let tag = hmac(digest, mac, &signed);
    [signed, tag].concat()
}

fn key_of(ticket: &[u8]) -> Option<String> {
    weakness(ticket).map(|weakness| weakness.key)
}

#[test]
fn strong_keys_are_not_reported() {
    for digest in [MessageDigest::sha256(), MessageDigest::sha1()] {
        for aes in [&STRONG[..], &STRONG[..16]] {
            assert_eq!(weakness(&ticket(&NAME, aes, &STRONG, digest)), None);
        }
    }
}

#[test]
fn zeroed_keys_are_found_in_every_size() {
    for digest in [MessageDigest::sha256(), MessageDigest::sha1(), MessageDigest::sha512()] {
        for len in [16, 32] {
            let ticket = ticket(&NAME, &[0; 32][..len], &[0; 32][..len], digest);
            assert_eq!(key_of(&ticket).as_deref(), Some("all-zero bytes"));
        }
    }
}

#[test]
fn one_weak_half_is_enough_and_tells_which() {
    let sha256 = MessageDigest::sha256();
    let found = weakness(&ticket(&NAME, &STRONG, &[0; 32], sha256)).unwrap();
    assert_eq!(found.proof, "HMAC-SHA256");
    let found = weakness(&ticket(&NAME, &[0; 16], &STRONG, sha256)).unwrap();
    assert_eq!(found.proof, "AES-128-CBC");
    let found = weakness(&ticket(&NAME, &[0; 32], &STRONG, MessageDigest::sha1())).unwrap();
    assert_eq!(found.proof, "AES-256-CBC");
}

#[test]
fn other_guessable_keys_are_found() {
    let sha256 = MessageDigest::sha256();
    let counting: Vec<u8> = (16..48).collect();
    let twice_the_name = NAME.repeat(2);
    for (key, words) in [
        (&[0xff; 32][..], "the byte 0xff, repeated"),
        (&[0x01; 32][..], "the byte 0x01, repeated"),
        (&counting, "bytes that count up from 0x10"),
        (&twice_the_name, "the key name itself"),
    ] {
        assert_eq!(key_of(&ticket(&NAME, &STRONG, key, sha256)).as_deref(), Some(words));
    }
}

/// GnuTLS: the length of the state stands before it, the state is padded with zeroes, and with the
/// bug of CVE-2020-13777 the name is all zero as well.
#[test]
fn gnutls_with_its_bug_is_found() {
    let mut state = session();
    state.resize(state.len().next_multiple_of(16), 0);
    let cipher = Cipher::aes_256_cbc();
    let mut crypter = symm::Crypter::new(cipher, symm::Mode::Encrypt, &[0; 32], Some(&IV)).unwrap();
    crypter.pad(false);
    let mut encrypted = vec![0; state.len() + 16];
    let len = crypter.update(&state, &mut encrypted).unwrap();
    encrypted.truncate(len);
    let signed = [&[0; 16][..], &IV, &(len as u16).to_be_bytes(), &encrypted].concat();
    let mac = hmac(MessageDigest::sha1(), &[0; 16], &signed);
    let found = weakness(&[signed, mac].concat()).unwrap();
    assert_eq!((found.key.as_str(), found.proof.as_str()), ("all-zero bytes", "HMAC-SHA1"));
}

#[test]
fn mbedtls_with_a_zeroed_key_is_found_and_with_another_not() {
    let build = |key: &[u8]| {
        let session = session();
        let len = session.len() as u16;
        let head = [b"name", &IV[..12], &len.to_be_bytes()].concat();
        let (cipher, mut tag) = (Cipher::aes_256_gcm(), [0; 16]);
        let encrypted =
            symm::encrypt_aead(cipher, key, Some(&IV[..12]), &head, &session, &mut tag).unwrap();
        [&head[..], &encrypted, &tag].concat()
    };
    assert_eq!(weakness(&build(&[0; 32])).unwrap().proof, "AES-256-GCM");
    assert_eq!(weakness(&build(&STRONG)), None);
}

#[test]
fn bytes_of_any_length_are_looked_at_without_harm() {
    let bytes: Vec<u8> = (0..300_u32).map(|at| (at * 167 % 251) as u8).collect();
    for len in [0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 52, 64, 80, 127, 300] {
        assert_eq!(weakness(&bytes[..len]), None, "{len}");
    }
}
