//! OpenSSL's random number generator, from which the keys come that an operator asks for, as a
//! server's do.

use tktrot::rotate::{Generator, NotRandom};

/// `RAND_priv_bytes(3)`.
pub struct OpenSsl;

impl Generator for OpenSsl {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NotRandom> {
        openssl::rand::rand_priv_bytes(bytes).map_err(|_| NotRandom::Failed)
    }
}
