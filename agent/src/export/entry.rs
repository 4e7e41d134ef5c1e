//! An `[[export]]` entry: what it asks for, as this host understands it, and what an operator sees of it.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result};
use nix::unistd::Group;
use serde::{Deserialize, Serialize};
use tktrot_fleet::config::{self, Export};
use tktrot_keyfile::files::Format;
use tktrot_keyfile::private::{Disk, Manner};

/// One entry: for whom files are written, where, and how the server is told.
#[derive(Clone, Debug)]
pub struct Entry {
    pub format: Format,
    pub setting: Export,
    /// The number of the group that the files get.
    group: Option<u32>,
}

impl Entry {
    /// Of the settings. To be asked before the agent is somebody else.
    ///
    /// # Errors
    ///
    /// There is no such group.
    pub fn of(setting: &Export) -> Result<Entry> {
        let group = setting.group.as_deref().map(group).transpose();
        let group = group.with_context(|| format!("[[export]] {}", setting.output.display()))?;
        Ok(Entry { format: format(setting.format), setting: setting.clone(), group })
    }

    /// How its files are written.
    pub fn manner(&self) -> Manner {
        Manner { disk: Disk::Never, mode: self.setting.mode, group: self.group }
    }
}

fn format(format: config::Format) -> Format {
    match format {
        config::Format::Nginx80 => Format::Nginx80,
        config::Format::Haproxy => Format::Haproxy,
        config::Format::Lighttpd => Format::Lighttpd,
        config::Format::Raw => Format::Raw,
        config::Format::Apache => Format::Apache,
    }
}

fn group(name: &str) -> Result<u32> {
    let found = Group::from_name(name).context("cannot read this host's groups")?;
    Ok(found.with_context(|| format!("group: there is no group {name}"))?.gid.as_raw())
}

/// How an entry is doing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportStatus {
    pub format: Format,
    pub output: PathBuf,
    /// How many keys are in the files.
    pub keys: usize,
    /// The key with which the server encrypts, or will at the time that is in its file: the first
    /// half of its name.
    pub encrypts: Option<String>,
    /// When the files were written last, in seconds since 1970.
    pub written: Option<u64>,
    /// Whether the server has what it is to have.
    pub current: bool,
    /// Why the server does not have it.
    pub error: Option<String>,
    /// How many times in a row it failed.
    pub failures: u32,
    /// The last line that the command said.
    pub said: Option<String>,
}

impl ExportStatus {
    /// Nothing was written yet.
    pub fn new(format: Format, output: PathBuf) -> ExportStatus {
        ExportStatus {
            format,
            output,
            keys: 0,
            encrypts: None,
            written: None,
            current: false,
            error: None,
            failures: 0,
            said: None,
        }
    }
}

/// Where the exporter says how its entries stand.
#[derive(Clone, Debug)]
pub struct StatusHandle(pub Rc<RefCell<Vec<ExportStatus>>>);

impl StatusHandle {
    /// How each entry is doing, in their order.
    pub fn get(&self) -> Vec<ExportStatus> {
        self.0.borrow().clone()
    }
}
