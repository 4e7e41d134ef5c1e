//! Shells, helpers and clients: same output, same status, no ring.

use std::fs;
use std::path::Path;

use testbed::RingDir;
use testbed::nginx::Nginx;

use crate::{Program, Result, environment};

/// Makes an SSL_CTX for connections to servers.
pub const PYTHON_CLIENT: &str = "import ssl; print(ssl.create_default_context().protocol)";

#[test]
fn shells_and_helpers_behave_as_without_the_shim() -> Result<()> {
    let programs = [
        Program("sh", &["-c", "echo out; echo err >&2; exit 7"]),
        Program("sh", &["-c", "(echo a; echo b) | sort -r | head -1; kill -TERM $$"]),
        Program("curl", &["--version"]),
        Program("curl", &["--silent", "--show-error", "http://127.0.0.1:1/"]),
        Program("git", &["--version"]),
        Program("git", &["ls-remote", "/nonexistent/repository"]),
        Program("openssl", &["version"]),
        Program("openssl", &["no-such-command"]),
        Program("python3", &["-c", "import sys; sys.exit('the end')"]),
        Program("python3", &["-c", PYTHON_CLIENT]),
    ];
    for program in programs {
        program.does_the_same_under_the_shim()?;
    }
    Ok(())
}

/// Makes a repository with one commit.
fn repository(path: &str) -> Result<()> {
    let git = |arguments: &[&str]| -> Result<()> {
        let identity = ["-c", "user.name=Test", "-c", "user.email=test@localhost", "-C", path];
        let arguments = [&identity, arguments].concat();
        let output = Program("git", &arguments).run(&environment(None)?)?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    fs::create_dir(path)?;
    git(&["init", "--quiet", "--initial-branch=main"])?;
    git(&["commit", "--quiet", "--allow-empty", "--message", "First"])
}

#[test]
fn git_and_the_processes_that_it_starts_behave_as_without_the_shim() -> Result<()> {
    let dir = RingDir::new()?;
    let path = dir.path().join("repository");
    let path = path.to_str().ok_or("a path that is no UTF-8")?;
    repository(path)?;
    let listed = Program("git", &["ls-remote", path]).does_the_same_under_the_shim()?;
    assert!(String::from_utf8_lossy(&listed.stdout).contains("refs/heads/main"));
    Program("git", &["-C", path, "log", "--oneline"]).does_the_same_under_the_shim()?;
    Ok(())
}

#[test]
fn clients_of_tls_servers_make_no_ring() -> Result<()> {
    let nginx = Nginx::builder().start()?;
    let (host, port) = (nginx.addr().ip().to_string(), nginx.addr().port().to_string());
    let url = format!("https://{}/", nginx.addr());
    let get = Program("curl", &["--silent", "--show-error", "--insecure", &url]);
    let fetched = get.does_the_same_under_the_shim()?;
    assert_eq!(fetched.stdout, b"ok");
    // The certificate is nobody's.
    let refused = Program("curl", &["--silent", "--show-error", &url]);
    assert!(!refused.does_the_same_under_the_shim()?.status.success());

    let python = "import socket, ssl, sys\n\
                  context = ssl.create_default_context()\n\
                  context.check_hostname = False\n\
                  context.verify_mode = ssl.CERT_NONE\n\
                  with context.wrap_socket(socket.create_connection(sys.argv[1:])) as tls:\n\
                  \x20   tls.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')\n\
                  \x20   print(tls.version(), tls.session_reused, tls.recv(15))\n";
    let client = Program("python3", &["-c", python, &host, &port]);
    let answered = client.does_the_same_under_the_shim()?;
    assert!(String::from_utf8_lossy(&answered.stdout).contains("200 OK"));

    let connect = nginx.addr().to_string();
    let client = Program("openssl", &["s_client", "-brief", "-verify_quiet", "-connect", &connect]);
    assert!(client.does_the_same_under_the_shim()?.status.success());
    Ok(())
}

#[test]
fn a_server_that_only_checks_its_configuration_says_what_it_said() -> Result<()> {
    let mut nginx = Nginx::builder().start()?;
    let config = nginx.dir().join("nginx.conf");
    nginx.stop()?;
    let config = config.to_str().ok_or("a path that is no UTF-8")?;
    // It makes an SSL_CTX as the server does, and so the ring that the server will use.
    let ring = RingDir::new()?;
    let check = Program(testbed::nginx::BINARY, &["-t", "-c", config]);
    let (without, with) = (check.run(&environment(None)?)?, check.run(&environment(Some(&ring))?)?);
    assert!(without.status.success() && with.status.success());
    assert_eq!((with.stdout, with.stderr), (without.stdout, without.stderr));
    assert!(ring.rings()?.iter().all(|path| path.file_name() == Some("nginx.ring".as_ref())));
    assert!(Path::new(config).exists());
    Ok(())
}
