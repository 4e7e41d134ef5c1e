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
    /// Where it answers Prometheus; a loopback address.
    pub metrics: Option<SocketAddr>,
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
        Agent { user: "nobody".into(), metrics: None, log: LogForm::default() }
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
    /// The first thing that cannot be used: where, and what is accepted.
    pub fn parse(text: &str) -> Result<Config, Flaw> {
        let document = DeTable::parse(text).map_err(|error| {
            Flaw::at(text, error.span().unwrap_or(0..0), error.message().to_owned())
        })?;
        let document = document.get_ref();
        let mut config = Config::default();
        if let Some((at, value)) = section(document, "agent") {
            config.agent = agent(&Section::of(text, "[agent]", at, value, &AGENT)?)?;
        }
        if let Some((at, value)) = section(document, "mesh") {
            config.mesh = Some(mesh(&Section::of(text, "[mesh]", at, value, &MESH)?)?);
        }
        if let Some((at, value)) = section(document, "redis") {
            let section = Section::of(text, "[redis]", at, value, &REDIS)?;
            config.redis = Some(redis(&section)?);
            if config.mesh.is_some() {
                let message = "keys are shared either by a mesh or through Redis; remove one of \
                               the two";
                return Err(section.flaw(None, message));
            }
        }
        if let Some((at, value)) = section(document, "export") {
            let Some(list) = value.as_array() else {
                return Err(Flaw::at(text, at, "exports are a list: write [[export]]"));
            };
            for value in list {
                let at = value.span();
                let section = Section::of(text, "[[export]]", at, value.get_ref(), &EXPORT)?;
                let export = export(&section)?;
                if config.exports.iter().any(|other| other.output == export.output) {
                    let message = "another [[export]] writes this file";
                    return Err(section.flaw(Some("output"), message));
                }
                config.exports.push(export);
            }
        }
        Ok(config)
    }
}

fn section<'d>(
    document: &'d DeTable<'d>,
    name: &str,
) -> Option<(std::ops::Range<usize>, &'d DeValue<'d>)> {
    let (key, value) = document.get_key_value(name)?;
    Some((Spanned::span(key), value.get_ref()))
}

const AGENT: [&str; 3] = ["user", "metrics", "log"];

fn agent(section: &Section<'_>) -> Result<Agent, Flaw> {
    let default = Agent::default();
    Ok(Agent {
        user: section.text("user", values::user)?.unwrap_or(default.user),
        metrics: section.text("metrics", values::loopback)?,
        log: section.text("log", values::log_form)?.unwrap_or_default(),
    })
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

fn mesh(section: &Section<'_>) -> Result<Mesh, Flaw> {
    let everywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT);
    let peers = section.texts("peers", values::peer)?.unwrap_or_default();
    let is_name = |peer: &Peer| matches!(peer.host, Host::Name(_));
    let few = if peers.iter().any(is_name) { MANY_NODES } else { FEW_NODES };
    let named = u32::try_from(peers.len()).unwrap_or(u32::MAX).saturating_add(1);
    let lead_min = section.text("lead_min", values::lead)?.unwrap_or(Limits::LEAD_MIN);
    let lead_max =
        section.text("lead_max", values::lead)?.unwrap_or(Limits::LEAD_MAX.max(lead_min));
    if lead_min > lead_max {
        return Err(section.flaw(Some("lead_min"), "lead_min is longer than lead_max"));
    }
    Ok(Mesh {
        listen: section.text("listen", values::listen)?.unwrap_or(everywhere),
        peers,
        credentials: credentials(section)?,
        lead_min,
        lead_max,
        ahead: Ahead(section.text("ahead", values::ahead)?),
        nodes: section.number("nodes", 1..10_001)?.unwrap_or(named.max(few)),
    })
}

fn credentials(section: &Section<'_>) -> Result<Credentials, Flaw> {
    let certificate = section.text("certificate", values::path)?;
    let key = section.text("key", values::path)?;
    let ca = section.text("ca", values::path)?;
    if section.has("secrets") {
        if let Some(other) = ["certificate", "key", "ca"].into_iter().find(|name| section.has(name))
        {
            let message =
                "nodes authenticate with secrets or with certificates; remove one of the two";
            return Err(section.flaw(Some(other), message));
        }
        return secrets(section).map(Credentials::Secrets);
    }
    match (certificate, key, ca) {
        (Some(certificate), Some(key), Some(ca)) => {
            Ok(Credentials::Certificate { certificate, key, ca })
        }
        (None, None, None) => Err(section.flaw(
            None,
            "nodes need something to authenticate with: secrets = [\"/etc/tktrot/fleet.secret\"] \
             (tktrot secret new makes one), or certificate, key and ca",
        )),
        _ => Err(section.flaw(None, "certificate, key and ca are needed together")),
    }
}

fn secrets(section: &Section<'_>) -> Result<Vec<PathBuf>, Flaw> {
    const ACCEPTED: &str = "one file or more: [\"/etc/tktrot/fleet.secret\"]";
    let secrets = section.texts("secrets", values::path)?.unwrap_or_default();
    if secrets.is_empty() { Err(section.unfit("secrets", ACCEPTED)) } else { Ok(secrets) }
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

fn redis(section: &Section<'_>) -> Result<Redis, Flaw> {
    let url = section.text("url", values::redis_url)?;
    let cluster = section.texts("cluster", values::redis_url)?;
    let sentinels = section.texts("sentinels", values::redis_url)?;
    let master = section.text("master", values::master)?;
    let at = match (url, cluster, sentinels, master) {
        (Some(url), None, None, None) => RedisAt::Url(url),
        (None, Some(urls), None, None) if !urls.is_empty() => RedisAt::Cluster(urls),
        (None, None, Some(urls), Some(master)) if !urls.is_empty() => {
            RedisAt::Sentinels { urls, master }
        }
        _ => {
            let message = "it needs url = \"rediss://host\", or cluster = [\"rediss://host\"], or \
                           sentinels = [\"redis://host\"] and master = \"name\"";
            return Err(section.flaw(None, message));
        }
    };
    Ok(Redis {
        at,
        password_file: section.text("password_file", values::path)?,
        ca: section.text("ca", values::path)?,
        secrets: secrets(section)?,
        prefix: section.text("prefix", values::prefix)?.unwrap_or_else(|| "tktrot".into()),
        allow_persistence: section.switch("allow_persistence")?.unwrap_or(false),
        lead: section.text("lead", values::lead)?.unwrap_or(Settings::default().lead),
        poll: section.text("poll", values::lead)?.unwrap_or(Settings::default().poll),
        ahead: Ahead(section.text("ahead", values::ahead)?),
    })
}

const EXPORT: [&str; 7] = ["format", "output", "socket", "command", "timeout", "mode", "group"];

fn export(section: &Section<'_>) -> Result<Export, Flaw> {
    let needs = |setting| section.flaw(None, &format!("it needs {setting}"));
    let format = section.text("format", values::format)?;
    let format = format.ok_or_else(|| needs("format = \"haproxy\" or another server's"))?;
    let output = section.text("output", values::path)?;
    let output = output.ok_or_else(|| needs("output = \"/run/…\", a file on tmpfs"))?;
    let socket = section.text("socket", values::path)?;
    if socket.is_some() && format != Format::Haproxy {
        return Err(section.flaw(Some("socket"), "only HAProxy has a socket that takes keys"));
    }
    let command = section.texts("command", values::argument)?.unwrap_or_default();
    if section.has("command") && command.first().is_none_or(String::is_empty) {
        return Err(section.unfit("command", "a program and its arguments"));
    }
    let timeout = section.text("timeout", values::timeout)?.unwrap_or(Duration::from_secs(10));
    match format {
        Format::Haproxy if socket.is_none() && command.is_empty() => {
            return Err(needs("socket, HAProxy's `stats socket` of `level admin`, or a command"));
        }
        Format::Nginx80 | Format::Apache if command.is_empty() => {
            return Err(needs("a command that lets the server read its files again"));
        }
        _ => {}
    }
    let mode = section.text("mode", values::mode)?.unwrap_or(0o600);
    let group = section.text("group", values::user)?;
    if mode & 0o040 != 0 && group.is_none() {
        return Err(section.flaw(Some("mode"), "a group that may read needs group = \"its name\""));
    }
    Ok(Export { format, output, socket, command, timeout, mode, group })
}

#[cfg(test)]
mod tests;
