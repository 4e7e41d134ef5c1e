//! Where the rings of this machine lie, as far as this user may see them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use nix::unistd::geteuid;
use serde::Serialize;
use tktrot::ring::file::Place;
use tktrot::ring::versions::ring_name;

use super::facts;
use crate::orphans::{self, Target};
use crate::rings;
use crate::settings::Settings;
use crate::status::processes::{FileId, printable};

/// What was found, and where it could not be looked.
pub struct Found {
    /// By path; of one path, those whose file was removed come last.
    pub targets: Vec<Target>,
    /// The directories that there are.
    pub searched: Vec<PathBuf>,
    pub unsearched: Vec<Unsearched>,
}

/// A directory that could not be looked into.
#[derive(Debug, Serialize)]
pub struct Unsearched {
    pub path: String,
    pub error: String,
    /// True if it was named on the command line.
    #[serde(skip)]
    pub was_named: bool,
}

/// Looks everywhere, and into the directories that were `named`.
pub fn find(named: &[PathBuf], settings: &Settings) -> Found {
    let mut found = Found { targets: Vec::new(), searched: Vec::new(), unsearched: Vec::new() };
    let usual = usual().into_iter().chain(settings.config.dir.clone()).map(|dir| (dir, false));
    let mut seen = Vec::new();
    for (dir, was_named) in named.iter().cloned().map(|dir| (dir, true)).chain(usual) {
        match fs::metadata(&dir).map(|facts| FileId::of_facts(&facts)) {
            // By another name, as /var/run is one of /run.
            Ok(id) if seen.contains(&id) => continue,
            Ok(id) => seen.push(id),
            // No server has made it yet.
            Err(_) if !was_named => continue,
            Err(_) => {}
        }
        match rings_in(&dir) {
            Ok(places) => {
                found.targets.extend(places.into_iter().map(Target::At));
                found.searched.push(dir);
            }
            Err(error) => {
                let (path, error) = (printable(&dir.to_string_lossy()), format!("{error:#}"));
                found.unsearched.push(Unsearched { path, error, was_named });
            }
        }
    }
    for place in in_use() {
        let target = Target::At(place);
        // By the same path, if its directory was searched by that.
        let is_known = found.targets.iter().any(|known| is_same_file(known, &target));
        if !is_known {
            found.targets.push(target);
        }
    }
    found.targets.extend(removed(&found.searched));
    found.targets.sort_by_key(|target| (target.path(), target.is_removed()));
    found
}

/// The directories in which servers make rings where nothing else is set.
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
        Ok(facts) if facts.is_dir() => {}
        Ok(_) => bail!("{}: it is not a directory", dir.display()),
        Err(error) => bail!("{}: it cannot be read: {error}", dir.display()),
    }
    // A server's names are UTF-8; of any other the file is not found below, and that is said.
    let names = rings::files(dir)?.into_iter().map(|name| name.to_string_lossy().into_owned());
    Ok(names.map(|file| Place { dir: dir.into(), file, dir_mode: 0o700 }).collect())
}

fn is_same_file(one: &Target, other: &Target) -> bool {
    let id = |target: &Target| Some(FileId::of_facts(&fs::symlink_metadata(target.path()).ok()?));
    one.path() == other.path() || id(one).is_some_and(|found| id(other) == Some(found))
}

/// Those that processes have, wherever they are: systemd gives services directories of their own.
fn in_use() -> Vec<Place> {
    let mut paths = BTreeSet::new();
    for process in entries("/proc".as_ref()) {
        if process.parse::<u32>().is_err() {
            continue;
        }
        let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default();
        let path = |line: &str| Some(PathBuf::from(line.get(line.find('/')?..)?));
        let mapped = maps.lines().filter_map(|line| Some((line, path(line)?)));
        for (line, path) in mapped.filter(|(_, path)| ring_name(path).is_some()) {
            // Another mount namespace may have another file of that name.
            let facts = fs::symlink_metadata(&path);
            let is_it = facts.is_ok_and(|facts| FileId::of_facts(&facts).mapped_by(line).is_some());
            if is_it {
                paths.insert(path);
            }
        }
    }
    let place = |path: PathBuf| {
        let file = path.file_name()?.to_str()?.to_owned();
        Some(Place { dir: path.parent()?.into(), file, dir_mode: 0o700 })
    };
    let is_ring = |place: &Place| {
        let file = facts::open(place, false);
        let claim = file.ok().and_then(|file| tktrot::ring::versions::version_of(&file).ok());
        claim.is_none_or(|claim| claim.version.is_some())
    };
    paths.into_iter().filter_map(place).filter(is_ring).collect()
}

/// Those without a name, wherever they were; but of other directories no file that is known to be
/// another program's.
fn removed(searched: &[PathBuf]) -> Vec<Target> {
    let is_other = |orphan: &orphans::Orphan| {
        let is_here = orphan.path.parent().is_some_and(|dir| searched.iter().any(|one| one == dir));
        let claim =
            orphan.file(false).ok().and_then(|file| tktrot::ring::versions::version_of(&file).ok());
        !is_here && claim.is_some_and(|claim| claim.version.is_none())
    };
    let all = orphans::of_rings().into_iter();
    all.filter(|orphan| !is_other(orphan)).map(Target::Removed).collect()
}
