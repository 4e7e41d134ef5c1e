//! One host of a fleet: its links, its ring, its agent and its server.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::agent::Agent;
use super::namespace::Namespace;
use super::network::Node;
use super::settings::Keys;
use crate::artifacts;
use crate::certificate::Certificate;
use crate::environment::{Environment, RingDir};
use crate::haproxy::{self, Haproxy};
use crate::nginx::Nginx;
use crate::servers::Server;

/// Where the servers listen.
const HTTPS: u16 = 443;

/// One host.
#[derive(Debug)]
pub struct Host {
    // Dropped in this order: what runs in a directory before the directory.
    server: Option<Box<dyn Server + Send + Sync>>,
    agent: Agent,
    dir: TempDir,
    ring: RingDir,
    node: Node,
    program: PathBuf,
    keys: Keys,
}

impl Host {
    pub(super) fn new(node: Node, program: &Path, keys: Keys) -> Result<Host> {
        let dir = tempfile::Builder::new().prefix("tktrot-host-").tempdir()?;
        // The agent reaches it without privileges.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let agent = Agent::new(program, dir.path())?;
        let (ring, program) = (RingDir::new()?, program.to_owned());
        Ok(Host { server: None, agent, dir, ring, node, program, keys })
    }

    /// Its links.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its network.
    pub fn namespace(&self) -> &Namespace {
        self.node.namespace()
    }

    /// Where its rings are.
    pub fn ring(&self) -> &RingDir {
        &self.ring
    }

    /// Its directory: what the agent has, and room for more.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where its server listens, for clients.
    pub fn addr(&self) -> SocketAddr {
        (self.node.public(), HTTPS).into()
    }

    /// How its keys live from now on: what is configured and started next is told so.
    pub fn set_keys(&mut self, keys: Keys) {
        self.keys = keys;
    }

    /// Writes its tktrot.toml: how the fleet's keys live, and these sections.
    pub fn configure(&self, sections: &str) -> Result<()> {
        let text = self.keys.file(self.ring.path(), sections);
        fs::write(self.config_path(), text).context("cannot write tktrot.toml")
    }

    /// What its tktrot.toml says.
    pub fn config_path(&self) -> PathBuf {
        self.dir().join("tktrot.toml")
    }

    /// Its agent.
    pub fn agent(&mut self) -> &mut Agent {
        &mut self.agent
    }

    /// Starts its agent, and returns how long it took to get ready.
    pub fn start_agent(&mut self) -> Result<Duration> {
        self.agent.start(self.node.namespace())
    }

    /// As [`Host::start_agent`], but does not wait.
    pub fn launch_agent(&mut self) -> Result<()> {
        self.agent.launch(self.node.namespace())
    }

    /// The end of its agent's log, for messages about failures.
    pub fn agent_log_tail(&self) -> String {
        self.agent.log_tail()
    }

    /// An nginx under the shim, on the host's ring.
    pub fn start_nginx(&mut self, certificate: &Certificate) -> Result<()> {
        let shim = artifacts::shim()?;
        let mut nginx = Nginx::builder().workers(1).certificate(certificate).listen(self.addr());
        for (name, value) in self.variables() {
            nginx = nginx.env(&name, &value);
        }
        let nginx = self.namespace().run(|| nginx.preload(shim).start())?;
        self.server = Some(Box::new(nginx));
        Ok(())
    }

    /// A HAProxy under the shim, on the host's ring.
    pub fn start_haproxy(&mut self, certificate: &Certificate) -> Result<()> {
        let mut haproxy = self.haproxy(certificate, "")?.preload(artifacts::shim()?);
        for (name, value) in self.variables() {
            haproxy = haproxy.env(&name, &value);
        }
        self.run_haproxy(haproxy)
    }

    /// A HAProxy without the shim, with `more` on its `bind` line and an admin socket at
    /// [`Host::admin_socket`].
    pub fn start_stock_haproxy(&mut self, certificate: &Certificate, more: &str) -> Result<()> {
        // For the agent, which has no privileges.
        let options = "user nobody mode 600 level admin";
        let socket = format!("stats socket {} {options}", self.admin_socket().display());
        let haproxy = self.haproxy(certificate, more)?.global(&socket);
        self.run_haproxy(haproxy)
    }

    /// See [`Host::start_stock_haproxy`].
    pub fn admin_socket(&self) -> PathBuf {
        self.dir().join("haproxy.sock")
    }

    fn haproxy(&self, certificate: &Certificate, more: &str) -> Result<haproxy::Builder> {
        let builder = Haproxy::builder()?.listen(&[self.addr()]);
        let both = [fs::read(&certificate.cert)?, fs::read(&certificate.key)?].concat();
        let file = builder.file("site.pem", &both)?;
        Ok(builder.frontend(&format!("crt {} {more}", file.display())))
    }

    fn run_haproxy(&mut self, builder: haproxy::Builder) -> Result<()> {
        let haproxy = self.namespace().run(|| builder.start())?;
        self.server = Some(Box::new(haproxy));
        Ok(())
    }

    /// Stops its server.
    pub fn stop_server(&mut self) -> Result<()> {
        self.server.take().context("no server runs")?.stop()
    }

    /// What its server wrote, for messages about failures.
    pub fn server_log(&self) -> String {
        self.server.as_ref().map(|server| server.log()).unwrap_or_default()
    }

    /// Runs `tktrot` on the host, with its settings.
    pub fn tktrot(&self, arguments: &[&str]) -> Result<Output> {
        let mut command: Command = Environment::default().command(&self.program);
        command.arg("--config").arg(self.config_path()).args(arguments);
        Ok(self.namespace().run(|| command.output())?)
    }

    /// The settings of its servers.
    fn variables(&self) -> Vec<(String, String)> {
        let settings = self.keys.settings(self.ring.path()).into_iter();
        settings.map(|(name, value)| (format!("TKTROT_{}", name.to_uppercase()), value)).collect()
    }
}
