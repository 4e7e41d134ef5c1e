//! Names of keys in full, as text: 32 hex digits.

use tktrot::secret::KeyName;

/// A name in full.
pub fn hex(name: &KeyName) -> String {
    name.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name that so many hex digits are.
pub fn of_hex(hex: &str) -> Option<KeyName> {
    let is_one = hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let value = u128::from_str_radix(hex, 16).ok().filter(|_| is_one)?;
    Some(KeyName(value.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_were() {
        let some = KeyName(*b"0123456789abcdef");
        assert_eq!(of_hex(&hex(&some)), Some(some));
        for bad in ["", "+1", "00", &"0".repeat(33), &"+".repeat(32)] {
            assert_eq!(of_hex(bad), None);
        }
    }
}
