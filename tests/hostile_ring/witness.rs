use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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
            Content::Bytes(fs::read(path)?)
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
