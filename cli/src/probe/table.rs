//! All observations at a glance.

use comfy_table::{Table, presets};

use super::connection::Version;
use super::failure::Kind;
use super::observation::{Count, Issued, Observation};

/// More key names than this are counted instead of named.
const NAMED_KEYS: usize = 2;
const NOTHING: &str = "-";

/// A table without lines at the ends, for terminals and for mails.
pub fn of(observations: &[Observation]) -> String {
    let has_names = observations.iter().any(|seen| seen.place.sni.is_some());
    let crosses = observations.iter().any(|seen| seen.resumed_as_other_name.offered > 0);
    let mut header = vec!["address"];
    header.extend(has_names.then_some("name"));
    header.extend(["TLS", "ticket", "here", "elsewhere"]);
    header.extend(crosses.then_some("other name"));
    header.extend(["lifetime", "key name", "weak key"]);
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for seen in observations {
        let mut row = vec![seen.place.address.to_string()];
        let name = seen.place.sni.clone().unwrap_or_else(|| NOTHING.to_owned());
        row.extend(has_names.then_some(name));
        row.extend([seen.tls.to_string(), ticket(seen)]);
        row.extend([count(seen.resumed_here), count(seen.resumed_elsewhere)]);
        row.extend(crosses.then(|| count(seen.resumed_as_other_name)));
        row.extend([lifetime(seen), key_names(seen), weak_key(seen)]);
        table.add_row(row);
    }
    let lines: Vec<_> = table.lines().map(|line| line.trim().to_owned()).collect();
    lines.join("\n")
}

fn ticket(seen: &Observation) -> String {
    let word = match (&seen.failure, seen.ticket) {
        (Some(failure), _) => match failure.kind {
            Kind::Refused => "refused",
            Kind::Unreachable => "unreachable",
            Kind::Timeout => "timeout",
            Kind::Closed => "closed",
            Kind::NotTls => "not TLS",
            Kind::Version => "not spoken",
            Kind::Starttls => "no STARTTLS",
            Kind::Handshake => "failed",
        },
        (None, Issued::None) => "no",
        (None, Issued::SessionId) => "id only",
        (None, Issued::Ticket) => "yes",
    };
    word.to_owned()
}

fn count(count: Count) -> String {
    match count {
        Count { offered: 0, .. } => NOTHING.to_owned(),
        Count { offered, resumed } => format!("{resumed}/{offered}"),
    }
}

fn lifetime(seen: &Observation) -> String {
    match seen.lifetime_hint {
        None => NOTHING.to_owned(),
        // TLS 1.2 leaves it to the client then.
        Some(0) if seen.tls == Version::V12 => "open".to_owned(),
        Some(0) => "0 s".to_owned(),
        Some(seconds) if seconds % 86400 == 0 => format!("{} d", seconds / 86400),
        Some(seconds) if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        Some(seconds) if seconds % 60 == 0 => format!("{} min", seconds / 60),
        Some(seconds) => format!("{seconds} s"),
    }
}

fn key_names(seen: &Observation) -> String {
    let names = &seen.key_names;
    match names.len() {
        0 => NOTHING.to_owned(),
        1..=NAMED_KEYS => names.join(" "),
        more => format!("{} +{}", names[..NAMED_KEYS].join(" "), more - NAMED_KEYS),
    }
}

fn weak_key(seen: &Observation) -> String {
    match (&seen.weak_key, seen.ticket) {
        (Some(_), _) => "WEAK".to_owned(),
        (None, Issued::Ticket) => "no".to_owned(),
        (None, _) => NOTHING.to_owned(),
    }
}
