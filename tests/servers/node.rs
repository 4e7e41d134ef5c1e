//! Debian's Node, whose OpenSSL is the system's: each server has ticket keys of its own, and asks for
//! certificates on each connection (`SSL_set_verify`); in a cluster, workers have one listener.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use testbed::{artifacts, log};

use crate::Result;
use crate::journey::{journeys, strangers_stay_out};
use crate::kind::{Asks, Kind, PLAIN, Reload, Site};

/// Where Debian has shared libraries.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

const SINGLE: Kind = Kind {
    ring: "node",
    configure,
    command: |site| command(site, "single"),
    reload: Some(Reload::Signal(libc::SIGHUP, "certificates were read again")),
    launcher,
    // In TLS 1.3 it says of every client without a certificate that resumes that it is authorized.
    slips: true,
    ..PLAIN
};

const CLUSTER: Kind = Kind { command: |site| command(site, "cluster"), reload: None, ..SINGLE };

fn configure(site: &Site, asks: Asks) -> Result {
    let settings = json!({
        "host": site.addr.ip().to_string(),
        "port": site.addr.port(),
        "cert": site.certificate.cert,
        "key": site.certificate.key,
        "ca": site.clients,
        "requestCert": asks != Asks::Nobody,
        "rejectUnauthorized": asks == Asks::Everybody,
    });
    fs::write(site.dir.join("node.js"), include_str!("node.js"))?;
    Ok(fs::write(site.dir.join("node.json"), settings.to_string())?)
}

fn command(_: &Site, mode: &str) -> Vec<String> {
    let node = match is_installed() {
        true => "/usr/bin/node".into(),
        false => unpacked().join("usr/bin/node").display().to_string(),
    };
    [&*node, "node.js", mode].map(str::to_owned).to_vec()
}

/// Whether Debian's Node is the one that is installed: others have their TLS library inside.
fn is_installed() -> bool {
    Path::new(&format!("/{LIBRARIES}/libnode.so.108")).exists()
}

/// Where it is unpacked if not.
fn unpacked() -> PathBuf {
    artifacts::target_dir().join("debian-node")
}

/// Unpacks it where needed. It reads parts of itself from /usr/share/nodejs.
fn launcher() -> Result<Vec<String>> {
    if is_installed() {
        return Ok(Vec::new());
    }
    let root = unpacked();
    if !root.exists() {
        let output =
            Command::new(artifacts::root().join("tools/debian-node")).arg(&root).output()?;
        assert!(output.status.success(), "{}", log::said(&output));
    }
    let root = root.display();
    let libraries = format!("LD_LIBRARY_PATH={root}/{LIBRARIES}");
    let bind = format!("mount --bind {root}/usr/share /usr/share && exec \"$@\"");
    let words = ["env", &libraries, "unshare", "--mount", "sh", "-c", &bind, "sh"];
    Ok(words.map(str::to_owned).to_vec())
}

#[test]
fn node_resumes_whomever_it_asks() -> Result {
    journeys(SINGLE, &Asks::ALL)
}

#[test]
fn node_keeps_strangers_out() -> Result {
    strangers_stay_out(SINGLE, &[Asks::Nobody, Asks::Anybody])
}

#[test]
fn node_cluster_resumes_whomever_it_asks() -> Result {
    journeys(CLUSTER, &Asks::ALL)
}
