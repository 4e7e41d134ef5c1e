//! `tktrot run [OPTIONS] [--] PROGRAM [ARGUMENTS]`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process;

use anyhow::{Context, Result, bail};
use tktrot::config::values::Written;
use tktrot::config::{BadValue, Config};

use super::Usage;
use crate::check::binary;
use crate::output::errln;
use crate::settings;
use crate::severity::Severity;
use crate::shim;

#[derive(clap::Args)]
#[command(
    override_usage = "tktrot run [OPTIONS] [--] PROGRAM [ARGUMENTS]...",
    after_long_help = "Exit status: that of PROGRAM; before it runs, 2 if it or the shim cannot be \
    used, 64 if an option is wrong. With --strict, PROGRAM ends with 78 at its start if there is any \
    problem."
)]
pub struct Arguments {
    /// How long a key encrypts: 30s, 10m, 1h
    #[arg(long, value_name = "DURATION")]
    rotate: Option<OsString>,

    /// How long tickets live; by default as long as the server's sessions
    #[arg(long, value_name = "DURATION")]
    lifetime: Option<OsString>,

    /// Name or path of the ring; by default the program's name
    #[arg(long, value_name = "RING")]
    ring: Option<OsString>,

    /// The service's label: tickets with another label are refused
    #[arg(long)]
    label: Option<OsString>,

    /// What tickets are bound to: any of cert,verify,sni; or none
    #[arg(long, value_name = "PARTS")]
    bind: Option<OsString>,

    /// Does not start the server if there is any problem
    #[arg(long)]
    strict: bool,

    /// The program and its arguments; all that follows PROGRAM is for it, -- may come before
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

impl Arguments {
    fn variables(&self) -> Vec<(OsString, OsString)> {
        let options = [
            ("TKTROT_ROTATE", &self.rotate),
            ("TKTROT_LIFETIME", &self.lifetime),
            ("TKTROT_RING", &self.ring),
            ("TKTROT_LABEL", &self.label),
            ("TKTROT_BIND", &self.bind),
        ];
        let given =
            options.into_iter().filter_map(|(name, value)| Some((name.into(), value.clone()?)));
        given.chain(self.strict.then(|| ("TKTROT_STRICT".into(), "1".into()))).collect()
    }
}

/// Becomes the program: returns only if that fails.
pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    let settings = settings::read(config);
    let given = arguments.variables();
    let (_, problems) = Config::from_variables(given.iter().cloned());
    if problems.iter().any(|problem| problem.instead.is_none()) {
        let mut lines: Vec<_> = problems.iter().map(as_option).collect();
        // What is wrong elsewhere is told with it.
        lines.extend(settings.err().map(|error| format!("{error:#}")));
        return Err(Usage(lines.join("\n")).into());
    }
    let settings = settings?;
    // Not every program has the library in it, which would tell what applies.
    for problem in &problems {
        let applies =
            problem.instead.map(Written).map_or("the default".into(), |it| it.to_string());
        errln!("tktrot: {}; {applies} applies", as_option(problem));
    }
    let shim = shim::find()?;
    let (program, rest) = arguments.command.split_first().context("no program")?;
    if let Some(why) = binary::not_preloadable(program) {
        let program = Path::new(program).display();
        errln!("tktrot: warning: {program} runs without libtktrot: {why}");
    }
    let error = process::Command::new(program)
        .args(rest)
        // The environment overrides the settings file, and the command line both.
        .envs(settings.variables.into_iter().filter(|(name, _)| env::var_os(name).is_none()))
        .envs(given)
        .env("LD_PRELOAD", preload(&shim, env::var_os("LD_PRELOAD").as_deref()))
        .exec();
    bail!("{}: cannot be run: {error}", Path::new(program).display())
}

/// What is wrong with an option, which is named as it was given.
fn as_option(problem: &BadValue) -> String {
    let BadValue { setting, value, accepted, .. } = problem;
    let option = setting.trim_start_matches("TKTROT_").to_lowercase();
    format!("--{option} {value:?} cannot be used; accepted: {accepted}")
}

/// The shim, followed by what was preloaded already.
fn preload(shim: &Path, before: Option<&OsStr>) -> OsString {
    let mut list = shim.as_os_str().to_owned();
    if let Some(before) = before.filter(|before| !before.is_empty()) {
        list.push(":");
        list.push(before);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_preloaded_before_stays() {
        let shim = Path::new("/lib/x.so");
        assert_eq!(preload(shim, None), "/lib/x.so");
        assert_eq!(preload(shim, Some(OsStr::new(""))), "/lib/x.so");
        assert_eq!(preload(shim, Some(OsStr::new("/a.so b.so"))), "/lib/x.so:/a.so b.so");
    }
}
