//! The status of rings as JSON; docs/schemas/status.schema.json describes it.

use serde::Serialize;

use super::alarms::{Alarm, Remark, alarms, remarks, worst};
use super::counters::Rates;
use super::ring::RingStatus;
use super::sentence::sentence;
use crate::severity::Severity;

/// What is printed: one object, however many rings.
#[derive(Serialize)]
pub struct Document {
    /// The version of this format; new members do not change it.
    pub version: u32,
    /// The worst of all rings.
    pub severity: Severity,
    pub rings: Vec<Ring>,
}

/// One ring.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Ring {
    Read(Box<Evaluated>),
    Unreadable { path: String, severity: Severity, error: String },
}

/// The status of a ring, and what follows from it.
#[derive(Serialize)]
pub struct Evaluated {
    severity: Severity,
    /// How it is, in a sentence.
    summary: String,
    alarms: Vec<Alarm>,
    remarks: Vec<Remark>,
    active_key: Option<String>,
    /// Tickets that came back and were resumed.
    resumed: u64,
    /// The share of the tickets that came back which were resumed.
    resumption_ratio: Option<f64>,
    #[serde(flatten)]
    status: RingStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    rates: Option<Rates>,
}

impl Ring {
    /// A ring that was read.
    pub fn read(status: &RingStatus, rates: Option<Rates>) -> Ring {
        let alarms = alarms(status);
        Ring::Read(Box::new(Evaluated {
            severity: worst(&alarms),
            summary: sentence(status),
            alarms,
            remarks: remarks(status),
            active_key: status.active_key().map(|key| key.name.clone()),
            resumed: status.counters.resumed(),
            resumption_ratio: status.counters.resumption_ratio(),
            status: status.clone(),
            rates,
        }))
    }

    fn severity(&self) -> Severity {
        match self {
            Ring::Read(told) => told.severity,
            Ring::Unreadable { severity, .. } => *severity,
        }
    }
}

impl Document {
    pub fn of(rings: Vec<Ring>) -> Document {
        let severity = rings.iter().map(Ring::severity).max().unwrap_or(Severity::Ok);
        Document { version: 1, severity, rings }
    }
}

#[cfg(test)]
mod tests {
    use tktrot::ring::stats::Problem;

    use super::super::example::{HOUR, governed, healthy, idle};
    use super::super::ring::{LastProblem, LockState};
    use super::*;

    /// Every form of a member fits the schema, which, closed, refuses what it does not name.
    #[test]
    fn the_document_is_as_the_schema_says() {
        let schema = include_str!("../../../docs/schemas/status.schema.json");
        let readers = serde_json::from_str(schema).unwrap();
        let readers = jsonschema::validator_for(&readers).unwrap();
        let schema = testbed::schema::closed(schema).unwrap();
        let schema = jsonschema::validator_for(&schema).unwrap();
        let last_problem =
            Some(LastProblem { what: Problem::Full, ago: std::time::Duration::from_millis(1500) });
        let spoilt =
            RingStatus { writer_lock: LockState::Dead, last_problem, capacity: 3, ..healthy() };
        let unreadable = Ring::Unreadable {
            path: "/x.ring".into(),
            severity: Severity::Critical,
            error: "no".into(),
        };
        let mut remarked = healthy();
        remarked.counters.left_alone = 2;
        let mut refused = healthy();
        refused.counters.not_resumed = 250;
        refused.users[0].binds = None;
        refused.users[1].binds = Some(vec!["cert,verify".into(), "none".into()]);
        refused.promised = Some(5 * HOUR);
        let mut unserved = idle();
        unserved.counters.tickets_off = 3;
        let rates = Rates::between(&healthy().counters, &healthy().counters, HOUR);
        let rings = vec![
            Ring::read(&healthy(), Some(rates)),
            Ring::read(&idle(), None),
            Ring::read(&spoilt, None),
            unreadable,
            Ring::read(&governed(), None),
            Ring::read(&remarked, None),
            Ring::read(&unserved, None),
            Ring::read(&refused, None),
        ];
        let document = serde_json::to_value(Document::of(rings)).unwrap();
        let flaws: Vec<_> = schema.iter_errors(&document).map(|flaw| flaw.to_string()).collect();
        assert_eq!(flaws, [""; 0], "{document:#}");
        assert_eq!(document["severity"], "critical");
        assert_eq!(document["rings"][0]["exposure"]["seconds"], 10800.0);
        assert_eq!(document["rings"][0]["resumption_ratio"], 0.75);
        assert_eq!(document["rings"][1]["active_key"], serde_json::Value::Null);
        assert_eq!(document["rings"][0]["governed_for_seconds"], serde_json::Value::Null);
        assert_eq!(document["rings"][4]["governed_for_seconds"], 2.4);

        assert_eq!(document["rings"][5]["remarks"][0]["remark"], "own-keys");
        assert_eq!(document["rings"][5]["severity"], "ok");
        assert_eq!(document["rings"][6]["alarms"][0]["alarm"], "tickets-off");
        assert_eq!(document["rings"][6]["counters"]["tickets_off"], 3);

        let refused = &document["rings"][7];
        assert_eq!((&refused["resumed"], &refused["resumption_ratio"]), (&500.into(), &0.5.into()));
        assert_eq!(refused["users"][1]["binds"], serde_json::json!(["cert,verify", "none"]));
        let kinds: Vec<_> = refused["alarms"].as_array().unwrap().iter().collect();
        let kinds: Vec<_> = kinds.iter().map(|alarm| alarm["alarm"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["unbound", "not-resumed", "tickets-outlive-keys"]);

        let mut other = document;
        other["rings"][0]["unheard_of"] = 1.into();
        assert!(!schema.is_valid(&other));
        other["rings"][7]["alarms"][0]["alarm"] = "unheard-of".into();
        assert!(readers.is_valid(&other), "what is added later must not break readers");
        other["severity"] = "fine".into();
        assert!(!readers.is_valid(&other));
    }
}
