//! A bundle as OCI runtimes run it, made of this machine's programs, and crun, which runs it.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::container::Users;
use testbed::fleet::namespace::Namespace;
use testbed::process::{self, Process};

use crate::servers::Result;

const CRUN: &str = "/usr/bin/crun";
/// What a container may lock in memory unless told, and what its /dev/shm holds.
pub const MEMLOCK: u64 = 64 << 10;
pub const SHM: u64 = 64 << 20;

/// What Docker leaves to root in a container.
pub const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// What a program looks at that is not below /usr.
const FROM_ETC: [&str; 5] =
    ["/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/ld.so.cache", "/etc/ssl/openssl.cnf"];

/// crun as it is started here: where cgroups are not mounted as it expects it refuses to run, although
/// it is told to leave them alone.
const RUN: &str = "mount -t cgroup2 none /sys/fs/cgroup && exec \"$0\" \"$@\"";

/// What a container is to be like.
#[derive(Clone, Default)]
pub struct Plan {
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    pub capabilities: Vec<String>,
    /// Who runs it, in the container.
    pub user: u32,
    /// How much it may lock in memory, in bytes; [`MEMLOCK`] unless told.
    pub memlock: Option<u64>,
    mounts: Vec<Value>,
    /// Files beside those of this machine's /usr: where, and what they are copies of.
    files: Vec<(PathBuf, PathBuf)>,
}

impl Plan {
    /// This file is to be a copy of that one. Its directory is on no tmpfs, and is read-only.
    pub fn file(&mut self, path: impl Into<PathBuf>, of: impl Into<PathBuf>) {
        self.files.push((path.into(), of.into()));
    }

    /// A file or directory of the machine, to be seen there.
    pub fn bind(&mut self, to: &str, from: &Path, access: &str) {
        let options = ["rbind", access, "nosuid", "nodev"];
        let (kind, from) = ("bind", from.display().to_string());
        self.mounts
            .push(json!({ "destination": to, "type": kind, "source": from, "options": options }));
    }

    /// A file system that is the container's own.
    pub fn mount(&mut self, to: &str, kind: &str, options: &[&str]) {
        self.mounts
            .push(json!({ "destination": to, "type": kind, "source": kind, "options": options }));
    }

    fn config(&self, network: &Namespace, users: Option<&Users>) -> Result<Value> {
        let mut all = Plan::default();
        all.mount("/proc", "proc", &["nosuid", "noexec", "nodev"]);
        all.mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=65536k"]);
        let shm = format!("size={SHM}");
        all.mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", &shm]);
        for entry in fs::read_dir("/usr")? {
            let path = entry?.path();
            if is_of_the_image(&path) {
                all.bind(&path.display().to_string(), &path, "ro");
            }
        }
        all.mounts.extend(self.mounts.clone());
        let mut namespaces = vec![json!({ "type": "network", "path": network.path() })];
        let own = ["pid", "mount", "ipc", "uts"];
        namespaces.extend(own.map(|kind| json!({ "type": kind })));
        let read_only = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
        let mut linux = json!({
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": read_only,
        });
        if let Some(users) = users {
            namespaces.push(json!({ "type": "user" }));
            let map = json!([{ "containerID": 0, "hostID": users.root(), "size": 65536 }]);
            linux["uidMappings"] = map.clone();
            linux["gidMappings"] = map;
        }
        linux["namespaces"] = namespaces.into();
        let capabilities = &self.capabilities;
        let memlock = self.memlock.unwrap_or(MEMLOCK);
        let mut env = vec!["PATH=/usr/local/bin:/usr/sbin:/usr/bin".to_owned()];
        env.extend(self.env.clone());
        Ok(json!({
            "ociVersion": "1.0.0",
            "process": {
                "user": { "uid": self.user, "gid": self.user },
                "args": self.args,
                "env": env,
                "cwd": "/",
                "capabilities": {
                    "bounding": capabilities,
                    "effective": capabilities,
                    "permitted": capabilities,
                },
                "rlimits": [{ "type": "RLIMIT_MEMLOCK", "hard": memlock, "soft": memlock }],
                "noNewPrivileges": true,
            },
            "root": { "path": "rootfs", "readonly": true },
            "mounts": all.mounts,
            "linux": linux,
        }))
    }

    /// The root: what is mounted over, links as Debian has them, and files.
    fn lay_out(&self, root: &Path) -> Result<()> {
        let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        for name in ["etc", "proc", "dev", "tmp", "run", "usr/local"] {
            fs::create_dir_all(root.join(name))?;
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(Path::new("usr").join(name), root.join(name))?;
        }
        for entry in fs::read_dir("/usr")? {
            let path = entry?.path();
            if is_of_the_image(&path) {
                fs::create_dir_all(inside(&path))?;
            }
        }
        let of_machine = FROM_ETC.map(|path| (path.into(), path.into()));
        for (path, of) in of_machine.iter().chain(&self.files) {
            let path = inside(path);
            fs::create_dir_all(path.parent().ok_or("a file has a directory")?)?;
            fs::copy(of, path)?;
        }
        // crun makes what is missing, but not below what is mounted already.
        for mount in &self.mounts {
            let to = inside(mount["destination"].as_str().ok_or("no destination")?.as_ref());
            let from = Path::new(mount["source"].as_str().ok_or("no source")?);
            if from.is_file() {
                fs::create_dir_all(to.parent().ok_or("a file has a directory")?)?;
                File::create(to)?;
            } else {
                fs::create_dir_all(to)?;
            }
        }
        Ok(())
    }
}

/// Whether that is a directory of packages: what lies below /usr/local is nobody's but the bundle's.
fn is_of_the_image(path: &Path) -> bool {
    path.is_dir() && !path.is_symlink() && !path.ends_with("local")
}

/// A container that runs, or ran.
pub struct Bundle {
    dir: TempDir,
    crun: Option<Child>,
}

impl Bundle {
    /// Makes one and starts it; it has users of its own if these are given.
    pub fn start(plan: &Plan, network: &Namespace, users: Option<&Users>) -> Result<Bundle> {
        if !Path::new(CRUN).exists() {
            return Err("there is no crun; `make deps` installs it".into());
        }
        // Not on a tmpfs, which /tmp may be: an image is on a disk, and so is its /run.
        let dir = tempfile::Builder::new().prefix("tktrot-bundle-").tempdir_in("/var/tmp")?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        plan.lay_out(&dir.path().join("rootfs"))?;
        let config = plan.config(network, users)?;
        fs::write(dir.path().join("config.json"), config.to_string())?;
        if let Some(users) = users {
            users.give(dir.path())?;
        }
        let mut bundle = Bundle { dir, crun: None };
        bundle.run()?;
        Ok(bundle)
    }

    /// Starts it once more.
    pub fn run(&mut self) -> Result<()> {
        let dir = self.dir.path();
        let log = File::options().create(true).append(true).open(dir.join("log.txt"))?;
        let crun = Command::new("unshare")
            .args(["--mount", "sh", "-c", RUN, CRUN, "--cgroup-manager=disabled", "--root"])
            .arg(dir.join("state"))
            .args(["run", "--bundle"])
            .arg(dir)
            .arg(dir.file_name().ok_or("a name")?)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.crun = Some(crun);
        Ok(())
    }

    /// Who runs it, for who waits for it to serve.
    pub fn crun(&mut self) -> Result<&mut Child> {
        Ok(self.crun.as_mut().ok_or("it does not run")?)
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log.txt")).unwrap_or_default()
    }

    /// Its first process, which knows itself as 1.
    pub fn init(&self) -> Result<Process> {
        let crun = self.crun.as_ref().and_then(|crun| Process::find(crun.id() as i32));
        let init = crun.and_then(|crun| crun.children().first().copied());
        Ok(init.ok_or_else(|| format!("it does not run: {}", self.log()))?)
    }

    /// Kills all in it; crun tidies up.
    pub fn kill(&mut self) -> Result<()> {
        let init = self.init()?;
        let mut crun = self.crun.take().ok_or("it does not run")?;
        init.signal(libc::SIGKILL);
        process::ended(&mut crun, "the end of crun")?;
        Ok(())
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if self.kill().is_err()
            && let Some(mut crun) = self.crun.take()
        {
            let _ = crun.kill();
            let _ = crun.wait();
        }
    }
}
