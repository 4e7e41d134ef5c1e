//! Where Redis is, and a connection to it.
//!
//! All that a ring has is in one hash slot ([`super::script::Names`]). So a Redis Cluster is, at any one
//! moment, the one node of it that has this slot; each other one names that. It is followed there, and
//! anew whenever the slot moves. A client for clusters, with connections to all nodes, would be more
//! than that.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    ProtocolVersion, RedisError, ServerErrorKind, TlsCertificates, Value, cmd,
};
use tktrot_fleet::config::{Redis, RedisAt};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::files::Files;

/// How long a connection may take, with TLS and a greeting, and any answer once there is one.
const LIMIT: Duration = Duration::from_secs(10);
/// The same with a name that has to be looked up.
pub const CONNECTING: Duration = Duration::from_secs(2 * LIMIT.as_secs());
/// How long an answer may take before a Redis is used. Less than what is borne later: one that is at the
/// edge is not up and down, up and down.
const AT_FIRST: Duration = Duration::from_secs(5);
/// So many nodes of a cluster may name another one, one after the other.
const MOST_MOVES: usize = 5;

/// A Redis, or those who know where it is.
pub struct Target {
    at: At,
    password: Option<Zeroizing<String>>,
    ca: Option<Vec<u8>>,
}

enum At {
    Url(ConnectionInfo),
    Cluster(Vec<ConnectionInfo>),
    Sentinels { sentinels: Vec<ConnectionInfo>, master: String },
}

impl Target {
    /// What the settings say; reads the files that they name.
    ///
    /// # Errors
    ///
    /// A URL is none, or a file cannot be used.
    pub fn read(config: &Redis, files: &Files) -> Result<Target> {
        let at = match &config.at {
            RedisAt::Url(url) => At::Url(info(url)?),
            RedisAt::Cluster(urls) => {
                At::Cluster(urls.iter().map(|url| info(url)).collect::<Result<_>>()?)
            }
            RedisAt::Sentinels { urls, master } => {
                let sentinels = urls.iter().map(|url| info(url)).collect::<Result<Vec<_>>>()?;
                ensure!(!sentinels.is_empty(), "[redis]: sentinels is empty");
                At::Sentinels { sentinels, master: master.clone() }
            }
        };
        let password = config.password_file.as_deref().map(|file| password(file, files));
        let ca = config.ca.as_deref().map(|file| ca(file, files));
        Ok(Target { at, password: password.transpose()?, ca: ca.transpose()? })
    }

    /// A connection to the Redis that has this key and takes writes, and its address. What is pushed on
    /// it goes where the last `pushed` says that was made.
    ///
    /// # Errors
    ///
    /// There is none to be had, or its answers take too long to begin with.
    pub async fn connect<P: AsyncPushSender>(
        &self,
        key: &str,
        mut pushed: impl FnMut() -> P,
    ) -> Result<(MultiplexedConnection, String)> {
        let found;
        let nodes = match &self.at {
            At::Url(info) => std::slice::from_ref(info),
            At::Cluster(nodes) => nodes,
            At::Sentinels { sentinels, master } => {
                found = self.find(sentinels, master).await?;
                std::slice::from_ref(&found)
            }
        };
        let mut errors = Vec::new();
        for node in nodes {
            match self.follow(node.clone(), key, &mut pushed).await {
                Ok(connected) => return Ok(connected),
                Err(error) => errors.push(error),
            }
        }
        let is_only = errors.len() == 1;
        match errors.iter().position(is_moving).or(is_only.then_some(0)) {
            Some(number) => Err(errors.swap_remove(number)),
            None => {
                let all: Vec<_> = errors.iter().map(in_words).collect();
                Err(anyhow!("{}", all.join("; ")))
            }
        }
    }

    /// From this node to the one that has the key, if it is one of a cluster.
    async fn follow<P: AsyncPushSender>(
        &self,
        mut node: ConnectionInfo,
        key: &str,
        mut pushed: impl FnMut() -> P,
    ) -> Result<(MultiplexedConnection, String)> {
        for _ in 0..MOST_MOVES {
            let (mut connection, address) = self.open(node.clone(), pushed()).await?;
            // Whatever is there, the answer is short.
            let mut question = cmd("PTTL");
            let asked = question.arg(key).query_async::<Value>(&mut connection);
            let Err(error) = within(AT_FIRST, asked).await else {
                return Ok((connection, address));
            };
            match moved(&error, node.addr()) {
                Some(there) => node = node.set_addr(there),
                None => return Err(refusal(error, &address)),
            }
        }
        bail!("Redis at {}: the nodes of the cluster do not agree who has the keys", node.addr())
    }

    async fn open(
        &self,
        info: ConnectionInfo,
        pushed: impl AsyncPushSender,
    ) -> Result<(MultiplexedConnection, String)> {
        let address = info.addr().to_string();
        let mut settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        if let Some(password) = &self.password {
            settings = settings.set_password(password.as_str());
        }
        let client = self.client(info.set_redis_settings(settings))?;
        let config = limits().set_push_sender(pushed);
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        let mut connection =
            within(CONNECTING, connecting).await.with_context(|| format!("Redis at {address}"))?;
        if matches!(self.at, At::Sentinels { .. }) {
            // Sentinel's word may be older than the last fail-over.
            let role: Vec<redis::Value> =
                within(AT_FIRST, cmd("ROLE").query_async(&mut connection)).await?;
            let role = role.into_iter().next().and_then(|role| redis::from_redis_value(role).ok());
            let role: String = role.unwrap_or_default();
            ensure!(role == "master", "Redis at {address} is a {role}, not a master (yet)");
        }
        Ok((connection, address))
    }

    fn client(&self, info: ConnectionInfo) -> Result<Client> {
        let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        Ok(match &self.ca {
            Some(ca) if is_tls => {
                let certificates =
                    TlsCertificates { client_tls: None, root_cert: Some(ca.clone()) };
                Client::build_with_tls(info, certificates)?
            }
            _ => Client::open(info)?,
        })
    }

    /// Asks the Sentinels in turn. Not by the crate's own Sentinel client: that one trusts no
    /// private CA.
    async fn find(&self, sentinels: &[ConnectionInfo], master: &str) -> Result<ConnectionInfo> {
        let mut why = anyhow!("no Sentinel");
        for sentinel in sentinels {
            match self.ask(sentinel, master).await {
                Ok((host, port)) => {
                    let address = elsewhere(sentinel.addr(), host, port);
                    return Ok(sentinel.clone().set_addr(address));
                }
                Err(error) => why = error.context(format!("Sentinel at {}", sentinel.addr())),
            }
        }
        Err(why)
    }

    async fn ask(&self, sentinel: &ConnectionInfo, master: &str) -> Result<(String, u16)> {
        let settings = sentinel.redis_settings().clone().set_db(0);
        let open = redis::RedisConnectionInfo::default();
        let with_password = self.password.as_ref().map(|word| settings.set_password(word.as_str()));
        let mut last = None;
        // Most Sentinels want no password, and refuse to be told one.
        for settings in [Some(open), with_password].into_iter().flatten() {
            let client = self.client(sentinel.clone().set_redis_settings(settings))?;
            let asking = async {
                let mut connection =
                    client.get_multiplexed_async_connection_with_config(&limits()).await?;
                let mut question = cmd("SENTINEL");
                question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
                question.query_async::<Option<(String, u16)>>(&mut connection).await
            };
            match within(LIMIT, asking).await {
                Ok(Some(address)) => return Ok(address),
                Ok(None) => bail!("it knows no master named {master}"),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow!("it does not answer")))
    }
}

/// What is wrong with the files of these settings, but for the secrets.
pub fn flaws(config: &Redis, files: &Files) -> Vec<anyhow::Error> {
    let password = config.password_file.as_deref().and_then(|file| password(file, files).err());
    let ca = config.ca.as_deref().and_then(|file| ca(file, files).err());
    [password, ca].into_iter().flatten().collect()
}

fn password(file: &Path, files: &Files) -> Result<Zeroizing<String>> {
    let bytes = files.private(file)?;
    let text = std::str::from_utf8(&bytes).ok().map(str::trim_ascii);
    let text = text.filter(|text| !text.is_empty() && !text.contains('\n'));
    let text = text.with_context(|| {
        format!("{}: it must hold the password of Redis, on one line", file.display())
    })?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn ca(file: &Path, files: &Files) -> Result<Vec<u8>> {
    Ok(files.public(file).context("the CA of Redis")?.to_vec())
}

/// Another host, reached as this one is.
fn elsewhere(addr: &ConnectionAddr, host: String, port: u16) -> ConnectionAddr {
    match addr {
        ConnectionAddr::TcpTls { tls_params, insecure, .. } => {
            let (tls_params, insecure) = (tls_params.clone(), *insecure);
            ConnectionAddr::TcpTls { host, port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host, port),
    }
}

/// Who has the key, as the node at `addr` says that has not. A node that does not know how the other
/// one is called means its own host.
fn moved(error: &anyhow::Error, addr: &ConnectionAddr) -> Option<ConnectionAddr> {
    let error = error.downcast_ref::<RedisError>()?;
    if error.kind() != ErrorKind::Server(ServerErrorKind::Moved) {
        return None;
    }
    let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
    let own = match addr {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host,
        _ => host,
    };
    let host = if ["", "?"].contains(&host) { own } else { host };
    Some(elsewhere(addr, host.into(), port.parse().ok()?))
}

/// True if the ring's slot is on its way from one node of a cluster to another one, or has gone there.
pub fn is_moving(error: &anyhow::Error) -> bool {
    use ServerErrorKind::{Ask, Moved, TryAgain};
    let Some(error) = error.downcast_ref::<RedisError>() else { return false };
    // A script finds some of its keys gone, and says it in other words.
    let in_script = || error.to_string().contains("access a non local key");
    matches!(error.kind(), ErrorKind::Server(Moved | Ask | TryAgain)) || in_script()
}

/// An error and its causes. The crate's own say what their causes are, which is said once.
pub fn in_words(error: &anyhow::Error) -> String {
    let mut words = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if words.is_empty() {
            words = cause;
        } else if !words.ends_with(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}

/// Why the Redis at this address is of no use, with what it answered.
pub fn refusal(error: anyhow::Error, address: &str) -> anyhow::Error {
    let down = ErrorKind::Server(ServerErrorKind::ClusterDown);
    if error.downcast_ref::<RedisError>().is_some_and(|error| error.kind() == down) {
        return error.context(format!("Redis at {address} stores nothing"));
    }
    error.context(format!("Redis at {address}"))
}

fn info(url: &str) -> Result<ConnectionInfo> {
    url.into_connection_info().with_context(|| format!("[redis]: {url} is not a Redis URL"))
}

fn limits() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(LIMIT))
        .set_response_timeout(Some(LIMIT))
}

/// What the crate's own limits leave out: looking up names, and how soon the first answers come.
async fn within<T>(
    limit: Duration,
    doing: impl Future<Output = redis::RedisResult<T>>,
) -> Result<T> {
    match timeout(limit, doing).await {
        Ok(done) => Ok(done?),
        Err(_) => bail!("no answer within {} s", limit.as_secs()),
    }
}
