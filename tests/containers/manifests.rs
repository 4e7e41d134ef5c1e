//! The manifests for Kubernetes, run without Kubernetes: each container of a pod as crun runs it, with
//! the command, the variables, the volumes and the rights that the manifest gives it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use testbed::certificate;
use testbed::client::{Client, TlsVersion};
use testbed::fleet::network::{Network, Node};
use testbed::fleet::write_secret;
use testbed::process::needs_root;
use testbed::{RingDir, artifacts, log, wait};
use yaml_rust2::{Yaml, YamlLoader};

use crate::bundle::{Bundle, Plan};
use crate::servers::Result;

const PORT: u16 = 8443;
const VISITORS: u8 = 250;
/// Until the agents of two pods know each other's keys: seconds.
const LIMIT: Duration = Duration::from_secs(60);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> Result<String> {
    Ok(fs::read_to_string(root().join("dist/kubernetes").join(file))?)
}

fn documents(file: &str) -> Result<Vec<Yaml>> {
    let documents = YamlLoader::load_from_str(&text(file)?)?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

fn list<'y>(yaml: &'y Yaml, member: &str) -> &'y [Yaml] {
    yaml[member].as_vec().map(Vec::as_slice).unwrap_or_default()
}

fn word<'y>(yaml: &'y Yaml, member: &str) -> Result<&'y str> {
    Ok(yaml[member].as_str().ok_or_else(|| format!("no {member}: {yaml:?}"))?)
}

fn named<'y>(all: &'y [Yaml], kind: &str, name: &str) -> Result<&'y Yaml> {
    let is_it = |one: &&Yaml| {
        one["kind"].as_str() == Some(kind) && one["metadata"]["name"].as_str() == Some(name)
    };
    Ok(all.iter().find(is_it).ok_or_else(|| format!("there is no {kind} {name}"))?)
}

/// What the pod of a Deployment or a DaemonSet is.
fn pod(document: &Yaml) -> &Yaml {
    &document["spec"]["template"]["spec"]
}

fn containers(pod: &Yaml) -> impl Iterator<Item = &Yaml> {
    list(pod, "initContainers").iter().chain(list(pod, "containers"))
}

/// What a cluster has beside the manifest.
struct Cluster<'c> {
    documents: &'c [Yaml],
    /// The files of secrets, by the secret's name and theirs.
    secrets: BTreeMap<(&'c str, &'c str), PathBuf>,
    /// The addresses of a service's pods.
    hosts: Vec<Ipv4Addr>,
    /// A node's /run/tktrot.
    rings: &'c RingDir,
}

impl Cluster<'_> {
    /// What the pods of a service are found by.
    fn names(&self) -> Result<String> {
        let services = self.documents.iter().filter(|one| one["kind"].as_str() == Some("Service"));
        let mut text = String::new();
        for service in services {
            let name = word(&service["metadata"], "name")?;
            for host in &self.hosts {
                text += &format!("{host} {name}.default.svc.cluster.local\n");
            }
        }
        Ok(text)
    }

    /// A file of a ConfigMap or a secret.
    fn file(&self, volume: &Yaml, name: &str, dir: &Path) -> Result<PathBuf> {
        if let Some(secret) = volume["secret"]["secretName"].as_str() {
            assert_eq!(volume["secret"]["defaultMode"].as_i64(), Some(0o400), "{secret}");
            let file = self.secrets.get(&(secret, name));
            return Ok(file.ok_or_else(|| format!("no secret {secret} {name}"))?.clone());
        }
        let map = named(self.documents, "ConfigMap", word(&volume["configMap"], "name")?)?;
        let file = dir.join(format!("{}-{name}", word(&map["metadata"], "name")?));
        fs::write(&file, word(&map["data"], name)?)?;
        Ok(file)
    }
}

/// A pod that runs. What it has is removed after it ended.
struct Pod {
    bundles: Vec<Bundle>,
    node: Node,
    _dirs: Vec<RingDir>,
    _files: TempDir,
}

impl Pod {
    fn start(pod: &Yaml, node: Node, cluster: &Cluster) -> Result<Pod> {
        let files = tempfile::tempdir()?;
        let hosts = files.path().join("hosts");
        fs::write(&hosts, cluster.names()?)?;
        let mut dirs = Vec::new();
        // Those that are directories; of the others single files are mounted.
        let mut directories = BTreeMap::new();
        for volume in list(pod, "volumes") {
            let name = word(volume, "name")?;
            if let Some(medium) = volume["emptyDir"]["medium"].as_str() {
                assert_eq!(medium, "Memory", "{name}");
                let dir = RingDir::new()?;
                fs::set_permissions(dir.path(), Permissions::from_mode(0o777))?;
                directories.insert(name, dir.path().to_owned());
                dirs.push(dir);
            } else if let Some(path) = volume["hostPath"]["path"].as_str() {
                assert_eq!(path, "/run/tktrot");
                directories.insert(name, cluster.rings.path().to_owned());
            }
        }
        let mut bundles = Vec::new();
        for container in containers(pod) {
            let mut plan = plan(container)?;
            plan.file("/etc/hosts", &hosts);
            for mount in list(container, "volumeMounts") {
                let (name, to) = (word(mount, "name")?, word(mount, "mountPath")?);
                let volumes = list(pod, "volumes").iter();
                let volume = volumes.clone().find(|one| one["name"].as_str() == Some(name));
                let volume = volume.ok_or_else(|| format!("there is no volume {name}"))?;
                match (directories.get(name), mount["subPath"].as_str()) {
                    (Some(dir), None) => plan.bind(to, dir, "rw"),
                    (None, Some(file)) => {
                        plan.bind(to, &cluster.file(volume, file, files.path())?, "ro");
                    }
                    _ => return Err(format!("what is mounted there? {mount:?}").into()),
                }
            }
            bundles.push(Bundle::start(&plan, node.namespace(), None)?);
        }
        Ok(Pod { bundles, node, _dirs: dirs, _files: files })
    }

    fn addr(&self) -> SocketAddr {
        (self.node.public(), PORT).into()
    }

    fn log(&self) -> String {
        self.bundles.iter().map(Bundle::log).collect::<Vec<_>>().join("---\n")
    }
}

/// A container without its volumes.
fn plan(container: &Yaml) -> Result<Plan> {
    let rights = &container["securityContext"];
    assert_eq!(rights["runAsUser"].as_i64(), Some(0), "{container:?}");
    assert_eq!(rights["readOnlyRootFilesystem"].as_bool(), Some(true), "{container:?}");
    assert_eq!(rights["allowPrivilegeEscalation"].as_bool(), Some(false), "{container:?}");
    let dropped = list(&rights["capabilities"], "drop");
    assert_eq!(dropped, [Yaml::String("ALL".to_owned())], "{container:?}");
    let words = |list: &[Yaml]| -> Vec<String> {
        list.iter().filter_map(Yaml::as_str).map(str::to_owned).collect()
    };
    let added = words(list(&rights["capabilities"], "add"));
    let mut plan = Plan::default();
    // Kubernetes has no say in what may be locked in memory: Linux gives so much.
    plan.memlock = Some(8 << 20);
    plan.capabilities = added.iter().map(|name| format!("CAP_{name}")).collect();
    plan.args = words(list(container, "command"));
    for variable in list(container, "env") {
        plan.env.push(format!("{}={}", word(variable, "name")?, word(variable, "value")?));
    }
    plan.file("/usr/local/lib/libtktrot_preload.so", artifacts::shim()?);
    plan.file("/usr/local/bin/tktrot", artifacts::tktrot()?);
    Ok(plan)
}

/// Waits until a ticket of each resumes at each.
fn share_their_tickets(visitors: &Node, pods: &[Pod]) -> Result<()> {
    for version in TlsVersion::ALL {
        let client = Client::new(version)?;
        for (from, one) in pods.iter().enumerate() {
            for (to, other) in pods.iter().enumerate() {
                let carry = || {
                    let full = client.connect(one.addr(), None, None).ok()?;
                    let resumed = client.connect(other.addr(), None, full.tickets.last());
                    resumed.ok()?.resumed.then_some(())
                };
                let what = format!("{version}: a ticket of {from} to resume at {to}");
                let carried = visitors.namespace().run(|| wait::until(LIMIT, &what, carry));
                carried.map_err(|late| format!("{late}\n{}\n===\n{}", one.log(), other.log()))?;
            }
        }
    }
    for pod in pods {
        let said = pod.log();
        assert_eq!(log::ours(&said), [""; 0], "{said}");
    }
    Ok(())
}

struct Files {
    dir: RingDir,
}

impl Files {
    fn new() -> Result<Files> {
        let dir = RingDir::new()?;
        certificate::create(dir.path())?;
        write_secret(&dir.path().join("fleet.secret"))?;
        for entry in dir.entries()? {
            fs::set_permissions(entry, Permissions::from_mode(0o400))?;
        }
        Ok(Files { dir })
    }

    fn secrets(&self) -> BTreeMap<(&'static str, &'static str), PathBuf> {
        let path = |name: &str| self.dir.path().join(name);
        [
            (("tktrot", "fleet.secret"), path("fleet.secret")),
            (("web", "tls.crt"), path("cert.pem")),
            (("web", "tls.key"), path("key.pem")),
        ]
        .into()
    }
}

#[test]
fn two_pods_with_the_sidecar_share_their_tickets() -> Result<()> {
    needs_root("containers");
    let documents = documents("sidecar.yaml")?;
    let deployment = named(&documents, "Deployment", "web")?;
    let network = Network::new()?;
    let visitors = network.attach(VISITORS)?;
    let nodes = [network.attach(1)?, network.attach(2)?];
    assert_eq!(deployment["spec"]["replicas"].as_i64(), Some(nodes.len() as i64));
    let (files, rings) = (Files::new()?, RingDir::new()?);
    let hosts = nodes.iter().map(Node::fleet).collect();
    let cluster = Cluster { documents: &documents, secrets: files.secrets(), hosts, rings: &rings };
    let mut pods = Vec::new();
    for node in nodes {
        pods.push(Pod::start(pod(deployment), node, &cluster)?);
    }
    share_their_tickets(&visitors, &pods)
}

/// What a comment of the manifest says that pods need: it is YAML, too.
fn hint(text: &str) -> Result<Yaml> {
    let lines = text.lines().skip_while(|line| *line != "#   env:");
    let lines = lines.map_while(|line| line.strip_prefix("#   ")).collect::<Vec<_>>();
    let hint = YamlLoader::load_from_str(&lines.join("\n"))?;
    Ok(hint.into_iter().next().ok_or("no hint")?)
}

/// On each of two nodes an agent, and beside it a pod that does as the manifest says.
#[test]
fn pods_share_their_tickets_by_the_agents_of_the_daemon_set() -> Result<()> {
    needs_root("containers");
    let documents = documents("daemonset.yaml")?;
    let agent = pod(named(&documents, "DaemonSet", "tktrot-agent")?);
    let hint = hint(&text("daemonset.yaml")?)?;
    let network = Network::new()?;
    let visitors = network.attach(VISITORS)?;
    let files = Files::new()?;
    let rings = [RingDir::new()?, RingDir::new()?];
    let nodes = [network.attach(1)?, network.attach(2)?];
    let hosts: Vec<_> = nodes.iter().map(Node::fleet).collect();
    let mut pods = Vec::new();
    for (node, rings) in nodes.into_iter().zip(&rings) {
        // As the kubelet makes it.
        fs::set_permissions(rings.path(), Permissions::from_mode(0o755))?;
        let (secrets, hosts) = (files.secrets(), hosts.clone());
        let cluster = Cluster { documents: &documents, secrets, hosts, rings };
        let mut one = Pod::start(agent, node, &cluster)?;
        one.bundles.push(server(&hint, &one.node, &cluster)?);
        pods.push(one);
    }
    share_their_tickets(&visitors, &pods)
}

/// An nginx that has what the hint says.
fn server(hint: &Yaml, node: &Node, cluster: &Cluster) -> Result<Bundle> {
    // The other manifest has one, with what it reads.
    let documents = documents("sidecar.yaml")?;
    let nginx = &containers(pod(named(&documents, "Deployment", "web")?)).last().ok_or("none")?;
    let mut plan = plan(nginx)?;
    plan.env.clear();
    for variable in list(hint, "env") {
        plan.env.push(format!("{}={}", word(variable, "name")?, word(variable, "value")?));
    }
    let (mount, volume) = (&hint["volumeMounts"][0], &hint["volumes"][0]);
    assert_eq!(word(mount, "name")?, word(volume, "name")?);
    assert_eq!(volume["hostPath"]["path"].as_str(), Some("/run/tktrot"));
    plan.bind(word(mount, "mountPath")?, cluster.rings.path(), "rw");
    let files = tempfile::tempdir()?;
    let conf = files.path().join("nginx.conf");
    fs::write(&conf, word(&named(&documents, "ConfigMap", "web")?["data"], "nginx.conf")?)?;
    plan.file("/etc/web/nginx.conf", &conf);
    for (name, to) in [("tls.crt", "/etc/web/tls.crt"), ("tls.key", "/etc/web/tls.key")] {
        plan.bind(to, &cluster.secrets[&("web", name)], "ro");
    }
    plan.mount("/tmp", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777"]);
    Bundle::start(&plan, node.namespace(), None)
}
