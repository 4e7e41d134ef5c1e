//! The tickets themselves: are there any, how long do they live, who can open them.

use super::Finding;
use crate::probe::connection::Version;
use crate::probe::observation::{Issued, Observation};
use crate::severity::Severity;

/// RFC 8446, section 4.6.1: no ticket lives longer than 7 days.
const MAX_LIFETIME: u64 = 7 * 24 * 3600;
/// RFC 9325, section 3.4: keys change once a week, tickets live half as long as their keys.
const ADVISABLE_LIFETIME: u64 = MAX_LIFETIME / 2;

pub fn findings(seen: &Observation) -> Vec<Finding> {
    let mut findings = Vec::new();
    if seen.failure.is_some() {
        return findings;
    }
    if seen.ticket == Issued::None {
        findings.push(Finding::new(
            Severity::Doubtful,
            "no-ticket",
            "no ticket: every connection costs a full handshake",
            "Switch session tickets on, unless somebody switched them off on purpose.",
        ));
    }
    if seen.ticket == Issued::SessionId {
        findings.push(Finding::new(
            Severity::Fine,
            "session-id",
            "no ticket, but a session id: the server keeps the sessions in a cache of its own",
            "",
        ));
    }
    findings.extend(seen.lifetime_hint.and_then(|hint| lifetime(seen.tls, hint)));
    if let Some(weak) = &seen.weak_key {
        findings.push(Finding::new(
            Severity::Wrong,
            "weak-key",
            format!("the ticket key can be guessed: {} (proof: {})", weak.key, weak.proof),
            "Give the server a random key at once and restart it: whoever records TLS 1.2 \
             connections can read them, and can pose as the server to clients that come back.",
        ));
    }
    findings
}

fn lifetime(tls: Version, seconds: u64) -> Option<Finding> {
    let message = format!("tickets are said to live {seconds} s");
    if seconds > MAX_LIFETIME {
        let severity = match tls {
            Version::V12 => Severity::Doubtful,
            Version::V13 => Severity::Wrong,
        };
        return Some(Finding::new(
            severity,
            "lifetime-over-7-days",
            format!("{message}, which is over 7 days (604800 s)"),
            "Shorten it: TLS 1.3 forbids it (RFC 8446, 4.6.1), and a key that opens such tickets is \
             kept too long.",
        ));
    }
    if seconds > ADVISABLE_LIFETIME {
        return Some(Finding::new(
            Severity::Doubtful,
            "lifetime-long",
            format!("{message}, which is over half a week"),
            "Shorten it to a day or less: keys should change weekly or faster, and tickets live at \
             most half as long (RFC 9325, 3.4).",
        ));
    }
    if seconds == 0 && tls == Version::V13 {
        return Some(Finding::new(
            Severity::Doubtful,
            "lifetime-zero",
            "tickets are said to live 0 s: clients throw them away at once",
            "Set the session timeout of the server to some minutes or hours.",
        ));
    }
    None
}
