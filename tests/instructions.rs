//! A handshake takes no more instructions than `checks/benches/baseline.json` says; see
//! docs/performance.md.

use std::process::Command;

use testbed::{artifacts, log};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const KINDS: [&str; 4] = ["TLS 1.2 full", "TLS 1.2 resumed", "TLS 1.3 full", "TLS 1.3 resumed"];

#[test]
fn no_handshake_takes_more_instructions_than_the_baseline() -> Result<()> {
    let output = Command::new(artifacts::costs()?).arg("--check-baseline").output()?;
    let text = log::said(&output);
    assert!(output.status.success(), "{}\n{text}", output.status);
    // What depends on the OpenSSL, or on the processor, may not be comparable here; this always is.
    for kind in KINDS {
        for count in ["own", "calls"] {
            let start = format!("{kind:16} {count} ");
            assert!(text.lines().any(|line| line.starts_with(&start)), "{start}: {text}");
        }
    }
    let (_, grown) = text.split_once("in a ring that has grown").ok_or("no ring has grown")?;
    assert_eq!(grown.lines().filter(|line| line.starts_with("TLS 1.")).count(), 2 * KINDS.len());
    print!("{text}");
    Ok(())
}
