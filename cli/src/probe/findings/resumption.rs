//! Where tickets are taken, and for how long.

use super::Finding;
use crate::probe::observation::{Issued, Observation, Watch};
use crate::severity::Severity;

pub fn findings(seen: &Observation) -> Vec<Finding> {
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
        |sni: &Option<String>| sni.clone().map_or("no name".into(), |name| format!("{name:?}"));
    let message =
        format!("a ticket for {} is resumed for {}", name(&seen.place.sni), name(&crossing.to.sni));
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
