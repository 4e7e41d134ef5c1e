//! `tktrot probe HOST[:PORT]…`, `tktrot probe -f FILE`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::probe::connection::Connector;
use crate::probe::endpoint::{self, Host};
use crate::probe::report::{Form, Report};
use crate::probe::starttls::Starttls;
use crate::probe::{findings, measure, targets};
use crate::severity::Severity;

/// Each address is tested with each name; more pairs than this are left out.
const MAX_ENDPOINTS: usize = 64;
const HTTPS: u16 = 443;

#[derive(clap::Args)]
#[command(
    after_long_help = "Tests every address of every HOST with TLS 1.2 and 1.3: whether a ticket \
    is issued; whether it is resumed at this address, at the other addresses with the same name, and \
    under other names; what lifetime the server announces; and whether its key can be guessed. \
    Certificates are not verified, only their dates are checked.\n\nExit status: 0 ok; 1 warning: it works, and deserves a look; 2 critical: it does not work or is not \
    safe, a target cannot be reached or does not answer within --timeout, or the command failed; 64 \
    the command line, or a line of --file, is wrong. 0, 1 and 2 are those \
    of Nagios plugins."
)]
pub struct Arguments {
    /// The servers, or https:// URLs; the default port is 443, or that of --starttls.
    #[arg(required_unless_present = "file", value_name = "HOST[:PORT]")]
    hosts: Vec<Host>,

    /// Reads servers from FILE, one a line, with `#` comments; '-' is standard input.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Sends this server name instead of HOST; '' for none. With several, tickets of each are
    /// offered under the others.
    #[arg(long, value_name = "NAME", value_parser = name)]
    sni: Vec<String>,

    /// Number of full handshakes for each address, name and version.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    times: u32,

    /// Goes on for this long (30s, 10m, 1h), to see when the key changes and whether the first
    /// ticket is still resumed.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    watch: Option<Duration>,

    /// The protocol to speak before TLS.
    #[arg(long, value_name = "PROTOCOL")]
    starttls: Option<Starttls>,

    /// Time limit for each step of a connection.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    timeout: Duration,

    /// Prints JSON (docs/schemas/probe.schema.json)
    #[arg(long, conflicts_with = "prometheus")]
    json: bool,

    /// Prints metrics in Prometheus' text format
    #[arg(long)]
    prometheus: bool,
}

/// For clap: a name that a client can send (RFC 6066, section 3), or none.
fn name(text: &str) -> Result<String, String> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_one = text.len() <= 253 && text.bytes().all(is_part);
    if is_one { Ok(text.to_owned()) } else { Err("accepted: a host name, or ''".into()) }
}

fn duration(text: &str) -> Result<Duration, String> {
    let accepted = || "accepted: 100ms to 7d, such as 500ms, 30s, 10m, 1h".to_owned();
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let milliseconds = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(accepted()),
    };
    let all = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(milliseconds));
    let range = Duration::from_millis(100)..=Duration::from_secs(7 * 86400);
    all.map(Duration::from_millis).filter(|all| range.contains(all)).ok_or_else(accepted)
}

pub fn run(arguments: &Arguments) -> Result<Severity> {
    let start = Instant::now();
    let connector = Connector { timeout: arguments.timeout, starttls: arguments.starttls };
    let port = arguments.starttls.map_or(HTTPS, Starttls::default_port);
    let (mut targets, mut endpoints) = (Vec::new(), Vec::new());
    let mut hosts = arguments.hosts.clone();
    if let Some(file) = &arguments.file {
        hosts.extend(targets::read(file)?);
    }
    for host in &hosts {
        let mut resolved = endpoint::resolve(host, port, arguments.timeout);
        resolved.endpoints = endpoint::endpoints(host, &resolved.addresses, &arguments.sni);
        for endpoint in &resolved.endpoints {
            if !endpoints.contains(endpoint) {
                endpoints.push(endpoint.clone());
            }
        }
        targets.push(resolved);
    }
    let left_out = endpoints.len().saturating_sub(MAX_ENDPOINTS);
    endpoints.truncate(MAX_ENDPOINTS);

    let mut subjects = measure::measure(&connector, &endpoints, arguments.times);
    if let Some(how_long) = arguments.watch {
        measure::watch(&connector, &mut subjects, how_long);
    }
    let observations = measure::name_keys(subjects);
    let findings = findings::findings(&targets, &observations, left_out);
    let report = Report::new(targets, observations, findings, start.elapsed());
    report.print(match (arguments.json, arguments.prometheus) {
        (true, _) => Form::Json,
        (_, true) => Form::Prometheus,
        _ => Form::Text,
    })?;
    Ok(report.severity())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_bounds() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "s", "0s", "99ms", "8d", "1w", "-1s", "1.5s", "18446744073709551615d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
