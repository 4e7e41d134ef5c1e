//! Keys that an operator asks for come from OpenSSL's generator, as a server's do.

use tktrot::rotate::{Generator, NotRandom};

/// `RAND_priv_bytes(3)`.
pub struct OpenSsl;

impl Generator for OpenSsl {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NotRandom> {
        openssl::rand::rand_priv_bytes(bytes).map_err(|_| NotRandom::Failed)
    }
}
