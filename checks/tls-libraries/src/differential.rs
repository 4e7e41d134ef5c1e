//! The differential test (`c-tests/differential`), run with a library bare, under the shim and linked.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};

use crate::build;
use crate::library::Library;
use crate::program::{self, Cell};

#[path = "../../../c-tests/differential/compare.rs"]
mod compare;

use compare::{Expected, Mode, Programs, Written, differences};

/// Its sources, in c-tests/, and its programs, beside the library's others.
pub const DIRECTORY: &str = "differential";
pub const BARE: &str = "differential/bare";
pub const LINKED: &str = "differential/linked";

/// What a server sees of us with the library, against what `expected.txt` explains.
pub fn run(library: &Library) -> Result<Cell> {
    let directory = build::directory(library);
    let shim = program::ours(library).join("libtktrot_preload.so");
    let (bare, linked) = (directory.join(BARE), directory.join(LINKED));
    let configuration = build::configuration(library);
    let programs = Programs {
        bare: &bare,
        linked: &linked,
        shim: &shim,
        configuration: configuration.as_deref(),
    };
    let path = crate::root().join("c-tests/differential/expected.txt");
    let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let said = Expected::parse(&text).and_then(|expected| check(library, &programs, &expected));
    Ok(said.map_or_else(Cell::Failed, |()| Cell::Passed))
}

/// All that is wrong in either form is said. The forms run side by side.
fn check(library: &Library, programs: &Programs<'_>, expected: &Expected) -> Result<(), String> {
    let run = |mode| run_in(library, programs, mode);
    let (bare, others) = thread::scope(|scope| {
        let others =
            [Mode::Preloaded, Mode::Linked].map(|mode| (mode, scope.spawn(move || run(mode))));
        let ended = |(mode, other): (Mode, thread::ScopedJoinHandle<'_, _>)| {
            let crashed = |_| Err(format!("{}: the comparison crashed", mode.name()));
            (mode, other.join().unwrap_or_else(crashed))
        };
        (run(Mode::Bare), others.map(ended))
    });
    let bare = bare?;
    let mut said = bare.cannot_run();
    said.extend(expected.check_absent(library.name, &bare).err());
    for (mode, other) in others {
        let found = other.map(|other| differences(&bare, &other));
        said.extend(found.and_then(|found| expected.check(library.name, mode, &found)).err());
    }
    if said.is_empty() { Ok(()) } else { Err(said.join("\n")) }
}

/// With rings of its own. Memory is watched for few rounds: `make test` watches it for many.
fn run_in(library: &Library, programs: &Programs<'_>, mode: Mode) -> Result<Written, String> {
    eprintln!("{}: differential, {}", library.name, mode.name());
    let rings = tempfile::Builder::new().prefix("tktrot-test-").tempdir_in(Path::new("/dev/shm"));
    let rings = rings.map_err(|error| format!("no directory for rings: {error}"))?;
    programs.run(mode, rings.path(), true)
}
