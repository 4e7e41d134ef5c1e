//! A file with a fleet secret.

use tktrot_fleet::secret::{Flaw, FleetSecret, MAX, MIN};

/// The file.
pub fn fleet_secret(bytes: &[u8]) -> bool {
    let secret = match FleetSecret::parse(bytes) {
        Ok(secret) => secret,
        Err(flaw) => {
            if let Flaw::Length(length) = flaw {
                assert!(!(MIN..=MAX).contains(&length), "{length} bytes are refused");
            }
            assert!(flaw.to_string().contains("tktrot secret new"), "{flaw}");
            return false;
        }
    };
    let identity = identity(&secret);
    let is_text = bytes.trim_ascii().iter().all(u8::is_ascii_graphic);
    if is_text {
        // Blanks around it belong to no secret.
        let blank = [b" \t", bytes, b"\r\n"].concat();
        let again = FleetSecret::parse(&blank).unwrap_or_else(|flaw| panic!("{flaw}"));
        assert_eq!(self::identity(&again), identity);
    } else {
        assert!((MIN..=MAX).contains(&bytes.len()), "{} bytes are taken", bytes.len());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        let again = FleetSecret::parse(hex.as_bytes()).unwrap_or_else(|flaw| panic!("{flaw}"));
        assert_eq!(self::identity(&again), identity, "bytes and their text are two secrets");
    }
    true
}

fn identity(secret: &FleetSecret) -> String {
    secret.mesh().expect("OpenSSL has HKDF").identity
}
