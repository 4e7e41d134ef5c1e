//! The agent's sections of the settings file, beside the settings that stand for variables.
//!
//! ```toml
//! [agent]
//! user = "nobody"
//! metrics = "127.0.0.1:9187"
//!
//! [mesh]
//! peers = ["10.0.0.2", "10.0.0.3:4744"]
//! secrets = ["/etc/tktrot/fleet.secret"]
//! ```

pub mod flaw;
mod section;
mod values;

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::ahead::Ahead;
use crate::node::limits::Limits;
use crate::redis::Settings;
use flaw::Flaw;
use section::Section;

/// The sections that this module reads.
pub const SECTIONS: [&str; 4] = ["agent", "mesh", "redis", "export"];
/// The port of the mesh where none is given.
pub const PORT: u16 = 4744;

/// Nodes for which a ring has room where nobody says how many there will be.
const FEW_NODES: u32 = 8;
/// The same where peers are a DNS name, which may stand for many.
const MANY_NODES: u32 = 64;

/// The sections of the settings file that are for the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Settings of the process itself.
    pub agent: Agent,
    /// Keys are shared host by host.
    pub mesh: Option<Mesh>,
    /// Keys are shared through Redis. At most one of the two is there.
    pub redis: Option<Redis>,
    /// Files that are kept current.
    pub exports: Vec<Export>,
}

/// `[agent]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Whom it becomes if it was started by root.
    pub user: String,
    /// Where it answers Prometheus, and whoever asks whether it is ready.
    pub metrics: Option<SocketAddr>,
    /// A file with the token that Prometheus has to show. There is one unless the address is a loopback
    /// address.
    pub metrics_token: Option<PathBuf>,
    /// PEM files with a certificate and its private key, if it speaks TLS there.
    pub metrics_certificate: Option<(PathBuf, PathBuf)>,
    /// How its log looks.
    pub log: LogForm,
}

/// How the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogForm {
    /// A line of text for each event.
    #[default]
    Text,
    /// A JSON object for each.
    Json,
}

/// `[mesh]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// The address on which peers are awaited.
    pub listen: SocketAddr,
    /// Who is called; the node itself may be among them.
    pub peers: Vec<Peer>,
    /// How nodes know each other.
    pub credentials: Credentials,
    /// See [`Limits::lead_min`].
    pub lead_min: Duration,
    /// See [`Limits::lead_max`].
    pub lead_max: Duration,
    /// See [`Limits::ahead`].
    pub ahead: Ahead,
    /// How many nodes there will be, this one included.
    pub nodes: u32,
}

/// A peer as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    pub host: Host,
    pub port: u16,
}

/// An address, or a name that stands for any number of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A DNS name, which is looked up again and again.
    Name(String),
}

/// How nodes know each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// By a secret that all have: files, of which all are accepted and the first is used; one at
    /// least.
    Secrets(Vec<PathBuf>),
    /// By certificates of a private CA: PEM files.
    Certificate {
        /// The node's certificate, and intermediate ones.
        certificate: PathBuf,
        /// The private key of the certificate.
        key: PathBuf,
        /// The CA, whose every certificate is a node's.
        ca: PathBuf,
    },
}

/// `[redis]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// How Redis is found.
    pub at: RedisAt,
    /// The file with its password.
    pub password_file: Option<PathBuf>,
    /// A PEM file with the CA that its certificate is from, if that is no public one.
    pub ca: Option<PathBuf>,
    /// Files: what keys are wrapped with; all are tried, the first is used; one at least.
    pub secrets: Vec<PathBuf>,
    /// What the names of all that is stored begin with.
    pub prefix: String,
    /// Goes on with a Redis that writes to disk.
    pub allow_persistence: bool,
    /// How long before it encrypts a key is stored at least.
    pub lead: Duration,
    /// How often Redis is asked whether anything changed.
    pub poll: Duration,
    /// See [`Settings::ahead`].
    pub ahead: Ahead,
}

/// Where Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisAt {
    /// `redis://`, `rediss://` or `unix://`, without a password.
    Url(String),
    /// Nodes of a Redis Cluster, as URLs: any of them says which one has the ring's keys.
    Cluster(Vec<String>),
    /// Sentinel is asked for its address.
    Sentinels {
        /// The Sentinels, as URLs.
        urls: Vec<String>,
        /// The name under which they know it.
        master: String,
    },
}

/// `[[export]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The format, which depends on the server.
    pub format: Format,
    /// The file; on tmpfs.
    pub output: PathBuf,
    /// HAProxy's admin socket.
    pub socket: Option<PathBuf>,
    /// What is run after a change: program and arguments; empty: nothing.
    pub command: Vec<String>,
    /// How long it, or the socket, may take.
    pub timeout: Duration,
    /// The rights of the files.
    pub mode: u32,
    /// The group of the files, by name.
    pub group: Option<String>,
}

/// For which server keys are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `ssl_session_ticket_key` files of nginx, 80 bytes each.
    Nginx80,
    /// `tls-ticket-keys` of HAProxy.
    Haproxy,
    /// `ssl.stek-file` of lighttpd.
    Lighttpd,
    /// 80 bytes for each key.
    Raw,
    /// `SSLSessionTicketKeyFile` of Apache, 48 bytes.
    Apache,
}

impl Default for Agent {
    fn default() -> Self {
        Agent {
            user: "nobody".into(),
            metrics: None,
            metrics_token: None,
            metrics_certificate: None,
            log: LogForm::default(),
        }
    }
}

impl Config {
    /// How many nodes' keys the ring is to have room for.
    pub fn nodes(&self) -> u32 {
        self.mesh.as_ref().map_or(1, |mesh| mesh.nodes)
    }

    /// Reads the sections of a settings file; what stands before them is not looked at.
    ///
    /// # Errors
    ///
    /// All that cannot be used, in the order of the file: where, and what is accepted.
    pub fn parse(text: &str) -> Result<Config, Vec<Flaw>> {
        let document = DeTable::parse(text).map_err(|error| {
            vec![Flaw::at(text, error.span().unwrap_or(0..0), error.message().to_owned())]
        })?;
        let flaws = RefCell::default();
        let config = Config::of(text, document.get_ref(), &flaws);
        let mut flaws = flaws.into_inner();
        flaws.sort_by_key(|flaw| (flaw.line, flaw.column));
        if flaws.is_empty() { Ok(config) } else { Err(flaws) }
    }

    fn of<'d>(text: &'d str, document: &'d DeTable<'d>, flaws: &'d RefCell<Vec<Flaw>>) -> Config {
        let put_down = |flaw| flaws.borrow_mut().push(flaw);
        let section = |name, title, known: &[&str]| {
            let (at, value) = section(document, name)?;
            Section::of(text, flaws, title, at, value, known).map_err(put_down).ok()
        };
        let mut config = Config::default();
        if let Some(section) = section("agent", "[agent]", &AGENT) {
            config.agent = agent(&section);
        }
        if let Some(section) = section("mesh", "[mesh]", &MESH) {
            config.mesh = mesh(&section);
        }
        if let Some(section) = section("redis", "[redis]", &REDIS) {
            config.redis = redis(&section);
            if document.contains_key("mesh") {
                let message = "keys are shared either by a mesh or through Redis; remove one of \
                               the two";
                put_down(section.flaw(None, message));
            }
        }
        if let Some((at, value)) = self::section(document, "export") {
            let Some(list) = value.as_array() else {
                put_down(Flaw::at(text, at, "exports are a list: write [[export]]"));
                return config;
            };
            for value in list {
                let (at, value) = (value.span(), value.get_ref());
                let section = Section::of(text, flaws, "[[export]]", at, value, &EXPORT);
                let Some(section) = section.map_err(put_down).ok() else { continue };
                let Some(export) = export(&section) else { continue };
                if config.exports.iter().any(|other| other.output == export.output) {
                    let message = "another [[export]] writes this file";
                    put_down(section.flaw(Some("output"), message));
                }
                config.exports.push(export);
            }
        }
        config
    }
}

fn section<'d>(
    document: &'d DeTable<'d>,
    name: &str,
) -> Option<(std::ops::Range<usize>, &'d DeValue<'d>)> {
    let (key, value) = document.get_key_value(name)?;
    Some((Spanned::span(key), value.get_ref()))
}

const AGENT: [&str; 6] =
    ["user", "metrics", "metrics_token_file", "metrics_certificate", "metrics_key", "log"];

fn agent(section: &Section<'_>) -> Agent {
    let default = Agent::default();
    let metrics = section.text("metrics", values::metrics);
    let metrics_token = section.text("metrics_token_file", values::path);
    let has_token = section.has("metrics_token_file");
    if metrics.is_some_and(|address| !address.ip().is_loopback()) && !has_token {
        let message = "metrics tell how busy this host is: beyond loopback (127.0.0.1, [::1]) they \
                       need metrics_token_file = \"/etc/tktrot/metrics.token\", which `tktrot \
                       secret new` makes";
        section.put_down(section.flaw(Some("metrics"), message));
    }
    let files = ["metrics_certificate", "metrics_key"];
    let [certificate, key] = files.map(|setting| section.text(setting, values::path));
    if section.has(files[0]) != section.has(files[1]) {
        let message = "metrics_certificate and metrics_key are needed together";
        section.put_down(section.flaw(None, message));
    }
    let of_metrics = ["metrics_token_file", files[0], files[1]];
    if let Some(setting) = of_metrics.into_iter().find(|setting| section.has(setting))
        && !section.has("metrics")
    {
        let message = "it needs metrics = \"127.0.0.1:9187\" or another address";
        section.put_down(section.flaw(Some(setting), message));
    }
    Agent {
        metrics,
        metrics_token,
        metrics_certificate: certificate.zip(key),
        user: section.text("user", values::user).unwrap_or(default.user),
        log: section.text("log", values::log_form).unwrap_or_default(),
    }
}

const MESH: [&str; 10] = [
    "listen",
    "peers",
    "secrets",
    "certificate",
    "key",
    "ca",
    "lead_min",
    "lead_max",
    "ahead",
    "nodes",
];

fn mesh(section: &Section<'_>) -> Option<Mesh> {
    let everywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT);
    let peers = section.texts("peers", values::peer).unwrap_or_default();
    let is_name = |peer: &Peer| matches!(peer.host, Host::Name(_));
    let few = if peers.iter().any(is_name) { MANY_NODES } else { FEW_NODES };
    let named = u32::try_from(peers.len()).unwrap_or(u32::MAX).saturating_add(1);
    let lead_min = section.text("lead_min", values::lead).unwrap_or(Limits::LEAD_MIN);
    let lead_max = section.text("lead_max", values::lead).unwrap_or(Limits::LEAD_MAX.max(lead_min));
    if lead_min > lead_max {
        section.put_down(section.flaw(Some("lead_min"), "lead_min is longer than lead_max"));
    }
    let listen = section.text("listen", values::listen).unwrap_or(everywhere);
    let ahead = Ahead(section.text("ahead", values::ahead));
    let nodes = section.number("nodes", 1..10_001).unwrap_or(named.max(few));
    let credentials = credentials(section)?;
    Some(Mesh { listen, peers, credentials, lead_min, lead_max, ahead, nodes })
}

fn credentials(section: &Section<'_>) -> Option<Credentials> {
    const FILES: [&str; 3] = ["certificate", "key", "ca"];
    let files = FILES.map(|setting| section.text(setting, values::path));
    let named = FILES.iter().filter(|setting| section.has(setting)).count();
    if section.has("secrets") {
        let secrets = secrets(section);
        if let Some(other) = FILES.into_iter().find(|setting| section.has(setting)) {
            let message =
                "nodes authenticate with secrets or with certificates; remove one of the two";
            section.put_down(section.flaw(Some(other), message));
        }
        return secrets.map(Credentials::Secrets);
    }
    let missing = match named {
        0 => {
            "nodes need something to authenticate with: secrets = [\"/etc/tktrot/fleet.secret\"] \
             (tktrot secret new makes one), or certificate, key and ca"
        }
        3 => {
            let [certificate, key, ca] = files;
            return Some(Credentials::Certificate {
                certificate: certificate?,
                key: key?,
                ca: ca?,
            });
        }
        _ => "certificate, key and ca are needed together",
    };
    section.put_down(section.flaw(None, missing));
    None
}

fn secrets(section: &Section<'_>) -> Option<Vec<PathBuf>> {
    const ACCEPTED: &str = "one file or more: [\"/etc/tktrot/fleet.secret\"]";
    let secrets = section.texts("secrets", values::path);
    let is_empty = secrets.as_ref().is_some_and(Vec::is_empty);
    if is_empty || !section.has("secrets") {
        section.put_down(section.unfit("secrets", ACCEPTED));
    }
    secrets
}

const REDIS: [&str; 12] = [
    "url",
    "cluster",
    "sentinels",
    "master",
    "password_file",
    "ca",
    "secrets",
    "prefix",
    "allow_persistence",
    "lead",
    "poll",
    "ahead",
];

fn redis(section: &Section<'_>) -> Option<Redis> {
    let url = section.text("url", values::redis_url);
    let cluster = section.texts("cluster", values::redis_url);
    let sentinels = section.texts("sentinels", values::redis_url);
    let master = section.text("master", values::master);
    let is_list = |urls: &Option<Vec<String>>| urls.as_ref().is_none_or(|urls| !urls.is_empty());
    let named = ["url", "cluster", "sentinels", "master"].map(|setting| section.has(setting));
    let at = match named {
        [true, false, false, false] => url.map(RedisAt::Url),
        [false, true, false, false] if is_list(&cluster) => cluster.map(RedisAt::Cluster),
        [false, false, true, true] if is_list(&sentinels) => {
            sentinels.zip(master).map(|(urls, master)| RedisAt::Sentinels { urls, master })
        }
        _ => {
            let message = "it needs url = \"rediss://host\", or cluster = [\"rediss://host\"], or \
                           sentinels = [\"redis://host\"] and master = \"name\"";
            section.put_down(section.flaw(None, message));
            None
        }
    };
    let password_file = section.text("password_file", values::path);
    let ca = section.text("ca", values::path);
    let secrets = secrets(section);
    let prefix = section.text("prefix", values::prefix).unwrap_or_else(|| "tktrot".into());
    let allow_persistence = section.switch("allow_persistence").unwrap_or(false);
    let lead = section.text("lead", values::lead).unwrap_or(Settings::default().lead);
    let poll = section.text("poll", values::lead).unwrap_or(Settings::default().poll);
    let ahead = Ahead(section.text("ahead", values::ahead));
    let (at, secrets) = (at?, secrets?);
    Some(Redis { at, password_file, ca, secrets, prefix, allow_persistence, lead, poll, ahead })
}

const EXPORT: [&str; 7] = ["format", "output", "socket", "command", "timeout", "mode", "group"];

fn export(section: &Section<'_>) -> Option<Export> {
    let needs =
        |setting: &str| section.put_down(section.flaw(None, &format!("it needs {setting}")));
    let format = section.text("format", values::format);
    if !section.has("format") {
        needs("format = \"haproxy\" or another server's");
    }
    let output = section.text("output", values::path);
    if !section.has("output") {
        needs("output = \"/run/…\", a file on tmpfs");
    }
    let socket = section.text("socket", values::path);
    if section.has("socket") && format.is_some_and(|format| format != Format::Haproxy) {
        let message = "only HAProxy has a socket that takes keys";
        section.put_down(section.flaw(Some("socket"), message));
    }
    let command = section.texts("command", values::argument);
    let is_empty = |command: &Vec<String>| command.first().is_none_or(String::is_empty);
    if command.as_ref().is_some_and(is_empty) {
        section.put_down(section.unfit("command", "a program and its arguments"));
    }
    let timeout = section.text("timeout", values::timeout).unwrap_or(Duration::from_secs(10));
    match format {
        Some(Format::Haproxy) if !section.has("socket") && !section.has("command") => {
            needs("socket, HAProxy's `stats socket` of `level admin`, or a command");
        }
        Some(Format::Nginx80 | Format::Apache) if !section.has("command") => {
            needs("a command that lets the server read its files again");
        }
        _ => {}
    }
    let mode = section.text("mode", values::mode).unwrap_or(0o600);
    let group = section.text("group", values::user);
    if mode & 0o040 != 0 && !section.has("group") {
        let message = "a group that may read needs group = \"its name\"";
        section.put_down(section.flaw(Some("mode"), message));
    }
    let command = command.unwrap_or_default();
    Some(Export { format: format?, output: output?, socket, command, timeout, mode, group })
}

#[cfg(test)]
mod tests;
