//! What was seen, without a judgement and without a secret.

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
    /// Why nothing else is known.
    pub failure: Option<Failure>,
    /// Full handshakes that went well.
    pub handshakes: u32,
    /// Connections that failed although an earlier one went well.
    pub failed: u32,
    pub certificate: Option<Certificate>,
    pub ticket: Issued,
    /// In seconds, the longest of those seen. None: no ticket. 0 in TLS 1.2: the server leaves it
    /// open.
    pub lifetime_hint: Option<u64>,
    /// At the endpoint that issued it.
    pub resumed_here: Count,
    /// At other addresses, with the same name.
    pub resumed_elsewhere: Count,
    /// At any address, with another name.
    pub resumed_as_other_name: Count,
    /// Where that went well.
    pub crossings: Vec<Crossing>,
    /// The first 8 hex digits of each, in the order of their appearance; empty if the tickets have
    /// no names.
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
            key_names: Vec::new(),
            weak_key: None,
            watch: None,
        }
    }
}

/// What a server gives its clients to come back with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Issued {
    #[default]
    None,
    /// A number under which the server finds the session in a cache of its own.
    SessionId,
    Ticket,
}

/// How often it was tried, and how often it went well.
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

/// A endpoint with another name that took the ticket.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Crossing {
    #[serde(flatten)]
    pub to: Endpoint,
    /// Whether both endpoints show one certificate to who comes without a ticket.
    pub same_certificate: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    pub not_before: String,
    pub not_after: String,
    pub validity: Validity,
    /// Until the end; negative after it.
    pub days_left: i32,
    /// Of the whole certificate, in hex.
    pub sha256: String,
}

impl Certificate {
    /// What a certificate says about its dates. Nobody verifies it.
    ///
    /// # Errors
    ///
    /// A date that is none.
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
    /// New tickets asked for, and how often none could be got.
    pub rounds: u32,
    pub failed: u32,
    /// Each time that new tickets had another key name than before.
    pub key_changes: Vec<KeyChange>,
    /// The first ticket, offered again and again until its lifetime ended.
    pub first_ticket: Count,
    /// How long after the start that one was last taken.
    pub first_ticket_resumed_until: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeyChange {
    pub after_seconds: f64,
    pub key_name: String,
}
