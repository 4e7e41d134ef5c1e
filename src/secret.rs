//! Key bytes: zeroized on drop, no `Debug`, no `Clone` by accident.

use std::fmt;

use zeroize::Zeroize;

/// `N` secret bytes that are wiped when dropped.
///
/// It has neither `Debug` nor `Clone`, so that a secret is neither printed nor
/// copied without somebody having written so.
pub struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    /// All-zero bytes, to be filled in place with [`Secret::expose_mut`].
    pub const fn zeroed() -> Self {
        Secret([0; N])
    }

    /// The bytes, to hand to a cipher and nowhere else.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// The bytes, to fill in place.
    pub fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }

    /// True if every byte is the same: the zeroes of memory that nobody
    /// filled, or the constant of a broken generator. Does not depend on where
    /// the bytes differ.
    pub fn is_constant(&self) -> bool {
        self.0.iter().fold(0, |seen, byte| seen | (byte ^ self.0[0])) == 0
    }

    /// The same for the first half alone.
    fn has_constant_half(&self) -> bool {
        self.0[..N / 2].iter().fold(0, |seen, byte| seen | (byte ^ self.0[0])) == 0
    }

    /// True if the second half is zeroes.
    fn is_half(&self) -> bool {
        self.0[N / 2..].iter().fold(0, |seen, byte| seen | byte) == 0
    }

    /// Compares without telling by its time where the two differ.
    pub fn same_as(&self, other: &Self) -> bool {
        let differing = self.0.iter().zip(&other.0).fold(0, |d, (a, b)| d | (a ^ b));
        differing == 0
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// How deep calls that handle keys reach: those of OpenSSL's cipher and MAC
/// initialisation leave what they spilled within 2 KiB; our own come on top.
pub const DEEP: usize = 8192;
/// The same for a ticket that only primes a cipher, in few frames of ours.
pub const SHALLOW: usize = 4096;

/// Wipes the stack below the caller, where calls that have returned spilled
/// registers with parts of keys: ours, which the compiler does not let us wipe,
/// and those of the TLS library. Takes about 0.1 µs. For it to reach them, those
/// calls must not be inlined into the caller.
pub fn wipe_stack() {
    wipe_stack_by::<DEEP>();
}

/// As [`wipe_stack`], so many bytes deep.
#[inline(never)]
pub fn wipe_stack_by<const DEPTH: usize>() {
    // A plain fill, not a volatile one, which would store byte by byte; that
    // black_box may read it keeps the compiler from leaving it out.
    let mut below = [0_u8; DEPTH];
    std::hint::black_box(&mut below);
}

/// The public name of a key: the first 16 bytes of every ticket made with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyName(pub [u8; 16]);

impl KeyName {
    /// True for a name whose bytes are all equal, which no generator made:
    /// it would also match memory that nobody wrote.
    pub fn is_constant(&self) -> bool {
        self.0.iter().all(|byte| *byte == self.0[0])
    }

    /// All of it, as 32 hex digits.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The name that 32 hex digits are; `None` if they are something else.
    pub fn from_hex(digits: &str) -> Option<KeyName> {
        let is_one = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = u128::from_str_radix(digits, 16).ok().filter(|_| is_one)?;
        Some(KeyName(value.to_be_bytes()))
    }
}

/// The first four bytes as 8 hex digits: enough to tell keys apart in a log.
impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyName({self}…)")
    }
}

/// The secret half of a ticket key: AES-256-CBC encrypts, HMAC-SHA-256 signs
/// (RFC 5077 §4 with AES-256, so as to be as strong as any cipher suite: RFC 9325 §3.4).
pub struct KeySecrets {
    /// The AES-256 key.
    pub aes: Secret<32>,
    /// The HMAC-SHA-256 key.
    pub hmac: Secret<32>,
}

impl KeySecrets {
    /// Zeroed secrets, to be filled in place.
    pub const fn zeroed() -> Self {
        KeySecrets { aes: Secret::zeroed(), hmac: Secret::zeroed() }
    }

    /// True if a half is constant or both are the same: never usable as keys.
    pub fn is_weak(&self) -> bool {
        self.aes.is_constant() || self.hmac.is_constant() || self.aes.same_as(&self.hmac)
    }

    /// The same for keys of 16 bytes: zeroes follow them, and nothing else may.
    pub fn are_weak_halves(&self) -> bool {
        let (aes, hmac) = (&self.aes, &self.hmac);
        let constant = aes.has_constant_half() || hmac.has_constant_half();
        constant || !aes.is_half() || !hmac.is_half() || aes.same_as(hmac)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn constant_bytes_are_told_from_others() {
        assert!(Secret::<32>::zeroed().is_constant());
        let mut one_bit = Secret::<32>::zeroed();
        one_bit.expose_mut()[31] = 1;
        assert!(!one_bit.is_constant());
    }

    #[test]
    fn equal_halves_are_weak() {
        let mut secrets = KeySecrets::zeroed();
        secrets.aes.expose_mut()[0] = 1;
        secrets.hmac.expose_mut()[0] = 1;
        assert!(secrets.is_weak());
        secrets.hmac.expose_mut()[1] = 1;
        assert!(!secrets.is_weak());
    }

    #[test]
    fn a_short_key_is_judged_by_its_bytes_and_not_by_the_zeroes_after_them() {
        let mut secrets = KeySecrets::zeroed();
        assert!(secrets.are_weak_halves());
        secrets.aes.expose_mut()[15] = 1;
        assert!(secrets.are_weak_halves(), "a constant half");
        secrets.hmac.expose_mut()[15] = 1;
        assert!(secrets.are_weak_halves(), "both the same");
        secrets.hmac.expose_mut()[0] = 1;
        assert!(!secrets.are_weak_halves());
        secrets.hmac.expose_mut()[..16].fill(7);
        assert!(!secrets.is_weak() && secrets.are_weak_halves(), "constant but for the zeroes");
        secrets.hmac.expose_mut()[1] = 1;
        secrets.hmac.expose_mut()[16] = 1;
        assert!(secrets.are_weak_halves(), "longer than a short key");
    }

    #[test]
    fn names_come_back_as_they_were() {
        let some = KeyName(*b"0123456789abcdef");
        assert_eq!(KeyName::from_hex(&some.to_hex()), Some(some));
        for bad in ["", "+1", "00", &"0".repeat(33), &"+".repeat(32)] {
            assert_eq!(KeyName::from_hex(bad), None);
        }
    }

    #[test]
    fn a_name_shows_eight_hex_digits_only() {
        let name = KeyName([0xab; 16]);
        assert_eq!(name.to_string(), "abababab");
        assert_eq!(format!("{name:?}"), "KeyName(abababab…)");
    }
}
