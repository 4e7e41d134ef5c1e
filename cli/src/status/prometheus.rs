//! The status of rings as metrics, in Prometheus' text format 0.0.4: for the agent's endpoint, and for
//! the textfile collector of the node exporter.

use anyhow::Result;
use prometheus::{IntCounterVec, Opts, Registry};
use tktrot::schedule::KeyState;

use super::alarms::{AlarmKind, alarms, worst};
use super::counters::Counters;
use super::ring::{LockState, RingStatus, state_name};
use crate::metrics::{encoded, gauge, registered, truth};

const STATES: [KeyState; 4] =
    [KeyState::Announced, KeyState::Active, KeyState::Retired, KeyState::Expired];

/// A figure of a ring, if the ring has it: name, help, value.
type Gauge = (&'static str, &'static str, fn(&RingStatus) -> Option<f64>);

const GAUGES: [Gauge; 16] = [
    (
        "exposure_seconds",
        "A stolen key opens at most the sessions of this many seconds before the theft (R + L).",
        |status| Some(status.exposure.span.as_secs_f64()),
    ),
    ("rotate_seconds", "How long a key encrypts (R).", |status| {
        Some(status.exposure.rotate_every.as_secs_f64())
    }),
    ("lifetime_seconds", "How long a key decrypts after that (L).", |status| {
        Some(status.exposure.lifetime.as_secs_f64())
    }),
    ("ahead_seconds", "For how long from now there are keys to encrypt with.", |status| {
        Some(status.exposure.ahead.as_secs_f64())
    }),
    ("upkeep_thread", "1 if a thread of a server does the upkeep of the ring.", |status| {
        Some(f64::from(u8::from(matches!(status.upkeep_lock, LockState::Held(_)))))
    }),
    ("promised_seconds", "The longest session timeout of any context.", |status| {
        Some(status.promised?.as_secs_f64())
    }),
    ("governed", "1 if an agent governs the ring, 0 if servers rotate its keys.", |status| {
        Some(truth(status.is_governed()))
    }),
    ("lease_seconds", "What is left of the lease by which the agent governs the ring.", |status| {
        Some(status.governed_for?.as_secs_f64())
    }),
    ("active_key_age_seconds", "How long the active key has been encrypting.", |status| {
        Some(status.active_key()?.age.as_secs_f64())
    }),
    ("next_rotation_seconds", "How long the active key will go on encrypting.", |status| {
        Some(status.active_key()?.encrypts_for.as_secs_f64())
    }),
    ("overdue_seconds", "How long the keys have been waiting for a writer.", |status| {
        Some(status.overdue.as_secs_f64())
    }),
    ("capacity_keys", "How many keys can be in the ring.", |status| {
        Some(f64::from(status.capacity))
    }),
    (
        "resumption_ratio",
        "The share of the tickets that came back which were resumed, since the ring was made.",
        |status| status.counters.resumption_ratio(),
    ),
    (
        "hidden_processes",
        "Processes of which this user cannot see whether they use the ring.",
        |status| Some(status.hidden_processes as f64),
    ),
    (
        "servers",
        "Visible processes that have the ring to seal and open tickets, masters included.",
        |status| Some(status.serving().count() as f64),
    ),
    ("severity", "The worst alarm: 0 ok (none), 1 warning, 2 critical.", |status| {
        Some(f64::from(worst(&alarms(status)) as u8))
    }),
];

/// A counter of a ring: name, help, and its parts by the value of a label.
type Count = (&'static str, &'static str, &'static [(&'static str, fn(&Counters) -> u64)]);

const COUNTERS: [(Count, &str); 10] = [
    (
        (
            "issued",
            "Tickets sealed: 1 for a TLS 1.2 full handshake, 2 for a TLS 1.3 one.",
            &[("", |counters| counters.issued)],
        ),
        "",
    ),
    (("resumed", "Tickets that came back and were resumed.", &[("", Counters::resumed)]), ""),
    (
        (
            "opened",
            "Tickets that came back and found their key, whether they were then resumed or not.",
            &[
                ("active", |counters| counters.resumed_active),
                ("retired", |counters| counters.resumed_retired),
            ],
        ),
        "key",
    ),
    (
        (
            "refused",
            "Tickets that came back and were turned away; not_resumed: after they were opened.",
            &[
                ("unknown", |counters| counters.unknown),
                ("expired", |counters| counters.expired),
                ("wrong_scope", |counters| counters.wrong_scope),
                ("not_resumed", |counters| counters.not_resumed),
            ],
        ),
        "reason",
    ),
    (
        (
            "errors",
            "Calls into the TLS library, or reads of the ring, that failed.",
            &[("", |counters| counters.errors)],
        ),
        "",
    ),
    (
        (
            "unsealed",
            "Handshakes that went on without a ticket that can be resumed.",
            &[("", |counters| counters.unsealed)],
        ),
        "",
    ),
    (
        (
            "unserved_connections",
            "Connections that could get no tickets from libtktrot, or none in TLS 1.3.",
            &[
                ("tickets_off", |counters| counters.tickets_off),
                ("anti_replay", |counters| counters.anti_replay),
            ],
        ),
        "reason",
    ),
    (
        (
            "unserved_contexts",
            "Contexts that libtktrot does not serve.",
            &[("left_alone", |counters| counters.left_alone)],
        ),
        "reason",
    ),
    (("rotations", "Keys made.", &[("", |counters| counters.rotations)]), ""),
    (
        (
            "generator_failures",
            "Failures of the random number generator.",
            &[("", |counters| counters.generator_failures)],
        ),
        "",
    ),
];

/// The metrics of these rings. A ring that cannot be read has only `tktrot_readable` 0.
pub fn text(rings: &[(String, Option<RingStatus>)]) -> Result<String> {
    let registry = Registry::new();
    let readable = gauge(&registry, "readable", "1 if the ring can be read.", &["ring"])?;
    for (name, status) in rings {
        readable.with_label_values(&[name]).set(truth(status.is_some()));
    }
    let read: Vec<_> =
        rings.iter().filter_map(|(name, status)| Some((name, status.as_ref()?))).collect();
    for (metric, help, figure) in GAUGES {
        let metric = gauge(&registry, metric, help, &["ring"])?;
        for (name, status) in &read {
            if let Some(value) = figure(status) {
                metric.with_label_values(&[name]).set(value);
            }
        }
    }
    let keys = gauge(&registry, "keys", "Keys in the ring.", &["ring", "state"])?;
    let help = "Processes with contexts that bind their tickets to this.";
    let binding = gauge(&registry, "binding", help, &["ring", "bind"])?;
    let told = gauge(&registry, "alarm", "1 if the alarm is raised.", &["ring", "alarm"])?;
    for (name, status) in &read {
        for state in STATES {
            let labels = [name.as_str(), state_name(state)];
            keys.with_label_values(&labels).set(status.count(state) as f64);
        }
        for bind in status.servers().flat_map(|user| user.binds.iter().flatten()) {
            binding.with_label_values(&[name.as_str(), bind.as_str()]).inc();
        }
        let held = alarms(status);
        for kind in AlarmKind::ALL {
            let holds = held.iter().any(|alarm| alarm.alarm == *kind);
            told.with_label_values(&[name.as_str(), kind.name()]).set(truth(holds));
        }
    }
    for ((metric, help, parts), label) in COUNTERS {
        let labels: &[&str] = if label.is_empty() { &["ring"] } else { &["ring", label] };
        let opts = Opts::new(format!("tktrot_{metric}_total"), help);
        let metric = registered(&registry, IntCounterVec::new(opts, labels)?)?;
        for (name, status) in &read {
            for (part, count) in parts {
                let values: &[&str] = if label.is_empty() { &[name] } else { &[name, part] };
                metric.with_label_values(values).inc_by(count(&status.counters));
            }
        }
    }
    encoded(&registry)
}

#[cfg(test)]
mod tests {
    use prometheus_parse::{Scrape, Value};

    use super::super::example::{governed, healthy, idle};
    use super::*;

    #[test]
    fn the_metrics_are_read_back_as_they_are() {
        let mut unserved = idle();
        unserved.counters.tickets_off = 120;
        unserved.counters.left_alone = 3;
        let mut refused = healthy();
        refused.counters.not_resumed = 300;
        let rings = [
            ("nginx".to_owned(), Some(healthy())),
            ("refused".to_owned(), Some(refused)),
            ("unserved".to_owned(), Some(unserved)),
            ("od\"d\\".to_owned(), Some(idle())),
            ("other".to_owned(), None),
            ("fleet".to_owned(), Some(governed())),
        ];
        let text = text(&rings).unwrap();
        let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
        let value = |metric: &str, ring: &str, label: Option<(&str, &str)>| {
            let sample = scrape.samples.iter().find(|sample| {
                sample.metric == metric
                    && sample.labels.get("ring") == Some(ring)
                    && label.is_none_or(|(name, text)| sample.labels.get(name) == Some(text))
            })?;
            match sample.value {
                Value::Counter(value) | Value::Gauge(value) => Some(value),
                _ => panic!("{sample:?}"),
            }
        };
        assert_eq!(value("tktrot_exposure_seconds", "nginx", None), Some(10800.0));
        assert_eq!(value("tktrot_active_key_age_seconds", "nginx", None), Some(720.0));
        assert_eq!(value("tktrot_keys", "nginx", Some(("state", "retired"))), Some(1.0));
        assert_eq!(value("tktrot_issued_total", "nginx", None), Some(1200.0));
        assert_eq!(value("tktrot_opened_total", "nginx", Some(("key", "retired"))), Some(250.0));
        assert_eq!(value("tktrot_resumed_total", "nginx", None), Some(750.0));
        assert_eq!(value("tktrot_opened_total", "refused", Some(("key", "active"))), Some(500.0));
        assert_eq!(value("tktrot_resumed_total", "refused", None), Some(450.0));
        let refused = Some(("reason", "not_resumed"));
        assert_eq!(value("tktrot_refused_total", "refused", refused), Some(300.0));
        assert_eq!(value("tktrot_alarm", "refused", Some(("alarm", "not-resumed"))), Some(1.0));
        assert_eq!(value("tktrot_binding", "nginx", Some(("bind", "all"))), Some(2.0));
        assert_eq!(value("tktrot_promised_seconds", "nginx", None), Some(300.0));
        let refused = Some(("reason", "unknown"));
        assert_eq!(value("tktrot_refused_total", "nginx", refused), Some(200.0));
        assert_eq!(value("tktrot_severity", "nginx", None), Some(0.0));
        let connections = "tktrot_unserved_connections_total";
        let off = Some(("reason", "tickets_off"));
        assert_eq!(value(connections, "unserved", off), Some(120.0));
        assert_eq!(value(connections, "nginx", off), Some(0.0));
        let alone = Some(("reason", "left_alone"));
        assert_eq!(value("tktrot_unserved_contexts_total", "unserved", alone), Some(3.0));
        let held = Some(("alarm", "own-keys"));
        assert_eq!(value("tktrot_alarm", "unserved", held), Some(1.0));
        assert_eq!(value("tktrot_severity", "unserved", None), Some(1.0));
        let stuck = Some(("alarm", "writer-stuck"));
        assert_eq!(value("tktrot_alarm", "nginx", stuck), Some(0.0));
        assert_eq!(value("tktrot_readable", "other", None), Some(0.0));
        assert_eq!(value("tktrot_exposure_seconds", "other", None), None);
        assert_eq!(value("tktrot_active_key_age_seconds", "od\"d\\", None), None);
        assert_eq!(value("tktrot_governed", "nginx", None), Some(0.0));
        assert_eq!(value("tktrot_governed", "fleet", None), Some(1.0));
        assert_eq!(value("tktrot_lease_seconds", "nginx", None), None);
        assert_eq!(value("tktrot_lease_seconds", "fleet", None), Some(2.4));
        let described = |metric: &str| {
            text.contains(&format!("# TYPE {metric} "))
                && text.contains(&format!("# HELP {metric} "))
        };
        for sample in &scrape.samples {
            assert!(described(&sample.metric), "{}\n{text}", sample.metric);
        }
    }
}
