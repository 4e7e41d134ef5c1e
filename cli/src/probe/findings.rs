//! What the observations mean: how bad it is, and what to do.

use serde::Serialize;

use super::connection::Version;
use super::endpoint::Resolved;
use super::failure::{Failure, FailureKind};
use super::observation::{Certificate, Issued, Observation, Validity, Watch};
use crate::severity::Severity;

/// One thing to know, and where it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// For programs; these words stay as they are.
    pub code: &'static str,
    /// What it is, in a sentence.
    pub message: String,
    /// What to do, in a sentence; empty if nothing.
    pub advice: &'static str,
    pub at: Vec<Location>,
}

/// Where something holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    /// A target, or an address with the name that was said to it.
    pub place: String,
    /// The versions of TLS; empty if it has nothing to do with them.
    pub tls: Vec<Version>,
}

/// The worst of them.
pub fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Fine)
}

/// Judges everything, the worst first. There is always at least one finding.
pub fn findings(
    targets: &[Resolved],
    observations: &[Observation],
    left_out: usize,
) -> Vec<Finding> {
    let mut found = Collected::default();
    for target in targets {
        if let Some(error) = &target.error {
            found.add(&target.target, None, Finding::no_address(error));
        }
    }
    if left_out > 0 {
        found.add("the command line", None, Finding::left_out(left_out));
    }
    for observation in observations {
        let place = observation.endpoint.to_string();
        let others = observations.iter().filter(|other| other.endpoint == observation.endpoint);
        let speaks_another = others.clone().any(|other| other.failure.is_none());
        let all = of_server(observation, speaks_another)
            .into_iter()
            .chain(of_tickets(observation))
            .chain(of_resumption(observation));
        for finding in all {
            found.add(&place, Some(observation.tls), finding);
        }
    }
    let Collected(mut findings) = found;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// Findings, in which what is said of several places is said once.
#[derive(Default)]
struct Collected(Vec<Finding>);

impl Collected {
    fn add(&mut self, place: &str, tls: Option<Version>, finding: Finding) {
        let same =
            |other: &&mut Finding| (other.code, &other.message) == (finding.code, &finding.message);
        let finding = match self.0.iter_mut().find(same) {
            Some(known) => known,
            None => {
                self.0.push(finding);
                let last = self.0.len() - 1;
                &mut self.0[last]
            }
        };
        let location = match finding.at.iter_mut().find(|location| location.place == place) {
            Some(known) => known,
            None => {
                finding.at.push(Location { place: place.to_owned(), tls: Vec::new() });
                let last = finding.at.len() - 1;
                &mut finding.at[last]
            }
        };
        location.tls.extend(tls.filter(|version| !location.tls.contains(version)));
    }
}

impl Finding {
    fn new(
        severity: Severity,
        code: &'static str,
        message: impl Into<String>,
        advice: &'static str,
    ) -> Finding {
        Finding { severity, code, message: message.into(), advice, at: Vec::new() }
    }

    fn no_address(error: &str) -> Finding {
        let message = format!("no address: {error}");
        let advice = "Look at the spelling, and at what your resolver says.";
        Finding::new(Severity::Wrong, "no-address", message, advice)
    }

    fn left_out(places: usize) -> Finding {
        let message = format!("{places} addresses were left out, there are too many");
        let advice = "Name fewer hosts or names at a time.";
        Finding::new(Severity::Doubtful, "left-out", message, advice)
    }
}

// Whether there is a server that can be measured, and its certificate.

/// Renewal should have happened by then.
const SOON: i32 = 7;

fn of_server(seen: &Observation, speaks_another: bool) -> Vec<Finding> {
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
        FailureKind::Refused => {
            ("closed-port", "Look whether the server runs, and the port is its own.")
        }
        FailureKind::Unreachable => {
            ("unreachable", "Run the probe where the address can be reached, or name one that can.")
        }
        FailureKind::Timeout => (
            "timeout",
            "Look whether a firewall drops the connection, or the server speaks another protocol \
             (--starttls).",
        ),
        FailureKind::Closed => ("connection-closed", "Look into the server's log for the reason."),
        FailureKind::NotTls => (
            "not-tls",
            "Name the port that speaks TLS, or the protocol that begins without it (--starttls).",
        ),
        FailureKind::Starttls => {
            ("starttls-refused", "Switch TLS on in the server, or use its TLS port.")
        }
        FailureKind::Version => ("old-tls", "Switch on TLS 1.2 and 1.3: the server has neither."),
        FailureKind::Handshake => {
            ("handshake-failed", "Look into the server's log for the reason.")
        }
    };
    let severity = match failure.kind {
        // Hosts without IPv6 see this for every second name.
        FailureKind::Unreachable => Severity::Doubtful,
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

// The tickets: are there any, how long do they live, who can open them.

/// RFC 8446, section 4.6.1: no ticket lives longer than 7 days.
const MAX_LIFETIME: u64 = 7 * 24 * 3600;
/// RFC 9325, section 3.4: keys change once a week, tickets live half as long as their keys.
const ADVISABLE_LIFETIME: u64 = MAX_LIFETIME / 2;

fn of_tickets(seen: &Observation) -> Vec<Finding> {
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

// Where tickets are accepted, and for how long.

fn of_resumption(seen: &Observation) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(here(seen));
    findings.extend(elsewhere(seen));
    findings.extend(other_names(seen));
    findings.extend(seen.watch.as_ref().map(|watch| over_time(seen, watch)));
    findings
}

fn here(seen: &Observation) -> Option<Finding> {
    let count = seen.resumed_here;
    if count.offered == 0 {
        return None;
    }
    let what = match seen.ticket {
        Issued::SessionId => "session ids",
        _ => "tickets",
    };
    Some(if count.resumed == count.offered {
        Finding::new(
            Severity::Fine,
            "resumed",
            format!("{what} are resumed where they come from"),
            "",
        )
    } else if count.resumed == 0 {
        Finding::new(
            Severity::Doubtful,
            "not-resumed",
            format!("{what} are issued, but not resumed"),
            "Look whether several servers stand behind the address, and let them share one key.",
        )
    } else {
        Finding::new(
            Severity::Doubtful,
            "partly-resumed",
            format!("only some {what} are resumed where they come from"),
            "Let all servers and processes behind the address share one key.",
        )
    })
}

fn elsewhere(seen: &Observation) -> Option<Finding> {
    let count = seen.resumed_elsewhere;
    // Who does not resume at home is told so already.
    if count.offered == 0 || seen.resumed_here.resumed == 0 {
        return None;
    }
    Some(if count.resumed == count.offered {
        Finding::new(Severity::Fine, "shared", "tickets are resumed at the other addresses", "")
    } else {
        Finding::new(
            Severity::Doubtful,
            "not-shared",
            if count.resumed == 0 {
                "tickets are not resumed at any other address"
            } else {
                "tickets are resumed at some of the other addresses only"
            },
            "Let the servers of one name share their keys: clients come to any of them.",
        )
    })
}

/// RFC 6066, section 3: a server must not resume a session under another name. TLS 1.3 leaves it
/// to the server, which then has to know what it does.
fn other_names(seen: &Observation) -> Option<Finding> {
    if seen.resumed_as_other_name.offered == 0 || seen.resumed_here.resumed == 0 {
        return None;
    }
    let Some(crossing) = seen.crossings.iter().min_by_key(|crossing| crossing.same_certificate)
    else {
        let message = "tickets are not resumed under another name";
        return Some(Finding::new(Severity::Fine, "name-bound", message, ""));
    };
    let name =
        |sni: &Option<String>| sni.as_ref().map_or("no name".into(), |name| format!("\"{name}\""));
    let message = format!(
        "a ticket for {} is resumed for {}",
        name(&seen.endpoint.sni),
        name(&crossing.to.sni)
    );
    Some(if crossing.same_certificate {
        Finding::new(
            Severity::Doubtful,
            "crosses-names",
            format!("{message}, which has the same certificate"),
            "Harmless if both are one service; else give each a key of its own, or bind tickets to \
             the name.",
        )
    } else {
        Finding::new(
            Severity::Wrong,
            "crosses-certificates",
            format!("{message}, which has another certificate"),
            "Give each a key of its own, or bind tickets to the name: who may use the one is taken \
             for a known client of the other.",
        )
    })
}

fn over_time(seen: &Observation, watch: &Watch) -> Finding {
    let changes = watch.key_changes.len();
    let rotation = match changes {
        0 if seen.key_names.is_empty() => "no key name to watch".to_owned(),
        0 => "the key did not change".to_owned(),
        1 => "the key changed once".to_owned(),
        _ => format!("the key changed {changes} times"),
    };
    let first = watch.first_ticket;
    let within = format!("{rotation} in {:.0} s", watch.seconds);
    if first.offered == 0 {
        let advice = "Watch a server that answers, for less than its tickets' lifetime.";
        let message = format!("{within}, and the first ticket could not be offered");
        return Finding::new(Severity::Doubtful, "not-watched", message, advice);
    }
    if first.offered == first.resumed {
        let message = format!("{within}, and the first ticket was resumed to the end");
        return Finding::new(Severity::Fine, "watched", message, "");
    }
    let until = watch.first_ticket_resumed_until;
    let message = match until {
        Some(until) => {
            format!("{within}, and the first ticket was last resumed after {until:.0} s")
        }
        None => format!("{within}, and the first ticket was not resumed"),
    };
    let advice = "Keep former keys for as long as tickets live, over restarts too, and let all \
                  processes share them.";
    Finding::new(Severity::Doubtful, "tickets-lost", message, advice)
}

#[cfg(test)]
mod tests;
