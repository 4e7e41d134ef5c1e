//! What was seen, without judgement and without secrets.

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::x509::X509Ref;
use serde::Serialize;

use super::connection::Version;
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::weak::Weakness;

/// What one endpoint does in one version of TLS.
#[derive(Clone, Serialize)]
pub struct Observation {
    #[serde(flatten)]
    pub endpoint: Endpoint,
    pub tls: Version,
    /// Why the endpoint could not be tested.
    pub failure: Option<Failure>,
    /// Full handshakes that succeeded.
    pub handshakes: u32,
    /// Connections that failed after an earlier one had succeeded.
    pub failed: u32,
    pub certificate: Option<Certificate>,
    pub ticket: Issued,
    /// The longest that was seen, in seconds. `None`: no ticket. 0 in TLS 1.2: the server leaves the
    /// lifetime open.
    pub lifetime_hint: Option<u64>,
    /// Resumptions at the endpoint that issued the ticket.
    pub resumed_here: Count,
    /// Resumptions at other addresses, with the same name.
    pub resumed_elsewhere: Count,
    /// Resumptions at any address, with another name.
    pub resumed_as_other_name: Count,
    /// The endpoints with another name that resumed.
    pub crossings: Vec<Crossing>,
    /// The other endpoints, of this name and of others, that did not resume.
    pub refusals: Vec<Refusal>,
    /// The first 8 hex digits of each key name, in order of appearance; empty if the tickets have no
    /// key names.
    pub key_names: Vec<String>,
    pub weak_key: Option<Weakness>,
    pub watch: Option<Watch>,
}

impl Observation {
    pub fn new(endpoint: &Endpoint, tls: Version) -> Observation {
        Observation {
            endpoint: endpoint.clone(),
            tls,
            failure: None,
            handshakes: 0,
            failed: 0,
            certificate: None,
            ticket: Issued::None,
            lifetime_hint: None,
            resumed_here: Count::default(),
            resumed_elsewhere: Count::default(),
            resumed_as_other_name: Count::default(),
            crossings: Vec::new(),
            refusals: Vec::new(),
            key_names: Vec::new(),
            weak_key: None,
            watch: None,
        }
    }
}

/// What a server gives its clients for resumption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Issued {
    #[default]
    None,
    /// An id under which the server finds the session in its own cache.
    SessionId,
    Ticket,
}

/// How often resumption was tried, and how often it worked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    pub offered: u32,
    pub resumed: u32,
}

impl Count {
    pub fn add(&mut self, resumed: bool) {
        self.offered += 1;
        self.resumed += u32::from(resumed);
    }
}

/// An endpoint with another name that accepted the ticket.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Crossing {
    #[serde(flatten)]
    pub to: Endpoint,
    /// True if both endpoints show the same certificate to a client without a ticket.
    pub same_certificate: bool,
}

/// Another endpoint that did not accept the ticket.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    #[serde(flatten)]
    pub to: Endpoint,
    /// True if both show the same certificate to a client without a ticket.
    pub same_certificate: bool,
    /// True if tickets of both were seen with the same key name.
    pub same_key: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    pub not_before: String,
    pub not_after: String,
    pub validity: Validity,
    /// Days until it expires; negative after that.
    pub days_left: i32,
    /// The fingerprint of the whole certificate, in hex.
    pub sha256: String,
}

impl Certificate {
    /// What a certificate says about its dates. It is not verified.
    ///
    /// # Errors
    ///
    /// A date that cannot be read.
    pub fn of(certificate: &X509Ref) -> Result<Certificate, ErrorStack> {
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Validity {
    Valid,
    NotYet,
    Expired,
}

/// What was seen over time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Watch {
    pub seconds: f64,
    /// How often a new ticket was requested, and how often that failed.
    pub rounds: u32,
    pub failed: u32,
    /// The moments at which new tickets had another key name than before.
    pub key_changes: Vec<KeyChange>,
    /// How often the first ticket was offered until its lifetime ended, and resumed.
    pub first_ticket: Count,
    /// How long after the start the first ticket was last resumed.
    pub first_ticket_resumed_until: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeyChange {
    pub after_seconds: f64,
    pub key_name: String,
}
