//! TLS between peers: 1.3 and nothing older, AES-256-GCM, and always an ephemeral key exchange, so
//! that whoever records a connection and later gets the fleet secret reads nothing. No tickets, no early
//! data, no certificate of anybody but the fleet's own CA.

use std::path::Path;
use std::pin::Pin;

use anyhow::{Context, Error, Result, bail, ensure};
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslRef,
    SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509VerifyResult};
use tktrot_fleet::config::Credentials;
use tktrot_fleet::secret::FleetSecret;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::psk;
use crate::files::Files;
use crate::secrets;

/// A connection whose other end has proved that it belongs to the fleet.
pub type Stream = SslStream<TcpStream>;

const CIPHER: &str = "TLS_AES_256_GCM_SHA384";
const GROUPS: &str = "X25519:P-256:P-384";

/// What this node proves and asks others to prove.
pub struct Tls {
    server: SslContext,
    /// One for each way to begin a connection, the preferred one first.
    clients: Vec<SslContext>,
    proof: Proof,
}

#[derive(Clone, Copy)]
enum Proof {
    Secret,
    Certificate,
}

impl Tls {
    /// Reads the files of the settings.
    ///
    /// # Errors
    ///
    /// They cannot be read, others have rights to them, or they are of no use.
    pub fn read(credentials: &Credentials, files: &Files) -> Result<Self> {
        match credentials {
            Credentials::Secrets(paths) => Self::with_secrets(&secrets::read(paths, files)?),
            Credentials::Certificate { certificate, key, ca } => {
                let node = read_certificate(certificate, key, ca, files)?;
                let context = |verify| {
                    let mut context = context()?;
                    node.set(&mut context)?;
                    context.set_verify(verify);
                    Ok::<_, ErrorStack>(context.build())
                };
                let both = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
                let server = context(both).context("OpenSSL cannot use the certificate")?;
                Ok(Tls { server, clients: vec![context(both)?], proof: Proof::Certificate })
            }
        }
    }

    /// With fleet secrets: all are accepted, the first one is preferred.
    ///
    /// # Errors
    ///
    /// There is none, or OpenSSL cannot do it.
    pub fn with_secrets(secrets: &[FleetSecret]) -> Result<Self> {
        ensure!(!secrets.is_empty(), "there is no fleet secret");
        let psks = |secrets: &[FleetSecret]| {
            let psks: Result<_, _> = secrets.iter().map(FleetSecret::mesh).collect();
            psks.context("OpenSSL cannot derive keys from the fleet secret")
        };
        let mut server = context()?;
        psk::accept(&mut server, psks(secrets)?)?;
        let client = |secret: &FleetSecret| {
            let mut client = context()?;
            // Without a root: no certificate will do.
            client.set_verify(SslVerifyMode::PEER);
            psk::offer(&mut client, psks(std::slice::from_ref(secret))?)?;
            Ok(client.build())
        };
        let clients: Result<_> = secrets.iter().map(client).collect();
        Ok(Tls { server: server.build(), clients: clients?, proof: Proof::Secret })
    }

    /// In how many ways a connection can be begun.
    pub fn choices(&self) -> usize {
        self.clients.len()
    }

    /// The server's side.
    ///
    /// # Errors
    ///
    /// Why the other end does not belong to the fleet, as far as can be told.
    pub async fn accept(&self, stream: TcpStream) -> Result<Stream> {
        let mut stream = SslStream::new(Ssl::new(&self.server)?, stream)?;
        let done = Pin::new(&mut stream).accept().await;
        done.map_err(|error| self.explain(&error))?;
        self.is_proved(stream.ssl())?;
        Ok(stream)
    }

    /// The client's side, in one of the ways there are ([`Tls::choices`]).
    ///
    /// # Errors
    ///
    /// As for [`Tls::accept`].
    pub async fn connect(&self, choice: usize, stream: TcpStream) -> Result<Stream> {
        let context = &self.clients[choice % self.clients.len()];
        let mut stream = SslStream::new(Ssl::new(context)?, stream)?;
        let done = Pin::new(&mut stream).connect().await;
        done.map_err(|error| self.explain(&error))?;
        self.is_proved(stream.ssl())?;
        Ok(stream)
    }

    /// Trusts nothing that should follow from how the context was made.
    fn is_proved(&self, ssl: &SslRef) -> Result<()> {
        ensure!(ssl.version2() == Some(SslVersion::TLS1_3), "it does not speak TLS 1.3");
        let cipher = ssl.current_cipher().map(|cipher| cipher.name());
        ensure!(cipher == Some(CIPHER), "the connection is not encrypted with {CIPHER}");
        match self.proof {
            Proof::Secret => {
                ensure!(ssl.session_reused(), "it has not proved that it has the fleet secret");
            }
            Proof::Certificate => {
                let is_valid = ssl.verify_result() == X509VerifyResult::OK;
                let is_there = ssl.peer_certificate().is_some();
                ensure!(is_there && is_valid, "it has no certificate of the fleet's CA");
            }
        }
        Ok(())
    }

    /// A handshake that failed: what OpenSSL says, and what that means most likely.
    fn explain(&self, error: &openssl::ssl::Error) -> anyhow::Error {
        let reasons: Vec<_> = error
            .ssl_error()
            .into_iter()
            .flat_map(|stack| stack.errors())
            .filter_map(|error| error.reason())
            .collect();
        if reasons.is_empty() {
            return match error.io_error() {
                Some(error) => {
                    anyhow::anyhow!("the connection broke during the TLS handshake: {error}")
                }
                None => anyhow::anyhow!("the connection broke during the TLS handshake"),
            };
        }
        let cause = match self.proof {
            Proof::Secret => "it has a different fleet secret, or none",
            Proof::Certificate => "one of the two does not accept the other's certificate",
        };
        anyhow::anyhow!("the TLS handshake failed ({}): {cause}", reasons.join(", "))
    }
}

/// What is wrong with the files of these credentials.
pub fn flaws(credentials: &Credentials, files: &Files) -> Vec<Error> {
    let flaws: Vec<_> = match credentials {
        Credentials::Secrets(paths) => {
            paths.iter().filter_map(|path| secrets::read_one(path, files).err()).collect()
        }
        Credentials::Certificate { certificate, key, ca } => {
            let readable = [certificates(certificate, files).err(), certificates(ca, files).err()];
            readable.into_iter().chain([files.private(key).err()]).flatten().collect()
        }
    };
    // And whether they are of use together.
    if flaws.is_empty() { Tls::read(credentials, files).err().into_iter().collect() } else { flaws }
}

/// What holds for both sides, said in full: openssl.cnf may say something else.
fn context() -> Result<SslContextBuilder, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::tls())?;
    context.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_max_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_ciphersuites(CIPHER)?;
    context.set_groups_list(GROUPS)?;
    context.set_security_level(2);
    context.clear_options(no_dhe_kex());
    let renegotiation = SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION;
    context.set_options(renegotiation | SslOptions::NO_TICKET | cleanse_plaintext());
    context.set_num_tickets(0)?;
    context.set_max_early_data(0)?;
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_mode(
        SslMode::AUTO_RETRY
            | SslMode::ENABLE_PARTIAL_WRITE
            | SslMode::ACCEPT_MOVING_WRITE_BUFFER
            | SslMode::RELEASE_BUFFERS,
    );
    #[cfg(test)]
    super::tests::keylog::listen(&mut context);
    Ok(context)
}

/// `SSL_OP_ALLOW_NO_DHE_KEX`: a PSK without an ephemeral key exchange.
pub fn no_dhe_kex() -> SslOptions {
    SslOptions::from_bits_retain(1 << 10)
}

/// `SSL_OP_CLEANSE_PLAINTEXT`: wipes what was read and handed over; OpenSSL 3.
fn cleanse_plaintext() -> SslOptions {
    let is_there = openssl::version::number() >= 0x3000_0000;
    SslOptions::from_bits_retain(if is_there { 1 << 1 } else { 0 })
}

/// A node's certificate of a private CA: whoever has one of its is a node of the fleet, whatever its
/// name.
struct Certificate {
    /// Its own, then intermediate ones.
    chain: Vec<X509>,
    key: PKey<Private>,
    cas: Vec<X509>,
}

/// Reads it from PEM files; the key's must be of its owner alone.
fn read_certificate(
    certificate: &Path,
    key: &Path,
    ca: &Path,
    files: &Files,
) -> Result<Certificate> {
    let (chain, key) = read_pair(certificate, key, files)?;
    Ok(Certificate { chain, key, cas: certificates(ca, files)? })
}

/// A certificate, with the intermediate ones after it, and its private key, which is for nobody else.
///
/// # Errors
///
/// A file cannot be read or holds something else, or the key is not the certificate's.
pub fn read_pair(
    certificate: &Path,
    key: &Path,
    files: &Files,
) -> Result<(Vec<X509>, PKey<Private>)> {
    let chain = certificates(certificate, files)?;
    let pem = files.private(key)?;
    // Without a callback OpenSSL would ask for a password on the terminal.
    let private = PKey::private_key_from_pem_callback(&pem, |_| Err(ErrorStack::get()));
    let Ok(private) = private else {
        bail!("{}: not an unencrypted private key in PEM", key.display());
    };
    ensure!(
        chain[0].public_key()?.public_eq(&private),
        "{} is not the key of {}",
        key.display(),
        certificate.display()
    );
    Ok((chain, private))
}

fn certificates(file: &Path, files: &Files) -> Result<Vec<X509>> {
    let pem = files.public(file)?;
    let certificates = X509::stack_from_pem(&pem).unwrap_or_default();
    ensure!(!certificates.is_empty(), "{}: there is no certificate in PEM in it", file.display());
    Ok(certificates)
}

impl Certificate {
    /// Gives the context this certificate, and trust in this CA alone.
    fn set(&self, context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
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
