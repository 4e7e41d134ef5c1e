//! Where Redis is, and a connection to it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, TlsCertificates, cmd,
};
use tktrot_fleet::config::{Redis, RedisAt};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::files::Files;

/// How long any command may take, and a connection.
pub const LIMIT: Duration = Duration::from_secs(2);

/// A Redis, or those who know where it is.
pub struct Target {
    at: At,
    password: Option<Zeroizing<String>>,
    ca: Option<Vec<u8>>,
}

enum At {
    Url(ConnectionInfo),
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

    /// A connection to the Redis that takes writes, and its address.
    ///
    /// # Errors
    ///
    /// There is none to be had within [`LIMIT`] for each step.
    pub async fn connect(
        &self,
        pushed: impl AsyncPushSender,
    ) -> Result<(MultiplexedConnection, String)> {
        let info = match &self.at {
            At::Url(info) => info.clone(),
            At::Sentinels { sentinels, master } => self.find(sentinels, master).await?,
        };
        let address = info.addr().to_string();
        let mut settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        if let Some(password) = &self.password {
            settings = settings.set_password(password.as_str());
        }
        let client = self.client(info.set_redis_settings(settings))?;
        let config = limits().set_push_sender(pushed);
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        let mut connection =
            within(connecting).await.with_context(|| format!("Redis at {address}"))?;
        if matches!(self.at, At::Sentinels { .. }) {
            // Sentinel's word may be older than the last fail-over.
            let role: Vec<redis::Value> = within(cmd("ROLE").query_async(&mut connection)).await?;
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
                    let address = match sentinel.addr() {
                        ConnectionAddr::TcpTls { tls_params, insecure, .. } => {
                            let (tls_params, insecure) = (tls_params.clone(), *insecure);
                            ConnectionAddr::TcpTls { host, port, insecure, tls_params }
                        }
                        _ => ConnectionAddr::Tcp(host, port),
                    };
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
            match within(asking).await {
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

fn info(url: &str) -> Result<ConnectionInfo> {
    url.into_connection_info().with_context(|| format!("[redis]: {url} is not a Redis URL"))
}

fn limits() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(LIMIT))
        .set_response_timeout(Some(LIMIT))
}

/// What the crate's own limits leave out: looking up names, and what comes after connecting.
async fn within<T>(doing: impl Future<Output = redis::RedisResult<T>>) -> Result<T> {
    match timeout(2 * LIMIT, doing).await {
        Ok(done) => Ok(done?),
        Err(_) => bail!("no answer within {} s", (2 * LIMIT).as_secs()),
    }
}
