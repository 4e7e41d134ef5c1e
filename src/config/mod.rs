//! Defaults, environment and C struct become one [`Config`].
//!
//! A value that cannot be used is left at its default and told as a
//! [`BadValue`]: which setting, what it was, what is accepted. Only of a
//! lifetime that is too long the longest one applies: the default may be far
//! shorter than what was meant.

pub mod misspelt;
pub mod values;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::log::Destination;
use crate::program;
use crate::ring::asks::Binds;
use crate::ring::file::Place;
use crate::ring::layout::{Capacity, MAX_CAPACITY};
use crate::schedule::{MAX_LIFETIME, Policy};

/// R where nobody says otherwise: RFC 9325 §3.4 suggests once a week, common practice is an hour.
pub const DEFAULT_ROTATE_EVERY: Duration = Duration::from_secs(3600);
/// The longest R without `allow_long`.
pub const MAX_ROTATE_EVERY: Duration = Duration::from_secs(24 * 3600);
/// OpenSSL's default session timeout, for where no context has told its own.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(7200);

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

impl From<Bind> for Binds {
    fn from(bind: Bind) -> Binds {
        Binds::of(bind.cert, bind.verify, bind.sni)
    }
}

/// When a ticket that was used is answered with a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Renew {
    /// In TLS 1.3 always, in TLS 1.2 never: what clients need.
    #[default]
    Auto,
    /// Every ticket that is used is renewed.
    Always,
    /// No ticket is renewed.
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
    /// The most keys that may be in the ring.
    pub capacity: Option<u32>,
    /// How long a key encrypts (R); `None`: the default, or what others of the ring ask for.
    pub rotate_every: Option<Duration>,
    /// How long a ticket lives (L); `None`: as long as the contexts' sessions.
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
    pub log: Destination,
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
            log: Destination::default(),
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
    /// The value that was given.
    pub value: String,
    /// Which values would have been accepted, in words.
    pub accepted: String,
    /// What applies instead; none if that is the default.
    pub instead: Option<Duration>,
}

impl BadValue {
    /// The line for who goes on all the same: it also says what applies.
    pub fn worked_around(&self) -> String {
        match self.instead {
            Some(instead) => format!("{self}; {} applies", values::Written(instead)),
            None => format!("{self}; the default applies"),
        }
    }
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The rest of the line must be seen, however long the value is.
        const SHOWN: usize = 100;
        let BadValue { setting, value, accepted, .. } = self;
        let shown: String = value.chars().take(SHOWN).collect();
        let cut = if shown.len() < value.len() { "…" } else { "" };
        write!(f, "{setting}={shown:?}{cut} cannot be used; accepted: {accepted}")
    }
}

const PREFIX: &str = "TKTROT_";
const NAMES: &str = "a variable named TKTROT_ and RING, DIR, CAPACITY, ROTATE, LIFETIME, LABEL, \
                     BIND, RENEW, TAKEOVER, ONLY, UPKEEP, LOG, STRICT or DISABLE";
const EACH: [&str; 14] = [
    "RING", "DIR", "CAPACITY", "ROTATE", "LIFETIME", "LABEL", "BIND", "RENEW", "TAKEOVER", "ONLY",
    "UPKEEP", "LOG", "STRICT", "DISABLE",
];

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
                let mut accepted = accepted.to_owned();
                if !EACH.contains(&key)
                    && let Some(meant) = misspelt::meant(key, EACH)
                {
                    accepted = format!("{NAMES} (did you mean {PREFIX}{meant}?)");
                }
                problems.push(BadValue {
                    setting: format!("{PREFIX}{key}"),
                    value: value.to_string_lossy().into_owned(),
                    accepted,
                    instead: config.lifetime.filter(|_| key == "LIFETIME"),
                });
            }
        }
        problems.extend(config.reconcile(|field| format!("{PREFIX}{}", field.to_uppercase())));
        if config.lifetime.is_none() {
            problems.iter_mut().for_each(|problem| problem.instead = None);
        }
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
            "RING" => self.ring = Some(values::ring(value)?),
            "DIR" => self.dir = Some(values::dir(value)?),
            "CAPACITY" => self.capacity = Some(values::capacity(text)?),
            "ROTATE" => self.rotate_every = Some(values::rotate_every(text)?),
            "LIFETIME" => {
                self.lifetime = values::is_longer_than_any_lifetime(text).then_some(MAX_LIFETIME);
                self.lifetime = Some(values::lifetime(text)?);
            }
            "LABEL" => self.label = values::label(value.as_bytes())?.to_vec(),
            "BIND" => self.bind = Some(values::bind(text)?),
            "RENEW" => self.renew = values::renew(text)?,
            "TAKEOVER" => self.takeover = values::switch(text)?,
            "ONLY" => self.only = values::only(value)?,
            "UPKEEP" => self.upkeep = values::upkeep(text)?,
            "LOG" => self.log = values::log(value)?,
            "STRICT" => self.strict = values::switch(text)?,
            "DISABLE" => self.disabled = values::switch(text)?,
            #[cfg(feature = "kill-points")]
            "KILL_AT" => {}
            // A misspelt name would else be a setting silently lost.
            _ => return Err(NAMES),
        }
        Ok(())
    }

    /// Drops settings that contradict one another and tells which; `named`
    /// makes the name of a setting from that of its field.
    pub fn reconcile(&mut self, named: impl Fn(&str) -> String) -> Vec<BadValue> {
        let mut problems = Vec::new();
        let rotate_every = self.rotate_every.unwrap_or(DEFAULT_ROTATE_EVERY);
        if let Some(lead) = self.lead.filter(|lead| *lead > rotate_every / 2) {
            self.lead = None;
            problems.push(BadValue {
                setting: named("lead"),
                value: format!("{}s", lead.as_secs()),
                instead: None,
                accepted: format!(
                    "at most half of the rotation, {}s",
                    (rotate_every / 2).as_secs_f64()
                ),
            });
        }
        let kept = Policy::keys_kept(rotate_every, self.lifetime.unwrap_or(Duration::ZERO)) + 1;
        if let Some(capacity) = self.capacity.filter(|capacity| u64::from(*capacity) < kept) {
            self.capacity = None;
            problems.push(BadValue {
                setting: named("capacity"),
                value: capacity.to_string(),
                instead: None,
                accepted: format!("at least {kept} with this rotation and lifetime"),
            });
        }
        if kept > u64::from(MAX_CAPACITY) {
            let lifetime = self.lifetime.take().unwrap_or_default();
            let longest = Policy::longest_lifetime(rotate_every, MAX_CAPACITY);
            problems.push(BadValue {
                setting: named("lifetime"),
                // In seconds, as in `lead`: a C program sets them so.
                value: format!("{}s", lifetime.as_secs()),
                instead: None,
                accepted: format!("at most {}s with this rotation", longest.as_secs()),
            });
        }
        problems
    }

    /// The most keys that may be in a ring that is made for this configuration.
    pub fn most_keys(&self) -> Capacity {
        self.capacity.and_then(Capacity::new).unwrap_or(Capacity::MAX)
    }

    /// Where the ring lies.
    pub fn place(&self) -> Place {
        let name = self.ring.clone().unwrap_or_else(|| program::name().into());
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

    /// True if a program of this name is meant.
    pub fn is_meant_for(&self, program: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == program)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> (Config, Vec<BadValue>) {
        Config::from_variables(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn nothing_set_is_the_default() {
        assert_eq!(from(&[("PATH", "/bin"), ("TKTROT_RING", "")]), (Config::default(), vec![]));
        assert_eq!(Config::default().most_keys(), Capacity::MAX);
    }

    #[test]
    fn a_bad_value_is_named_and_leaves_its_default() {
        let (config, problems) = from(&[("TKTROT_ROTATE", "soon"), ("TKTROT_LIFETIME", "1h")]);
        assert_eq!(config.rotate_every, None);
        assert_eq!(config.lifetime, Some(Duration::from_secs(3600)));
        assert_eq!(problems.len(), 1);
        assert_eq!(
            problems[0].to_string(),
            "TKTROT_ROTATE=\"soon\" cannot be used; accepted: 1s to 24h, such as 30s, 10m or 1h"
        );
    }

    #[test]
    fn of_a_lifetime_that_is_too_long_the_longest_applies_and_that_is_told() {
        let (config, problems) = from(&[("TKTROT_LIFETIME", "8d")]);
        assert_eq!(config.lifetime, Some(MAX_LIFETIME));
        let lines: Vec<_> = problems.iter().map(BadValue::worked_around).collect();
        let line = "TKTROT_LIFETIME=\"8d\" cannot be used; accepted: 1s to 7d, such as 30s, 10m \
                    or 1h; 7d applies";
        assert_eq!(lines, [line]);
        // Too long for the ring, too.
        let (config, problems) = from(&[("TKTROT_LIFETIME", "8d"), ("TKTROT_ROTATE", "1s")]);
        assert_eq!((config.lifetime, problems.len()), (None, 2));
        let says_default = |bad: &BadValue| bad.worked_around().ends_with("the default applies");
        assert!(problems.iter().all(says_default), "{problems:?}");
        let (_, problems) = from(&[("TKTROT_LIFETIME", "long")]);
        assert!(problems.iter().all(says_default), "{problems:?}");
    }

    #[test]
    fn a_misspelt_variable_is_told() {
        let (config, problems) = from(&[("TKTROT_ROTTE", "1h")]);
        assert_eq!(config, Config::default());
        assert_eq!(problems[0].setting, "TKTROT_ROTTE");
        let accepted = &problems[0].accepted;
        assert!(accepted.ends_with("DISABLE (did you mean TKTROT_ROTATE?)"), "{accepted}");
        for name in EACH {
            let (_, problems) = from(&[(&format!("TKTROT_{name}"), "\u{1}")]);
            let known = problems.iter().all(|problem| !problem.accepted.starts_with(NAMES));
            assert!(known && NAMES.contains(name), "{name}");
        }
        let (_, problems) = from(&[("TKTROT_WHATEVER", "1h")]);
        assert_eq!(problems[0].accepted, NAMES);
    }

    #[test]
    fn settings_that_contradict_one_another_are_told() {
        let (config, problems) =
            from(&[("TKTROT_ROTATE", "1m"), ("TKTROT_LIFETIME", "1h"), ("TKTROT_CAPACITY", "20")]);
        assert_eq!((config.capacity, problems.len()), (None, 1));
        assert_eq!(problems[0].accepted, "at least 64 with this rotation and lifetime");
        let (config, problems) = from(&[("TKTROT_ROTATE", "1s"), ("TKTROT_LIFETIME", "7d")]);
        assert_eq!((config.lifetime, problems.len()), (None, 1));
        assert_eq!(problems[0].setting, "TKTROT_LIFETIME");
    }

    #[test]
    fn a_ring_has_room_for_all_but_what_it_is_said_to_bound() {
        let (config, _) = from(&[("TKTROT_ROTATE", "1s"), ("TKTROT_LIFETIME", "1h")]);
        assert_eq!(config.most_keys(), Capacity::MAX);
        let (config, _) = from(&[("TKTROT_CAPACITY", "100")]);
        assert_eq!(config.most_keys(), Capacity(100));
    }

    #[test]
    fn a_ring_lies_where_it_is_said_to() {
        let place = |variables: &[(&str, &str)]| from(variables).0.place().path();
        let named = place(&[("TKTROT_RING", "web"), ("TKTROT_DIR", "/dev/shm/t")]);
        assert_eq!(named, PathBuf::from("/dev/shm/t/web.ring"));
        let by_path = place(&[("TKTROT_RING", "/dev/shm/x/web"), ("TKTROT_DIR", "/dev/shm/t")]);
        assert_eq!(by_path, PathBuf::from("/dev/shm/x/web"));
    }
}
