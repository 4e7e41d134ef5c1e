//! A ring that a stock nginx made under the shim.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus_parse::{Scrape, Value as Sample};
use serde_json::Value;
use testbed::client::{Client, Ticket, TlsVersion};
use testbed::nginx::Nginx;
use testbed::solo::Solo;
use testbed::{RingDir, artifacts, wait};

use crate::program::{Result, alarms, reading, tktrot};

/// For a rotation of two seconds.
const LIMIT: Duration = Duration::from_secs(60);

fn nginx(ring: &RingDir, rotate: &str) -> Result<Nginx> {
    let builder = Nginx::builder().workers(2).preload(artifacts::shim()?).ring(ring);
    Ok(builder.env("TKTROT_ROTATE", rotate).env("TKTROT_LIFETIME", "5m").start()?)
}

fn count(reading: &Value, counter: &str) -> u64 {
    reading["counters"][counter].as_u64().unwrap_or(u64::MAX)
}

fn state_of<'r>(reading: &'r Value, ticket: &Ticket) -> Option<&'r str> {
    let name: String = ticket.key_name()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let keys = reading["keys"].as_array()?;
    keys.iter().find(|key| key["name"] == name)?["state"].as_str()
}

#[test]
fn keys_users_and_counters_are_those_of_the_server() -> Result<()> {
    let ring = RingDir::new()?;
    let nginx = nginx(&ring, "2s")?;
    let idle = reading(&ring)?;
    assert_eq!((&idle["severity"], &idle["active_key"]), (&"ok".into(), &Value::Null), "{idle:#}");

    let client = Client::new(TlsVersion::V13)?;
    let ticket = client.connect(nginx.addr(), None, None)?.tickets.pop().ok_or("no ticket")?;
    let first = reading(&ring)?;
    assert_eq!(first["exposure"]["seconds"], 302.0);
    assert_eq!((count(&first, "issued"), count(&first, "resumed_active")), (2, 0), "{first:#}");
    assert!(matches!(state_of(&first, &ticket), Some("active" | "retired")), "{first:#}");

    // Everybody who has the ring is there, and who had a client has said so.
    let users = first["users"].as_array().ok_or("no users")?;
    let mut expected = nginx.worker_pids()?;
    expected.push(nginx.master_pid()?);
    expected.sort_unstable();
    let pids: Vec<_> = users.iter().filter_map(|user| user["pid"].as_i64()).collect();
    assert_eq!(pids, expected.iter().map(|pid| i64::from(*pid)).collect::<Vec<_>>());
    for user in users {
        assert_eq!((&user["program"], &user["presence"]), (&"nginx".into(), &"maps".into()));
        assert_eq!(user["locked"], true, "{user}");
    }
    let deal: Vec<_> = users.iter().filter(|user| user["counts"] == true).collect();
    assert_eq!(deal.len(), 1, "{users:?}");
    assert_eq!(deal[0]["binds"], serde_json::json!(["all"]), "{users:?}");
    assert_eq!(first["promised_seconds"], 300.0, "nginx' ssl_session_timeout");

    // Across a rotation the key is another one, and the old one opens its ticket.
    let later = wait::until(LIMIT, "a rotation", || {
        let later = reading(&ring).ok()?;
        (state_of(&later, &ticket) == Some("retired")).then_some(later)
    })?;
    assert!(count(&later, "rotations") > 2, "{later:#}");
    assert!(client.connect(nginx.addr(), None, Some(&ticket))?.resumed);
    let after = reading(&ring)?;
    assert_eq!((count(&after, "resumed_retired"), count(&after, "issued")), (1, 3), "{after:#}");
    assert_eq!(after["resumption_ratio"], 1.0);

    let revoked = tktrot(&ring, &["revoke", "--all", "--yes"])?;
    assert_eq!(revoked.status, Some(0), "{revoked:?}");
    assert!(!client.connect(nginx.addr(), None, Some(&ticket))?.resumed);
    let after = reading(&ring)?;
    assert_eq!((count(&after, "unknown"), state_of(&after, &ticket)), (1, None), "{after:#}");
    assert_eq!(after["resumption_ratio"], 0.5);
    Ok(())
}

#[test]
fn text_json_and_metrics_say_the_same() -> Result<()> {
    let ring = RingDir::new()?;
    let nginx = nginx(&ring, "1h")?;
    let client = Client::new(TlsVersion::V13)?;
    let ticket = client.connect(nginx.addr(), None, None)?.tickets.pop().ok_or("no ticket")?;
    assert!(client.connect(nginx.addr(), None, Some(&ticket))?.resumed);

    // The upkeep thread starts with the first ticket.
    let json = wait::until(LIMIT, "the upkeep thread", || {
        reading(&ring).ok().filter(|reading| reading["upkeep_lock"]["state"] == "held")
    })?;
    assert_eq!(alarms(&json), [""; 0], "{json:#}");

    let said = tktrot(&ring, &["status", "--prometheus"])?;
    assert_eq!((said.status, &*said.stderr), (Some(0), ""));
    let scrape = Scrape::parse(said.stdout.lines().map(|line| Ok(line.to_owned())))?;
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    for sample in &scrape.samples {
        assert_eq!(sample.labels.get("ring"), Some("nginx"));
        let (Sample::Counter(value) | Sample::Gauge(value)) = sample.value else {
            return Err(format!("{sample:?}").into());
        };
        *sums.entry(&sample.metric).or_default() += value;
    }
    assert_eq!(sums["tktrot_exposure_seconds"], json["exposure"]["seconds"].as_f64().unwrap());
    assert_eq!(sums["tktrot_issued_total"], 3.0);
    assert_eq!(sums["tktrot_resumed_total"], 1.0);
    assert_eq!((sums["tktrot_keys"], sums["tktrot_servers"]), (2.0, 3.0));
    assert_eq!((sums["tktrot_alarm"], sums["tktrot_severity"]), (0.0, 0.0));

    assert_eq!(sums["tktrot_resumption_ratio"], json["resumption_ratio"].as_f64().unwrap());

    let said = tktrot(&ring, &["status", "nginx", "--interval", "0.2"])?;
    let words = said.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let summary = json["summary"].as_str().and_then(|all| all.rsplit_once(" in ")).ok_or("none")?;
    assert!(words.contains(summary.0), "{} in {words}", summary.0);
    assert_eq!((said.status, &*said.stderr), (Some(0), ""));
    let mut filters = insta::Settings::clone_current();
    for (pattern, name) in [
        (r"/dev/shm/tktrot-test-\w+", "[DIR]"),
        (r"\b[0-9a-f]{8}\b", "[KEY]"),
        (r"thread of process \d+", "thread of process [PID]"),
        (r" +\d+  nginx", "  [PID]  nginx"),
        (r"(\d+ min )?\d+ s old", "[AGE] old"),
        (r"in (1 h|\d+ min( \d+ s)?)\b", "in [LEFT]"),
        (r"for (1 h|\d+ min( \d+ s)?)\b", "for [LEFT]"),
        // Who of the workers had which client, and what may be seen, is not ours to say.
        (r"(has the ring, no tickets yet|uses tickets)(  bind all)?", "[DOES]"),
        (r"; \d+ more (is|are) not visible[^\n]*(\n +[^\n\[]*)?", ""),
    ] {
        filters.add_filter(pattern, name);
    }
    filters.bind(|| insta::assert_snapshot!(said.stdout));
    Ok(())
}

/// What tickets promise, the ring does not keep; what each server binds to, and that one binds nothing.
#[test]
fn tickets_that_outlive_their_keys_and_bindings_are_told_for_each_server() -> Result<()> {
    let ring = RingDir::new()?;
    let start = |bind| -> Result<Nginx> {
        let builder = Nginx::builder().preload(artifacts::shim()?).ring(&ring);
        let builder = builder.env("TKTROT_LIFETIME", "60s").env("TKTROT_BIND", bind);
        let nginx = builder.start()?;
        Client::new(TlsVersion::V13)?.connect(nginx.addr(), None, None)?;
        Ok(nginx)
    };
    let some = start("cert,verify")?;
    assert_eq!(alarms(&reading(&ring)?), ["tickets-outlive-keys"]);
    let none = start("none")?;
    let both = reading(&ring)?;
    let mut told = alarms(&both);
    told.sort_unstable();
    assert_eq!(told, ["tickets-outlive-keys", "unbound"], "{both:#}");
    let users = both["users"].as_array().ok_or("no users")?;
    for (nginx, bind) in [(&some, "cert,verify"), (&none, "none")] {
        let workers = nginx.worker_pids()?;
        let worker = users.iter().find(|user| {
            user["counts"] == true
                && user["pid"].as_i64().is_some_and(|pid| workers.contains(&(pid as i32)))
        });
        assert_eq!(worker.ok_or("no worker")?["binds"], serde_json::json!([bind]), "{both:#}");
    }
    let said = tktrot(&ring, &["status", "nginx"])?;
    let text = said.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in
        ["bind cert,verify", "bind none", "set TKTROT_LIFETIME to 5 min", "unset TKTROT_BIND=none"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let metrics = tktrot(&ring, &["status", "--prometheus"])?.stdout;
    for metric in [
        "tktrot_binding{bind=\"none\"",
        "tktrot_alarm{alarm=\"tickets-outlive-keys\",ring=\"nginx\"} 1",
    ] {
        assert!(metrics.contains(metric), "{metric}: {metrics}");
    }
    Ok(())
}

#[test]
fn a_stopped_upkeep_thread_is_told_with_what_it_delays() -> Result<()> {
    let ring = RingDir::new()?;
    let nginx = nginx(&ring, "1s")?;
    Client::new(TlsVersion::V13)?.connect(nginx.addr(), None, None)?;
    let leader = wait::until(LIMIT, "the upkeep thread", || {
        reading(&ring).ok()?["upkeep_lock"]["process"].as_i64()
    })?;
    assert!(nginx.worker_pids()?.contains(&(leader as i32)));
    let worker = testbed::process::Process::find(leader as i32).ok_or("the worker is gone")?;
    assert!(worker.signal(libc::SIGSTOP));
    let late = wait::until(LIMIT, "the alarm", || {
        reading(&ring).ok().filter(|late| alarms(late).contains(&"rotation-overdue"))
    });
    assert!(worker.signal(libc::SIGCONT));
    let late = late?;
    assert_eq!(
        (&late["severity"], &late["upkeep_lock"]["stopped"]),
        (&"critical".into(), &true.into())
    );
    wait::until(LIMIT, "the end of the alarm", || {
        reading(&ring).ok().filter(|reading| alarms(reading).is_empty())
    })?;
    Ok(())
}

/// Two servers of one ring with a certificate each: nobody's ticket opens at the other.
#[test]
fn tickets_that_come_back_to_another_certificate_are_told_as_that() -> Result<()> {
    let ring = RingDir::new()?;
    let server = || Solo::openssl().preload(artifacts::shim()?).ring(&ring).start();
    let (one, other) = (server()?, server()?);
    let client = Client::new(TlsVersion::V13)?;
    for _ in 0..25 {
        let ticket = client.connect(one.addr(), None, None)?.tickets.pop().ok_or("no ticket")?;
        assert!(!client.connect(other.addr(), None, Some(&ticket))?.resumed);
    }
    let told = reading(&ring)?;
    assert_eq!(told["counters"]["wrong_scope"], 25, "{told:#}");
    assert_eq!(told["contexts_differ_in"], serde_json::json!(["certificates"]), "{told:#}");
    assert!(alarms(&told).contains(&"not-resumed"), "{told:#}");
    let text = tktrot(&ring, &["status"])?.stdout;
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("differ in their certificates"), "{text}");
    drop(other);
    let alone = reading(&ring)?;
    assert_eq!(alone["contexts_differ_in"], serde_json::json!([]), "{alone:#}");
    Ok(())
}
