//! `make soak MINUTES=n`: see [`testbed::soak`]. Writes `target/soak/SEED.json` and `.svg`; exit
//! status 0 only if no handshake failed, no ticket was lost and nothing grew.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use testbed::artifacts;
use testbed::soak::{self, Plan};

fn main() -> ExitCode {
    match run() {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(problems) => {
            for problem in problems {
                eprintln!("soak: {problem}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns what went wrong.
fn run() -> Result<Vec<String>> {
    let plan = plan()?;
    println!("seed {} (make soak SEED={0} draws the same)", plan.seed);
    let report = soak::run(&plan)?;
    print!("{report}");
    let dir: PathBuf = artifacts::target_dir().join("soak");
    fs::create_dir_all(&dir)?;
    let file = dir.join(plan.seed.to_string());
    fs::write(file.with_extension("json"), serde_json::to_string_pretty(&report.json())? + "\n")?;
    fs::write(file.with_extension("svg"), report.plot()?)?;
    println!("{0}.json, {0}.svg", file.display());
    Ok(report.problems())
}

/// The command line: `--minutes N`, `--handshakes N`, `--seed N`, all optional; an empty value is
/// none, as make passes it.
fn plan() -> Result<Plan> {
    let mut plan = Plan {
        duration: Duration::from_secs(60),
        handshakes: u64::MAX,
        seed: fastrand::u64(..1_000_000_000),
        threads: 8,
        sample_every: Duration::from_secs(1),
        talks: true,
    };
    let mut arguments = env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} needs a value"))?;
        if value.is_empty() {
            continue;
        }
        let invalid = || format!("{name} takes a number, not {value}");
        match &*name {
            "--minutes" => {
                let minutes: f64 = value.parse().with_context(invalid)?;
                plan.duration =
                    Duration::try_from_secs_f64(minutes * 60.0).with_context(invalid)?;
            }
            "--handshakes" => plan.handshakes = value.parse().with_context(invalid)?,
            "--seed" => plan.seed = value.parse().with_context(invalid)?,
            _ => bail!("{name}: there are --minutes, --handshakes and --seed"),
        }
    }
    Ok(plan)
}
