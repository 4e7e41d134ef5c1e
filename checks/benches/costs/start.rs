//! What the shim costs a program that has no TLS at all.

use std::path::Path;
use std::process::Command;

use testbed::artifacts;

use crate::options::Options;
use crate::ratios::Series;
use crate::section::{Goal, Group, Section, Thing, Wanted};
use crate::{Result, alternation, clock};

const PROGRAM: &str = "/bin/true";

pub fn measure(options: &Options) -> Result<Section> {
    let starts = options.unless_quick(20, 2);
    let mut ways = [None, Some(artifacts::shim()?)];
    let values = alternation::measure(options.rounds, &mut ways, |shim| run(*shim, starts))?;
    let more = values[1].0.iter().zip(&values[0].0).map(|(with, without)| with - without);
    let more = Series(more.collect());
    let goals = vec![Goal {
        what: "start of /bin/true with the shim",
        wanted: Wanted::AtMost(0.2),
        measured: more.clone(),
        unit: "ms more",
    }];
    let names = ["without the shim", "with the shim"];
    let mut group = Group::compared("one start", "ms", names, values);
    group.things.push(Thing { name: "more".to_owned(), values: more, ratios: None });
    let about = format!(
        "Processor time, user and system, of a process that runs {PROGRAM}, the mean of {starts}."
    );
    Ok(Section { name: "start", about, groups: vec![group], goals, curves: Vec::new() })
}

/// Milliseconds of one start.
fn run(shim: Option<&Path>, starts: usize) -> Result<f64> {
    let before = clock::children_micros();
    for _ in 0..starts {
        let mut command = Command::new(PROGRAM);
        command.env_clear();
        if let Some(shim) = shim {
            command.env("LD_PRELOAD", shim);
        }
        if !command.status()?.success() {
            return Err(format!("{PROGRAM} failed").into());
        }
    }
    Ok((clock::children_micros() - before) as f64 / 1000.0 / starts as f64)
}
