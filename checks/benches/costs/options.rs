//! The command line.

use std::path::PathBuf;

use testbed::artifacts;

use crate::Result;
use crate::servers::Keys;

/// What to do, and how much of it.
pub struct Options {
    pub task: Task,
    /// Rounds that are compared.
    pub rounds: usize,
    /// Handshakes of each kind and variant in a round, whose median counts; what else is repeated
    /// in a round is a multiple of it.
    pub handshakes: usize,
    /// Everything once, little of it: whether it works, not how fast it is.
    pub quick: bool,
    /// Of how many kinds of handshakes the instructions are counted.
    pub kinds: usize,
    /// The directory of the ring of which they are counted, if it is there already.
    pub ring: Option<PathBuf>,
    /// What is measured with is not the system's OpenSSL.
    pub other_library: bool,
    /// The names of the measurements to do; empty for all.
    pub only: Vec<String>,
    /// Where numbers and plots go.
    pub out: PathBuf,
}

/// What to do.
#[derive(PartialEq, Eq)]
pub enum Task {
    /// Measures times.
    Measure,
    /// Counts instructions and compares them with the baseline.
    CheckBaseline,
    /// Counts instructions and writes the baseline.
    WriteBaseline,
    /// Does what is counted, with those keys; see [`crate::instructions`].
    BeCounted(Keys),
}

const KNOWN: &str = "--rounds N, --handshakes N, --quick, --only NAME, --out DIR, \
                     --other-library, --check-baseline, --write-baseline";

impl Options {
    /// Reads the arguments.
    pub fn from_args(arguments: impl IntoIterator<Item = String>) -> Result<Options> {
        let mut arguments = arguments.into_iter();
        let mut options = Options {
            task: Task::Measure,
            rounds: 40,
            handshakes: 15,
            quick: false,
            kinds: usize::MAX,
            ring: None,
            other_library: false,
            only: Vec::new(),
            out: PathBuf::new(),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} takes a value"));
            match argument.as_str() {
                "--rounds" => options.rounds = count(&value()?)?,
                "--handshakes" => options.handshakes = count(&value()?)?,
                "--quick" => {
                    (options.quick, options.rounds, options.handshakes) = (true, 1, 2);
                }
                "--other-library" => options.other_library = true,
                "--only" => options.only.push(value()?),
                "--out" => options.out = value()?.into(),
                "--check-baseline" => options.task = Task::CheckBaseline,
                "--write-baseline" => options.task = Task::WriteBaseline,
                "--be-counted" => options.task = Task::BeCounted(Keys::named(&value()?)?),
                "--ring" => options.ring = Some(value()?.into()),
                "--kinds" => options.kinds = count(&value()?)?,
                _ => return Err(format!("unknown argument {argument}; known are {KNOWN}").into()),
            }
        }
        if options.out.as_os_str().is_empty() && options.task == Task::Measure {
            options.out = artifacts::target_dir().join("bench");
        }
        Ok(options)
    }

    /// This many, or for a quick run as few as it takes.
    pub fn unless_quick(&self, many: usize, few: usize) -> usize {
        if self.quick { few } else { many }
    }
}

fn count(text: &str) -> Result<usize> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(format!("{text} is not a number from 1").into()),
    }
}
