//! `tktrot rotate [RING] [--fleet]`.

use std::fs;
use std::path::Path;

use anyhow::{Result, anyhow};
use tktrot::rotate::Keyring;

use crate::agent::ask::{Question, Rotated, ask};
use crate::orphans::{self, Orphan};
use crate::rings::RingArgument;
use crate::settings;
use crate::severity::Severity;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    ring: RingArgument,

    /// By the ring's agent: the key encrypts as soon as the whole fleet has it.
    #[arg(long)]
    fleet: bool,
}

pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    let settings = settings::read(config)?;
    if arguments.fleet {
        let place = arguments.ring.place(&settings)?;
        let Rotated { key, peers } = ask(&place, &Question::Rotate {})?;
        println!(
            "{}: key {key} encrypts, which {} acknowledged; the former ones decrypt to their ends",
            place.path().display(),
            match peers {
                1 => "1 peer has".into(),
                peers => format!("{peers} peers have"),
            }
        );
        return Ok(Severity::Fine);
    }
    let place = arguments.ring.place(&settings)?;
    let removed = orphans::of(&place);
    if !removed.is_empty() && fs::symlink_metadata(place.path()).is_err() {
        rotate_removed(&removed)?;
        return Ok(Severity::Fine);
    }
    let (place, keyring) = arguments.ring.open(&settings)?;
    let path = place.path();
    rotate(&keyring, &path.display().to_string())?;
    rotate_removed(&removed)?;
    if keyring.is_governed() {
        eprintln!(
            "{}: an agent governs this ring; other hosts learn of the key within a second, and \
             cannot use its tickets before: with --fleet it encrypts when they can",
            path.display()
        );
    }
    Ok(Severity::Fine)
}

fn rotate(keyring: &Keyring, name: &str) -> Result<()> {
    // What those asked for that have ended no longer counts, from this key on.
    keyring.reconsider().map_err(|failure| anyhow!("{name}: {failure}"))?;
    keyring.rotate().map_err(|failure| anyhow!("{name}: {failure}"))?;
    println!("{name}: a new key encrypts; the former ones decrypt to their ends");
    Ok(())
}

/// Rings that processes have whose file was removed.
fn rotate_removed(removed: &[Orphan]) -> Result<()> {
    removed.iter().try_for_each(|orphan| rotate(&orphan.open()?, &orphan.name()))
}
