//! `tktrot revoke [RING] (--key PREFIX | --all) [--fleet [--wait DURATION]]`.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use tktrot::ring::file::Place;
use tktrot::rotate::Keyring;
use tktrot::secret::KeyName;

use super::agent::ask;
use crate::output::{complain, errln, outln};
use crate::ringfile::file::not_reached;
use crate::rings::{NamedRing, RingArgument};
use crate::settings;
use crate::severity::Severity;
use tktrot_agent::control::{self, LONGEST_WAIT, Missing, Question, Reach, Revoked};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    ring: RingArgument,

    #[command(flatten)]
    which: Which,

    /// Revokes on every host of the fleet, through the ring's agent, and waits until all have
    /// confirmed it, or Redis has. Exits with 1 while one has not: give the same command again to ask
    /// again.
    #[arg(long)]
    fleet: bool,

    /// How long hosts, or Redis, are waited for.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = wait,
        default_value = "10s",
        requires = "fleet"
    )]
    wait: Duration,

    /// Does not ask; needed where there is no terminal.
    #[arg(long)]
    yes: bool,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Revokes the key whose name begins with these hex digits, as `tktrot status` shows them.
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    key: Option<String>,

    /// Revokes every key.
    #[arg(long)]
    all: bool,
}

fn prefix(text: &str) -> Result<String, String> {
    let is_one =
        (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_one { Ok(text.to_lowercase()) } else { Err("accepted: 1 to 32 hex digits".into()) }
}

fn wait(text: &str) -> Result<Duration, String> {
    let accepted = || "accepted: 0s to 10m".to_owned();
    let span = match text {
        "0" | "0s" => Some(Duration::ZERO),
        text => tktrot::config::values::rotate_every(text).ok(),
    };
    span.filter(|span| *span <= LONGEST_WAIT).ok_or_else(accepted)
}

impl Which {
    fn means(&self, name: &KeyName) -> bool {
        let hex = name.to_hex();
        self.all || self.key.as_ref().is_some_and(|prefix| hex.starts_with(prefix))
    }
}

pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    let settings = settings::read(config)?;
    let place = arguments.ring.place(&settings)?;
    let path = place.path();
    let which = &arguments.which;
    let (mut meant, mut reached, mut unreached) = (Vec::new(), Vec::new(), Vec::new());
    for target in NamedRing::all(std::slice::from_ref(&place)) {
        match target.look() {
            Ok(view) => {
                meant.extend(view.keys().into_iter().map(|key| key.name));
                if arguments.fleet && !which.all {
                    // Revoked before, and asked for again: somebody may have been missing.
                    meant.extend(view.graves().into_iter().map(|(name, _)| name));
                }
                reached.push(target);
            }
            Err(error) if target.is_removed() => unreached.push(error),
            Err(error) => return Err(error),
        }
    }
    meant.retain(|name| which.means(name));
    let names: Vec<_> = meant.iter().map(KeyName::to_string).collect();
    if let Some(prefix) = &which.key {
        ensure!(!meant.is_empty(), "{}: no key's name begins with {prefix}", path.display());
        ensure!(
            meant.len() == 1,
            "{}: the names of {} keys begin with {prefix}: {}; give more digits",
            path.display(),
            meant.len(),
            names.join(", ")
        );
    }
    if !arguments.yes {
        confirm(&format!(
            "{}: revoke {}? Clients with their tickets will do full handshakes.",
            path.display(),
            match arguments.fleet && which.all {
                true => "every key of the fleet".into(),
                false => format!("{} ({})", count(meant.len()), names.join(", ")),
            }
        ))?;
    }
    let mut severity = Severity::Ok;
    for target in &reached {
        if arguments.fleet && !target.is_removed() {
            severity = severity.max(revoke_everywhere(&place, which, &meant, arguments.wait)?);
            continue;
        }
        let keyring = match target.open() {
            Ok(keyring) => keyring,
            // This user may read it, but not write to it.
            Err(error) if target.is_removed() => {
                unreached.push(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        revoke(&keyring, &target.name(), which)?;
        if !target.is_removed() && keyring.is_governed() {
            errln!(
                "{}: an agent governs this ring, and passes it on to the hosts that share its keys, \
                 at once or when it runs again; --fleet waits until it has",
                path.display()
            );
        }
    }
    for error in &unreached {
        errln!("{error:#}");
    }
    let others = not_reached(&place, "its keys live on");
    others.iter().for_each(|line| errln!("{line}"));
    let all = unreached.is_empty() && others.is_empty();
    Ok(if all { severity } else { Severity::Critical })
}

fn revoke(keyring: &Keyring, name: &str, which: &Which) -> Result<()> {
    let revoked = keyring
        .revoke_those(|name| which.means(name))
        .map_err(|failure| anyhow!("{name}: {failure}"))?;
    let names: Vec<_> = revoked.iter().map(KeyName::to_string).collect();
    outln!("{name}: ended {}: {}", count(revoked.len()), names.join(", "));
    Ok(())
}

/// Revokes through the agent, which tells its peers.
fn revoke_everywhere(
    place: &Place,
    which: &Which,
    meant: &[KeyName],
    wait: Duration,
) -> Result<Severity> {
    let keys = match which.all {
        true => control::Which::All(control::All::All),
        false => control::Which::These(meant.iter().map(KeyName::to_hex).collect()),
    };
    let wait = u64::try_from(wait.as_millis()).ok();
    let revoked: Revoked = ask(place, &Question::Revoke { keys, wait })?;
    let (path, ended) = (place.path(), count(revoked.keys));
    let path = path.display();
    Ok(match revoked.reach {
        Reach::Peers { told, missing } => {
            let peers = match told.len() {
                1 => "1 peer".into(),
                peers => format!("{peers} peers"),
            };
            let names = told.iter().map(|peer| format!(" {peer}")).collect::<Vec<_>>().join(",");
            let names = if names.is_empty() { names } else { format!(":{names}") };
            outln!("{path}: ended {ended} and told {peers}{names}");
            missing.iter().for_each(|Missing { peer, why }| {
                errln!(
                    "{path}: {peer} has not confirmed it ({why}), and may open their tickets until \
                     it is told, first of all when it is there again"
                );
            });
            if missing.is_empty() { Severity::Ok } else { Severity::Warning }
        }
        Reach::Redis { address, missing } => {
            let here = match (revoked.keys, which.all) {
                (0, false) => "the key was revoked here before".into(),
                _ => format!("ended {ended} here"),
            };
            if let Some(why) = missing {
                outln!("{path}: {here}");
                errln!(
                    "{path}: Redis is not known to have it ({why}): the other hosts may open their \
                     tickets until it does. This host's agent passes it on when Redis stores again, \
                     as long as the ring is there"
                );
                return Ok(Severity::Warning);
            }
            let address = address.map(|address| format!(" at {address}")).unwrap_or_default();
            outln!(
                "{path}: {here}, and Redis{address} has it; the other hosts end their copies when \
                 they hear of it from there, which this host cannot confirm"
            );
            Severity::Ok
        }
    })
}

fn count(keys: usize) -> String {
    if keys == 1 { "1 key".into() } else { format!("{keys} keys") }
}

/// Asks on the terminal; anything but yes means no.
fn confirm(question: &str) -> Result<()> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("there is no terminal to ask on: give --yes");
    }
    complain(format_args!("{question} [y/N] "));
    std::io::stderr().flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    ensure!(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()), "nothing was done");
    Ok(())
}
