//! The probe for monitoring: metrics for the node exporter's textfile collector, and exit statuses.

use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use prometheus_parse::{Scrape, Value};
use testbed::port;
use testbed::solo::Solo;

use crate::Result;
use crate::program::{CRITICAL, OK, report, run};

/// Each value by its metric and labels, in the order of the labels' names.
fn values(text: &str) -> Result<HashMap<String, f64>> {
    let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned())))?;
    let mut values = HashMap::new();
    for sample in scrape.samples {
        let Value::Gauge(value) = sample.value else {
            return Err(format!("no gauge: {}", sample.metric).into());
        };
        let mut labels: Vec<_> =
            sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        labels.sort();
        let name = sample.metric.trim_start_matches("tktrot_probe_").to_owned();
        values.insert([vec![name], labels].concat().join(" "), value);
    }
    Ok(values)
}

#[test]
fn metrics_say_what_json_says() -> Result<()> {
    let server = Solo::openssl().start()?;
    let (address, dead) = (server.addr().to_string(), port::free()?.to_string());
    let arguments = [&address, &dead, "name.invalid:443", "--sni", "localhost"];
    let json = report(&arguments)?;
    let output = run(&[&arguments[..], &["--prometheus"]].concat())?;
    assert_eq!((output.status, output.stderr.as_str()), (CRITICAL, ""));
    let values = values(&output.stdout)?;
    let is = |what: &str, expected: f64| {
        assert_eq!(values.get(what), Some(&expected), "{what}\n{}", output.stdout);
    };

    is("severity", 2.0);
    is(&format!("addresses target={address}"), 1.0);
    is("addresses target=name.invalid:443", 0.0);
    is("findings address= name= severity=critical target=name.invalid:443 tls=", 1.0);
    assert!(values["duration_seconds"] > 0.0 && json.value["seconds"].as_f64() > Some(0.0));
    for tls in ["1.2", "1.3"] {
        let seen = json.seen(&address, tls)[0];
        let key = seen["key_names"][0].as_str().ok_or("no key name")?;
        let here = |metric: &str, label: &str| {
            let (target, tls) = (format!("target={address}"), format!("tls={tls}"));
            let address = format!("address={address}");
            let mut labels = vec![&address[..], "name=localhost", &target, &tls];
            labels.extend((!label.is_empty()).then_some(label));
            labels.sort();
            format!("{metric} {}", labels.join(" "))
        };
        is(&here("tested", ""), 1.0);
        is(&here("handshakes", ""), 3.0);
        is(&here("issued", "what=ticket"), 1.0);
        is(&here("issued", "what=none"), 0.0);
        is(&here("offered", "where=here"), 3.0);
        is(&here("resumed", "where=here"), 3.0);
        is(&here("keys", ""), 1.0);
        is(&here("key", ""), f64::from(u32::from_str_radix(key, 16)?));
        is(&here("weak_key", ""), 0.0);
        is(&here("lifetime_seconds", ""), seen["lifetime_hint"].as_f64().ok_or("no lifetime")?);
        is(&here("findings", "severity=ok"), 1.0);
        is(&here("findings", "severity=critical"), 0.0);
        let there = format!("address={dead} name=localhost");
        is(&format!("tested {there} target={dead} tls={tls}"), 0.0);
        assert!(!values.contains_key(&format!("keys {there} target={dead} tls={tls}")));
        is(&format!("findings {there} severity=critical target={dead} tls={tls}"), 1.0);
    }
    Ok(())
}

#[test]
fn key_changes_are_counted_while_it_watches() -> Result<()> {
    let server = Solo::openssl().start()?;
    let address = server.addr().to_string();
    let output = run(&[&address, "--watch", "500ms", "--prometheus"])?;
    assert_eq!(output.status, OK, "{}", output.stdout);
    let changes = format!("key_changes address={address} name= target={address} tls=1.3");
    assert_eq!(values(&output.stdout)?.get(&changes), Some(&0.0), "{}", output.stdout);
    Ok(())
}

/// The script of the documents: for cron, and for a timer.
#[test]
fn the_script_for_the_textfile_collector_keeps_the_last_good_file() -> Result<()> {
    const DOCUMENT: &str = include_str!("../../../docs/troubleshooting.md");
    let script = DOCUMENT.split("```sh\n").find(|part| part.starts_with("#!/bin/sh"));
    let script = script.and_then(|part| part.split("```").next()).ok_or("no script")?;
    let dir = tempfile::tempdir()?;
    let script = script
        .replace("/var/lib/prometheus/node-exporter", &dir.path().display().to_string())
        .replace("/etc/tktrot", &dir.path().display().to_string());
    let program = Path::new(env!("CARGO_BIN_EXE_tktrot")).parent().ok_or("no directory")?;
    let path = format!("{}:/usr/bin:/bin", program.display());
    let succeeds = |targets: &str| -> Result<bool> {
        fs::write(dir.path().join("probe.targets"), targets)?;
        let output = Command::new("sh").args(["-c", &script]).env("PATH", &path).output()?;
        Ok(output.status.success())
    };
    let metrics = || fs::read_to_string(dir.path().join("tktrot_probe.prom"));

    // What is found is no failure of the script.
    let dead = port::free()?;
    assert!(succeeds(&format!("{dead}  # web\n"))?);
    let good = metrics()?;
    assert_eq!(values(&good)?.get("severity"), Some(&2.0), "{good}");
    assert!(!succeeds("web:https\n")?);
    assert_eq!(metrics()?, good);
    Ok(())
}

/// As Nagios wants it: what cannot be tested is critical.
#[test]
fn what_does_not_answer_or_cannot_be_reached_ends_with_two() -> Result<()> {
    // The kernel accepts, and nobody answers.
    let silent = TcpListener::bind(port::free()?)?;
    // The kernel has no TCP for a broadcast address.
    for (target, code) in [
        (silent.local_addr()?.to_string(), "timeout"),
        ("255.255.255.255:443".to_owned(), "unreachable"),
    ] {
        let report = report(&[&target, "--timeout", "300ms"])?;
        assert_eq!((report.status, report.codes()), (CRITICAL, vec![code]), "{:#}", report.value);
    }
    Ok(())
}
