//! The table, and the same for machines.

use std::fmt::Write;
use std::fs;

use serde_json::{Value, json};

use crate::options::Options;
use crate::ratios::Series;
use crate::variant::Variant;
use crate::{Case, Result, clock, look_up};

/// Fewer rounds tell nothing.
const ENOUGH_ROUNDS: usize = 30;

const WHAT_IT_DOES_NOT_SHOW: &str = "\
What this does not show: sockets, the kernel, the client, several threads or processes, the moment
of a rotation, p99, memory, other TLS libraries than this one; nor a server that does so much else
between two handshakes that code and keys have left the caches, where any callback costs more than
keys that libssl has at hand. Each step's clock is in all numbers, which brings ratios nearer to 1.
Differences as large as those of \"built-in keys, again\" are noise.
";

/// All that was measured.
pub struct Report<'a> {
    pub options: &'a Options,
    pub handshakes: &'a [Case],
    pub look_ups: &'a look_up::Results,
}

impl Report<'_> {
    /// The tables, for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = self.write_text(&mut text);
        text
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        let Options { rounds, handshakes, .. } = self.options;
        writeln!(text, "Processor time of a handshake on the server, {}, ECDSA P-256.", tls())?;
        writeln!(text, "{rounds} rounds of {handshakes} each, in alternation.")?;
        writeln!(text, "First line: the median. Others: ratio to it, median (quartiles).\n")?;
        if *rounds < ENOUGH_ROUNDS {
            writeln!(text, "*** too few rounds to tell anything ***\n")?;
        }

        write!(text, "{:24}", "")?;
        for case in self.handshakes {
            write!(text, "{:>23}", case.name())?;
        }
        for (place, variant) in Variant::ALL.iter().enumerate() {
            write!(text, "\n{:24}", variant.name())?;
            for case in self.handshakes {
                let [base, ..] = &case.micros;
                let cell = match place {
                    0 => format!("{:.1} µs", base.median()),
                    _ => case.micros[place].over(base).ratio_text(),
                };
                write!(text, "{cell:>23}")?;
            }
        }

        write!(text, "\n\n{:24}", "Look-up of a key")?;
        for keys in look_up::KEYS {
            write!(text, "{:>23}", format!("{keys} keys"))?;
        }
        for (names, by_keys) in self.look_ups {
            write!(text, "\n{:24}", names.name())?;
            for (place, series) in by_keys.iter().enumerate() {
                let cell = match place {
                    0 => format!("{:.0} ns", series.median()),
                    _ => series.over(&by_keys[0]).ratio_text(),
                };
                write!(text, "{cell:>23}")?;
            }
        }

        let steps = self.handshakes.iter().map(|case| case.steps).max().unwrap_or(0);
        let cost = clock::own_cost();
        writeln!(text, "\n\nThe clock costs {cost:.0} ns for each of the {steps} steps.")?;
        writeln!(text, "{WHAT_IT_DOES_NOT_SHOW}")?;
        writeln!(text, "Every round's numbers are in {}.", self.options.json.display())
    }

    /// Writes the numbers of every round, for machines.
    pub fn write(&self) -> Result<()> {
        let file = &self.options.json;
        if let Some(dir) = file.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::write(file, format!("{:#}\n", self.json()))?;
        Ok(())
    }

    fn json(&self) -> Value {
        let handshakes: Vec<Value> = self.handshakes.iter().map(Case::json).collect();
        let mut look_ups = Vec::new();
        for (names, by_keys) in self.look_ups {
            for (keys, series) in look_up::KEYS.iter().zip(by_keys) {
                look_ups.push(json!({
                    "names": names.name(),
                    "keys": keys,
                    "nanoseconds": series.0,
                    "median": series.median(),
                    "ratio_to_fewest_keys": ratio(series, &by_keys[0]),
                }));
            }
        }
        json!({
            "tls_library": tls(),
            "rounds": self.options.rounds,
            "handshakes_per_round": self.options.handshakes,
            "clock_nanoseconds_per_step": clock::own_cost(),
            "handshakes": handshakes,
            "look_ups": look_ups,
        })
    }
}

impl Case {
    fn name(&self) -> String {
        format!("{} {}", self.version, if self.resumed { "resumed" } else { "full" })
    }

    fn json(&self) -> Value {
        let mut variants = Vec::new();
        for (variant, series) in Variant::ALL.iter().zip(&self.micros) {
            variants.push(json!({
                "keys": variant.name(),
                "microseconds": series.0,
                "median": series.median(),
                "ratio_to_built_in": ratio(series, &self.micros[0]),
            }));
        }
        json!({ "case": self.name(), "steps": self.steps, "variants": variants })
    }
}

fn ratio(series: &Series, base: &Series) -> Value {
    let ratio = series.over(base);
    json!({
        "median": ratio.median(),
        "quartiles": [ratio.quantile(0.25), ratio.quantile(0.75)],
        "extremes": [ratio.quantile(0.0), ratio.quantile(1.0)],
    })
}

fn tls() -> &'static str {
    openssl::version::version()
}
