//! `tktrot rotate [RING] [--fleet]`.

use std::path::Path;

use anyhow::{Result, anyhow};
use tktrot::rotate::Keyring;

use super::agent::ask;
use crate::output::{errln, outln};
use crate::ringfile::file::not_reached;
use crate::rings::{NamedRing, RingArgument};
use crate::settings;
use crate::severity::Severity;
use tktrot_agent::control::{Question, Rotated};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    ring: RingArgument,

    /// Rotates through the ring's agent: the key encrypts as soon as the whole fleet has it.
    #[arg(long)]
    fleet: bool,
}

pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    let settings = settings::read(config)?;
    if arguments.fleet {
        let place = arguments.ring.place(&settings)?;
        let Rotated { key, peers } = ask(&place, &Question::Rotate {})?;
        outln!(
            "{}: key {key} encrypts; {} acknowledged it; the former keys decrypt until they end",
            place.path().display(),
            match peers {
                1 => "1 peer has".into(),
                peers => format!("{peers} peers have"),
            }
        );
        return Ok(Severity::Ok);
    }
    let place = arguments.ring.place(&settings)?;
    let path = place.path();
    let mut severity = Severity::Ok;
    for target in NamedRing::all(std::slice::from_ref(&place)) {
        let keyring = match target.open() {
            Ok(keyring) => keyring,
            Err(error) if target.is_removed() => {
                errln!("{error:#}");
                severity = Severity::Critical;
                continue;
            }
            Err(error) => return Err(error),
        };
        rotate(&keyring, &target.name())?;
        if !target.is_removed() && keyring.is_governed() {
            errln!(
                "{}: an agent governs this ring; other hosts learn of the key within a second and \
                 cannot open its tickets before that: with --fleet it encrypts once they can",
                path.display()
            );
        }
    }
    for line in not_reached(&place, "no new key was made") {
        errln!("{line}");
        severity = severity.max(Severity::Warning);
    }
    Ok(severity)
}

fn rotate(keyring: &Keyring, name: &str) -> Result<()> {
    // From this key on, what processes asked for that have ended no longer counts.
    keyring.reconsider().map_err(|failure| anyhow!("{name}: {failure}"))?;
    keyring.rotate().map_err(|failure| anyhow!("{name}: {failure}"))?;
    outln!("{name}: a new key encrypts; the former keys decrypt until they end");
    Ok(())
}
