//! What the observations mean: how bad it is, and what to do.

use std::time::Duration;

use serde::Serialize;

use super::connection::Version;
use super::endpoint::Resolved;
use super::failure::{Failure, FailureKind};
use super::observation::{Certificate, Count, Issued, Observation, Refusal, Validity, Watch};
use crate::output::in_words;
use crate::severity::Severity;

/// One thing to know, and where it applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// For programs; codes never change.
    pub code: &'static str,
    /// What was found, in a sentence.
    pub message: String,
    /// What to do, in a sentence; empty if nothing.
    pub advice: &'static str,
    pub at: Vec<Location>,
}

/// Where a finding applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    /// A host, or an address with the name that was sent to it.
    pub place: String,
    /// The versions of TLS; empty if they do not matter.
    pub tls: Vec<Version>,
}

/// The worst of them.
pub fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
}

/// The place of what applies to no target alone.
pub const ALL_TARGETS: &str = "the targets";

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
        found.add(ALL_TARGETS, None, Finding::left_out(left_out));
    }
    for observation in observations {
        let place = observation.endpoint.to_string();
        let others = observations.iter().filter(|other| other.endpoint == observation.endpoint);
        let speaks_another = others.clone().any(|other| other.failure.is_none());
        let is_spared = targets
            .iter()
            .filter(|target| target.endpoints.contains(&observation.endpoint))
            .all(|target| is_tested(target, observations));
        let all = of_server(observation, speaks_another, is_spared)
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

/// True if a target was tested at any of its addresses.
fn is_tested(target: &Resolved, observations: &[Observation]) -> bool {
    let mut tested = observations.iter().filter(|seen| seen.failure.is_none());
    tested.any(|seen| target.endpoints.contains(&seen.endpoint))
}

/// Findings, of which one that applies in several places is said once.
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
        let advice = "Check the spelling, and what your resolver says.";
        Finding::new(Severity::Critical, "no-address", message, advice)
    }

    fn left_out(places: usize) -> Finding {
        let message = format!("{places} addresses were left out: there are too many");
        let advice = "Name fewer hosts or names at a time.";
        Finding::new(Severity::Warning, "left-out", message, advice)
    }
}

/// In days; a certificate should be renewed earlier.
const SOON: i32 = 7;

/// Whether there is a server that can be tested, and its certificate. An address that cannot be
/// reached is spared if its target has another one.
fn of_server(seen: &Observation, speaks_another: bool, is_spared: bool) -> Vec<Finding> {
    if let Some(failure) = &seen.failure {
        return if speaks_another { Vec::new() } else { vec![no_tls(failure, is_spared)] };
    }
    let mut findings: Vec<_> = seen.certificate.iter().filter_map(certificate).collect();
    if seen.failed > 0 {
        findings.push(Finding::new(
            Severity::Warning,
            "connections-failed",
            "some connections failed, others succeeded",
            "Check whether the server is overloaded, or one of several behind the address is down.",
        ));
    }
    findings
}

fn no_tls(failure: &Failure, is_spared: bool) -> Finding {
    let (code, advice) = match failure.kind {
        FailureKind::Refused => {
            ("closed-port", "Check that the server is running and that this is its port.")
        }
        FailureKind::Unreachable => (
            "unreachable",
            "Run the probe where the address can be reached, or give another address.",
        ),
        FailureKind::Timeout => (
            "timeout",
            "Check whether a firewall drops the connection, or the server expects another protocol \
             (--starttls).",
        ),
        FailureKind::Closed => ("connection-closed", "Look for the reason in the server's log."),
        FailureKind::NotTls => (
            "not-tls",
            "Give the port that speaks TLS, or the protocol to speak before TLS (--starttls).",
        ),
        FailureKind::Starttls => {
            ("starttls-refused", "Enable TLS in the server, or use its TLS port.")
        }
        FailureKind::Version => ("old-tls", "Enable TLS 1.2 and 1.3: the server supports neither."),
        FailureKind::Handshake => ("handshake-failed", "Look for the reason in the server's log."),
    };
    let severity = match failure.kind {
        // Hosts without IPv6 see this for every second name.
        FailureKind::Unreachable if is_spared => Severity::Warning,
        _ => Severity::Critical,
    };
    Finding::new(severity, code, format!("not tested: {failure}"), advice)
}

fn certificate(certificate: &Certificate) -> Option<Finding> {
    let Certificate { not_before, not_after, .. } = certificate;
    match certificate.validity {
        Validity::Expired => Some(Finding::new(
            Severity::Critical,
            "certificate-expired",
            format!("the certificate expired on {not_after}"),
            "Renew it: clients that verify it refuse to connect.",
        )),
        Validity::NotYet => Some(Finding::new(
            Severity::Critical,
            "certificate-not-yet-valid",
            format!("the certificate is not valid before {not_before}"),
            "Check the clocks of both hosts; if they are right, use another certificate.",
        )),
        Validity::Valid if certificate.days_left < SOON => Some(Finding::new(
            Severity::Warning,
            "certificate-expires-soon",
            format!("the certificate expires on {not_after}"),
            "Renew it.",
        )),
        Validity::Valid => None,
    }
}

/// RFC 8446, section 4.6.1: no ticket lives longer than 7 days.
const MAX_LIFETIME: u64 = 7 * 24 * 3600;
/// RFC 9325, section 3.4: keys change once a week, tickets live half as long as their keys.
const ADVISABLE_LIFETIME: u64 = MAX_LIFETIME / 2;

/// The tickets: whether there are any, how long they live, who can open them.
fn of_tickets(seen: &Observation) -> Vec<Finding> {
    let mut findings = Vec::new();
    if seen.failure.is_some() {
        return findings;
    }
    if seen.ticket == Issued::None {
        findings.push(Finding::new(
            Severity::Warning,
            "no-ticket",
            "neither a ticket nor a session id: every connection costs a full handshake",
            SWITCH_ON,
        ));
    }
    findings.extend(seen.lifetime_hint.and_then(|hint| lifetime(seen.tls, hint)));
    if let Some(weak) = &seen.weak_key {
        findings.push(Finding::new(
            Severity::Critical,
            "weak-key",
            format!("the ticket key can be guessed: {} (proof: {})", weak.key, weak.proof),
            "Give the server a random key at once and restart it: whoever records TLS 1.2 \
             connections can decrypt them, and can impersonate the server to returning clients.",
        ));
    }
    findings
}

fn lifetime(tls: Version, seconds: u64) -> Option<Finding> {
    let message = format!(
        "the server announces a ticket lifetime of {}",
        in_words(Duration::from_secs(seconds))
    );
    if seconds > MAX_LIFETIME {
        let severity = match tls {
            Version::V12 => Severity::Warning,
            Version::V13 => Severity::Critical,
        };
        return Some(Finding::new(
            severity,
            "lifetime-over-7-days",
            format!("{message}, which is more than 7 days"),
            "Shorten it: TLS 1.3 forbids more (RFC 8446, 4.6.1), and the keys of such tickets are kept \
             too long.",
        ));
    }
    if seconds > ADVISABLE_LIFETIME {
        return Some(Finding::new(
            Severity::Warning,
            "lifetime-long",
            format!("{message}, which is more than half a week"),
            "Shorten it to a day or less: keys should change at least once a week, and tickets live at \
             most half as long (RFC 9325, 3.4).",
        ));
    }
    if seconds == 0 && tls == Version::V13 {
        return Some(Finding::new(
            Severity::Warning,
            "lifetime-zero",
            "the server announces a ticket lifetime of 0 s: clients discard the tickets at once",
            "Set the session timeout of the server to some minutes or hours.",
        ));
    }
    None
}

/// Where tickets are resumed, and for how long.
fn of_resumption(seen: &Observation) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(here(seen));
    findings.extend(elsewhere(seen));
    findings.extend(other_names(seen));
    findings.extend(seen.watch.as_ref().map(|watch| over_time(seen, watch)));
    findings
}

/// How tickets are switched on.
const SWITCH_ON: &str = "Enable session tickets, unless they are off on purpose (nginx: \
    ssl_session_tickets on; HAProxy: without no-tls-tickets; Apache: SSLSessionTickets on).";

/// What to do where keys are shared already.
const NOT_THE_KEY: &str = "The key is not what they lack. Give all processes of the service one session id \
    context (MariaDB, Ruby and puma set a random one), certificate, label and requirement for client \
    certificates.";

/// Session ids in place of tickets: sessions of a cache, which ends with its server.
fn of_cache(count: Count) -> Finding {
    match count {
        Count { offered, resumed } if resumed == offered => Finding::new(
            Severity::Ok,
            "session-id",
            "cache only: no ticket, but a session id, which is resumed where it was issued; another \
             server, or this one after a restart, knows it only if they share the cache",
            "",
        ),
        Count { resumed: 0, .. } => Finding::new(
            Severity::Warning,
            "tickets-off",
            "tickets are off, and session ids are not resumed: there is no cache, or each of several \
             servers or processes has its own; every connection costs a full handshake",
            SWITCH_ON,
        ),
        Count { .. } => Finding::new(
            Severity::Warning,
            "partly-cached",
            "tickets are off, and only some session ids are resumed where they were issued: several \
             servers or processes have a cache each",
            SWITCH_ON,
        ),
    }
}

fn here(seen: &Observation) -> Option<Finding> {
    let count = seen.resumed_here;
    if count.offered == 0 {
        return None;
    }
    if seen.ticket == Issued::SessionId {
        return Some(of_cache(count));
    }
    let one_key = seen.key_names.len() == 1;
    Some(if count.resumed == count.offered {
        Finding::new(Severity::Ok, "resumed", "tickets are resumed where they were issued", "")
    } else if one_key {
        let some = if count.resumed == 0 { "tickets" } else { "some tickets" };
        let message =
            format!("{some} are refused where they were issued, though all are of one key");
        Finding::new(Severity::Warning, "same-key-refused", message, NOT_THE_KEY)
    } else if count.resumed == 0 {
        Finding::new(
            Severity::Warning,
            "not-resumed",
            "tickets are issued, but not resumed",
            "Check whether there are several servers behind the address, and have them share one key.",
        )
    } else {
        Finding::new(
            Severity::Warning,
            "partly-resumed",
            "only some tickets are resumed where they were issued",
            "Have all servers and processes behind the address share one key.",
        )
    })
}

fn elsewhere(seen: &Observation) -> Option<Finding> {
    let count = seen.resumed_elsewhere;
    // A server that does not resume its own tickets has another finding.
    if count.offered == 0 || seen.resumed_here.resumed == 0 {
        return None;
    }
    if seen.ticket == Issued::SessionId {
        let message = "session ids are not resumed at all the other addresses: each server has its own \
                       cache";
        let advice = "Enable session tickets, and have the servers share their keys.";
        let is_shared = count.resumed == count.offered;
        return (!is_shared)
            .then(|| Finding::new(Severity::Warning, "cache-not-shared", message, advice));
    }
    if count.resumed == count.offered {
        return Some(Finding::new(
            Severity::Ok,
            "shared",
            "tickets are resumed at the other addresses",
            "",
        ));
    }
    let mut same_key = seen
        .refusals
        .iter()
        .filter(|refusal| refusal.same_key && refusal.to.sni == seen.endpoint.sni);
    // A certificate that differs is the first thing to mend.
    let same_key = same_key.clone().find(|refusal| !refusal.same_certificate).or(same_key.next());
    Some(match same_key {
        Some(Refusal { same_certificate: false, .. }) => Finding::new(
            Severity::Warning,
            "same-key-other-certificate",
            "tickets are refused at another address that has the same ticket key: it shows another \
             certificate for this name, and tickets are bound to the certificate",
            "The key is not what they lack. Give both one certificate; or under libtktrot leave it out of \
             what tickets are bound to, TKTROT_BIND=verify,sni (nginx binds to it by itself).",
        ),
        Some(_) => Finding::new(
            Severity::Warning,
            "same-key-refused-elsewhere",
            "tickets are refused at another address that has the same ticket key and the same \
             certificate: they are bound to something else in which the servers differ",
            NOT_THE_KEY,
        ),
        None => Finding::new(
            Severity::Warning,
            "not-shared",
            if count.resumed == 0 {
                "tickets are not resumed at any other address"
            } else {
                "tickets are resumed at some of the other addresses only"
            },
            "Have the servers of one name share their keys: a client may reach any of them.",
        ),
    })
}

/// RFC 6066, section 3: a server must not resume a session under another name. TLS 1.3 allows it, at
/// the server's own risk.
fn other_names(seen: &Observation) -> Option<Finding> {
    if seen.resumed_as_other_name.offered == 0 || seen.resumed_here.resumed == 0 {
        return None;
    }
    let Some(crossing) = seen.crossings.iter().min_by_key(|crossing| crossing.same_certificate)
    else {
        let mut refusals = seen.refusals.iter();
        let others_name = |refusal: &&Refusal| refusal.to.sni != seen.endpoint.sni;
        let Some(refusal) = refusals.find(|refusal| refusal.same_key && others_name(refusal))
        else {
            let message = "tickets are not resumed under another name";
            return Some(Finding::new(Severity::Ok, "name-bound", message, ""));
        };
        let bound = if refusal.same_certificate { "name" } else { "name or certificate" };
        return Some(Finding::new(
            Severity::Ok,
            "name-bound",
            format!(
                "tickets are not resumed under another name that has the same key: they are bound to \
                 the {bound}"
            ),
            "Nothing, if they are two services. If they are one, give both names one certificate, and \
             under libtktrot leave the name out of what tickets are bound to: TKTROT_BIND=cert,verify.",
        ));
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
            Severity::Warning,
            "crosses-names",
            format!("{message}, which has the same certificate"),
            "Harmless if both are one service; otherwise give each a key of its own, or bind tickets \
             to the name.",
        )
    } else {
        Finding::new(
            Severity::Critical,
            "crosses-certificates",
            format!("{message}, which has another certificate"),
            "Give each a key of its own, or bind tickets to the name: a client of one is taken for a \
             known client of the other.",
        )
    })
}

/// A key that was not seen to change for so long.
const UNCHANGED: Duration = Duration::from_secs(24 * 3600);

fn over_time(seen: &Observation, watch: &Watch) -> Finding {
    let changes = watch.key_changes.len();
    let rotation = match changes {
        0 if seen.key_names.is_empty() => "no key name to watch".to_owned(),
        0 => "the key did not change".to_owned(),
        1 => "the key changed once".to_owned(),
        _ => format!("the key changed {changes} times"),
    };
    let first = watch.first_ticket;
    let words =
        |seconds: f64| in_words(Duration::try_from_secs_f64(seconds.round()).unwrap_or_default());
    let within = format!("{rotation} in {}", words(watch.seconds));
    let never = changes == 0 && !seen.key_names.is_empty();
    let lasted = watch.seconds >= UNCHANGED.as_secs_f64();
    if never && lasted && first.offered == first.resumed && first.offered > 0 {
        let message =
            format!("{within}: it may never change before a restart, as OpenSSL's own does");
        let advice = "Have the server change its ticket key, every hour say: whoever gets hold of it can \
                      decrypt all sessions since its start.";
        return Finding::new(Severity::Warning, "key-unchanged", message, advice);
    }
    if first.offered == 0 {
        let advice = "Watch a server that answers, for less than the lifetime of its tickets.";
        let message = format!("{within}, and the first ticket could not be offered");
        return Finding::new(Severity::Warning, "not-watched", message, advice);
    }
    if first.offered == first.resumed {
        let message = format!("{within}, and the first ticket was resumed to the end");
        let advice = match never {
            true => "To see whether it ever changes, watch for a day (--watch 1d).",
            false => "",
        };
        return Finding::new(Severity::Ok, "watched", message, advice);
    }
    let until = watch.first_ticket_resumed_until;
    let message = match until {
        Some(until) => {
            format!("{within}, and the first ticket was last resumed after {}", words(until))
        }
        None => format!("{within}, and the first ticket was not resumed"),
    };
    let advice = "Keep former keys for as long as tickets live, across restarts too, and share them \
                  among all processes.";
    Finding::new(Severity::Warning, "tickets-lost", message, advice)
}

#[cfg(test)]
mod tests;
