//! Finds the rings of this machine, as far as this user may see them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use nix::unistd::geteuid;
use serde::Serialize;
use tktrot::ring::file::Place;
use tktrot::ring::versions::ring_name;

use super::file;
use crate::orphans::{self, Orphan};
use crate::output::printable;
use crate::processes::{FileId, MapsLine, pids};
use crate::rings::{self, NamedRing};
use crate::settings::Settings;

/// What was found, and which directories could not be searched.
pub struct Search {
    /// Ordered by path; rings whose file was removed come after the one that is there.
    pub rings: Vec<NamedRing>,
    /// The directories that were searched.
    pub searched: Vec<PathBuf>,
    pub unsearched: Vec<Unsearched>,
}

/// A directory that could not be searched.
#[derive(Debug, Serialize)]
pub struct Unsearched {
    pub path: String,
    pub error: String,
    /// True if it was named on the command line.
    #[serde(skip)]
    pub was_named: bool,
}

/// Searches the usual directories and those that were `named`, and asks the processes.
pub fn find(named: &[PathBuf], settings: &Settings) -> Search {
    let mut found = Search { rings: Vec::new(), searched: Vec::new(), unsearched: Vec::new() };
    let usual = usual().into_iter().chain(settings.config.dir.clone()).map(|dir| (dir, false));
    let mut seen = Vec::new();
    for (dir, was_named) in named.iter().cloned().map(|dir| (dir, true)).chain(usual) {
        match fs::metadata(&dir).map(|metadata| FileId::of_metadata(&metadata)) {
            // The same directory by another name, like /var/run for /run.
            Ok(id) if seen.contains(&id) => continue,
            Ok(id) => seen.push(id),
            // No server has made the directory yet.
            Err(_) if !was_named => continue,
            Err(_) => {}
        }
        match rings_in(&dir) {
            Ok(places) => {
                found.rings.extend(places.into_iter().map(NamedRing::At));
                found.searched.push(dir);
            }
            Err(error) => {
                let (path, error) = (printable(&dir.to_string_lossy()), format!("{error:#}"));
                found.unsearched.push(Unsearched { path, error, was_named });
            }
        }
    }
    for place in in_use() {
        let ring = NamedRing::At(place);
        // Known by the same path, or by another.
        let is_known = found.rings.iter().any(|known| is_same_file(known, &ring));
        if !is_known {
            found.rings.push(ring);
        }
    }
    found.rings.extend(removed(&found.searched));
    found.rings.sort_by_key(|ring| (ring.path(), ring.is_removed()));
    found
}

/// The directories in which servers make rings by default.
fn usual() -> Vec<PathBuf> {
    let (user, shm, run) = (geteuid(), Path::new("/dev/shm"), Path::new("/run/user"));
    if !user.is_root() {
        return vec![
            Place::default_dir().0,
            run.join(user.to_string()).join("tktrot"),
            shm.join(format!("tktrot-{user}")),
        ];
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let of_users = entries(shm).into_iter().filter(|name| {
        let number = name.strip_prefix("tktrot-");
        number.is_some_and(is_number)
    });
    let of_sessions = entries(run).into_iter().filter(|name| is_number(name));
    let root = ["/run/tktrot", "/dev/shm/tktrot"].map(PathBuf::from).into_iter();
    let of_users = of_users.map(|name| shm.join(name));
    root.chain(of_users).chain(of_sessions.map(|name| run.join(name).join("tktrot"))).collect()
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn rings_in(dir: &Path) -> Result<Vec<Place>> {
    match fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => bail!("{}: not a directory", dir.display()),
        Err(error) => bail!("{}: cannot be read: {error}", dir.display()),
    }
    // A server's names are UTF-8. A file with any other name is not found later, and that is reported.
    let names = rings::files(dir)?.into_iter().map(|name| name.to_string_lossy().into_owned());
    Ok(names.map(|file| Place { dir: dir.into(), file, dir_mode: 0o700 }).collect())
}

fn is_same_file(one: &NamedRing, other: &NamedRing) -> bool {
    let id = |ring: &NamedRing| Some(FileId::of_metadata(&fs::symlink_metadata(ring.path()).ok()?));
    one.path() == other.path() || id(one).is_some_and(|found| id(other) == Some(found))
}

/// The rings that processes have, wherever they are: systemd gives services directories of their own.
fn in_use() -> Vec<Place> {
    let mut paths = BTreeSet::new();
    for pid in pids().into_iter().flatten() {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        for line in maps.lines().filter_map(MapsLine::parse).filter(|line| !line.removed) {
            let Some(path) = line.path.map(Path::new) else { continue };
            // Another mount namespace may have another file of that name.
            let is_it = || {
                let there = fs::symlink_metadata(path);
                there.is_ok_and(|there| FileId::of_metadata(&there) == line.file)
            };
            if ring_name(path).is_some() && is_it() {
                paths.insert(path.to_owned());
            }
        }
    }
    let place = |path: PathBuf| {
        let file = path.file_name()?.to_str()?.to_owned();
        Some(Place { dir: path.parent()?.into(), file, dir_mode: 0o700 })
    };
    let is_ring = |place: &Place| {
        let file = file::open(place, false);
        let claim = file.ok().and_then(|file| tktrot::ring::versions::version_of(&file).ok());
        claim.is_none_or(|claim| claim.version.is_some())
    };
    paths.into_iter().filter_map(place).filter(is_ring).collect()
}

/// The rings whose file was removed, wherever it was; from directories that were not searched, only
/// those that may be rings by their content.
fn removed(searched: &[PathBuf]) -> Vec<NamedRing> {
    let is_other = |orphan: &Orphan| {
        let is_here = orphan.path.parent().is_some_and(|dir| searched.iter().any(|one| one == dir));
        let claim =
            orphan.file(false).ok().and_then(|file| tktrot::ring::versions::version_of(&file).ok());
        !is_here && claim.is_some_and(|claim| claim.version.is_none())
    };
    let all = orphans::of_rings().into_iter();
    all.filter(|orphan| !is_other(orphan)).map(NamedRing::Removed).collect()
}
