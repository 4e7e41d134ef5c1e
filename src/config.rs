//! Defaults, environment and C struct become one [`Config`].
//!
//! A value that cannot be used is left at its default and told as a
//! [`BadValue`]: which setting, what it was, what is accepted.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::log::Target;
use crate::process;
use crate::ring::file::Place;
use crate::ring::layout::{Geometry, MAX_CAPACITY, MIN_CAPACITY};
use crate::schedule::{MAX_LIFETIME, Policy};

/// R where nobody says otherwise (RFC 9325 §3.4 and common practice: an hour).
pub const DEFAULT_ROTATE_EVERY: Duration = Duration::from_secs(3600);
/// The longest R without `allow_long`.
pub const MAX_ROTATE_EVERY: Duration = Duration::from_secs(24 * 3600);
/// OpenSSL's default session timeout, for where no context has told its own.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(7200);
/// Keys that a ring holds unless R and L need more.
pub const DEFAULT_CAPACITY: u32 = 64;

/// What a ticket is bound to beside its key and the label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The leaf certificate of the initial SSL_CTX.
    pub cert: bool,
    /// The client-verification policy.
    pub verify: bool,
    /// The server name of the connection.
    pub sni: bool,
}

impl Bind {
    /// All parts: the default.
    pub const ALL: Bind = Bind { cert: true, verify: true, sni: true };
    /// None: keys are made plain.
    pub const NONE: Bind = Bind { cert: false, verify: false, sni: false };
}

/// When a ticket that was used is answered with a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Renew {
    /// In TLS 1.3 always, in TLS 1.2 never: what clients need.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Who rotates and erases when no handshake happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Upkeep {
    /// A thread that starts with a process's first ticket.
    #[default]
    Thread,
    /// Nobody: only the callback, and who calls `tkt_upkeep`.
    Callback,
}

/// Everything that can be set. `None` means: not set, so what the ring says, then the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name or path of the ring; default: the executable's base name.
    pub ring: Option<OsString>,
    /// Directory of rings given by name.
    pub dir: Option<PathBuf>,
    /// Keys that a new ring holds.
    pub capacity: Option<u32>,
    /// R.
    pub rotate_every: Option<Duration>,
    /// L.
    pub lifetime: Option<Duration>,
    /// See [`Policy::lead`].
    pub lead: Option<Duration>,
    /// The service's label: tickets of another label do not open.
    pub label: Vec<u8>,
    /// What tickets are bound to; `None`: all parts.
    pub bind: Option<Bind>,
    /// When tickets are renewed.
    pub renew: Renew,
    /// Replace a server's own keys (preload only).
    pub takeover: bool,
    /// Only in these executables (preload only); empty: in all.
    pub only: Vec<OsString>,
    /// Who does the upkeep.
    pub upkeep: Upkeep,
    /// Where log lines go.
    pub log: Target,
    /// Any problem stops the server at its start.
    pub strict: bool,
    /// Do nothing at all.
    pub disabled: bool,
    /// Accept an R over 24 hours.
    pub allow_long: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            ring: None,
            dir: None,
            capacity: None,
            rotate_every: None,
            lifetime: None,
            lead: None,
            label: Vec::new(),
            bind: None,
            renew: Renew::default(),
            takeover: true,
            only: Vec::new(),
            upkeep: Upkeep::default(),
            log: Target::default(),
            strict: false,
            disabled: false,
            allow_long: false,
        }
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadValue {
    /// The variable or field.
    pub setting: String,
    /// What it was.
    pub value: String,
    /// What it can be.
    pub accepted: String,
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The rest of the line must be seen, however long the value is.
        const SHOWN: usize = 100;
        let BadValue { setting, value, accepted } = self;
        let shown: String = value.chars().take(SHOWN).collect();
        let cut = if shown.len() < value.len() { "…" } else { "" };
        write!(f, "{setting}={shown:?}{cut} cannot be used: accepted is {accepted}")
    }
}

const PREFIX: &str = "TKTROT_";
const NAMES: &str = "a variable named TKTROT_ and RING, DIR, CAPACITY, ROTATE, LIFETIME, LABEL, \
                     BIND, RENEW, TAKEOVER, ONLY, UPKEEP, LOG, STRICT or DISABLE";

impl Config {
    /// The configuration of this process's environment, which is ignored in a
    /// program that runs with privileges its caller lacks (secure_getenv(3)).
    pub fn from_env() -> (Self, Vec<BadValue>) {
        // SAFETY: getauxval only reads what the kernel gave the process.
        let secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
        let variables = std::env::vars_os().filter(|_| !secure);
        Self::from_variables(variables)
    }

    /// The configuration that the given variables make; those without the
    /// prefix `TKTROT_` are not looked at.
    pub fn from_variables(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> (Self, Vec<BadValue>) {
        let mut config = Config::default();
        let mut problems = Vec::new();
        for (name, value) in variables {
            let Some(key) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
                continue;
            };
            if let Err(accepted) = config.set(key, &value) {
                problems.push(BadValue {
                    setting: format!("{PREFIX}{key}"),
                    value: value.to_string_lossy().into_owned(),
                    accepted: accepted.into(),
                });
            }
        }
        problems.extend(config.reconcile(|name| format!("{PREFIX}{}", name.to_uppercase())));
        (config, problems)
    }

    /// Sets one value by the name of its variable without the prefix. An empty
    /// value is as good as none. `Err` says what is accepted.
    fn set(&mut self, key: &str, value: &OsStr) -> Result<(), &'static str> {
        if value.is_empty() {
            return Ok(());
        }
        let text = value.to_str().unwrap_or("\u{fffd}");
        match key {
            "RING" => self.ring = Some(accept_ring(value)?),
            "DIR" => self.dir = Some(accept_dir(value)?),
            "CAPACITY" => self.capacity = Some(accept_capacity(text)?),
            "ROTATE" => self.rotate_every = Some(accept_rotate_every(text)?),
            "LIFETIME" => self.lifetime = Some(accept_lifetime(text)?),
            "LABEL" => self.label = accept_label(value.as_bytes())?.to_vec(),
            "BIND" => self.bind = Some(accept_bind(text)?),
            "RENEW" => {
                self.renew = match text {
                    "auto" => Renew::Auto,
                    "always" => Renew::Always,
                    "never" => Renew::Never,
                    _ => return Err("auto, always or never"),
                }
            }
            "TAKEOVER" => self.takeover = accept_switch(text, ["yes", "no"], "yes or no")?,
            "ONLY" => self.only = accept_only(value)?,
            "UPKEEP" => {
                self.upkeep = match text {
                    "thread" => Upkeep::Thread,
                    "callback" => Upkeep::Callback,
                    _ => return Err("thread or callback"),
                }
            }
            "LOG" => self.log = accept_log(value)?,
            "STRICT" => self.strict = accept_switch(text, ["1", "0"], "1 or 0")?,
            "DISABLE" => self.disabled = accept_switch(text, ["1", "0"], "1 or 0")?,
            #[cfg(feature = "kill-points")]
            "KILL_AT" => {}
            // A misspelt name would else be a setting silently lost.
            _ => return Err(NAMES),
        }
        Ok(())
    }

    /// Drops settings that contradict one another and tells which, by the name
    /// that `full_name` makes of `lead`, `capacity` and `lifetime`.
    pub fn reconcile(&mut self, full_name: impl Fn(&str) -> String) -> Vec<BadValue> {
        let mut problems = Vec::new();
        let rotate_every = self.rotate_every.unwrap_or(DEFAULT_ROTATE_EVERY);
        if let Some(lead) = self.lead.filter(|lead| *lead > rotate_every / 2) {
            self.lead = None;
            problems.push(BadValue {
                setting: full_name("lead"),
                value: format!("{}s", lead.as_secs()),
                accepted: format!("at most half of the rotation, {:?}", rotate_every / 2),
            });
        }
        let kept = Policy::keys_kept(rotate_every, self.lifetime.unwrap_or(Duration::ZERO)) + 1;
        if let Some(capacity) = self.capacity.filter(|capacity| u64::from(*capacity) < kept) {
            self.capacity = None;
            problems.push(BadValue {
                setting: full_name("capacity"),
                value: capacity.to_string(),
                accepted: format!("at least {kept} with this rotation and lifetime"),
            });
        }
        if kept > u64::from(MAX_CAPACITY) {
            let lifetime = self.lifetime.take().unwrap_or_default();
            let longest = Policy::longest_lifetime(rotate_every, MAX_CAPACITY);
            problems.push(BadValue {
                setting: full_name("lifetime"),
                value: format!("{}s", lifetime.as_secs()),
                accepted: format!("at most {}s with this rotation", longest.as_secs()),
            });
        }
        problems
    }

    /// The size of a ring that is made for this configuration.
    pub fn geometry(&self) -> Geometry {
        let kept = Policy::keys_kept(
            self.rotate_every.unwrap_or(DEFAULT_ROTATE_EVERY),
            self.lifetime.unwrap_or(DEFAULT_LIFETIME),
        );
        let needed = u32::try_from(kept + 1).unwrap_or(MAX_CAPACITY).max(DEFAULT_CAPACITY);
        let capacity = self.capacity.unwrap_or(needed).clamp(MIN_CAPACITY, MAX_CAPACITY);
        Geometry::new(capacity).expect("a clamped capacity")
    }

    /// Where the ring lies.
    pub fn place(&self) -> Place {
        let name = self.ring.clone().unwrap_or_else(|| process::executable().into());
        if name.as_bytes().contains(&b'/') {
            let path = PathBuf::from(name);
            let dir = path.parent().map_or_else(PathBuf::new, PathBuf::from);
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Place { dir, file, dir_mode: 0o700 };
        }
        let file = format!("{}.ring", name.to_string_lossy());
        match &self.dir {
            Some(dir) => Place { dir: dir.clone(), file, dir_mode: 0o700 },
            None => {
                let (dir, dir_mode) = Place::default_dir();
                Place { dir, file, dir_mode }
            }
        }
    }

    /// True if this executable is meant.
    pub fn is_meant_for(&self, executable: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == executable)
    }
}

/// `30s`, `10m`, `1h`, `2d`, or seconds without a unit.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return None,
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

fn accept_rotate_every(text: &str) -> Result<Duration, &'static str> {
    duration(text)
        .filter(|every| (Duration::from_secs(1)..=MAX_ROTATE_EVERY).contains(every))
        .ok_or("1s to 24h, such as 30s, 10m or 1h")
}

fn accept_lifetime(text: &str) -> Result<Duration, &'static str> {
    duration(text)
        .filter(|lifetime| *lifetime >= Duration::from_secs(1))
        .map(|lifetime| lifetime.min(MAX_LIFETIME))
        .ok_or("1s or more, such as 30s, 10m or 1h (over 7d counts as 7d)")
}

fn accept_capacity(text: &str) -> Result<u32, &'static str> {
    let capacity = text.parse().ok();
    capacity.filter(|count| (MIN_CAPACITY..=MAX_CAPACITY).contains(count)).ok_or(CAPACITY_RANGE)
}

/// The words for a capacity out of range.
pub const CAPACITY_RANGE: &str = "8 to 16384 keys";
const _: () = assert!(MIN_CAPACITY == 8 && MAX_CAPACITY == 16384);

/// The name or path of a ring.
pub fn accept_ring(value: &OsStr) -> Result<OsString, &'static str> {
    const ACCEPTED: &str =
        "a name of letters, digits, '.', '_', '-', '@' or ':' (at most 200), or an absolute path";
    let bytes = value.as_bytes();
    let is_path = bytes.starts_with(b"/") && !bytes.ends_with(b"/") && bytes.len() < 4096;
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-@:".contains(byte);
    let is_name = bytes.iter().all(letter) && (1..=200).contains(&bytes.len()) && bytes[0] != b'.';
    let ends_well = !bytes.ends_with(b"/.") && !bytes.ends_with(b"/..") && value.to_str().is_some();
    if (is_path && ends_well) || is_name { Ok(value.into()) } else { Err(ACCEPTED) }
}

/// The directory of rings.
pub fn accept_dir(value: &OsStr) -> Result<PathBuf, &'static str> {
    let absolute = value.as_bytes().starts_with(b"/") && value.len() < 3800;
    if absolute { Ok(value.into()) } else { Err("an absolute path of a directory on tmpfs") }
}

/// The label of a service.
pub fn accept_label(value: &[u8]) -> Result<&[u8], &'static str> {
    if value.len() <= 255 { Ok(value) } else { Err("at most 255 bytes") }
}

fn accept_bind(text: &str) -> Result<Bind, &'static str> {
    if text == "none" {
        return Ok(Bind::NONE);
    }
    text.split(',').try_fold(Bind::NONE, |bind, part| match part.trim() {
        "cert" => Ok(Bind { cert: true, ..bind }),
        "verify" => Ok(Bind { verify: true, ..bind }),
        "sni" => Ok(Bind { sni: true, ..bind }),
        _ => Err("none, or some of cert,verify,sni"),
    })
}

fn accept_only(value: &OsStr) -> Result<Vec<OsString>, &'static str> {
    let names = value.as_bytes().split(|byte| *byte == b',');
    let names: Vec<_> = names.map(|name| OsStr::from_bytes(name.trim_ascii()).into()).collect();
    let usable = |name: &OsString| !name.is_empty() && !name.as_bytes().contains(&b'/');
    if names.iter().all(usable) {
        Ok(names)
    } else {
        Err("base names of executables, separated by commas")
    }
}

/// Where log lines go.
pub fn accept_log(value: &OsStr) -> Result<Target, &'static str> {
    match value.as_bytes() {
        b"stderr" => Ok(Target::Stderr),
        b"syslog" => Ok(Target::Syslog),
        b"none" => Ok(Target::Nothing),
        path if path.starts_with(b"/") => Ok(Target::File(value.into())),
        _ => Err("stderr, syslog, none or an absolute path"),
    }
}

fn accept_switch(
    text: &str,
    [on, off]: [&str; 2],
    words: &'static str,
) -> Result<bool, &'static str> {
    if text == on {
        Ok(true)
    } else if text == off {
        Ok(false)
    } else {
        Err(words)
    }
}
