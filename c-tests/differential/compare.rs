//! Runs the differential test, and compares what it writes with and without libtktrot. Each
//! difference must be one that `expected.txt` explains, and whatever that explains must be there.
//!
//! Used by `tests/differential.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::path::Path;
use std::process::Command;

/// How the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Without libtktrot.
    Bare,
    /// Under the shim.
    Preloaded,
    /// Linked with the library, which it installs on each context.
    Linked,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Bare => "bare",
            Mode::Preloaded => "preloaded",
            Mode::Linked => "linked",
        }
    }
}

/// What is run, for one TLS library.
#[derive(Clone, Copy, Debug)]
pub struct Programs<'a> {
    pub bare: &'a Path,
    pub linked: &'a Path,
    pub shim: &'a Path,
    /// OpenSSL's, if it is not the system's.
    pub configuration: Option<&'a Path>,
}

impl Programs<'_> {
    /// Runs all scenarios with rings in a directory of their own.
    pub fn run(&self, mode: Mode, rings: &Path, is_brief: bool) -> Result<Written, String> {
        let mut command = Command::new(if mode == Mode::Linked { self.linked } else { self.bare });
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C");
        command.env("TKTROT_DIR", rings).env("TKTROT_RING", "differential");
        if mode == Mode::Preloaded {
            command.env("LD_PRELOAD", self.shim);
        }
        command.envs(self.configuration.map(|file| ("OPENSSL_CONF", file)));
        if is_brief {
            command.env("C_TESTS_BRIEF", "1");
        }
        let output =
            command.output().map_err(|error| format!("cannot run {command:?}: {error}"))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("{command:?}: {}\n{errors}", output.status));
        }
        Written::parse(&String::from_utf8_lossy(&output.stdout))
    }
}

/// What a run wrote: the lines of each scenario.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    scenarios: Vec<(String, Vec<(String, String)>)>,
}

impl Written {
    pub fn parse(output: &str) -> Result<Self, String> {
        let mut scenarios: Vec<(String, Vec<(String, String)>)> = Vec::new();
        for line in output.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                scenarios.push((name.into(), Vec::new()));
                continue;
            }
            let (scenario, lines) = scenarios.last_mut().ok_or("a line before any scenario")?;
            let (key, value) =
                line.split_once(": ").ok_or_else(|| format!("{scenario}: no key: {line}"))?;
            if lines.iter().any(|(other, _)| other == key) {
                return Err(format!("{scenario}: {key} is there twice"));
            }
            lines.push((key.into(), value.into()));
        }
        Ok(Written { scenarios })
    }

    /// What could not run: that is a defect of the test.
    pub fn cannot_run(&self) -> Vec<String> {
        let reasons = self.scenarios.iter().flat_map(|(scenario, lines)| {
            let broken = |key: &str| key == "cannot run" || key == "ended by";
            let lines = lines.iter().filter(move |(key, _)| broken(key));
            lines.map(move |(key, value)| format!("{scenario}: {key}: {value}"))
        });
        let count = self.scenarios.len();
        reasons.chain((count < FEWEST).then(|| format!("only {count} scenarios"))).collect()
    }

    /// The scenarios that the TLS library has nothing for, as they say themselves.
    fn absent(&self) -> BTreeSet<&str> {
        let says_so = |(key, value): &(String, String)| key == "scenario" && value == ABSENT;
        let absent = self.scenarios.iter().filter(|(_, lines)| lines.iter().any(says_so));
        absent.map(|(name, _)| name.as_str()).collect()
    }

    fn of(&self, scenario: &str) -> Option<&[(String, String)]> {
        let found = self.scenarios.iter().find(|(name, _)| name == scenario);
        found.map(|(_, lines)| &lines[..])
    }
}

/// A line that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    scenario: String,
    key: String,
    bare: String,
    other: String,
}

/// There are more, and none is to get lost.
const FEWEST: usize = 200;

/// What a scenario says that cannot be.
const ABSENT: &str = "not in this version";

const NO_LINE: &str = "(no line)";

impl Difference {
    /// What is no longer there, and what is there instead, of the words of a line.
    fn change(&self) -> String {
        let words = |line: &str| line.split(", ").map(String::from).collect::<Vec<_>>();
        let [mut gone, mut new] = [words(&self.bare), words(&self.other)];
        // Words that moved are a change, too.
        let kept = common(&gone, &new);
        for list in [&mut gone, &mut new] {
            let mut next = kept.iter().peekable();
            list.retain(|word| {
                let is_kept = next.peek() == Some(&word);
                if is_kept {
                    next.next();
                }
                !is_kept
            });
        }
        let text = |list: Vec<String>| if list.is_empty() { "-".into() } else { list.join(", ") };
        format!("{} => {}", text(gone), text(new))
    }
}

/// The longest list of words that both have, in this order.
fn common(one: &[String], other: &[String]) -> Vec<String> {
    let mut longest = vec![vec![0; other.len() + 1]; one.len() + 1];
    for i in (0..one.len()).rev() {
        for k in (0..other.len()).rev() {
            longest[i][k] = if one[i] == other[k] {
                longest[i + 1][k + 1] + 1
            } else {
                longest[i + 1][k].max(longest[i][k + 1])
            };
        }
    }
    let (mut i, mut k, mut found) = (0, 0, Vec::new());
    while i < one.len() && k < other.len() {
        if one[i] == other[k] {
            found.push(one[i].clone());
            (i, k) = (i + 1, k + 1);
        } else if longest[i + 1][k] >= longest[i][k + 1] {
            i += 1;
        } else {
            k += 1;
        }
    }
    found
}

/// Where two runs differ. Of a connection that was full and is resumed, or the reverse, that alone is
/// said: what it sent and what its sides know follows from it. But not what it left behind.
pub fn differences(bare: &Written, other: &Written) -> Vec<Difference> {
    let mut found = Vec::new();
    let names: BTreeSet<_> =
        [bare, other].iter().flat_map(|run| run.scenarios.iter().map(|(name, _)| name)).collect();
    for scenario in names {
        let [of_bare, of_other] = [bare, other].map(|run| run.of(scenario).unwrap_or_default());
        let value = |lines: &[(String, String)], key: &str| {
            let line = lines.iter().find(|(other, _)| other == key);
            line.map_or(NO_LINE.to_owned(), |(_, value)| value.clone())
        };
        let mut keys: Vec<&String> = of_bare.iter().map(|(key, _)| key).collect();
        keys.extend(of_other.iter().map(|(key, _)| key));
        let mut seen = BTreeSet::new();
        let keys = keys.into_iter().filter(|key| seen.insert(*key)).collect::<Vec<_>>();
        let differ = keys.iter().map(|key| Difference {
            scenario: scenario.clone(),
            key: (*key).clone(),
            bare: value(of_bare, key),
            other: value(of_other, key),
        });
        let differ: Vec<_> = differ.filter(|line| line.bare != line.other).collect();
        let went_otherwise: Vec<_> = differ.iter().filter(|line| is_another_way(line)).collect();
        let follows = |line: &Difference| {
            went_otherwise.iter().any(|way| {
                line.key.strip_prefix(&way.key).is_some_and(|rest| rest.starts_with(", "))
            }) && !leaves_something(line)
        };
        found.extend(differ.iter().filter(|line| !follows(line)).cloned());
    }
    found
}

fn is_another_way(line: &Difference) -> bool {
    let is_way = |value: &str| matches!(value, "full" | "resumed");
    is_way(&line.other) && (is_way(&line.bare) || line.bare == "failed")
}

/// Errors, alerts, and whatever calls leave that are no part of a handshake.
fn leaves_something(line: &Difference) -> bool {
    let is_handshake = [
        "calls of the server",
        "calls of the client",
        "events",
        "server",
        "client",
        "SSL_shutdown",
    ];
    let is_handshake = is_handshake.iter().any(|what| line.key.ends_with(&format!(", {what}")))
        || line.key.ends_with(" session")
        || line.key.ends_with(" sessions");
    let trace = ["queue", "alert", "own error", "changed", "ssl"];
    let words = line.other.split(", ");
    let mut errno = words.filter_map(|word| Some(word.split_once(" errno ")?.1));
    !is_handshake
        || trace.iter().any(|word| line.other.contains(word))
            && !line.key.ends_with("server's session")
        || errno.any(|value| value != "0")
}

/// What `expected.txt` says.
///
/// ```text
/// ## the reason
/// # more of it
/// a_scenario/* another | preloaded linked | all
///     key: WORDS THAT ARE GONE => WORDS THAT ARE NEW
/// a_third/* | not in this version | a-library
/// ```
#[derive(Debug)]
pub struct Expected {
    entries: Vec<Entry>,
    /// A library, and a scenario that it has nothing for.
    absent: BTreeSet<(String, String)>,
}

#[derive(Debug)]
struct Entry {
    scenario: String,
    modes: Vec<String>,
    libraries: Vec<String>,
    key: String,
    change: String,
    reason: String,
}

impl Entry {
    fn is_for(&self, library: &str, mode: Mode) -> bool {
        let is_all = |name: &String| name == "all" || name == library;
        self.modes.iter().any(|name| name == mode.name()) && self.libraries.iter().any(is_all)
    }
}

impl Expected {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut entries, mut absent) = (Vec::new(), BTreeSet::new());
        let (mut reason, mut heads) = ("", Vec::new());
        let mut of: (Vec<String>, Vec<String>) = Default::default();
        for (number, line) in text.lines().enumerate() {
            let wrong = |what: &str| format!("expected.txt:{}: {what}: {line}", number + 1);
            if let Some(title) = line.strip_prefix("## ") {
                (reason, heads) = (title, Vec::new());
            } else if line.is_empty() || line.starts_with('#') {
            } else if let Some(change) = line.strip_prefix("    ") {
                let (key, change) = change.split_once(": ").ok_or_else(|| wrong("no key"))?;
                if !change.contains(" => ") || heads.is_empty() || reason.is_empty() {
                    return Err(wrong("no change, no scenario or no reason"));
                }
                entries.extend(heads.iter().map(|scenario: &String| Entry {
                    scenario: scenario.clone(),
                    modes: of.0.clone(),
                    libraries: of.1.clone(),
                    key: key.into(),
                    change: change.into(),
                    reason: reason.into(),
                }));
            } else {
                let parts: Vec<_> = line.split(" | ").collect();
                let [scenarios, modes, libraries] = parts[..] else {
                    return Err(wrong("not `scenarios | modes | libraries`"));
                };
                let words = |part: &str| part.split(' ').map(String::from).collect::<Vec<_>>();
                let both = |name: String| match name.strip_suffix("/*") {
                    Some(name) => vec![format!("{name}/1.2"), format!("{name}/1.3")],
                    None => vec![name],
                };
                heads = words(scenarios).into_iter().flat_map(both).collect();
                if modes == ABSENT {
                    let heads = std::mem::take(&mut heads);
                    let pairs =
                        |name: String| heads.iter().map(move |head| (name.clone(), head.clone()));
                    absent.extend(words(libraries).into_iter().flat_map(pairs));
                } else {
                    of = (words(modes), words(libraries));
                }
            }
        }
        Ok(Expected { entries, absent })
    }

    /// Whether the scenarios that the library has nothing for are those that are listed: one that
    /// says so everywhere would show no difference any more.
    pub fn check_absent(&self, library: &str, bare: &Written) -> Result<(), String> {
        let listed = self.absent.iter().filter(|(name, _)| name == library);
        let listed: BTreeSet<&str> = listed.map(|(_, scenario)| scenario.as_str()).collect();
        let absent = bare.absent();
        let only = |one: &BTreeSet<&str>, other: &BTreeSet<&str>| {
            one.difference(other).copied().collect::<Vec<_>>().join(" ")
        };
        let (new, gone) = (only(&absent, &listed), only(&listed, &absent));
        match new.is_empty() && gone.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "{library}: {ABSENT}, and not listed: {new}; listed, and there: {gone}"
            )),
        }
    }

    /// Whether the differences are those that are explained, all of them and no others; if not, says
    /// which, to be read.
    pub fn check(&self, library: &str, mode: Mode, found: &[Difference]) -> Result<(), String> {
        let is_absent =
            |entry: &Entry| self.absent.contains(&(library.to_owned(), entry.scenario.clone()));
        let entries = self.entries.iter();
        let entries = entries.filter(|entry| entry.is_for(library, mode) && !is_absent(entry));
        let mut open: BTreeMap<_, _> = entries
            .map(|entry| ((&*entry.scenario, &*entry.key, entry.change.clone()), &entry.reason))
            .collect();
        let mut said = String::new();
        for line in found {
            if open.remove(&(&*line.scenario, &*line.key, line.change())).is_none() {
                let _ = write!(said, "\n{}", Unexplained { line, mode });
            }
        }
        for ((scenario, key, change), reason) in open {
            let _ = write!(
                said,
                "\n{scenario}\n    {key}: {change}\n    is explained ({reason}), and is not so\n"
            );
        }
        if said.is_empty() { Ok(()) } else { Err(format!("{library}, {}:\n{said}", mode.name())) }
    }
}

struct Unexplained<'a> {
    line: &'a Difference,
    mode: Mode,
}

impl fmt::Display for Unexplained<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { scenario, key, bare, other } = self.line;
        writeln!(to, "{scenario}\n    {key}: {}", self.line.change())?;
        writeln!(to, "    bare:      {bare}\n    {:<10} {other}", format!("{}:", self.mode.name()))
    }
}
