//! Debian's stock nginx, run as in production: a master that daemonizes, workers of another user.
//! Or as containers and debuggers have it: in the foreground, or as a single process.

use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::home::Home;
use super::{Server, server};
use crate::certificate::Certificate;
use crate::environment::{Environment, environment_setters};
use crate::port;
use crate::process::Process;

/// Where Debian has it.
pub const BINARY: &str = "/usr/sbin/nginx";

/// Its module for connections of any protocol, which is a package of its own.
pub const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// How a master calls itself, before its command line.
const MASTER_TITLE: &str = "nginx: master process";
/// How a worker calls itself, before it also says "is shutting down".
const WORKER_TITLE: &str = "nginx: worker process";

/// Which processes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// A master that daemonized, and workers.
    Daemon,
    /// A master that is our child, and workers.
    Foreground,
    /// A master that is the child of our child, in a PID namespace of its own, and workers.
    Contained,
    /// One process that is our child.
    Single,
}

/// One nginx with a directory, a port and a configuration of its own; stopped when dropped.
#[derive(Debug)]
pub struct Nginx {
    home: Home,
    mode: Mode,
    workers: usize,
}

impl Nginx {
    /// Begins the description of an nginx.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.home.addr
    }

    /// Its directory: nginx.conf, error.log, stderr.txt, cert.pem, key.pem, nginx.pid.
    pub fn dir(&self) -> &Path {
        self.home.dir()
    }

    /// The environment of the next start.
    pub fn environment_mut(&mut self) -> &mut Environment {
        &mut self.home.environment
    }

    /// What the error log holds. In it is what workers write to stderr, too.
    pub fn error_log(&self) -> String {
        self.home.read("error.log")
    }

    /// What the commands that start, reload and stop nginx wrote to stderr.
    pub fn stderr(&self) -> String {
        self.home.read("stderr.txt")
    }

    /// The last lines of stderr and error log, for messages about failures.
    pub fn log_tail(&self) -> String {
        self.home.log_tail()
    }

    /// Leaves the directory with the logs behind, for whoever looks into a failure.
    pub fn keep_files(&mut self) {
        self.home.keep();
    }

    /// The running master.
    pub fn master_process(&self) -> Result<Process> {
        self.master()
    }

    /// The running master's pid.
    pub fn master_pid(&self) -> Result<i32> {
        Ok(self.master()?.pid())
    }

    /// The pids of the workers that take connections, sorted.
    pub fn worker_pids(&self) -> Result<Vec<i32>> {
        let mut pids: Vec<i32> = workers_of(&self.master()?).iter().map(Process::pid).collect();
        pids.sort_unstable();
        Ok(pids)
    }

    /// Starts nginx and waits until all its workers are there and it accepts connections.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.master().is_err(), "nginx already runs");
        match self.mode {
            Mode::Daemon => self.run(&[])?,
            Mode::Foreground | Mode::Contained | Mode::Single => {
                let mut command = self.command(&[])?;
                self.home.spawn(&mut command)?;
            }
        }
        self.home.wait_for("nginx to start", || {
            let master = self.master().ok()?;
            (workers_of(&master).len() == self.workers).then_some(())?;
            TcpStream::connect_timeout(&self.home.addr, Duration::from_secs(1))
                .is_ok()
                .then_some(())
        })
    }

    /// `nginx -s reload`; returns when a new generation of workers has taken over.
    pub fn reload(&mut self) -> Result<()> {
        self.renew_workers(|_| self.run(&["-s", "reload"]))
    }

    /// HUP to the master, as `nginx -s reload` sends it, but without that command, which reads the
    /// configuration, too; returns when a new generation of workers has taken over.
    pub fn reload_by_signal(&mut self) -> Result<()> {
        self.renew_workers(|master| {
            ensure!(master.signal(libc::SIGHUP), "the master is gone");
            Ok(())
        })
    }

    /// Starts an nginx that is expected to give up, and returns how the command ended.
    pub fn start_and_end(&mut self) -> Result<ExitStatus> {
        ensure!(self.master().is_err(), "nginx already runs");
        self.home.run(&mut self.command(&[])?)
    }

    /// `nginx -s quit`; what does not end in time is killed, and that is an error.
    pub fn stop(&mut self) -> Result<()> {
        let master = self.master()?;
        self.run(&["-s", "quit"])?;
        self.home.wait_gone(&[master])
    }

    /// Replaces the running nginx by a new one that inherits the listening sockets, as for an
    /// upgrade of the binary: USR2, then WINCH and QUIT for the old master. The variables must be
    /// named in the configuration ([`Builder::keep_environment`]).
    pub fn upgrade_usr2(&mut self) -> Result<()> {
        let old = self.master()?;
        ensure!(old.signal(libc::SIGUSR2), "the old master is gone");
        self.home.wait_for("the new master after USR2", || {
            let new = self.master().ok().filter(|new| *new != old)?;
            (workers_of(&new).len() == self.workers).then_some(())
        })?;
        old.signal(libc::SIGWINCH);
        self.home.wait_for("the old workers' end", || workers_of(&old).is_empty().then_some(()))?;
        old.signal(libc::SIGQUIT);
        self.home.wait_for("the old master's end", || (!old.is_running()).then_some(()))
    }

    /// Kills one worker. False when it was gone already, or was none.
    pub fn kill_worker(&self, pid: i32) -> Result<bool> {
        let worker = workers_of(&self.master()?).into_iter().find(|worker| worker.pid() == pid);
        Ok(worker.is_some_and(|worker| worker.signal(libc::SIGKILL)))
    }

    fn renew_workers(&self, renew: impl FnOnce(&Process) -> Result<()>) -> Result<()> {
        ensure!(self.mode != Mode::Single, "a single process has no workers to wait for");
        let master = self.master()?;
        let before = workers_of(&master);
        renew(&master)?;
        self.home.wait_for("new workers after a reload", || {
            let now = workers_of(&master);
            let new = now.iter().all(|worker| !before.contains(worker));
            (new && now.len() == self.workers).then_some(())
        })
    }

    /// The master that the pid file names, if it runs and is ours. In a container that number is
    /// another one than here.
    fn master(&self) -> Result<Process> {
        if self.mode == Mode::Contained {
            let mut children = self.home.child()?.children().into_iter();
            let master = children.find(|child| child.title().starts_with(MASTER_TITLE));
            return master.with_context(|| format!("it does not run:\n{}", self.log_tail()));
        }
        Process::of_pid_file(&self.home.path("nginx.pid"), &self.config_path())
    }

    fn config_path(&self) -> String {
        self.home.path("nginx.conf").display().to_string()
    }

    /// Runs the nginx command, which ends by itself: as a daemon's parent or after a signal.
    fn run(&self, arguments: &[&str]) -> Result<()> {
        ensure!(self.mode != Mode::Contained, "a command would run in another container");
        self.home.succeed(&mut self.command(arguments)?)
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.home.command(Path::new(BINARY))?;
        command.arg("-p").arg(self.dir()).arg("-e").arg(self.home.path("error.log"));
        command.arg("-c").arg(self.config_path()).args(arguments);
        Ok(command)
    }
}

server!(Nginx, addr: Nginx::addr, reload: Some(Nginx::reload));

/// The workers that are not on their way out.
fn workers_of(master: &Process) -> Vec<Process> {
    let mut workers = master.children();
    workers.retain(|worker| worker.title() == WORKER_TITLE);
    workers
}

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
    fn new() -> Builder {
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
        let mut home = Home::new("nginx")?;
        let certificate = home.certificate(self.certificate.take())?;
        home.addr = self.addr.unwrap_or(home.addr);
        if self.keep_environment {
            let names = self.environment.names().map(|name| format!("env {name};"));
            self.main.extend(names.collect::<Vec<_>>());
        }
        let answer = format!("return 200 \"{}\";", self.body);
        let lines = std::mem::take(&mut self.server);
        self.others.insert(0, Site { addr: home.addr, answer, lines });
        fs::write(home.path("nginx.conf"), self.config(home.dir(), &certificate))?;
        home.environment = self.environment;
        Ok(Nginx { home, mode: self.mode, workers: self.workers })
    }

    /// The text of nginx.conf. It says nothing about tickets, as most configurations.
    fn config(&self, dir: &Path, certificate: &Certificate) -> String {
        let dir = dir.display();
        let mut text = String::new();
        let mut line = |depth: usize, content: &str| {
            // Writing to a String can't fail.
            let _ = writeln!(text, "{:1$}{content}", "", depth * 4);
        };
        if let Some(user) = &self.user {
            line(0, &format!("user {user};"));
        }
        line(0, &format!("worker_processes {};", self.workers.max(1)));
        line(0, &format!("pid {dir}/nginx.pid;"));
        line(0, &format!("error_log {dir}/error.log notice;"));
        self.main.iter().for_each(|extra| line(0, extra));
        line(0, "events { worker_connections 512; }");
        line(0, "http {");
        line(1, "access_log off;");
        for module in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            line(1, &format!("{module}_temp_path {dir}/{module};"));
        }
        self.http.iter().for_each(|extra| line(1, extra));
        for site in &self.others {
            line(1, "server {");
            line(2, &format!("listen {} ssl;", site.addr));
            line(2, "server_name localhost;");
            line(2, &format!("ssl_certificate {};", certificate.cert.display()));
            line(2, &format!("ssl_certificate_key {};", certificate.key.display()));
            line(2, "ssl_protocols TLSv1.2 TLSv1.3;");
            site.lines.iter().for_each(|extra| line(2, extra));
            line(2, &format!("location / {{ {} }}", site.answer));
            line(1, "}");
        }
        line(0, "}");
        text
    }
}

/// A server block with a listener of its own.
#[derive(Clone, Debug)]
struct Site {
    addr: SocketAddr,
    /// The directives of `location /`.
    answer: String,
    lines: Vec<String>,
}
