//! Whether there is a server that can be measured, and its certificate.

use super::Finding;
use crate::probe::failure::{Failure, Kind};
use crate::probe::observation::{Certificate, Observation, Validity};
use crate::severity::Severity;

/// Renewal should have happened by then.
const SOON: i32 = 7;

pub fn findings(seen: &Observation, speaks_another: bool) -> Vec<Finding> {
    if let Some(failure) = &seen.failure {
        return if speaks_another { Vec::new() } else { vec![no_tls(failure)] };
    }
    let mut findings: Vec<_> = seen.certificate.iter().filter_map(certificate).collect();
    if seen.failed > 0 {
        findings.push(Finding::new(
            Severity::Doubtful,
            "connections-failed",
            "some connections failed, others went well",
            "Look whether the server is overloaded, or one of several behind the address is down.",
        ));
    }
    findings
}

fn no_tls(failure: &Failure) -> Finding {
    let (code, advice) = match failure.kind {
        Kind::Refused => ("closed-port", "Look whether the server runs, and the port is its own."),
        Kind::Unreachable => {
            ("unreachable", "Run the probe where the address can be reached, or name one that can.")
        }
        Kind::Timeout => (
            "timeout",
            "Look whether a firewall drops the connection, or the server speaks another protocol \
             (--starttls).",
        ),
        Kind::Closed => ("connection-closed", "Look into the server's log for the reason."),
        Kind::NotTls => (
            "not-tls",
            "Name the port that speaks TLS, or the protocol that begins without it (--starttls).",
        ),
        Kind::Starttls => ("starttls-refused", "Switch TLS on in the server, or use its TLS port."),
        Kind::Version => ("old-tls", "Switch on TLS 1.2 and 1.3: the server has neither."),
        Kind::Handshake => ("handshake-failed", "Look into the server's log for the reason."),
    };
    let severity = match failure.kind {
        // Hosts without IPv6 see this for every second name.
        Kind::Unreachable => Severity::Doubtful,
        _ => Severity::Wrong,
    };
    Finding::new(severity, code, format!("not measured: {failure}"), advice)
}

fn certificate(certificate: &Certificate) -> Option<Finding> {
    let Certificate { not_before, not_after, .. } = certificate;
    match certificate.validity {
        Validity::Expired => Some(Finding::new(
            Severity::Wrong,
            "certificate-expired",
            format!("the certificate has expired on {not_after}"),
            "Renew it: clients that verify it go away.",
        )),
        Validity::NotYet => Some(Finding::new(
            Severity::Wrong,
            "certificate-not-yet-valid",
            format!("the certificate is not valid before {not_before}"),
            "Look at the clocks of both hosts, else use another certificate.",
        )),
        Validity::Valid if certificate.days_left < SOON => Some(Finding::new(
            Severity::Doubtful,
            "certificate-expires-soon",
            format!("the certificate expires on {not_after}"),
            "Renew it.",
        )),
        Validity::Valid => None,
    }
}
