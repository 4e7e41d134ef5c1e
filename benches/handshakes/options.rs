//! The command line.

use std::path::PathBuf;

use testbed::artifacts;

use crate::Result;

/// How much is measured.
pub struct Options {
    /// Rounds that are compared.
    pub rounds: usize,
    /// Handshakes of each kind and variant in a round, whose median counts.
    pub handshakes: usize,
    /// Where the numbers go.
    pub json: PathBuf,
}

impl Options {
    /// Reads the arguments.
    pub fn from_args(arguments: impl IntoIterator<Item = String>) -> Result<Options> {
        let mut arguments = arguments.into_iter();
        let mut options = Options {
            rounds: 60,
            handshakes: 15,
            json: artifacts::target()?.join("bench/handshakes.json"),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} takes a value"));
            match argument.as_str() {
                "--rounds" => options.rounds = count(&value()?)?,
                "--handshakes" => options.handshakes = count(&value()?)?,
                "--json" => options.json = value()?.into(),
                // What cargo says to every benchmark.
                "--bench" => {}
                _ => {
                    let known = "--rounds N, --handshakes N, --json FILE";
                    return Err(format!("unknown argument {argument}; known are {known}").into());
                }
            }
        }
        Ok(options)
    }
}

fn count(text: &str) -> Result<usize> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(format!("{text} is not a number from 1").into()),
    }
}
