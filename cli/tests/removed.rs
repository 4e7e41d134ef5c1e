//! A ring's file goes away under the servers that have it: removed, replaced, truncated, made
//! unreadable. Nobody crashes, and what the program says is so.

#[allow(dead_code, reason = "each test program needs its part of it")]
mod program;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use testbed::client::{Client, TlsVersion};
use testbed::nginx::Nginx;
use testbed::solo::Solo;
use testbed::{RingDir, artifacts, log, process, wait};

use program::{Result, alarms, command, document, keyring_with_keys, tktrot};

const LIMIT: Duration = Duration::from_secs(20);
/// Somebody else.
const STRANGER: u32 = 12345;

fn server(ring: &RingDir) -> Result<Solo> {
    Ok(Solo::openssl()
        .preload(artifacts::shim()?)
        .ring(ring)
        .env("TKTROT_RING", "web")
        .env("TKTROT_ROTATE", "1h")
        .start()?)
}

/// What a command was told to do is done, whether it can be told or not.
#[test]
fn what_cannot_be_printed_is_done_all_the_same() -> Result<()> {
    process::needs_root("/proc/PID/map_files");
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    for (closed, status) in [(false, Some(2)), (true, Some(0))] {
        let dir = RingDir::new()?;
        let removed = keyring_with_keys(&dir, "web")?;
        fs::remove_file(dir.path().join("web.ring"))?;
        let present = keyring_with_keys(&dir, "web")?;
        let mut command = command(&dir, &["revoke", "web", "--all", "--yes"]);
        let mut command = command.stderr(Stdio::piped());
        command = if closed { command.stdout(Stdio::piped()) } else { command.stdout(full()) };
        let mut child = command.spawn()?;
        drop(child.stdout.take());
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), status, "{said}");
        assert!(!said.contains("panic"), "{said}");
        assert_eq!(said.contains("some output could not be written"), !closed, "{said}");
        for keyring in [removed, present] {
            // Those before it are gone, and the two that follow are new.
            assert_eq!(keyring.ring().try_write().map_err(|_| "busy")?.entries().len(), 2);
            assert!(keyring.ring().header().rotations.load(Ordering::Relaxed) > 2);
        }
    }
    Ok(())
}

/// True if a ticket that the one server gives out resumes at the other.
fn crosses(from: &Solo, to: &Solo) -> Result<bool> {
    let client = Client::new(TlsVersion::V13)?;
    let ticket = client.connect(from.addr(), None, None)?.tickets.pop().ok_or("no ticket")?;
    Ok(client.connect(to.addr(), None, Some(&ticket))?.resumed)
}

fn rings(document: &Value) -> Vec<Value> {
    document["rings"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_removed_ring_is_told_seen_and_revoked_in_whoever_has_it() -> Result<()> {
    process::needs_root("/proc/PID/map_files");
    let ring = RingDir::new()?;
    let path = ring.path().join("web.ring");
    let old = server(&ring)?;
    assert!(crosses(&old, &old)?);
    fs::remove_file(&path)?;
    wait::until(LIMIT, "the log line", || {
        log::ours(&old.stderr()).iter().any(|line| line.contains("file was removed")).then_some(())
    })?;

    // Alone: it is found without a name, and acted on.
    let alone = document(&ring, &[])?;
    let seen = rings(&alone);
    assert_eq!(seen.len(), 1, "{alone:#}");
    assert_eq!(seen[0]["file_removed"], true);
    assert!(alarms(&seen[0]).contains(&"file-removed"), "{alone:#}");
    assert_eq!(seen[0]["users"][0]["pid"], old.pid()?);
    let text = tktrot(&ring, &["status", "web"])?;
    assert_eq!(text.status, Some(2));
    assert!(text.stdout.contains("file was removed"), "{text:?}");
    let rotated = tktrot(&ring, &["rotate", "web"])?;
    assert_eq!(rotated.status, Some(0), "{rotated:?}");
    assert!(rotated.stdout.contains("its file was removed; in process"), "{rotated:?}");

    // Beside one of the same name.
    let new = server(&ring)?;
    assert!(!crosses(&old, &new)? && crosses(&new, &new)?);
    let both = document(&ring, &["web"])?;
    let removed: Vec<_> = rings(&both).iter().map(|ring| ring["file_removed"].clone()).collect();
    assert_eq!(removed, [false, true], "{both:#}");
    // Where it finds the shim beside it.
    let pid = old.pid()?.to_string();
    let check = Command::new(artifacts::tktrot()?).args(["check", "--pid", &pid]).output()?;
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.contains("its file was removed"), "{check}");
    let metrics = tktrot(&ring, &["status", "--prometheus", "web"])?;
    assert!(metrics.stdout.contains("alarm=\"file-removed\",ring=\"web (removed"), "{metrics:?}");

    let client = Client::new(TlsVersion::V13)?;
    let ticket_of = |server: &Solo| -> Result<_> {
        Ok(client.connect(server.addr(), None, None)?.tickets.pop().ok_or("no ticket")?)
    };
    let tickets = [ticket_of(&old)?, ticket_of(&new)?];
    let revoked = tktrot(&ring, &["revoke", "web", "--all", "--yes"])?;
    assert_eq!(revoked.status, Some(0), "{revoked:?}");
    assert_eq!(revoked.stdout.lines().count(), 2, "{revoked:?}");
    for (server, ticket) in [&old, &new].into_iter().zip(&tickets) {
        assert!(!client.connect(server.addr(), None, Some(ticket))?.resumed, "revoked");
    }
    // One line, however long it lasts.
    let said = old.stderr();
    assert_eq!(log::ours(&said).len(), 1, "{said}");
    Ok(())
}

/// Root looks at everybody's rings, and writes to nobody else's: what was not done is said.
#[test]
fn a_removed_ring_that_may_only_be_looked_at_is_not_called_revoked() -> Result<()> {
    process::needs_root("/proc/PID/map_files");
    let ring = RingDir::new()?;
    let path = ring.path().join("web.ring");
    let server = server(&ring)?;
    assert!(crosses(&server, &server)?);
    chown(&path, Some(STRANGER), None)?;
    fs::remove_file(&path)?;
    for arguments in [&["revoke", "web", "--all", "--yes"][..], &["rotate", "web"]] {
        let said = tktrot(&ring, arguments)?;
        assert_eq!((said.status, &*said.stdout), (Some(2), ""), "{said:?}");
        assert!(said.stderr.contains("it belongs to user 12345"), "{said:?}");
    }
    assert!(crosses(&server, &server)?);
    Ok(())
}

#[test]
fn a_server_that_reloads_after_that_shares_with_those_that_start() -> Result<()> {
    let ring = RingDir::new()?;
    let nginx = Nginx::builder()
        .preload(artifacts::shim()?)
        .ring(&ring)
        .env("TKTROT_RING", "web")
        .workers(1);
    let mut nginx = nginx.start()?;
    let client = Client::new(TlsVersion::V13)?;
    let ticket = |nginx: &Nginx| -> Result<_> {
        Ok(client.connect(nginx.addr(), None, None)?.tickets.pop().ok_or("no ticket")?)
    };
    let before = ticket(&nginx)?;
    fs::remove_file(ring.path().join("web.ring"))?;
    nginx.reload()?;
    assert!(ring.path().join("web.ring").exists(), "no new ring: {}", nginx.stderr());
    let after = ticket(&nginx)?;
    assert!(!client.connect(nginx.addr(), None, Some(&before))?.resumed);
    assert!(client.connect(nginx.addr(), None, Some(&after))?.resumed);
    nginx.reload()?;
    assert!(client.connect(nginx.addr(), None, Some(&after))?.resumed, "{}", nginx.stderr());
    Ok(())
}

/// The program looks at rings of users that it does not trust, as root.
#[test]
fn a_ring_that_is_truncated_while_it_is_looked_at_ends_no_command_by_a_signal() -> Result<()> {
    let ring = RingDir::new()?;
    let path = ring.path().join("some.ring");
    drop(keyring_with_keys(&ring, "some")?);
    let sound = fs::read(&path)?;
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                let file = File::options().write(true).open(&path).unwrap();
                file.set_len(0).unwrap();
                file.set_len(sound.len() as u64).unwrap();
                std::os::unix::fs::FileExt::write_all_at(&file, &sound, 0).unwrap();
            }
        });
        let looked = (0..60).try_for_each(|_| -> Result<()> {
            for arguments in [&["status", "some"][..], &["revoke", "some", "--all", "--yes"]] {
                let said = tktrot(&ring, arguments)?;
                // Not by a panic: the other thread would go on for ever.
                said.status.ok_or_else(|| format!("ended by a signal: {said:?}"))?;
            }
            Ok(())
        });
        enough.store(true, Ordering::Relaxed);
        looked
    })
}

#[test]
fn a_ring_that_others_may_read_is_refused_by_who_comes_and_serves_who_has_it() -> Result<()> {
    let ring = RingDir::new()?;
    let server = server(&ring)?;
    let path = ring.path().join("web.ring");
    fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    let said = tktrot(&ring, &["status", "web"])?;
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.stderr.contains("others have rights to it (mode 0644)"), "{said:?}");
    assert!(crosses(&server, &server)?);
    Ok(())
}
