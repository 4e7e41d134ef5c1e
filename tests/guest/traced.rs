//! What the kernel sees: a process that makes no SSL_CTX opens no file for us, maps no TLS library
//! and starts no thread. One that only makes connections opens none either.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use testbed::environment::Environment;
use testbed::nginx::Nginx;
use testbed::{RingDir, artifacts};

use crate::bystanders::PYTHON_CLIENT;
use crate::{Program, Result, environment};

/// What a program and its children did: successful opens by path, and new processes and threads.
#[derive(Debug, Default, PartialEq, Eq)]
struct Trace {
    opened: BTreeMap<String, usize>,
    clones: usize,
}

impl Trace {
    /// Runs a program under strace. The variables are for the program, not for strace.
    fn of(program: &Program, variables: &[(&str, &str)]) -> Result<Trace> {
        let dir = RingDir::new()?;
        let log = dir.path().join("strace.txt");
        let mut command = Environment::default().command(Path::new("strace"));
        command.args(["-f", "-qq", "-s", "4096"]);
        command.args(["-e", "trace=open,openat,openat2,creat,clone,clone3,fork,vfork"]);
        command.arg("-o").arg(&log);
        for (name, value) in variables {
            command.arg("-E").arg(format!("{name}={value}"));
        }
        let mut child = command
            .arg(program.0)
            .args(program.1)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        assert!(child.wait()?.success(), "{} {:?}", program.0, program.1);
        Ok(Trace::parse(&fs::read_to_string(&log)?))
    }

    /// Understands lines such as `123 openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 3`.
    fn parse(text: &str) -> Trace {
        const CUT: &str = " <unfinished ...>";
        let mut trace = Trace::default();
        // A call during which another process did something is in two lines.
        let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
        for line in text.lines() {
            let Some((pid, call)) = line.split_once(' ') else { continue };
            let call = call.trim_start();
            if let Some(beginning) = call.strip_suffix(CUT) {
                begun.insert(pid, beginning);
            } else if let Some((_, end)) = call.split_once(" resumed>") {
                trace.note(&format!("{}{end}", begun.remove(pid).unwrap_or_default()));
            } else {
                trace.note(call);
            }
        }
        trace
    }

    fn note(&mut self, call: &str) {
        let digit = |first: char| first.is_ascii_digit();
        if !call.rsplit_once(" = ").is_some_and(|(_, result)| result.starts_with(digit)) {
            return;
        }
        if !call.starts_with("open") && !call.starts_with("creat") {
            self.clones += 1;
        } else if let Some(path) = call.split('"').nth(1) {
            *self.opened.entry(path.to_owned()).or_default() += 1;
        }
    }

    /// Takes the files away that the loader opens for a preloaded library: that, the one library
    /// that it needs beside the C library's, and the index of all libraries.
    fn without_loading(mut self, shim: &str) -> Trace {
        self.opened.retain(|path, _| {
            path != shim && !path.ends_with("/libgcc_s.so.1") && path != "/etc/ld.so.cache"
        });
        self
    }
}

/// The program under the shim opens what it opens without, and starts as many children and threads.
fn is_left_alone(program: &Program) -> Result<()> {
    let ring = RingDir::new()?;
    let shim = artifacts::shim()?.to_str().ok_or("a path that is no UTF-8")?;
    let dir = ring.path().to_str().ok_or("a path that is no UTF-8")?;
    let without = Trace::of(program, &[])?.without_loading(shim);
    let with = Trace::of(program, &[("LD_PRELOAD", shim), ("TKTROT_DIR", dir)])?;
    assert!(with.opened.contains_key(shim), "{} was not preloaded", program.0);
    assert_eq!(with.without_loading(shim), without, "{} {:?}", program.0, program.1);
    assert!(ring.entries()?.is_empty(), "{} {:?}", program.0, program.1);
    Ok(())
}

#[test]
fn a_process_without_an_ssl_ctx_opens_nothing_for_us() -> Result<()> {
    is_left_alone(&Program("sh", &["-c", "echo a | cat; true"]))?;
    is_left_alone(&Program("git", &["--version"]))?;
    is_left_alone(&Program("curl", &["--version"]))?;
    is_left_alone(&Program("openssl", &["version"]))?;
    // -B, -S: no bytecode that the first run writes for the second.
    is_left_alone(&Program("python3", &["-B", "-S", "-c", "import ssl"]))
}

#[test]
fn a_client_opens_nothing_for_us() -> Result<()> {
    is_left_alone(&Program("python3", &["-B", "-S", "-c", PYTHON_CLIENT]))?;
    let nginx = Nginx::builder().start()?;
    let url = format!("https://{}/", nginx.addr());
    is_left_alone(&Program("curl", &["--silent", "--insecure", &url]))
}

#[test]
fn the_trace_of_a_server_shows_its_ring() -> Result<()> {
    // Or else the other tests would show nothing.
    let ring = RingDir::new()?;
    let shim = artifacts::shim()?.to_str().ok_or("a path that is no UTF-8")?;
    let dir = ring.path().to_str().ok_or("a path that is no UTF-8")?;
    let script = "import ssl; ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)";
    let server = Program("python3", &["-B", "-S", "-c", script]);
    let trace = Trace::of(&server, &[("LD_PRELOAD", shim), ("TKTROT_DIR", dir)])?;
    assert!(trace.opened.contains_key(dir), "{:#?}", trace.opened);
    // It served nobody.
    assert!(ring.rings()?.is_empty());
    Ok(())
}

#[test]
fn a_process_without_tls_maps_no_tls_library() -> Result<()> {
    let ring = RingDir::new()?;
    let maps = |environment: &Environment| -> Result<Vec<String>> {
        let output = Program("cat", &["/proc/self/maps"]).run(environment)?;
        let text = String::from_utf8(output.stdout)?;
        let mut paths: Vec<String> =
            text.lines().filter_map(|line| Some(line[line.find('/')?..].to_owned())).collect();
        paths.sort();
        paths.dedup();
        Ok(paths)
    };
    let shim = artifacts::shim()?.to_str().ok_or("a path that is no UTF-8")?;
    let without = maps(&environment(None)?)?;
    let mut with = maps(&environment(Some(&ring))?)?;
    assert!(with.iter().any(|path| path == shim), "the shim is not mapped: {with:#?}");
    with.retain(|path| path != shim && !path.ends_with("/libgcc_s.so.1"));
    assert_eq!(with, without);
    assert!(!with.iter().any(|path| path.contains("libssl") || path.contains("libcrypto")));
    Ok(())
}
