use std::fs;
use std::mem::offset_of;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tktrot::ring::layout::{GATES_AT, Header, SLOTS_AT};

use crate::Result;

/// What was at a path, to be compared with what is there later.
#[derive(PartialEq, Eq)]
pub struct Witness {
    path: PathBuf,
    facts: Option<Facts>,
}

#[derive(PartialEq, Eq)]
struct Facts {
    mode: u32,
    owner: (u32, u32),
    links: u64,
    inode: u64,
    content: Content,
}

#[derive(PartialEq, Eq)]
enum Content {
    Bytes(Vec<u8>),
    Target(PathBuf),
    Entries(Vec<PathBuf>),
    /// A FIFO, which nobody has opened.
    Nothing,
}

/// Who looks into a ring takes its writer lock and gives it back: that leaves a number
/// that counts on, and who passed a gate last.
fn without_lock(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(gates) = bytes.get_mut(GATES_AT..SLOTS_AT) {
        gates.fill(0);
        let turns = offset_of!(Header, turns);
        bytes[turns..turns + size_of::<u64>()].fill(0);
    }
    bytes
}

impl Witness {
    /// Looks at a path, without following a symbolic link.
    pub fn of(path: &Path) -> Result<Witness> {
        let Ok(facts) = path.symlink_metadata() else {
            return Ok(Witness { path: path.into(), facts: None });
        };
        let kind = facts.file_type();
        let content = if kind.is_symlink() {
            Content::Target(fs::read_link(path)?)
        } else if kind.is_dir() {
            let entries = fs::read_dir(path)?.map(|entry| Ok(entry?.path()));
            Content::Entries(entries.collect::<Result<_>>()?)
        } else if kind.is_file() {
            Content::Bytes(without_lock(fs::read(path)?))
        } else {
            Content::Nothing
        };
        let facts = Facts {
            mode: facts.mode(),
            owner: (facts.uid(), facts.gid()),
            links: facts.nlink(),
            inode: facts.ino(),
            content,
        };
        Ok(Witness { path: path.into(), facts: Some(facts) })
    }

    /// Panics unless everything is as it was. Prints no content: it may be keys.
    pub fn assert_unchanged(&self, case: &str) -> Result<()> {
        let same = Witness::of(&self.path)? == *self;
        assert!(same, "{case}: {} was changed", self.path.display());
        Ok(())
    }
}
