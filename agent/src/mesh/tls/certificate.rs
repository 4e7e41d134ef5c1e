//! Certificates of a private CA: whoever has one of its is a node of the fleet, whatever its name.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::SslContextBuilder;
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

use tktrot_keyfile::source;

/// A node's certificate, with what it needs.
pub struct Certificate {
    /// Its own, then intermediate ones.
    chain: Vec<X509>,
    key: PKey<Private>,
    cas: Vec<X509>,
}

/// Reads them from PEM files; the key's must be of its owner alone.
///
/// # Errors
///
/// A file cannot be read or used.
pub fn read(certificate: &Path, key: &Path, ca: &Path) -> Result<Certificate> {
    let chain = certificates(certificate)?;
    let cas = certificates(ca)?;
    let pem = source::read(key)?;
    // Without a callback OpenSSL would ask for a password on the terminal.
    let private = PKey::private_key_from_pem_callback(&pem, |_| Err(ErrorStack::get()));
    let Ok(private) = private else {
        bail!("{}: it is no private key in PEM, or an encrypted one", key.display());
    };
    ensure!(
        chain[0].public_key()?.public_eq(&private),
        "{} is not the key of {}",
        key.display(),
        certificate.display()
    );
    Ok(Certificate { chain, key: private, cas })
}

fn certificates(file: &Path) -> Result<Vec<X509>> {
    let pem = fs::read(file).with_context(|| file.display().to_string())?;
    let certificates = X509::stack_from_pem(&pem).unwrap_or_default();
    ensure!(!certificates.is_empty(), "{}: it holds no certificate in PEM", file.display());
    Ok(certificates)
}

impl Certificate {
    /// Gives the context this certificate, and trust in this CA alone.
    pub fn set(&self, context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        let (own, intermediate) = self.chain.split_first().expect("a certificate at least");
        context.set_certificate(own)?;
        for certificate in intermediate {
            context.add_extra_chain_cert(certificate.clone())?;
        }
        context.set_private_key(&self.key)?;
        let mut trusted = X509StoreBuilder::new()?;
        for ca in &self.cas {
            trusted.add_cert(ca.clone())?;
        }
        context.set_cert_store(trusted.build());
        Ok(())
    }
}
