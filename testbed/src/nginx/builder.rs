use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};

use super::config::{Config, Site};
use super::{BINARY, Mode, Nginx};
use crate::certificate::{self, Certificate};
use crate::environment::{Environment, environment_setters};
use crate::port;

/// What an nginx is to be like; made by [`Nginx::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    mode: Mode,
    workers: usize,
    user: Option<String>,
    certificate: Option<Certificate>,
    environment: Environment,
    keep_environment: bool,
    body: String,
    addr: Option<SocketAddr>,
    main: Vec<String>,
    http: Vec<String>,
    server: Vec<String>,
    others: Vec<Site>,
}

environment_setters!(Builder);

impl Builder {
    pub(super) fn new() -> Builder {
        // SAFETY: geteuid(2) has no preconditions and cannot fail.
        let root = unsafe { libc::geteuid() } == 0;
        Builder {
            mode: Mode::Daemon,
            workers: 2,
            user: root.then(|| "www-data".to_owned()),
            certificate: None,
            environment: Environment::default(),
            keep_environment: false,
            body: "ok".to_owned(),
            addr: None,
            main: Vec::new(),
            http: Vec::new(),
            server: Vec::new(),
            others: Vec::new(),
        }
    }

    /// The number of workers; 2 unless told.
    pub fn workers(mut self, workers: usize) -> Builder {
        self.workers = workers;
        self
    }

    /// `daemon off;`: the master stays in the foreground.
    pub fn foreground(mut self) -> Builder {
        self.mode = Mode::Foreground;
        self.main("daemon off;")
    }

    /// In the foreground, launched through words that give it a PID namespace of its own
    /// ([`container::own_namespaces`](crate::container::own_namespaces)).
    pub fn contained(mut self) -> Builder {
        self.mode = Mode::Contained;
        self.main("daemon off;")
    }

    /// `daemon off; master_process off;`: one process, which is master and worker.
    pub fn single_process(mut self) -> Builder {
        self.mode = Mode::Single;
        self.workers = 0;
        self.main("daemon off;").main("master_process off;")
    }

    /// The user of the workers. As Debian has it, www-data, when we are root; else nginx stays who
    /// it is.
    pub fn user(mut self, user: &str) -> Builder {
        self.user = Some(user.to_owned());
        self
    }

    /// Uses this certificate instead of a new one.
    pub fn certificate(mut self, certificate: &Certificate) -> Builder {
        self.certificate = Some(certificate.clone());
        self
    }

    /// Lists every variable that is set here in `env` directives. Without them nginx starts a new
    /// binary (USR2) with an empty environment, so without `LD_PRELOAD`.
    pub fn keep_environment(mut self) -> Builder {
        self.keep_environment = true;
        self
    }

    /// What it answers; "ok" unless told. `$pid` is the worker's.
    pub fn body(mut self, text: &str) -> Builder {
        self.body = text.to_owned();
        self
    }

    /// Lets it listen here, not on a free port of 127.0.0.1.
    pub fn listen(mut self, addr: SocketAddr) -> Builder {
        self.addr = Some(addr);
        self
    }

    /// Where it will listen, for further server blocks of the same listener.
    pub fn addr(&mut self) -> Result<SocketAddr> {
        let addr = self.addr.map_or_else(port::free, Ok)?;
        self.addr = Some(addr);
        Ok(addr)
    }

    /// Adds a line at the top level of nginx.conf.
    pub fn main(mut self, line: &str) -> Builder {
        self.main.push(line.to_owned());
        self
    }

    /// Adds a line to the http block.
    pub fn http(mut self, line: &str) -> Builder {
        self.http.push(line.to_owned());
        self
    }

    /// Adds a line to the server block.
    pub fn server(mut self, line: &str) -> Builder {
        self.server.push(line.to_owned());
        self
    }

    /// Adds a server block with a listener of its own and the same certificate, and returns where
    /// it will listen. `answer` is what `location /` holds.
    pub fn another_server(&mut self, answer: &str, lines: &[&str]) -> Result<SocketAddr> {
        let addr = port::free()?;
        let lines = lines.iter().map(|&line| line.to_owned()).collect();
        self.others.push(Site { addr, answer: answer.to_owned(), lines });
        Ok(addr)
    }

    /// Writes certificate and configuration into a directory of its own and starts nginx.
    pub fn start(self) -> Result<Nginx> {
        let mut nginx = self.prepare()?;
        nginx.start()?;
        Ok(nginx)
    }

    /// As [`Builder::start`], but leaves nginx stopped.
    pub fn prepare(mut self) -> Result<Nginx> {
        let dir = tempfile::Builder::new().prefix("tktrot-nginx-").tempdir()?;
        // Workers run as another user and must reach their temporary files.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let certificate = match self.certificate.take() {
            Some(certificate) => certificate,
            None => certificate::create(dir.path())?,
        };
        if self.keep_environment {
            let names = self.environment.names().map(|name| format!("env {name};"));
            self.main.extend(names.collect::<Vec<_>>());
        }
        let addr = self.addr()?;
        let answer = format!("return 200 \"{}\";", self.body);
        let mut sites = vec![Site { addr, answer, lines: self.server }];
        sites.append(&mut self.others);
        let config = Config {
            dir: dir.path(),
            certificate: &certificate,
            workers: self.workers.max(1),
            user: self.user.as_deref(),
            main: &self.main,
            http: &self.http,
            sites: &sites,
        };
        fs::write(dir.path().join("nginx.conf"), config.text())
            .with_context(|| format!("cannot write the configuration of {BINARY}"))?;
        let (mode, workers, environment) = (self.mode, self.workers, self.environment);
        Ok(Nginx { dir, addr, mode, workers, environment, child: None })
    }
}
