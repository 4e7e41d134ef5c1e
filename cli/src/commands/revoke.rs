//! `tktrot revoke [RING] (--key PREFIX | --all) [--fleet]`.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use anyhow::{Result, anyhow, bail, ensure};
use tktrot::ring::file::Place;
use tktrot::ring::view::KeyFacts;
use tktrot::secret::KeyName;

use crate::agent::ask::{self, Question, Revoked, ask};
use crate::rings::RingArgument;
use crate::settings;
use crate::severity::Severity;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    ring: RingArgument,

    #[command(flatten)]
    which: Which,

    /// On every host of the fleet, by the ring's agent.
    #[arg(long)]
    fleet: bool,

    /// Does not ask; needed where there is no terminal.
    #[arg(long)]
    yes: bool,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The key whose name begins with these hex digits, as `tktrot status` shows them.
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    key: Option<String>,

    /// Every key there is.
    #[arg(long)]
    all: bool,
}

fn prefix(text: &str) -> Result<String, String> {
    let is_one =
        (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_one { Ok(text.to_lowercase()) } else { Err("accepted are 1 to 32 hex digits".into()) }
}

impl Which {
    fn means(&self, name: &KeyName) -> bool {
        let hex = name.to_hex();
        self.all || self.key.as_ref().is_some_and(|prefix| hex.starts_with(prefix))
    }
}

pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    let settings = settings::read(config)?;
    let (place, view) = arguments.ring.look(&settings)?;
    let path = place.path();
    let which = &arguments.which;
    let meant: Vec<_> = view.keys().into_iter().filter(|key| which.means(&key.name)).collect();
    let names: Vec<_> = meant.iter().map(|key| key.name.to_string()).collect();
    if let Some(prefix) = &which.key {
        ensure!(!meant.is_empty(), "{}: no key's name begins with {prefix}", path.display());
        ensure!(
            meant.len() == 1,
            "{}: {} keys' names begin with {prefix}: {}; give more digits",
            path.display(),
            meant.len(),
            names.join(", ")
        );
    }
    if !arguments.yes {
        confirm(&format!(
            "{}: end {}? Their tickets become full handshakes.",
            path.display(),
            match arguments.fleet && which.all {
                true => "every key of the fleet".into(),
                false => format!("{} ({})", count(meant.len()), names.join(", ")),
            }
        ))?;
    }
    if arguments.fleet {
        return revoke_everywhere(&place, which, &meant);
    }
    let (_, keyring) = arguments.ring.open(&settings)?;
    let revoked = keyring
        .revoke_those(|name| which.means(name))
        .map_err(|failure| anyhow!("{}: {failure}", path.display()))?;
    let names: Vec<_> = revoked.iter().map(KeyName::to_string).collect();
    println!("{}: ended {}: {}", path.display(), count(revoked.len()), names.join(", "));
    if keyring.is_governed() {
        eprintln!(
            "{}: an agent governs this ring; on other hosts keys live on: --fleet ends them there",
            path.display()
        );
    }
    Ok(Severity::Fine)
}

/// Not only here: the agent tells its peers.
fn revoke_everywhere(place: &Place, which: &Which, meant: &[KeyFacts]) -> Result<Severity> {
    let keys = match which.all {
        true => ask::Which::All(ask::All::All),
        false => ask::Which::These(meant.iter().map(|key| key.name.to_hex()).collect()),
    };
    let revoked: Revoked = ask(place, &Question::Revoke { keys })?;
    let peers = match revoked.peers {
        1 => "1 peer".into(),
        peers => format!("{peers} peers"),
    };
    println!("{}: ended {} and told {peers}", place.path().display(), count(revoked.keys));
    Ok(Severity::Fine)
}

fn count(keys: usize) -> String {
    if keys == 1 { "1 key".into() } else { format!("{keys} keys") }
}

/// Asks on the terminal. Anything but yes is no.
fn confirm(question: &str) -> Result<()> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("there is no terminal to ask on: give --yes");
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    ensure!(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()), "nothing was done");
    Ok(())
}
