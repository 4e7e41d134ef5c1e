//! What a certificate says about its dates. Nobody verifies it.

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::x509::X509Ref;

use super::observation::{Certificate, Validity};

/// Fails for dates that are none.
pub fn describe(certificate: &X509Ref) -> Result<Certificate, ErrorStack> {
    let now = Asn1Time::days_from_now(0)?;
    let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
    let validity = if now < *not_before {
        Validity::NotYet
    } else if *not_after < now {
        Validity::Expired
    } else {
        Validity::Valid
    };
    let digest = certificate.digest(MessageDigest::sha256())?;
    Ok(Certificate {
        not_before: not_before.to_string(),
        not_after: not_after.to_string(),
        validity,
        days_left: now.diff(not_after)?.days,
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}
