//! `make bench` runs and says what it measured. Not how fast that was: no test depends on speed.

use std::fs;
use std::process::Command;

use serde_json::Value;
use testbed::artifacts;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[test]
fn the_benchmark_measures_every_case() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let json = dir.path().join("handshakes.json");
    let output = Command::new("make")
        .args(["--silent", "bench"])
        .arg(format!("BENCH=--rounds 1 --handshakes 2 --json {}", json.display()))
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .current_dir(artifacts::root())
        .output()?;
    let (text, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("too few rounds"), "{text}");
    assert!(text.contains("What this does not show"), "{text}");

    let numbers: Value = serde_json::from_slice(&fs::read(&json)?)?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let cases = list(&numbers["handshakes"]);
    let names: Vec<_> = cases.iter().filter_map(|case| case["case"].as_str()).collect();
    assert_eq!(names, ["TLS 1.2 full", "TLS 1.2 resumed", "TLS 1.3 full", "TLS 1.3 resumed"]);
    for case in &cases {
        let variants = list(&case["variants"]);
        assert!(variants.iter().any(|variant| variant["keys"] == "libtktrot"), "{case}");
        for variant in &variants {
            assert!(variant["median"].as_f64() > Some(0.0), "{variant}");
            assert_eq!(list(&variant["microseconds"]).len(), 1, "{variant}");
        }
    }
    let look_ups = list(&numbers["look_ups"]);
    assert!(look_ups.iter().any(|look_up| look_up["keys"] == 16384), "{look_ups:?}");
    assert!(look_ups.iter().all(|look_up| look_up["median"].as_f64() > Some(0.0)), "{look_ups:?}");
    Ok(())
}
