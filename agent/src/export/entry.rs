//! What an `[[export]]` entry asks for, as this host understands it.

use anyhow::{Context, Result};
use nix::unistd::Group;
use tktrot_fleet::config::{self, Export};

use tktrot_keyfile::files::Format;
use tktrot_keyfile::target::{Disk, Manner};

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

    pub(super) fn manner(&self) -> Manner {
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
    let found = Group::from_name(name).context("the groups of this host cannot be read")?;
    Ok(found.with_context(|| format!("group: there is no group {name}"))?.gid.as_raw())
}
