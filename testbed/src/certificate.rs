//! Self-signed certificates for the servers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509NameBuilder};

/// A certificate and its private key, both PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate's file.
    pub cert: PathBuf,
    /// The private key's file, mode 0600.
    pub key: PathBuf,
}

/// Makes an ECDSA P-256 key and a certificate for `localhost` in `dir` (`cert.pem`, `key.pem`).
pub fn create(dir: &Path) -> Result<Certificate> {
    let (from, until) = (Asn1Time::days_from_now(0)?, Asn1Time::days_from_now(30)?);
    create_valid(dir, &from, &until)
}

/// As [`create`], but what it makes has expired yesterday.
pub fn create_expired(dir: &Path) -> Result<Certificate> {
    const DAY: i64 = 24 * 3600;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let days_ago = |days: i64| Asn1Time::from_unix(now - days * DAY);
    create_valid(dir, &*days_ago(30)?, &*days_ago(1)?)
}

fn create_valid(dir: &Path, from: &Asn1TimeRef, until: &Asn1TimeRef) -> Result<Certificate> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key = PKey::from_ec_key(EcKey::generate(&group)?)?;

    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_nid(Nid::COMMONNAME, "localhost")?;
    let name = name.build();
    let mut serial = BigNum::new()?;
    serial.rand(120, MsbOption::MAYBE_ZERO, false)?;

    let mut cert = X509::builder()?;
    cert.set_version(2)?;
    cert.set_serial_number(&*serial.to_asn1_integer()?)?;
    cert.set_subject_name(&name)?;
    cert.set_issuer_name(&name)?;
    cert.set_pubkey(&key)?;
    cert.set_not_before(from)?;
    cert.set_not_after(until)?;
    let names =
        SubjectAlternativeName::new().dns("localhost").build(&cert.x509v3_context(None, None))?;
    cert.append_extension(names)?;
    cert.sign(&key, MessageDigest::sha256())?;

    let files = Certificate { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
    fs::write(&files.cert, cert.build().to_pem()?)?;
    fs::write(&files.key, key.private_key_to_pem_pkcs8()?)?;
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600))?;
    Ok(files)
}
