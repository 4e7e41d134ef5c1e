//! Which ring is meant: the one named, or the only one there is.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tktrot::clock::BootClock;
use tktrot::config::Config;
use tktrot::ring::Ring;
use tktrot::ring::file::Place;
use tktrot::ring::view::View;
use tktrot::rotate::Keyring;

use crate::generator::OpenSsl;
use crate::settings::Settings;

/// How a command is told which ring.
#[derive(Clone, Debug, clap::Args)]
pub struct RingArgument {
    /// Name or path of the ring; by default the one of the settings, or the only one there is.
    #[arg(value_name = "RING", value_parser = checked)]
    pub ring: Option<OsString>,
}

fn checked(text: &str) -> Result<OsString, String> {
    tktrot::config::values::ring(text.as_ref())
        .map_err(|accepted| format!("accepted is {accepted}"))
}

impl RingArgument {
    /// Where the ring lies that is meant.
    pub fn place(&self, settings: &Settings) -> Result<Place> {
        let mut config = settings.config.clone();
        config.ring = self.ring.clone().or(config.ring);
        if config.ring.is_none() {
            config.ring = Some(only_ring(&directory(&config))?);
        }
        Ok(config.place())
    }

    /// The ring, to look at.
    pub fn look(&self, settings: &Settings) -> Result<(Place, View)> {
        let place = self.place(settings)?;
        let view = place.look().map_err(|refused| explained(&refused))?;
        let view = view.with_context(|| absent(&place))?;
        Ok((place, view))
    }

    /// The ring, to act on: an operator acts on rings that servers made, and makes none.
    pub fn open(&self, settings: &Settings) -> Result<(Place, Keyring)> {
        let place = self.place(settings)?;
        let ring = place.open_present().map_err(|refused| explained(&refused))?;
        let ring = ring.with_context(|| absent(&place))?;
        let keyring = keyring(&place, ring)?;
        Ok((place, keyring))
    }
}

fn keyring(place: &Place, ring: Ring) -> Result<Keyring> {
    ring.protect().with_context(|| {
        format!("{}: its memory cannot be locked; raise RLIMIT_MEMLOCK", place.path().display())
    })?;
    Ok(Keyring::new(ring, BootClock, &OpenSsl))
}

impl RingArgument {
    /// The ring, which is made if it is not there: for what precedes a server's first start. Also
    /// tells whether it was made.
    pub fn open_or_make(&self, settings: &Settings) -> Result<(Place, Keyring, bool)> {
        let place = self.place(settings).context(
            "a ring that is to be made needs a name: the one that the server will ask for, which \
             is its executable's unless TKTROT_RING says otherwise",
        )?;
        let is_there = fs::symlink_metadata(place.path()).is_ok();
        let ring = place.open(settings.config.geometry()).map_err(|refused| explained(&refused))?;
        Ok((place.clone(), keyring(&place, ring)?, !is_there))
    }
}

/// The directory in which rings are looked for by name.
pub fn directory(config: &Config) -> PathBuf {
    config.dir.clone().unwrap_or_else(|| Place::default_dir().0)
}

/// The names of all rings in a directory, sorted.
pub fn names(dir: &Path) -> Result<Vec<OsString>> {
    let entries = match dir.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("{}: it cannot be read", dir.display()));
        }
    };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_ring = path.extension().is_some_and(|extension| extension == "ring");
        if let Some(name) = path.file_stem().filter(|_| is_ring) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn only_ring(dir: &Path) -> Result<OsString> {
    let mut names = names(dir)?;
    match names.len() {
        0 => bail!(
            "there is no ring in {}: no server that runs under libtktrot has made one there \
             (another directory: TKTROT_DIR, or dir in the settings)",
            dir.display()
        ),
        1 => Ok(names.remove(0)),
        _ => {
            let names: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
            bail!(
                "there is more than one ring in {}; say which: {}",
                dir.display(),
                names.join(", ")
            )
        }
    }
}

fn absent(place: &Place) -> String {
    let names = names(&place.dir).unwrap_or_default();
    let others: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
    let others = if others.is_empty() { "no others".into() } else { others.join(", ") };
    format!(
        "{}: there is no such ring; in its directory there are: {others}",
        place.path().display()
    )
}

/// A refusal, with what the user lacks where it is a right.
fn explained(refused: &tktrot::ring::file::Refused) -> anyhow::Error {
    let text = refused.to_string();
    // SAFETY: geteuid takes nothing and cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !is_root && (text.contains("Permission denied") || text.contains("belongs to user")) {
        return anyhow::anyhow!(
            "{text}; only the ring's owner and root may, so run this as one of them"
        );
    }
    anyhow::anyhow!(text)
}
