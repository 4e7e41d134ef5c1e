//! The settings file: what the environment variables say, for a whole host.
//!
//! ```toml
//! rotate = "1h"          # TKTROT_ROTATE
//! dir = "/run/tktrot"    # TKTROT_DIR
//! ```
//!
//! Its sections are for `tktrot agent`: [`tktrot_fleet::config`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tktrot::config::values::Written;
use tktrot::config::{BadValue, Config, misspelt};
use tktrot_fleet::config::flaw::Flaw;
use tktrot_fleet::config::{Config as FleetConfig, SECTIONS};
use toml::Spanned;

/// Where the file lies unless another one is named.
pub const DEFAULT: &str = "/etc/tktrot/tktrot.toml";

/// A setting that is a variable, too.
pub struct Setting {
    /// The variable's, without `TKTROT_` and in lower case.
    pub name: &'static str,
    /// What it sets, for the man pages.
    pub what: &'static str,
}

impl Setting {
    pub fn variable(&self) -> String {
        variable(self.name)
    }
}

fn variable(name: &str) -> String {
    format!("TKTROT_{}", name.to_uppercase())
}

const fn setting(name: &'static str, what: &'static str) -> Setting {
    Setting { name, what }
}

/// All that are variables, too.
pub const SETTINGS: [Setting; 14] = [
    setting("ring", "name or absolute path of the ring; by default the name of the program"),
    setting("dir", "the directory of rings, on tmpfs"),
    setting("capacity", "the most keys in the ring, 8 to 16384 (default 16384)"),
    setting("rotate", "how long a key encrypts, up to 24h: 30s, 10m, 1h (default 1h)"),
    setting(
        "lifetime",
        "how long a ticket lives, up to 7d; by default as long as the server's sessions",
    ),
    setting("label", "label of the service; a ticket with another label does not open"),
    setting("bind", "what tickets are bound to: none, or some of cert,verify,sni (default all)"),
    setting("renew", "answer a used ticket with a new one: auto, always or never (default auto)"),
    setting("takeover", "replace a server's own ticket keys: yes or no (default yes)"),
    setting("only", "the programs to serve, separated by commas (default all)"),
    setting("upkeep", "who rotates when no handshake happens: thread or callback (default thread)"),
    setting("log", "stderr, syslog, none or a path (default stderr)"),
    setting(
        "strict",
        "stop the server at its start, with status 78, if anything is wrong: 1 or 0 (default 0)",
    ),
    setting("disable", "do nothing: 1 or 0 (default 0)"),
];

fn is_setting(name: &str) -> bool {
    names().any(|setting| setting == name)
}

fn names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|setting| setting.name)
}

/// What holds for all commands.
#[derive(Clone)]
pub struct Settings {
    /// What the file sets, as variables: `TKTROT_ROTATE` and so on.
    pub variables: Vec<(OsString, OsString)>,
    /// The same, overridden by the environment.
    pub config: Config,
    /// The sections of the file, which are for the agent.
    pub fleet: FleetConfig,
    /// Values of which others apply, as near as can be: where they are, and which.
    pub doubts: Vec<String>,
}

/// What a settings file says.
#[derive(Debug, Default)]
pub struct Contents {
    /// As variables: `TKTROT_ROTATE` and so on.
    pub variables: Vec<(OsString, OsString)>,
    /// The sections.
    pub fleet: FleetConfig,
    /// Values of which others apply, each with its variable.
    pub doubts: Vec<(OsString, Flaw)>,
}

/// A value as TOML has it; the environment knows only text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Number(i64),
    Switch(bool),
    List(Vec<String>),
    /// No variable: a section, or a mistake.
    Other(IgnoredAny),
}

/// Reads the file, or the default one if there is one, and the environment.
///
/// # Errors
///
/// The file cannot be read, or it or a variable holds an invalid value; the error names file, line and
/// column, and what is accepted.
pub fn read(path: Option<&Path>) -> Result<Settings> {
    let file = path.unwrap_or(Path::new(DEFAULT));
    let is_there = path.is_some() || file.exists();
    let (contents, mut flaws) = match is_there.then(|| read_file(file)) {
        None => (Contents::default(), None),
        Some(Ok(contents)) => (contents, None),
        // What is wrong in the environment is told with it.
        Some(Err(flaws)) => (Contents::default(), Some(flaws)),
    };
    let Contents { variables, fleet, doubts } = contents;
    let is_ours = |name: &OsString| name.to_str().is_some_and(|name| name.starts_with("TKTROT_"));
    let environment: Vec<_> = std::env::vars_os().filter(|(name, _)| is_ours(name)).collect();
    // An empty one is as good as none.
    let environment: Vec<_> =
        environment.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let is_set = |name: &OsString| environment.iter().any(|(other, _)| other == name);
    let kept = variables.iter().filter(|(name, _)| !is_set(name));
    let (config, problems) = Config::from_variables(kept.chain(&environment).cloned());
    if problems.iter().any(|problem| problem.instead.is_none()) {
        let mut lines: Vec<_> = flaws.iter().map(|flaws| format!("{flaws:#}")).collect();
        lines.extend(problems.iter().map(ToString::to_string));
        bail!("{}", lines.join("\n"));
    }
    if let Some(flaws) = flaws.take() {
        return Err(flaws);
    }
    let in_file = doubts.iter().filter(|(name, _)| !is_set(name));
    let mut told: Vec<_> = in_file.map(|(_, flaw)| format!("{}:{flaw}", file.display())).collect();
    let from_outside = problems.iter().filter(|problem| is_set(&problem.setting.clone().into()));
    told.extend(from_outside.map(BadValue::worked_around));
    Ok(Settings { variables, config, fleet, doubts: told })
}

/// What a settings file says.
///
/// # Errors
///
/// As for [`read`].
pub fn read_file(file: &Path) -> Result<Contents> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("{}: there is no such settings file", file.display())
        }
        other => other.with_context(|| format!("{}: cannot be read", file.display()))?,
    };
    parse(&text).map_err(|flaws| {
        let lines = flaws.iter().map(|flaw| format!("{}:{flaw}", file.display()));
        anyhow::anyhow!("{}", lines.collect::<Vec<_>>().join("\n"))
    })
}

/// All flaws, or what the file says.
fn parse(text: &str) -> Result<Contents, Vec<Flaw>> {
    match (variables(text), FleetConfig::parse(text)) {
        (Ok((variables, doubts)), Ok(fleet)) => Ok(Contents { variables, fleet, doubts }),
        (variables, fleet) => {
            let mut flaws = variables.err().unwrap_or_default();
            flaws.extend(fleet.err().unwrap_or_default());
            flaws.sort_by_key(|flaw| (flaw.line, flaw.column));
            // Who reads it as TOML twice finds the same twice.
            flaws.dedup();
            Err(flaws)
        }
    }
}

/// Variables, and flaws of some in spite of which they can be used.
type Variables = (Vec<(OsString, OsString)>, Vec<(OsString, Flaw)>);

/// The variables that a settings file stands for.
fn variables(text: &str) -> Result<Variables, Vec<Flaw>> {
    let entries: BTreeMap<Spanned<String>, Spanned<Value>> =
        toml::from_str(text).map_err(|error| {
            vec![Flaw::at(text, error.span().unwrap_or(0..0), error.message().to_owned())]
        })?;
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let (mut variables, mut flaws) = (Vec::new(), Vec::new());
    for (key, value) in entries {
        let name = key.get_ref();
        if SECTIONS.contains(&name.as_str()) {
            continue;
        }
        if !is_setting(name) {
            let (known, sections) = (names().collect::<Vec<_>>().join(", "), SECTIONS.join("], ["));
            let all = names().chain(SECTIONS.iter().copied());
            let meant = misspelt::hint(name, all);
            let message = format!(
                "there is no setting \"{name}\"{meant}; there are {known} and the sections [{sections}]"
            );
            flaws.push(Flaw::at(text, key.span(), message));
            continue;
        }
        let variable = variable(name);
        let Some(as_text) = value.get_ref().as_variable(&variable) else {
            let accepted = "a string, a number, true or false, or a list of strings";
            let message = format!("{name} has no valid value; accepted: {accepted}");
            flaws.push(Flaw::at(text, value.span(), message));
            continue;
        };
        variables.push((variable, as_text, value.span()));
    }
    // Each value has to be valid, and all of them together.
    let pairs: Vec<(OsString, OsString)> =
        variables.iter().map(|(name, value, _)| (name.into(), value.into())).collect();
    let (_, problems) = Config::from_variables(pairs.iter().cloned());
    let mut doubts = Vec::new();
    for problem in &problems {
        let cause = variables.iter().find(|(name, ..)| *name == problem.setting);
        let span = cause.map_or(0..0, |(_, _, span)| span.clone());
        let name = problem.setting.trim_start_matches("TKTROT_").to_lowercase();
        let message = format!("{name} has no valid value; accepted: {}", problem.accepted);
        match problem.instead.map(Written) {
            Some(instead) => {
                let flaw = Flaw::at(text, span, format!("{message}; {instead} applies"));
                doubts.push((problem.setting.clone().into(), flaw));
            }
            None => flaws.push(Flaw::at(text, span, message)),
        }
    }
    if flaws.is_empty() { Ok((pairs, doubts)) } else { Err(flaws) }
}

impl Value {
    /// As the text of this variable, if it can be one.
    fn as_variable(&self, variable: &str) -> Option<String> {
        Some(match self {
            Value::Text(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Switch(on) => match (variable, on) {
                ("TKTROT_TAKEOVER", true) => "yes".into(),
                ("TKTROT_TAKEOVER", false) => "no".into(),
                (_, on) => u8::from(*on).to_string(),
            },
            Value::List(parts) => parts.join(","),
            Value::Other(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(text: &str) -> Result<Vec<(String, String)>, String> {
        let parsed = parse(text)
            .map_err(|flaws| flaws.iter().map(|flaw| format!("{flaw}\n")).collect::<String>())?;
        let text = |part: OsString| part.into_string().unwrap();
        Ok(parsed.variables.into_iter().map(|(name, value)| (text(name), text(value))).collect())
    }

    #[test]
    fn settings_are_the_variables_in_lower_case() {
        let text = "rotate = \"10m\"\ncapacity = 64\ntakeover = false\nstrict = true\n\
                    only = [\"nginx\", \"haproxy\"]\n";
        let expected = [
            ("TKTROT_ROTATE", "10m"),
            ("TKTROT_CAPACITY", "64"),
            ("TKTROT_TAKEOVER", "no"),
            ("TKTROT_STRICT", "1"),
            ("TKTROT_ONLY", "nginx,haproxy"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(variables(text).unwrap(), expected);
    }

    #[test]
    fn sections_are_the_agents_and_stand_for_no_variable() {
        let text = "rotate = \"10m\"\n[agent]\nlog = \"json\"\n[mesh]\nsecrets = [\"/s\"]\n\
                    [[export]]\nformat = \"raw\"\noutput = \"/run/key\"\n";
        assert_eq!(variables(text).unwrap(), [("TKTROT_ROTATE".into(), "10m".into())]);
        let fleet = parse(text).unwrap().fleet;
        assert!(fleet.mesh.is_some() && fleet.exports.len() == 1);
    }

    /// The table of the README says more; that there is something to say is said in both.
    #[test]
    fn every_setting_is_in_the_readme() {
        let readme = include_str!("../../README.md");
        let rows: Vec<_> = readme.lines().filter(|line| line.starts_with("| `TKTROT_")).collect();
        assert_eq!(rows.len(), SETTINGS.len());
        for setting in &SETTINGS {
            let row = format!("| `{}` |", setting.variable());
            assert!(rows.iter().any(|line| line.starts_with(&row)), "{row}");
        }
    }

    #[test]
    fn every_setting_is_a_variable_of_the_library() {
        for Setting { name, .. } in SETTINGS {
            let pair = (variable(name).into(), "\u{1}".into());
            let (_, problems) = Config::from_variables([pair]);
            let unknown = problems.iter().any(|problem| problem.accepted.starts_with("a variable"));
            assert!(!unknown, "{name}");
        }
    }

    #[test]
    fn of_a_value_that_is_too_long_it_is_told_what_applies() {
        let parsed = parse("rotate = \"1h\"\nlifetime = \"8d\"\n").unwrap();
        let told: Vec<_> = parsed.doubts.iter().map(|(_, flaw)| flaw.to_string()).collect();
        let line = "2:12: lifetime has no valid value; accepted: 1s to 7d, such as 30s, 10m or 1h; \
                    7d applies";
        assert_eq!(told, [line]);
    }

    #[test]
    fn a_flaw_is_told_with_line_and_column() {
        let cases = [
            (
                "rotate = \"1h\"\nrotte = 1\n",
                "2:1: there is no setting \"rotte\" (did you mean rotate?); there are ring,",
            ),
            ("\n  lifetime = \"soon\"", "2:14: lifetime has no valid value; accepted: 1s to 7d,"),
            ("rotate = ", "1:10: "),
            ("rotate = 1\nrotate = 2", "2:1: duplicate key"),
            ("rotate = 1.5", "1:10: rotate has no valid value; accepted: a string"),
            (
                "rotate = 1\n[agnt]\nuser = \"x\"",
                "2:2: there is no setting \"agnt\" (did you mean agent?); there are ring,",
            ),
            ("rotate = 1\n[agent]\nusr = \"x\"", "3:1: there is no setting \"usr\" in [agent]"),
            (
                "[mesh]\nsecrets = [\"/s\"]\nrotate = 1",
                "3:1: there is no setting \"rotate\" in [mesh]",
            ),
            (
                "rotate = 1\nlifetime = \"7d\"",
                "2:12: lifetime has no valid value; accepted: at most",
            ),
        ];
        for (text, start) in cases {
            let flaw = variables(text).unwrap_err();
            assert!(flaw.starts_with(start), "{text:?}: {flaw}");
        }
    }
}
