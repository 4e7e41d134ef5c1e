//! What the agents of a fleet are told: their tktrot.toml.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// How the ring's keys live, the same on every host.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// R.
    pub rotate: Duration,
    /// L.
    pub lifetime: Duration,
    /// `bind = "none"`: keys that servers without libtktrot can use.
    pub plain: bool,
    /// A bound of the ring's keys.
    pub capacity: Option<u32>,
}

impl Keys {
    /// Bound keys.
    pub fn new(rotate: Duration, lifetime: Duration) -> Keys {
        Keys { rotate, lifetime, plain: false, capacity: None }
    }

    /// The same as settings, by the names that the file has; in the environment they are in upper
    /// case and begin with `TKTROT_`.
    pub(super) fn settings(&self, dir: &Path) -> Vec<(&'static str, String)> {
        let seconds = |span: Duration| format!("{}s", span.as_secs());
        let mut settings = vec![
            ("ring", RING.to_owned()),
            ("dir", dir.display().to_string()),
            ("rotate", seconds(self.rotate)),
            ("lifetime", seconds(self.lifetime)),
        ];
        if let Some(capacity) = self.capacity {
            settings.push(("capacity", capacity.to_string()));
        }
        if self.plain {
            settings.push(("bind", "none".to_owned()));
        }
        settings
    }

    /// The file, with these sections.
    pub fn file(&self, dir: &Path, sections: &str) -> String {
        let mut text = String::new();
        for (name, value) in self.settings(dir) {
            // Writing to a String can't fail.
            let value = if name == "capacity" { value } else { format!("\"{value}\"") };
            let _ = writeln!(text, "{name} = {value}");
        }
        text + sections
    }
}

/// How the ring of every host is called.
pub const RING: &str = "fleet";

/// The section by which an agent talks to these peers, and listens for them.
pub fn mesh(listen: &str, peers: &[String], secret: &Path) -> String {
    let (peers, secret) = (quoted(peers), secret.display());
    format!("\n[mesh]\nlisten = \"{listen}\"\npeers = [{peers}]\nsecrets = [\"{secret}\"]\n")
}

/// The section by which an agent shares its keys through a Redis.
pub fn redis(url: &str, secret: &Path) -> String {
    format!("\n[redis]\nurl = \"{url}\"\nsecrets = [\"{}\"]\n", secret.display())
}

fn quoted(texts: &[String]) -> String {
    texts.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", ")
}
