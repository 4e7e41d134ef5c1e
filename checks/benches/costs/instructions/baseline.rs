//! The counts that are checked in, and the comparison with them.
//!
//! What is compared depends on what the baseline has in common with this machine. Our own part, and
//! how often we call into the TLS library, is the same with every OpenSSL, so it is compared
//! always. Whole counts are the TLS library's above all, and change with each of its versions, and
//! with the processor, for which it chooses code: they are compared where both are the baseline's.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use testbed::artifacts;

use super::callgrind::Profile;
use crate::Result;
use crate::ratios::Series;

/// What may be more, or has to be less to be worth a new baseline.
const TOLERANCE: f64 = 0.01;
/// The same for our own part when another compiler made it.
const OTHER_COMPILER: f64 = 0.10;

/// How our library's file name begins.
const US: &str = "libtktrot";

/// Counts of one handshake.
#[derive(Clone, Copy)]
pub struct Counts {
    /// Instructions of libtktrot's own code.
    own: f64,
    /// Calls from libtktrot into libcrypto and libssl.
    calls: f64,
    /// Instructions from libssl's calls into libtktrot to their returns, libcrypto's included.
    callback: f64,
    /// All instructions of the server.
    whole: f64,
}

/// The counts of each kind of handshake, and with what they were counted.
pub struct Baseline {
    pub tls_library: String,
    pub processor: String,
    pub compiler: String,
    pub cases: BTreeMap<String, Counts>,
}

/// What a comparison came to.
pub struct Comparison {
    pub text: String,
    /// How many counts have grown by more than is allowed.
    pub grown: usize,
}

impl Counts {
    const NAMES: [&'static str; 4] = ["own", "calls", "callback", "whole"];

    /// The medians of handshakes of one kind.
    pub fn median(profiles: &[Profile]) -> Result<Counts> {
        let mut all = [const { Series(Vec::new()) }; 4];
        for profile in profiles {
            let calls = ["libcrypto", "libssl"].map(|library| profile.calls(US, library).count);
            let callback = profile.calls("libssl", US).instructions;
            let counts = [profile.own(US), calls.iter().sum(), callback, profile.total()];
            if counts.contains(&0) {
                return Err("libtktrot was not seen at work".into());
            }
            all.iter_mut().zip(counts).for_each(|(all, count)| all.0.push(count as f64));
        }
        let [own, calls, callback, whole] = all.map(|counts| counts.median());
        Ok(Counts { own, calls, callback, whole })
    }

    fn values(self) -> [f64; 4] {
        [self.own, self.calls, self.callback, self.whole]
    }

    fn least(self, other: Counts) -> Counts {
        Counts {
            own: self.own.min(other.own),
            calls: self.calls.min(other.calls),
            callback: self.callback.min(other.callback),
            whole: self.whole.min(other.whole),
        }
    }
}

impl Baseline {
    /// Of each count the lesser one.
    pub fn least(mut self, other: &Baseline) -> Baseline {
        for (name, counts) in &mut self.cases {
            *counts = other.cases.get(name).map_or(*counts, |other| counts.least(*other));
        }
        self
    }

    /// Reads the file.
    pub fn read() -> Result<Baseline> {
        let content: Value = serde_json::from_slice(&fs::read(file())?)?;
        let text = |name: &str| -> Result<String> {
            let found = content[name].as_str().ok_or_else(|| format!("no {name:?}"))?;
            Ok(found.to_owned())
        };
        let mut cases = BTreeMap::new();
        for (case, counts) in content["cases"].as_object().ok_or("no \"cases\"")? {
            let mut values = [0.0; 4];
            for (value, name) in values.iter_mut().zip(Counts::NAMES) {
                *value = counts[name].as_f64().ok_or_else(|| format!("{case}: no {name:?}"))?;
            }
            let [own, calls, callback, whole] = values;
            cases.insert(case.clone(), Counts { own, calls, callback, whole });
        }
        let (tls_library, processor) = (text("tls_library")?, text("processor")?);
        Ok(Baseline { tls_library, processor, compiler: text("compiler")?, cases })
    }

    /// Writes the file.
    pub fn write(&self) -> Result<()> {
        let cases: BTreeMap<_, _> = self
            .cases
            .iter()
            .map(|(case, counts)| {
                let values = Counts::NAMES.into_iter().zip(counts.values());
                (case, values.collect::<BTreeMap<_, _>>())
            })
            .collect();
        let content = json!({
            "about": "instructions of the server for one handshake; written by: make bench-baseline",
            "tls_library": self.tls_library,
            "processor": self.processor,
            "compiler": self.compiler,
            "cases": cases,
        });
        Ok(fs::write(file(), format!("{content:#}\n"))?)
    }

    /// The counts, for people.
    pub fn text(&self) -> String {
        let mut text = format!("{}, {}\n", self.tls_library, self.compiler);
        for (case, counts) in &self.cases {
            let _ = write!(text, "{case:16}");
            for (name, value) in Counts::NAMES.into_iter().zip(counts.values()) {
                let _ = write!(text, "{name:>10} {value:<10.1}");
            }
            text.push('\n');
        }
        text
    }

    /// Compares what was counted just before with the same library.
    pub fn beside(&self, other: &Baseline) -> Comparison {
        let mut result = Comparison { text: String::new(), grown: 0 };
        for (case, base) in &self.cases {
            let Some(counts) = other.cases.get(case) else { continue };
            // What the TLS library does depends on random numbers.
            result.note(case, "own", base.own, counts.own, TOLERANCE);
            result.note(case, "calls", base.calls, counts.calls, TOLERANCE);
        }
        result
    }

    /// Compares what was counted now.
    pub fn compare(&self, now: &Baseline) -> Comparison {
        let mut result = Comparison { text: String::new(), grown: 0 };
        let same_library = self.tls_library == now.tls_library && self.processor == now.processor;
        let same_compiler = self.compiler == now.compiler;
        if !same_library {
            let (was, is) = (&self.tls_library, &now.tls_library);
            let _ = writeln!(
                result.text,
                "the baseline is of {was} on {}, this is {is} on {}: \"callback\" and \"whole\" are \
                 not compared",
                self.processor, now.processor
            );
        }
        if !same_compiler {
            let (was, is, percent) = (&self.compiler, &now.compiler, OTHER_COMPILER * 100.0);
            let _ = writeln!(
                result.text,
                "the baseline is of {was}, this is {is}: \"own\" may differ by {percent:.0} %"
            );
        }
        for (case, base) in &self.cases {
            let Some(counts) = now.cases.get(case) else {
                let _ = writeln!(result.text, "{case}: not counted");
                result.grown += 1;
                continue;
            };
            let pairs = base.values().into_iter().zip(counts.values());
            for (name, (base, value)) in Counts::NAMES.into_iter().zip(pairs) {
                let tolerance = match name {
                    "own" if !same_compiler => OTHER_COMPILER,
                    "callback" | "whole" if !same_library => continue,
                    _ => TOLERANCE,
                };
                result.note(case, name, base, value, tolerance);
            }
        }
        result
    }
}

impl Comparison {
    fn note(&mut self, case: &str, name: &str, base: f64, value: f64, tolerance: f64) {
        let change = value / base - 1.0;
        let verdict = if change > tolerance {
            self.grown += 1;
            "GROWN"
        } else if change < -tolerance {
            "smaller: make bench-baseline"
        } else {
            "as it was"
        };
        let percent = change * 100.0;
        let _ = writeln!(
            self.text,
            "{case:16} {name:9} {base:>11.1} -> {value:>11.1} {percent:>+7.2} %  {verdict}"
        );
    }
}

fn file() -> PathBuf {
    artifacts::root().join("checks/benches/baseline.json")
}
