//! `make bench` runs and says what it measured. Not how fast that was: no test depends on speed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use testbed::{artifacts, log};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Each with how many groups of things it compares.
const MEASUREMENTS: [(&str, usize); 9] = [
    ("handshakes", 4),
    ("instructions", 1),
    ("ticket", 3),
    ("keys", 4),
    ("threads", 10),
    ("identities", 5),
    ("rotation", 1),
    ("nginx", 5),
    ("start", 1),
];
const CURVES: [&str; 4] = ["keys", "threads", "identities", "rotation"];

#[test]
fn the_benchmark_measures_every_case() -> Result<()> {
    let out = tempfile::tempdir()?;
    let output =
        Command::new(artifacts::costs()?).args(["--quick", "--out"]).arg(out.path()).output()?;
    let text = log::said(&output);
    assert!(output.status.success(), "{}\n{text}", output.status);
    assert!(text.contains("too few rounds"), "{text}");

    for (name, groups) in MEASUREMENTS {
        let numbers = read(out.path(), name)?;
        assert!(numbers["machine"]["tls_library"].is_string(), "{numbers}");
        assert_eq!(list(&numbers["groups"]).len(), groups, "{name}");
        for group in list(&numbers["groups"]) {
            for thing in list(&group["things"]) {
                // All but differences are more than nothing.
                let is_difference = thing["name"] == "more";
                let median = thing["summary"]["median"].as_f64();
                assert!(is_difference || median > Some(0.0), "{name}: {thing}");
                let rounds = if name == "instructions" { 9 } else { 1 };
                assert_eq!(list(&thing["rounds"]).len(), rounds, "{name}: {thing}");
            }
        }
    }
    for name in CURVES {
        let svg = fs::read_to_string(out.path().join(format!("{name}.svg")))?;
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"), "{svg}");
        assert!(svg.matches("<circle").count() >= 4 && !svg.contains("NaN"), "{svg}");
    }

    let goals = list(&read(out.path(), "goals")?["goals"]);
    let names: BTreeSet<_> = goals.iter().filter_map(|goal| goal["goal"].as_str()).collect();
    assert_eq!((goals.len(), names.len()), (15, 15), "{names:?}");
    for goal in &goals {
        assert!(goal["measured"]["median"].is_number() && goal["met"].is_boolean(), "{goal}");
        let name = goal["goal"].as_str().unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        assert!(line.is_some_and(|line| line.ends_with("met")), "{name}: {text}");
    }
    Ok(())
}

fn read(dir: &Path, name: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(dir.join(format!("{name}.json")))?)?)
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}
