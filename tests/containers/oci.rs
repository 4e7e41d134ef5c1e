//! Containers as an OCI runtime makes them, with what Docker and Podman give a container.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use testbed::certificate::{self, Certificate};
use testbed::client::TlsVersion;
use testbed::container::Users;
use testbed::fleet::network::{Network, Node};
use testbed::memory::{Mapping, mappings};
use testbed::process::needs_root;
use testbed::visitors::Visitors;
use testbed::{RingDir, artifacts, log};

use crate::bundle::{Bundle, CAPABILITIES, MEMLOCK, Plan, SHM};
use crate::servers::Result;

const PORT: u16 = 8443;
const VISITORS: u8 = 250;
/// Who is root in a container that has users of its own.
const ROOT: u32 = 100_000;

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
    /// Who runs nginx in it.
    user: u32,
    strict: bool,
}

impl<'k> Kind<'k> {
    fn new(rings: Rings<'k>) -> Kind<'k> {
        Kind { rings, users: None, user: 0, strict: true }
    }
}

/// A container in which nginx runs.
struct Container {
    bundle: Bundle,
    node: Node,
    _site: TempDir,
}

impl Container {
    fn start(node: Node, certificate: &Certificate, kind: Kind) -> Result<Container> {
        let site = tempfile::tempdir()?;
        let conf = site.path().join("nginx.conf");
        fs::write(&conf, nginx_conf())?;
        let mut plan = Plan::default();
        plan.args =
            ["/usr/sbin/nginx", "-e", "stderr", "-c", "/srv/nginx.conf"].map(str::to_owned).into();
        if kind.user == 0 {
            plan.capabilities = CAPABILITIES.map(str::to_owned).into();
        }
        plan.user = kind.user;
        plan.file("/usr/local/lib/libtktrot_preload.so", artifacts::shim()?);
        plan.file("/srv/nginx.conf", conf);
        plan.file("/srv/cert.pem", &certificate.cert);
        let key = site.path().join("key.pem");
        fs::copy(&certificate.key, &key)?;
        let first = kind.users.map_or(0, Users::root);
        chown(&key, Some(first + kind.user), None)?;
        plan.bind("/srv/key.pem", &key, "ro");
        plan.mount("/tmp", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777"]);
        plan.env = vec![
            "LD_PRELOAD=/usr/local/lib/libtktrot_preload.so".to_owned(),
            "TKTROT_RING=web".to_owned(),
            "TKTROT_ROTATE=1s".to_owned(),
            "TKTROT_LIFETIME=20s".to_owned(),
            format!("TKTROT_STRICT={}", u8::from(kind.strict)),
        ];
        match kind.rings {
            Rings::Shared(ring) => plan.bind("/run/tktrot", ring.path(), "rw"),
            Rings::Volume(ring, dir) => {
                plan.bind("/rings", ring.path(), "rw");
                plan.env.push(format!("TKTROT_DIR={dir}"));
            }
            Rings::Own => {}
        }
        let bundle = Bundle::start(&plan, node.namespace(), kind.users)?;
        let mut container = Container { bundle, node, _site: site };
        container.serves()?;
        Ok(container)
    }

    fn addr(&self) -> SocketAddr {
        (self.node.public(), PORT).into()
    }

    fn serves(&mut self) -> Result<()> {
        let addr = self.addr();
        let crun = self.bundle.crun()?;
        let served = self.node.namespace().run(|| testbed::process::serves(crun, addr));
        Ok(served.map_err(|error| format!("{error}\n{}", self.bundle.log()))?)
    }

    fn restart(&mut self) -> Result<()> {
        self.bundle.kill()?;
        self.bundle.run()?;
        self.serves()
    }

    fn log(&self) -> String {
        self.bundle.log()
    }
}

fn nginx_conf() -> String {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|module| format!("{module}_temp_path /tmp/{module};")).concat();
    format!(
        "user www-data; worker_processes 2; daemon off; pid /tmp/nginx.pid; error_log stderr;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off; {temporary}\n\
         server {{ listen {PORT} ssl; ssl_protocols TLSv1.2 TLSv1.3;\n\
         ssl_certificate /srv/cert.pem; ssl_certificate_key /srv/key.pem;\n\
         location / {{ return 200 ok; }} }} }}\n"
    )
}

/// What is claimed of the containers is so: little may be locked and all of the ring is, nothing is
/// written but its directory, and /dev/shm is small and empty.
fn is_confined(container: &Container) -> Result<()> {
    let init = container.bundle.init()?;
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
        // What has memory comes first; the rest has none to lock.
        assert!(ring[0].is_protected(), "{ring:?}");
        let is_hidden = |mapping: &Mapping| mapping.flags.iter().any(|flag| flag == "dd");
        assert!(ring.iter().all(|mapping| is_hidden(mapping)), "{ring:?}");
    }
    Ok(())
}

/// How many bytes the /dev/shm of a container holds, and what is in it.
fn shared_memory(container: &Container) -> Result<(u64, Vec<String>)> {
    let path = format!("/proc/{}/root/dev/shm", container.bundle.init()?.pid());
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
    containers[1].restart()?;
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
    assert_eq!(volume.entries()?, Vec::<PathBuf>::new());
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

/// As where an image says `USER`, or a pod `runAsUser`.
#[test]
fn servers_that_never_are_root_share_a_ring_in_a_directory_of_their_user() -> Result<()> {
    const USER: u32 = 101;
    let machine = Machine::new()?;
    let ring = RingDir::new()?;
    fs::set_permissions(ring.path(), fs::Permissions::from_mode(0o755))?;
    let kind = Kind { user: USER, ..Kind::new(Rings::Volume(&ring, "/rings")) };
    let refused = Kind { strict: false, ..kind };
    let containers = [machine.start(1, refused)?, machine.start(2, refused)?];
    machine.meet(&containers, false, "in a directory of root's")?;
    for container in &containers {
        assert_ne!(log::ours(&container.log()), [""; 0], "nothing is said");
    }
    drop(containers);

    chown(ring.path(), Some(USER), None)?;
    fs::set_permissions(ring.path(), fs::Permissions::from_mode(0o700))?;
    let containers = [machine.start(3, kind)?, machine.start(4, kind)?];
    machine.meet(&containers, true, "in a directory of theirs")?;
    for container in &containers {
        let said = container.log();
        assert_eq!(log::ours(&said), [""; 0], "{said}");
        is_confined(container)?;
    }
    Ok(())
}
