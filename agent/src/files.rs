//! The files that settings name: secrets, read only if nobody else could have read or written them,
//! and certificates.
//!
//! The agent starts as root and is somebody else when its settings are read again. So it remembers what
//! it has read, and which file that was: what it may no longer read it takes from there, if the file is
//! still the same.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Error, Result, anyhow, ensure};
use nix::unistd::geteuid;
use tktrot_keyfile::{Bytes, private};
use zeroize::Zeroizing;

/// Files that were read.
pub struct Files {
    /// Whether the agent was root when it began to read.
    began_as_root: bool,
    read: RefCell<BTreeMap<PathBuf, Remembered>>,
    /// What was read under the former settings.
    before: Option<Rc<Files>>,
}

#[derive(Clone)]
struct Remembered {
    file: Identity,
    bytes: Bytes,
}

/// A file as it was: device, inode, size, and when it was written or changed last.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity([i64; 7]);

impl Default for Files {
    fn default() -> Files {
        let began_as_root = geteuid().is_root();
        Files { began_as_root, read: RefCell::default(), before: None }
    }
}

impl Files {
    /// For new settings.
    pub fn after(before: &Rc<Files>) -> Files {
        let began_as_root = before.began_as_root;
        Files { began_as_root, read: RefCell::default(), before: Some(Rc::clone(before)) }
    }

    /// These are in force now.
    pub fn adopted(self) -> Rc<Files> {
        Rc::new(Files { before: None, ..self })
    }

    /// A file for nobody else.
    ///
    /// # Errors
    ///
    /// It cannot be read, or others have rights to it.
    pub fn private(&self, path: &Path) -> Result<Bytes> {
        self.read(path, |path| {
            let bytes = private::read(path)?;
            // What it can read now it must be able to read at its next start.
            let owner = fs::metadata(path)?.uid();
            ensure!(
                owner == 0 || !self.began_as_root,
                "{}: it belongs to user {owner}, who could have changed it: root reads it when the \
                 agent starts, so it must be root's",
                path.display()
            );
            Ok(bytes)
        })
    }

    /// Any other file.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn public(&self, path: &Path) -> Result<Bytes> {
        let read = |path: &Path| fs::read(path).map(Zeroizing::new);
        self.read(path, |path| read(path).with_context(|| path.display().to_string()))
    }

    fn read(&self, path: &Path, read: impl Fn(&Path) -> Result<Bytes>) -> Result<Bytes> {
        // First: if it is replaced meanwhile, it is read again next time.
        let file = Identity::of(path);
        let bytes = match (read(path), &self.before) {
            (Err(error), Some(before)) if is_not_allowed(&error) => {
                let before = before.read.borrow();
                let known = match (before.get(path), &file) {
                    (Some(known), Ok(file)) if known.file == *file => Ok(known),
                    (Some(_), Ok(_)) => Err("the file has changed since it read it"),
                    (Some(_), Err(_)) => Err("cannot tell whether the file has changed"),
                    (None, _) => Err("has kept only files that its former settings name"),
                };
                let known = known.map_err(|why| {
                    anyhow!(
                        "{error:#}: the agent is user {} now, and {why}; restart it (which costs \
                         nothing)",
                        geteuid()
                    )
                })?;
                known.bytes.clone()
            }
            (read, _) => read?,
        };
        if let Ok(file) = file {
            let remembered = Remembered { file, bytes: bytes.clone() };
            self.read.borrow_mut().insert(path.to_owned(), remembered);
        }
        Ok(bytes)
    }

    /// Whether a file holds other bytes than under other settings, or was not read then.
    pub fn differs(&self, path: &Path, other: &Files) -> bool {
        let (own, other) = (self.read.borrow(), other.read.borrow());
        own.get(path).map(|file| &file.bytes) != other.get(path).map(|file| &file.bytes)
    }

    /// Whether any file that was read differs.
    pub fn any_differs(&self, other: &Files) -> bool {
        self.read.borrow().keys().any(|path| self.differs(path, other))
    }
}

impl Identity {
    fn of(path: &Path) -> io::Result<Identity> {
        let facts = fs::metadata(path)?;
        Ok(Identity([
            facts.dev() as i64,
            facts.ino() as i64,
            facts.size() as i64,
            facts.mtime(),
            facts.mtime_nsec(),
            facts.ctime(),
            facts.ctime_nsec(),
        ]))
    }
}

fn is_not_allowed(error: &Error) -> bool {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.into_iter().any(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
}
