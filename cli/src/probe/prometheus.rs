//! The report as metrics, in Prometheus' text format 0.0.4: for the textfile collector of the node
//! exporter.

use anyhow::Result;
use prometheus::Registry;

use super::findings::ALL_TARGETS;
use super::observation::{Count, Issued, Observation};
use super::report::Report;
use crate::metrics::{self, truth};
use crate::severity::Severity;

/// What an observation is of.
const LABELS: [&str; 4] = ["target", "address", "name", "tls"];

/// A figure of what was tested, if it has it: name, help, value.
type Gauge = (&'static str, &'static str, fn(&Observation) -> Option<f64>);

const GAUGES: [Gauge; 8] = [
    ("handshakes", "Full handshakes that succeeded.", |seen| Some(f64::from(seen.handshakes))),
    ("failed_connections", "Connections that failed after an earlier one had succeeded.", |seen| {
        Some(f64::from(seen.failed))
    }),
    ("certificate_days_left", "Days until the certificate expires.", |seen| {
        Some(f64::from(seen.certificate.as_ref()?.days_left))
    }),
    ("lifetime_seconds", "The ticket lifetime that the server announces.", |seen| {
        Some(seen.lifetime_hint? as f64)
    }),
    ("keys", "Key names that were seen.", |seen| Some(seen.key_names.len() as f64)),
    (
        "key",
        "The first 4 bytes of the last key name, as a number: changes() counts its changes.",
        |seen| Some(f64::from(u32::from_str_radix(seen.key_names.last()?, 16).ok()?)),
    ),
    ("key_changes", "How often the key changed while it was watched (--watch).", |seen| {
        Some(seen.watch.as_ref()?.key_changes.len() as f64)
    }),
    ("weak_key", "1 if the ticket key can be guessed.", |seen| {
        (seen.ticket == Issued::Ticket).then_some(truth(seen.weak_key.is_some()))
    }),
];

/// Where tickets are offered, and how often that was done.
type Offered = (&'static str, fn(&Observation) -> Count);

const OFFERED: [Offered; 3] = [
    ("here", |seen| seen.resumed_here),
    ("elsewhere", |seen| seen.resumed_elsewhere),
    ("other_name", |seen| seen.resumed_as_other_name),
];

const ISSUED: [(&str, Issued); 3] =
    [("none", Issued::None), ("session-id", Issued::SessionId), ("ticket", Issued::Ticket)];
const SEVERITIES: [Severity; 3] = [Severity::Ok, Severity::Warning, Severity::Critical];

/// The metrics of a report.
pub fn text(report: &Report) -> Result<String> {
    let registry = Registry::new();
    let gauge = |name: &str, help: &str, labels: &[&str]| {
        metrics::gauge(&registry, &format!("probe_{name}"), help, labels)
    };
    let help = "The worst finding, and the exit status: 0 ok, 1 warning, 2 critical.";
    gauge("severity", help, &[])?.with_label_values::<&str>(&[]).set(report.severity as u8 as f64);
    let help = "How long the probe took.";
    gauge("duration_seconds", help, &[])?.with_label_values::<&str>(&[]).set(report.seconds);
    let addresses = gauge("addresses", "Addresses that the target has.", &["target"])?;
    for target in &report.targets {
        addresses.with_label_values(&[&target.target]).set(target.addresses.len() as f64);
    }

    let places = places(report);
    let help = "1 if a server speaks this version and could be tested.";
    let tested = gauge("tested", help, &LABELS)?;
    for (labels, seen) in &places {
        tested.with_label_values(labels).set(truth(seen.failure.is_none()));
    }
    for (name, help, figure) in GAUGES {
        let metric = gauge(name, help, &LABELS)?;
        for (labels, seen) in places.iter().filter(|(_, seen)| seen.failure.is_none()) {
            if let Some(value) = figure(seen) {
                metric.with_label_values(labels).set(value);
            }
        }
    }
    let with = |label| [&LABELS[..], &[label]].concat();
    let issued = gauge("issued", "1 for what the server issues.", &with("what"))?;
    let help = "Tickets, or session ids, that were offered.";
    let offered = gauge("offered", help, &with("where"))?;
    let resumed = gauge("resumed", "Those of them that were resumed.", &with("where"))?;
    let help = "Findings; those of a target without an address have no other label.";
    let findings = gauge("findings", help, &with("severity"))?;
    for (labels, seen) in &places {
        if seen.failure.is_none() {
            for (what, kind) in ISSUED {
                let is = truth(seen.ticket == kind);
                issued.with_label_values(&labelled(labels, what)).set(is);
            }
            for (place, count) in OFFERED {
                let labels = labelled(labels, place);
                offered.with_label_values(&labels).set(f64::from(count(seen).offered));
                resumed.with_label_values(&labels).set(f64::from(count(seen).resumed));
            }
        }
        for severity in SEVERITIES {
            let count = report.findings.iter().filter(|finding| {
                finding.severity == severity
                    && finding.at.iter().any(|at| {
                        at.place == seen.endpoint.to_string() && at.tls.contains(&seen.tls)
                    })
            });
            findings
                .with_label_values(&labelled(labels, severity.name()))
                .set(count.count() as f64);
        }
    }
    // What is of no address.
    for finding in &report.findings {
        for at in finding.at.iter().filter(|at| at.tls.is_empty()) {
            let target = if at.place == ALL_TARGETS { "" } else { &at.place };
            let labels = [target, "", "", "", finding.severity.name()];
            findings.with_label_values(&labels).inc();
        }
    }
    metrics::encoded(&registry)
}

fn labelled<'a>(labels: &'a [String; 4], last: &'a str) -> [&'a str; 5] {
    let [target, address, name, tls] = labels.each_ref().map(String::as_str);
    [target, address, name, tls, last]
}

/// Each observation with its labels, once for each target that it is of.
fn places(report: &Report) -> Vec<([String; 4], &Observation)> {
    let mut places: Vec<([String; 4], &Observation)> = Vec::new();
    for target in &report.targets {
        let here =
            report.observations.iter().filter(|seen| target.endpoints.contains(&seen.endpoint));
        for seen in here {
            let labels = [
                target.target.clone(),
                seen.endpoint.address.to_string(),
                seen.endpoint.sni.clone().unwrap_or_default(),
                seen.tls.to_string(),
            ];
            places.push((labels, seen));
        }
    }
    places
}
