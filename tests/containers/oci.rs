//! Containers as an OCI runtime makes them: crun, with what Docker and Podman give a container.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::certificate::{self, Certificate};
use testbed::client::TlsVersion;
use testbed::container::Users;
use testbed::fleet::namespace::Namespace;
use testbed::fleet::network::{Network, Node};
use testbed::memory::mappings;
use testbed::process::{Process, needs_root};
use testbed::visitors::Visitors;
use testbed::{RingDir, artifacts, log};

use crate::servers::Result;

const CRUN: &str = "/usr/bin/crun";
const PORT: u16 = 8443;
const VISITORS: u8 = 250;
/// Who is root in a container that has users of its own.
const ROOT: u32 = 100_000;
/// What a container may lock in memory, and what its /dev/shm holds.
const MEMLOCK: u64 = 64 << 10;
const SHM: u64 = 64 << 20;

/// What Docker leaves to root in a container.
const CAPABILITIES: [&str; 14] = [
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

/// crun as it is started here: where version 2 of cgroups is not mounted as it expects, or with others,
/// it refuses to run, although it is told to leave cgroups alone.
const RUN: &str = "mount -t cgroup2 none /sys/fs/cgroup && exec \"$0\" \"$@\"";

/// Where the ring's directory comes from.
#[derive(Clone, Copy)]
enum Rings<'r> {
    /// It is the machine's, bound to /run/tktrot.
    Shared(&'r RingDir),
    /// It is in a volume that is bound to /rings; this is TKTROT_DIR.
    Volume(&'r RingDir, &'r str),
    /// There is none: the container has nothing but its own /dev/shm.
    Own,
}

/// What differs from one container to another.
#[derive(Clone, Copy)]
struct Kind<'k> {
    rings: Rings<'k>,
    /// Users of its own.
    users: Option<&'k Users>,
    strict: bool,
}

impl<'k> Kind<'k> {
    fn new(rings: Rings<'k>) -> Kind<'k> {
        Kind { rings, users: None, strict: true }
    }
}

/// A container in which nginx runs.
struct Container {
    dir: TempDir,
    node: Node,
    crun: Option<Child>,
}

impl Container {
    fn start(node: Node, certificate: &Certificate, kind: Kind) -> Result<Container> {
        // Not on a tmpfs, which /tmp may be: an image is on a disk, and so is its /run.
        let dir = tempfile::Builder::new().prefix("tktrot-bundle-").tempdir_in("/var/tmp")?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        lay_out(dir.path(), certificate)?;
        let config = config(dir.path(), node.namespace(), kind);
        fs::write(dir.path().join("config.json"), config.to_string())?;
        if let Some(users) = kind.users {
            users.give(dir.path())?;
        }
        let mut container = Container { dir, node, crun: None };
        container.run()?;
        Ok(container)
    }

    fn addr(&self) -> SocketAddr {
        (self.node.public(), PORT).into()
    }

    fn run(&mut self) -> Result<()> {
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
        let crun = self.crun.insert(crun);
        let addr = (self.node.public(), PORT).into();
        let served = self.node.namespace().run(|| testbed::process::serves(crun, addr));
        Ok(served.map_err(|error| format!("{error}\n{}", self.log()))?)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log.txt")).unwrap_or_default()
    }

    /// nginx' master, which knows itself as 1.
    fn init(&self) -> Result<Process> {
        let crun = self.crun.as_ref().and_then(|crun| Process::find(crun.id() as i32));
        let init = crun.and_then(|crun| crun.children().first().copied());
        Ok(init.ok_or_else(|| format!("it does not run: {}", self.log()))?)
    }

    /// Kills all in it; crun tidies up.
    fn kill(&mut self) -> Result<()> {
        let init = self.init()?;
        let mut crun = self.crun.take().ok_or("it does not run")?;
        init.signal(libc::SIGKILL);
        testbed::process::ended(&mut crun, "the end of crun")?;
        Ok(())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.kill().is_err()
            && let Some(mut crun) = self.crun.take()
        {
            let _ = crun.kill();
            let _ = crun.wait();
        }
    }
}

/// The bundle's files: a root that is made of this machine's, and what nginx reads.
fn lay_out(dir: &Path, certificate: &Certificate) -> Result<()> {
    let (root, site) = (dir.join("rootfs"), dir.join("site"));
    for name in ["usr", "etc", "proc", "dev", "sys", "tmp", "run/tktrot", "rings", "srv"] {
        fs::create_dir_all(root.join(name))?;
    }
    // As Debian has it: nothing but links into /usr.
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(Path::new("usr").join(name), root.join(name))?;
    }
    fs::create_dir(&site)?;
    fs::copy(artifacts::shim()?, site.join("shim.so"))?;
    fs::copy(&certificate.cert, site.join("cert.pem"))?;
    fs::copy(&certificate.key, site.join("key.pem"))?;
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|module| format!("{module}_temp_path /tmp/{module};")).concat();
    let text = format!(
        "user www-data; worker_processes 2; daemon off; pid /tmp/nginx.pid; error_log stderr;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off; {temporary}\n\
         server {{ listen {PORT} ssl; ssl_protocols TLSv1.2 TLSv1.3;\n\
         ssl_certificate /srv/cert.pem; ssl_certificate_key /srv/key.pem;\n\
         location / {{ return 200 ok; }} }} }}\n"
    );
    Ok(fs::write(site.join("nginx.conf"), text)?)
}

/// The bundle's config.json.
fn config(dir: &Path, network: &Namespace, kind: Kind) -> Value {
    let mount = |to: &str, kind: &str, options: &[&str]| json!({ "destination": to, "type": kind, "source": kind, "options": options });
    let bind = |to: &str, from: &Path, options: &[&str]| json!({ "destination": to, "type": "bind", "source": from, "options": options });
    let read_only = ["rbind", "ro", "nosuid", "nodev"];
    let shm = format!("size={SHM}");
    let mut mounts = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=65536k"]),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", &shm]),
        mount("/tmp", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777"]),
        bind("/usr", "/usr".as_ref(), &read_only),
        bind("/etc", "/etc".as_ref(), &read_only),
        bind("/srv", &dir.join("site"), &read_only),
    ];
    let mut env = vec![
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        "LD_PRELOAD=/srv/shim.so".to_owned(),
        "TKTROT_RING=web".to_owned(),
        "TKTROT_ROTATE=1s".to_owned(),
        "TKTROT_LIFETIME=20s".to_owned(),
        format!("TKTROT_STRICT={}", u8::from(kind.strict)),
    ];
    let writable = ["rbind", "rw", "nosuid", "noexec"];
    match kind.rings {
        Rings::Shared(ring) => mounts.push(bind("/run/tktrot", ring.path(), &writable)),
        Rings::Volume(ring, dir) => {
            mounts.push(bind("/rings", ring.path(), &writable));
            env.push(format!("TKTROT_DIR={dir}"));
        }
        Rings::Own => {}
    }
    let mut namespaces = vec![json!({ "type": "network", "path": network.path() })];
    let own = ["pid", "mount", "ipc", "uts"];
    namespaces.extend(own.map(|kind| json!({ "type": kind })));
    let mut linux = json!({
        "namespaces": namespaces,
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    });
    if let Some(users) = kind.users {
        namespaces.push(json!({ "type": "user" }));
        linux["namespaces"] = namespaces.into();
        let map = json!([{ "containerID": 0, "hostID": users.root(), "size": 65536 }]);
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
    }
    let args = ["/usr/sbin/nginx", "-e", "stderr", "-c", "/srv/nginx.conf"];
    json!({
        "ociVersion": "1.0.0",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": env,
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
            "rlimits": [{ "type": "RLIMIT_MEMLOCK", "hard": MEMLOCK, "soft": MEMLOCK }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "mounts": mounts,
        "linux": linux,
    })
}

/// What is claimed of the containers is so: little may be locked and all of the ring is, nothing is
/// written but its directory, and /dev/shm is small and empty.
fn is_confined(container: &Container) -> Result<()> {
    let init = container.init()?;
    let of = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", init.pid()));
    let limits = of("limits")?;
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    let limit = limit.and_then(|rest| rest.split_whitespace().next()).ok_or("no limit")?;
    assert_eq!(limit.parse(), Ok(MEMLOCK));
    // proc(5): the fifth field is where it is mounted, the sixth are its options.
    let mounts = of("mountinfo")?;
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let root = mounts.rfind(|fields| fields[4] == "/").ok_or("no root")?;
    assert!(root[5].split(',').any(|option| option == "ro"), "{root:?}");
    for process in [vec![init], init.children()].concat() {
        let mappings = mappings(process.pid())?;
        let ring: Vec<_> = mappings.iter().filter(|one| one.name.ends_with("/web.ring")).collect();
        assert!(!ring.is_empty(), "process {} has no ring", process.pid());
        assert!(ring.iter().all(|mapping| mapping.is_protected()), "{ring:?}");
    }
    Ok(())
}

/// How many bytes the /dev/shm of a container holds, and what is in it.
fn shared_memory(container: &Container) -> Result<(u64, Vec<String>)> {
    let path = format!("/proc/{}/root/dev/shm", container.init()?.pid());
    let output = Command::new("stat").args(["-f", "-c", "%b %S", &path]).output()?;
    let said = String::from_utf8(output.stdout)?;
    let (blocks, size) = said.trim().split_once(' ').ok_or("no size")?;
    let name = |entry: std::io::Result<fs::DirEntry>| {
        Ok(entry?.file_name().to_string_lossy().into_owned())
    };
    let names = fs::read_dir(&path)?.map(name).collect::<std::io::Result<_>>()?;
    Ok((blocks.parse::<u64>()? * size.parse::<u64>()?, names))
}

/// The machine, its visitors, and what the servers show.
struct Machine {
    network: Network,
    visitors: Node,
    certificate: Certificate,
    _public: TempDir,
}

impl Machine {
    fn new() -> Result<Machine> {
        needs_root("containers");
        install()?;
        let network = Network::new()?;
        let public = tempfile::tempdir()?;
        let certificate = certificate::create(public.path())?;
        let visitors = network.attach(VISITORS)?;
        Ok(Machine { network, visitors, certificate, _public: public })
    }

    fn start(&self, number: u8, kind: Kind) -> Result<Container> {
        Container::start(self.network.attach(number)?, &self.certificate, kind)
    }

    /// Visitors who have been at one container.
    fn visitors_of(&self, container: &Container) -> Result<Visitors> {
        let addr = container.addr();
        Ok(self.visitors.namespace().run(|| Visitors::of(addr))?)
    }

    /// Each visitor of one container resumes at the others, or nobody does.
    fn meet(&self, containers: &[Container], resumes: bool, when: &str) -> Result<()> {
        for (from, one) in containers.iter().enumerate() {
            let visitors = self.visitors_of(one)?;
            for (to, other) in containers.iter().enumerate() {
                let seen = self.visitors.namespace().run(|| visitors.resumed(other.addr()))?;
                let expected = [resumes || from == to; TlsVersion::ALL.len()];
                assert_eq!(seen, expected, "{when}: of {from} at {to}\n{}", other.log());
            }
        }
        Ok(())
    }
}

/// What is here: Debian's crun, which `make deps` installs.
fn install() -> Result<()> {
    let is_there = Path::new(CRUN).exists();
    if is_there { Ok(()) } else { Err("there is no crun; `make deps` installs it".into()) }
}

/// Containers of one machine, of one user each time.
fn shares_a_ring(users: Option<&Users>) -> Result<()> {
    let machine = Machine::new()?;
    let ring = RingDir::new()?;
    if let Some(users) = users {
        users.give(ring.path())?;
    }
    let kind = Kind { users, ..Kind::new(Rings::Shared(&ring)) };
    let start = |number| machine.start(number, kind);
    let mut containers = [start(1)?, start(2)?];
    machine.meet(&containers, true, "at first")?;
    for container in &containers {
        is_confined(container)?;
        assert_eq!(shared_memory(container)?, (SHM, vec![]));
    }
    let visitors = machine.visitors_of(&containers[1])?;
    containers[1].kill()?;
    containers[1].run()?;
    let seen = machine.visitors.namespace().run(|| visitors.resumed(containers[1].addr()))?;
    assert_eq!(seen, [true; 2], "a container that was started anew: {}", containers[1].log());
    machine.meet(&containers, true, "after a new start")?;
    assert_eq!(ring.rings()?, [ring.path().join("web.ring")]);
    for container in &containers {
        let said = container.log();
        assert_eq!(log::ours(&said), [""; 0], "{said}");
    }
    Ok(())
}

#[test]
fn two_containers_of_crun_share_a_ring() -> Result<()> {
    shares_a_ring(None)
}

#[test]
fn two_containers_of_crun_with_users_of_their_own_share_a_ring() -> Result<()> {
    shares_a_ring(Some(&Users::new(ROOT)?))
}

/// Nothing is shared but what is meant to be: each has a ring in its own /dev/shm.
#[test]
fn containers_without_a_common_directory_have_rings_of_their_own() -> Result<()> {
    let machine = Machine::new()?;
    let start = |number| machine.start(number, Kind::new(Rings::Own));
    let containers = [start(1)?, start(2)?];
    machine.meet(&containers, false, "with nothing shared")?;
    for container in &containers {
        is_confined(container)?;
        assert_eq!(shared_memory(container)?, (SHM, vec!["tktrot".to_owned()]));
    }
    Ok(())
}

/// As an `emptyDir` of Kubernetes.
#[test]
fn in_a_directory_that_everybody_may_write_servers_say_what_to_do_and_that_does() -> Result<()> {
    let machine = Machine::new()?;
    let volume = RingDir::new()?;
    fs::set_permissions(volume.path(), fs::Permissions::from_mode(0o777))?;
    let refused = Kind { strict: false, ..Kind::new(Rings::Volume(&volume, "/rings")) };
    let containers = [machine.start(1, refused)?, machine.start(2, refused)?];
    machine.meet(&containers, false, "in the volume itself")?;
    for container in &containers {
        let said = container.log();
        let ours = log::ours(&said);
        let remedy = "or use a new directory inside it";
        assert!(ours.iter().any(|line| line.contains(remedy)), "{said}");
    }
    assert_eq!(volume.entries()?, [""; 0].map(std::path::PathBuf::from));
    drop(containers);

    let kind = Kind::new(Rings::Volume(&volume, "/rings/tktrot"));
    let containers = [machine.start(3, kind)?, machine.start(4, kind)?];
    machine.meet(&containers, true, "in a directory in the volume")?;
    for container in &containers {
        let said = container.log();
        assert_eq!(log::ours(&said), [""; 0], "{said}");
    }
    Ok(())
}

/// A ring is one user's of the machine, whatever number he has in a container.
#[test]
fn containers_whose_users_are_others_have_rings_of_their_own_and_say_so() -> Result<()> {
    let machine = Machine::new()?;
    let ring = RingDir::new()?;
    let users = [Users::new(ROOT)?, Users::new(2 * ROOT)?];
    users[0].give(ring.path())?;
    let start = |number: u8, users| {
        let kind = Kind::new(Rings::Volume(&ring, "/rings"));
        machine.start(number, Kind { users: Some(users), strict: false, ..kind })
    };
    let containers = [start(1, &users[0])?, start(2, &users[1])?];
    machine.meet(&containers, false, "with other users")?;
    let said = containers.each_ref().map(Container::log);
    assert_eq!(log::ours(&said[0]), [""; 0], "{}", said[0]);
    let is_told = log::ours(&said[1]).iter().any(|line| line.contains("belongs to user"));
    assert!(is_told, "{}", said[1]);
    Ok(())
}
