//! Which ring is meant: the one named, or the only one there is.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tktrot::clock::BootClock;
use tktrot::config::Config;
use tktrot::ring::Ring;
use tktrot::ring::file::Place;
use tktrot::ring::refused::Refused;
use tktrot::ring::versions::ring_name;
use tktrot::ring::view::View;
use tktrot::rotate::Keyring;

use crate::orphans::{self, Orphan};
use crate::output::printable;
use crate::settings::Settings;
use tktrot_keyfile::generator::OpenSsl;

/// How a command is told which ring.
#[derive(Clone, Debug, clap::Args)]
pub struct RingArgument {
    /// Name or path of the ring; by default the one of the settings, or the only one there is.
    #[arg(value_name = "RING", value_parser = checked)]
    pub ring: Option<OsString>,
}

/// For clap: the name or path of a ring.
fn is_path(ring: &OsString) -> bool {
    ring.as_bytes().contains(&b'/')
}

/// A name or path that a ring can have.
pub fn checked(text: &str) -> Result<OsString, String> {
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
        let place = config.place();
        // A path is meant as it is, if there is a ring.
        let is_exact = self.ring.as_ref().is_some_and(is_path) && place.holds_a_ring();
        Ok(if is_exact { place } else { place.of_this_version() })
    }

    /// The files that are meant: where a path is given that one, whatever is beside it; else those
    /// of all versions that there are, or would be of this one, which comes first.
    pub fn files(&self, settings: &Settings) -> Result<Vec<Place>> {
        if self.ring.as_ref().is_some_and(is_path) {
            let config = Config { ring: self.ring.clone(), ..settings.config.clone() };
            return Ok(vec![config.place()]);
        }
        let own = self.place(settings)?;
        let others = own.others_of_that_name();
        let is_there = fs::symlink_metadata(own.path()).is_ok();
        let mut all: Vec<_> = is_there.then(|| own.clone()).into_iter().chain(others).collect();
        if all.is_empty() {
            all.push(own);
        }
        Ok(all)
    }

    /// Where the rings lie that are meant: the one named, else all there are.
    pub fn places(&self, settings: &Settings) -> Result<Vec<Place>> {
        if self.ring.is_some() || settings.config.ring.is_some() {
            return Ok(vec![self.place(settings)?]);
        }
        let dir = directory(&settings.config);
        let place = |name| {
            let config = Config { ring: Some(name), ..settings.config.clone() };
            config.place().of_this_version()
        };
        let mut places: Vec<_> = names(&dir)?.into_iter().map(place).collect();
        // Those that only processes have any more.
        for orphan in orphans::in_dir(&dir) {
            let place = place(ring_name(&orphan.path).unwrap_or_default().to_owned());
            if !places.contains(&place) {
                places.push(place);
            }
        }
        ensure!(!places.is_empty(), none_in(&dir));
        Ok(places)
    }

    /// The ring, to look at.
    pub fn look(&self, settings: &Settings) -> Result<(Place, View)> {
        let place = self.place(settings)?;
        let view = look_at(&place)?;
        Ok((place, view))
    }

    /// The ring, which is made if it is not there: for what precedes a server's first start. Also
    /// tells whether it was made.
    pub fn open_or_make(&self, settings: &Settings) -> Result<(Place, Keyring, bool)> {
        let place = self.place(settings).context(
            "a ring that is to be made needs a name: the one that the server will ask for, which \
             is its executable's unless TKTROT_RING says otherwise",
        )?;
        let is_there = fs::symlink_metadata(place.path()).is_ok();
        let ring = place
            .open(settings.config.most_keys())
            .map_err(|refused| explained(&place, &refused))?;
        Ok((place.clone(), keyring(&place, ring)?, !is_there))
    }
}

/// A ring that was named: its file is there, or would be; or was removed and lives on in processes.
#[derive(Clone, Debug)]
pub enum NamedRing {
    At(Place),
    Removed(Orphan),
}

impl NamedRing {
    /// All rings that are meant by these places: first those that are there, or would be, then those
    /// whose file was removed.
    pub fn all(places: &[Place]) -> Vec<NamedRing> {
        let orphans = orphans::all();
        let is_lost = |place: &&Place| orphans.iter().any(|orphan| orphan.was_at(&place.path()));
        // A name without a file means the rings that live on in processes, if there are any.
        let is_there =
            |place: &&Place| fs::symlink_metadata(place.path()).is_ok() || !is_lost(place);
        let named = places.iter().filter(is_there).cloned().map(NamedRing::At);
        let is_meant = |orphan: &&Orphan| places.iter().any(|place| orphan.was_at(&place.path()));
        named.chain(orphans.iter().filter(is_meant).cloned().map(NamedRing::Removed)).collect()
    }

    /// The subject of a line about it.
    pub fn name(&self) -> String {
        match self {
            NamedRing::At(place) => place.path().display().to_string(),
            NamedRing::Removed(orphan) => orphan.name(),
        }
    }

    /// Where its file is, or was.
    pub fn path(&self) -> PathBuf {
        match self {
            NamedRing::At(place) => place.path(),
            NamedRing::Removed(orphan) => orphan.path.clone(),
        }
    }

    /// Opens it to look at it.
    pub fn look(&self) -> Result<View> {
        match self {
            NamedRing::At(place) => look_at(place),
            NamedRing::Removed(orphan) => {
                let (place, file) = (orphan.place(), orphan.file(false)?);
                place.look_into(file).map_err(|refused| explained(&place, &refused))
            }
        }
    }

    /// Opens it to act on it.
    pub fn open(&self) -> Result<Keyring> {
        match self {
            NamedRing::At(place) => open_at(place),
            NamedRing::Removed(orphan) => {
                let (place, file) = (orphan.place(), orphan.file(true)?);
                let ring = place.open_file(file);
                keyring(&place, ring.map_err(|refused| explained(&place, &refused))?)
            }
        }
    }

    pub fn is_removed(&self) -> bool {
        matches!(self, NamedRing::Removed(_))
    }
}

/// The keys of an open ring, to act on.
pub fn keyring(place: &Place, ring: Ring) -> Result<Keyring> {
    ring.protect().with_context(|| {
        format!("{}: its memory cannot be locked; raise RLIMIT_MEMLOCK", place.path().display())
    })?;
    Ok(Keyring::new(ring, BootClock, &OpenSsl))
}

/// The ring at a place, to look at.
pub fn look_at(place: &Place) -> Result<View> {
    let view = place.look().map_err(|refused| explained(place, &refused))?;
    view.with_context(|| absent(place))
}

/// The ring at a place, to act on: an operator acts on rings that servers made, and makes none.
pub fn open_at(place: &Place) -> Result<Keyring> {
    let ring = place.open_present().map_err(|refused| explained(place, &refused))?;
    keyring(place, ring.with_context(|| absent(place))?)
}

/// The directory in which rings are looked for by name.
pub fn directory(config: &Config) -> PathBuf {
    config.dir.clone().unwrap_or_else(|| Place::default_dir().0)
}

/// The names of all rings in a directory, sorted.
pub fn names(dir: &Path) -> Result<Vec<OsString>> {
    let files = files(dir)?.into_iter();
    let mut names: Vec<_> =
        files.filter_map(|file| ring_name(file.as_ref()).map(OsStr::to_owned)).collect();
    names.sort();
    // Of several versions.
    names.dedup();
    Ok(names)
}

/// The names of all files in a directory that are named as rings are, sorted.
pub fn files(dir: &Path) -> Result<Vec<OsString>> {
    let entries = match dir.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            let right = missing_right(dir).unwrap_or_default();
            bail!("{}: it cannot be read: {error}{right}", dir.display());
        }
    };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        names.extend(path.file_name().filter(|_| ring_name(&path).is_some()).map(OsStr::to_owned));
    }
    names.sort();
    Ok(names)
}

/// The name of the ring in a file, for people.
pub fn title(path: &Path) -> String {
    let name = ring_name(path).or(path.file_stem()).unwrap_or_default();
    printable(&name.to_string_lossy())
}

fn only_ring(dir: &Path) -> Result<OsString> {
    let mut names = names(dir)?;
    match names.len() {
        0 => bail!(none_in(dir)),
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
    if let Some(other) = place.others_of_that_name().first() {
        return format!(
            "{}: it is there for servers of another release (`tktrot ring list`), and there is none \
             for those of this one yet",
            other.path().display()
        );
    }
    let names = names(&place.dir).unwrap_or_default();
    let others: Vec<_> = names.iter().map(|name| printable(&name.to_string_lossy())).collect();
    let others = if others.is_empty() { "no others".into() } else { others.join(", ") };
    format!(
        "{}: there is no such ring; in its directory there are: {others}",
        place.path().display()
    )
}

/// Why there may be none here, and where others may be.
fn none_in(dir: &Path) -> String {
    let mut text = format!(
        "there is no ring in {}: no server that runs under libtktrot has made one there \
         (another directory: TKTROT_DIR, or dir in the settings)",
        dir.display()
    );
    for others in ["/run/tktrot", "/dev/shm/tktrot"].map(Path::new) {
        if others != dir && names(others).is_ok_and(|names| !names.is_empty()) {
            let _ = write!(text, "; root's rings are in {}: run as root", others.display());
        }
    }
    text
}

/// A refusal, with what the user lacks where it is a right.
pub fn explained(place: &Place, refused: &Refused) -> anyhow::Error {
    // The innermost one that may be asked whose it is.
    let right = refused
        .is_a_right()
        .then(|| missing_right(&place.path()).or_else(|| missing_right(&place.dir)))
        .flatten();
    anyhow::anyhow!("{refused}{}", right.unwrap_or_default())
}

/// Whose a file or directory is, for a user who may not read it.
fn missing_right(path: &Path) -> Option<String> {
    // SAFETY: geteuid takes nothing and cannot fail.
    let user = unsafe { libc::geteuid() };
    let owner = fs::symlink_metadata(path).ok()?.uid();
    if user == 0 || user == owner {
        return None;
    }
    let owners = if owner == 0 { "root".into() } else { format!("user {owner} and root") };
    Some(format!(
        "; {} belongs to user {owner}, and you are user {user}: only {owners} may, so run this \
         as root (sudo){}",
        path.display(),
        if owner == 0 { String::new() } else { format!(" or as user {owner}") }
    ))
}
