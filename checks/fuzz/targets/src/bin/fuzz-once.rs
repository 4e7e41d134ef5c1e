//! `fuzz-once TARGET FILE...`: calls a target with each file, as the fuzzer would.

use std::process::ExitCode;

use fuzz_targets::TARGETS;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let Some((_, target)) = TARGETS.iter().find(|(other, _)| *other == name) else {
        let names = TARGETS.map(|(name, _)| name).join(", ");
        eprintln!("fuzz-once TARGET FILE...; the targets are {names}");
        return ExitCode::from(2);
    };
    for file in arguments {
        match std::fs::read(&file) {
            Ok(bytes) => println!("{file}: {}", if target(&bytes) { "taken" } else { "refused" }),
            Err(error) => {
                eprintln!("{file}: {error}");
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::SUCCESS
}
