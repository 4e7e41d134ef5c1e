//! What the program says of rings without a server: how they are, in one sentence and everywhere the
//! same.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use testbed::RingDir;
use tktrot::ring::stats::Counter;

use crate::program::{Result, alarms, keyring, keyring_with_keys, reading, tktrot};

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_ring_that_holds_only_imported_keys_is_not_overdue() -> Result<()> {
    let ring = RingDir::new()?;
    let file = ring.path().join("ticket.key");
    fs::write(&file, std::array::from_fn::<u8, 80, _>(|at| at as u8 * 3))?;
    fs::set_permissions(&file, Permissions::from_mode(0o600))?;
    let file = file.display().to_string();
    let said = tktrot(&ring, &["import", &file, "web", "--format", "nginx-80"])?;
    assert_eq!(said.status, Some(0), "{said:?}");

    let told = reading(&ring)?;
    assert_eq!(told["overdue_seconds"], 0.0, "{told:#}");
    assert!(!alarms(&told).contains(&"rotation-overdue"), "{told:#}");
    let said = tktrot(&ring, &["status", "web"])?;
    assert!(words(&said.stdout).contains("no ticket was issued yet; no key encrypts"), "{said:?}");
    Ok(())
}

#[test]
fn a_ring_that_nobody_has_used_yet_has_nothing_to_do_and_nothing_overdue() -> Result<()> {
    let ring = RingDir::new()?;
    let _keyring = keyring(&ring, "web")?;
    let told = reading(&ring)?;
    assert_eq!(
        (&told["severity"], &told["overdue_seconds"], &told["writer_due_in_seconds"]),
        (&"ok".into(), &0.0.into(), &Value::Null)
    );
    let summary = told["summary"].as_str().ok_or("no summary")?;
    assert!(summary.starts_with("All well, nothing to do yet: "), "{summary}");
    assert!(summary.ends_with("; no ticket was issued yet"), "{summary}");
    Ok(())
}

/// In a server they mean that clients come, and no ticket goes out.
#[test]
fn handshakes_without_a_ticket_are_told_in_every_form() -> Result<()> {
    let ring = RingDir::new()?;
    let keyring = keyring_with_keys(&ring, "web")?;
    (0..12_345).for_each(|_| keyring.count(Counter::Unsealed));
    let told = reading(&ring)?;
    assert_eq!(told["severity"], "warning", "{told:#}");
    assert!(alarms(&told).contains(&"no-tickets"), "{told:#}");
    let said = tktrot(&ring, &["status"])?;
    assert_eq!(said.status, Some(1), "{said:?}");
    for part in [
        "in short 1 warning, see below: status-",
        "warning no-tickets: clients come, but no ticket was ever issued: 12345 handshakes",
        "12.3 k handshakes without a resumable ticket",
    ] {
        assert!(words(&said.stdout).contains(part), "{part}: {said:?}");
    }
    let metrics = tktrot(&ring, &["status", "--prometheus"])?.stdout;
    for metric in [
        "tktrot_alarm{alarm=\"no-tickets\",ring=\"web\"} 1",
        "tktrot_severity{ring=\"web\"} 1",
        "tktrot_unsealed_total{ring=\"web\"} 12345",
    ] {
        assert!(metrics.contains(metric), "{metric}: {metrics}");
    }
    let line = tktrot(&ring, &["watch", "--count", "1"])?;
    assert!(line.stdout.contains("Z  warning   key "), "{line:?}");
    assert_eq!(line.status, Some(1));
    Ok(())
}
