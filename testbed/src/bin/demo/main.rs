//! `make demo`: a stock nginx under the shim, and the same nginx without it, side by side.
//!
//! Both live through the same phases with the same visitors: several rotations, a reload, a restart.
//! The exit status is 0 only if, under the shim, no ticket was lost and none outlived its key.

mod interrupt;
mod side;
mod table;

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use anyhow::Result;
use testbed::RingDir;
use testbed::load::{Promise, Report};
use testbed::nginx::Nginx;

use side::{LIFETIME, PHASES, Phase, ROTATE, Side};

/// A run with fewer keys than this shows no rotation worth the name.
const MIN_KEYS: usize = 5;

fn main() -> ExitCode {
    let interrupted = interrupt::watch();
    match interrupted.and_then(|()| run()) {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(problems) => {
            for problem in problems {
                eprintln!("demo: {problem}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs both sides, prints the table, returns what went wrong.
fn run() -> Result<Vec<String>> {
    let ring = RingDir::new()?;
    let with = Nginx::builder().rotating(&ring, ROTATE, LIFETIME)?.prepare()?;
    let without = Nginx::builder().prepare()?;
    // nginx' own default, as nothing in its configuration speaks of sessions.
    let nginx_lifetime = std::time::Duration::from_secs(300);
    let mut with = Side::new(with, Promise::rotating(ROTATE, LIFETIME))?;
    let mut without = Side::new(without, Promise::constant(nginx_lifetime))?;

    table::print_head();
    let (left, right) = (mpsc::channel(), mpsc::channel());
    let (left_result, right_result) = thread::scope(|scope| {
        let with_thread = scope.spawn(|| with.run(left.0));
        let without_thread = scope.spawn(|| without.run(right.0));
        // A side that fails hangs up, and the table ends there.
        for ((phase, left), (_, right)) in left.1.iter().zip(right.1.iter()) {
            table::print_phase(phase, &left, &right);
        }
        let joined = "a side reports its errors and does not panic";
        (with_thread.join().expect(joined), without_thread.join().expect(joined))
    });
    let mut problems = Vec::new();
    for (name, result) in [("with", left_result), ("without", right_result)] {
        if let Err(error) = result {
            problems.push(format!("nginx {name} libtktrot: {error:#}"));
        }
    }
    if problems.is_empty() {
        problems = verdict(&with, &without);
    }
    if problems.is_empty() {
        table::print_proof(&with, &without);
    } else if !interrupt::requested() {
        with.keep_logs(&mut problems);
    }
    Ok(problems)
}

/// What speaks against the claim of the last line.
fn verdict(with: &Side, without: &Side) -> Vec<String> {
    let mut problems = Vec::new();
    let mut demand = |holds: bool, problem: &str| {
        if !holds {
            problems.push(problem.to_owned());
        }
    };
    let total = with.report().total();
    demand(with.reports().len() == PHASES, "not all phases were run");
    demand(total.unexpected_full == 0, "tickets were lost under the shim");
    demand(total.failed() == 0, "connections failed under the shim");
    demand(total.overdue == 0, "tickets resumed after the end of their key");
    demand(total.without_ticket == 0, "handshakes brought no ticket");
    demand(with.keys() >= MIN_KEYS, "the keys did not rotate often enough");
    for version in testbed::client::TlsVersion::ALL {
        let crossed = with.report().of(version).across_keys > 0;
        demand(crossed, &format!("no {version} ticket was seen to cross a rotation"));
    }
    let carried = |side: &Side, wanted| {
        let of_phase = side.reports().iter().filter(|(phase, _)| *phase == wanted);
        of_phase.map(|(_, report): &(Phase, Report)| report.total().carried).sum::<u64>()
    };
    demand(carried(with, Phase::Reload) > 0, "no ticket survived the reload");
    demand(carried(with, Phase::Restart) > 0, "no ticket survived the restart");
    demand(
        without.report().total().unexpected_full > 0,
        "nginx without the shim lost no ticket either, so this run proves nothing",
    );
    if !problems.is_empty() {
        problems.push(format!("under the shim:\n{}", with.report()));
    }
    problems
}
