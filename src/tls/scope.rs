//! What a ticket is bound to beside its key: the associated data that goes
//! into the MAC before the ticket does. A ticket that is presented anywhere
//! else fails its MAC and becomes a full handshake.
//!
//! The encoding cannot be read in two ways: a version, then each part as tag,
//! length (big endian, four bytes) and bytes.

const VERSION: &[u8] = b"tktrot scope 1";

#[repr(u8)]
enum Part {
    Label = 1,
}

/// The encoded associated data of a context.
pub struct Scope(Vec<u8>);

impl Scope {
    /// The scope of a service.
    pub fn new(label: &[u8]) -> Self {
        let mut scope = Scope(VERSION.to_vec());
        scope.add(Part::Label, label);
        scope
    }

    fn add(&mut self, part: Part, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).expect("a part of less than 4 GiB");
        self.0.push(part as u8);
        self.0.extend_from_slice(&len.to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// The bytes for the MAC.
    pub fn associated_data(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_fixed() {
        let scope = Scope::new(b"shop");
        assert_eq!(scope.associated_data(), b"tktrot scope 1\x01\0\0\0\x04shop");
        assert_ne!(Scope::new(b"").associated_data(), scope.associated_data());
    }
}
