//! Which ring a command means, and how that one is opened: the ring that was named, or the only one
//! there is.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tktrot::clock::BootClock;
use tktrot::config::{Config, misspelt};
use tktrot::ring::Ring;
use tktrot::ring::file::Place;
use tktrot::ring::refused::Refused;
use tktrot::ring::versions::{called, ring_name};
use tktrot::ring::view::View;
use tktrot::rotate::Keyring;

use crate::orphans::{self, Orphan};
use crate::output::printable;
use crate::settings::Settings;
use tktrot_keyfile::generator::OpenSsl;

/// The ring that a command is given.
#[derive(Clone, Debug, clap::Args)]
pub struct RingArgument {
    /// Name or path of the ring; by default the one in the settings, or the only one there is.
    #[arg(value_name = "RING", value_parser = checked)]
    pub ring: Option<OsString>,
}

fn is_path(ring: &OsString) -> bool {
    ring.as_bytes().contains(&b'/')
}

/// For clap: a name or path that a ring can have.
pub fn checked(text: &str) -> Result<OsString, String> {
    tktrot::config::values::ring(text.as_ref()).map_err(|accepted| format!("accepted: {accepted}"))
}

impl RingArgument {
    /// Where the ring lies.
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

    /// The ring's files. A path means that file, whatever is beside it. A name means the files of
    /// every format version that are there, this version's first; if there is none, where this
    /// version's would be.
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

    /// Where the rings lie: the one that was named, or all there are.
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
        // Rings that live on only in processes.
        for orphan in orphans::in_dir(&dir) {
            let place = place(ring_name(&orphan.path).unwrap_or_default().to_owned());
            if !places.contains(&place) {
                places.push(place);
            }
        }
        ensure!(!places.is_empty(), none_in(&dir));
        Ok(places)
    }

    /// Opens the ring to look at it.
    pub fn look(&self, settings: &Settings) -> Result<(Place, View)> {
        let place = self.place(settings)?;
        let view = look_at(&place)?;
        Ok((place, view))
    }

    /// Where the ring lies, or will lie; what is there can be used.
    pub fn usable(&self, settings: &Settings) -> Result<Place> {
        let place = self.place_of_new(settings)?;
        place.open_present().map_err(|refused| explained(&place, &refused))?;
        Ok(place)
    }

    fn place_of_new(&self, settings: &Settings) -> Result<Place> {
        self.place(settings).context(
            "a new ring needs a name: the one that the server will use, which is that of its \
             executable unless TKTROT_RING says otherwise",
        )
    }

    /// Opens the ring, or makes it, for commands that may come before a server's first start. The
    /// flag is true if it was made.
    pub fn open_or_make(&self, settings: &Settings) -> Result<(Place, Keyring, bool)> {
        let place = self.place_of_new(settings)?;
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

/// The keyring of an open ring, to act on.
pub fn keyring(place: &Place, ring: Ring) -> Result<Keyring> {
    ring.protect().with_context(|| {
        format!("{}: cannot lock its memory; raise RLIMIT_MEMLOCK", place.path().display())
    })?;
    Ok(Keyring::new(ring, BootClock, &OpenSsl))
}

/// Opens the ring at a place to look at it.
pub fn look_at(place: &Place) -> Result<View> {
    let view = place.look().map_err(|refused| explained(place, &refused))?;
    view.with_context(|| absent(place))
}

/// Opens the ring at a place to act on it. Servers make rings; an operator acts on those there are.
pub fn open_at(place: &Place) -> Result<Keyring> {
    let ring = place.open_present().map_err(|refused| explained(place, &refused))?;
    keyring(place, ring.with_context(|| absent(place))?)
}

/// The directory in which a ring is looked up by name.
pub fn directory(config: &Config) -> PathBuf {
    config.dir.clone().unwrap_or_else(|| Place::default_dir().0)
}

/// The names of all rings in a directory, sorted.
pub fn names(dir: &Path) -> Result<Vec<OsString>> {
    let files = files(dir)?.into_iter();
    let mut names: Vec<_> =
        files.filter_map(|file| ring_name(file.as_ref()).map(OsStr::to_owned)).collect();
    names.sort();
    // A ring may have files of several versions.
    names.dedup();
    Ok(names)
}

/// The names of all files in a directory that have the name of a ring, sorted.
pub fn files(dir: &Path) -> Result<Vec<OsString>> {
    let entries = match dir.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            let right = missing_right(dir).unwrap_or_default();
            bail!("{}: cannot be read: {error}{right}", dir.display());
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

/// What the ring in a file is called, as it can be printed.
pub fn title(path: &Path) -> String {
    printable(&called(path).to_string_lossy())
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
            "{}: this ring is for servers of another release (`tktrot ring list`); there is none \
             for this release yet",
            other.path().display()
        );
    }
    let names = names(&place.dir).unwrap_or_default();
    let others: Vec<_> = names.iter().map(|name| printable(&name.to_string_lossy())).collect();
    let others = match &*others {
        [] => "its directory has no others".into(),
        others => format!("in its directory there are: {}", others.join(", ")),
    };
    let wanted = title(&place.path());
    // With the end of its file's name, perhaps.
    let wanted = wanted.strip_suffix(".ring").unwrap_or(&wanted);
    let meant = misspelt::hint(wanted, names.iter().filter_map(|name| name.to_str()));
    format!("{}: there is no such ring{meant}; {others}", place.path().display())
}

/// Why there may be none here, and where others may be.
fn none_in(dir: &Path) -> String {
    let mut text = format!(
        "there is no ring in {}: no server that runs under libtktrot has made one there \
         (for another directory set TKTROT_DIR, or dir in the settings)",
        dir.display()
    );
    for others in ["/run/tktrot", "/dev/shm/tktrot"].map(Path::new) {
        if others != dir && names(others).is_ok_and(|names| !names.is_empty()) {
            let _ = write!(text, "; root has rings in {}: run this as root", others.display());
        }
    }
    text
}

/// Why a ring was refused, and who may use it if this user may not.
pub fn explained(place: &Place, refused: &Refused) -> anyhow::Error {
    let right = if refused.is_a_right() {
        // The innermost of the two whose owner may be asked for.
        missing_right(&place.path()).or_else(|| missing_right(&place.dir))
    } else {
        None
    };
    anyhow::anyhow!("{refused}{}", right.unwrap_or_default())
}

/// Who owns a file or directory, if that is another user.
fn missing_right(path: &Path) -> Option<String> {
    // SAFETY: geteuid takes nothing and cannot fail.
    let user = unsafe { libc::geteuid() };
    let owner = fs::symlink_metadata(path).ok()?.uid();
    if user == 0 || user == owner {
        return None;
    }
    let owners = if owner == 0 { "root".into() } else { format!("user {owner} and root") };
    Some(format!(
        "; {} belongs to user {owner}, and you are user {user}: only {owners} may use it; run \
         this as root (sudo){}",
        path.display(),
        if owner == 0 { String::new() } else { format!(" or as user {owner}") }
    ))
}
