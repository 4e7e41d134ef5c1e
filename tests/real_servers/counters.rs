//! What `tktrot status --json` counts.

use std::path::Path;

use serde_json::Value;
use testbed::environment::Environment;
use testbed::{artifacts, log};

use crate::Result;
use crate::visitor::Tally;

/// The figures of a ring.
#[derive(Debug)]
pub struct Counters {
    all: Value,
    resumed: u64,
}

impl Counters {
    /// Those of the only ring in `dir`, which has to have this name.
    pub fn of(dir: &Path, name: &str) -> Result<Counters> {
        let mut environment = Environment::default();
        environment.set("TKTROT_DIR", &dir.display().to_string());
        let mut command = environment.command(artifacts::tktrot()?);
        let output = command.args(["--config", "/dev/null", "status", "--json"]).output()?;
        let document: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("{error}: {}", log::said(&output)))?;
        let rings = document["rings"].as_array().ok_or("no rings")?;
        let [ring] = &rings[..] else { return Err(format!("not one ring: {document}").into()) };
        let path = ring["path"].as_str().ok_or("no path")?;
        assert_eq!(Path::new(path), dir.join(format!("{name}.ring")));
        let resumed = ring["resumed"].as_u64().ok_or("not how many were resumed")?;
        Ok(Counters { all: ring["counters"].clone(), resumed })
    }

    fn sum(&self, counters: &[&str]) -> u64 {
        counters.iter().map(|&counter| self.all[counter].as_u64().expect(counter)).sum()
    }

    /// What clients should have seen.
    pub fn tally(&self) -> Tally {
        Tally { tickets: self.sum(&["issued"]), resumed: self.resumed }
    }
}
