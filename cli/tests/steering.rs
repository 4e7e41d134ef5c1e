//! `tktrot rotate` and `tktrot revoke`, on the ring of an nginx that serves.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use testbed::client::{Client, Ticket, TlsVersion, hex8};
use testbed::load::{Load, Promise};
use testbed::nginx::Nginx;
use testbed::process::needs_root;
use testbed::{RingDir, artifacts, log};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const LIMIT: Duration = Duration::from_secs(60);

/// The program, with rings in this directory and nothing else set.
fn tktrot(rings: &RingDir) -> Result<Command> {
    let mut command = Command::new(artifacts::tktrot()?);
    command.env_clear().env("TKTROT_DIR", rings.path()).stdin(Stdio::null());
    Ok(command)
}

fn run(rings: &RingDir, arguments: &[&str]) -> Result<Output> {
    Ok(tktrot(rings)?.args(arguments).output()?)
}

fn says(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), log::said(output))
}

fn nginx(rings: &RingDir) -> Result<Nginx> {
    Ok(Nginx::builder().workers(2).preload(artifacts::shim()?).ring(rings).start()?)
}

fn ticket(client: &Client, nginx: &Nginx) -> Result<Ticket> {
    Ok(client.connect(nginx.addr(), None, None)?.tickets.pop().ok_or("no ticket")?)
}

fn resumes(client: &Client, nginx: &Nginx, ticket: &Ticket) -> Result<bool> {
    Ok(client.connect(nginx.addr(), None, Some(ticket))?.resumed)
}

#[test]
fn rotate_makes_a_new_key_and_the_old_one_decrypts_on() -> Result {
    let rings = RingDir::new()?;
    let nginx = nginx(&rings)?;
    let client = Client::new(TlsVersion::V12)?;
    let before = ticket(&client, &nginx)?;
    // The only ring there is need not be named.
    for arguments in [&["rotate"][..], &["rotate", "nginx"]] {
        let last = ticket(&client, &nginx)?.key_name();
        let (status, said) = says(&run(&rings, arguments)?);
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("nginx.ring: a new key encrypts"), "{said}");
        assert_ne!(ticket(&client, &nginx)?.key_name(), last);
        assert!(resumes(&client, &nginx, &before)?);
    }
    Ok(())
}

#[test]
fn revoke_ends_one_key_by_the_digits_that_status_shows() -> Result {
    let rings = RingDir::new()?;
    let nginx = nginx(&rings)?;
    let client = Client::new(TlsVersion::V12)?;
    let first = ticket(&client, &nginx)?;
    run(&rings, &["rotate"])?;
    let second = ticket(&client, &nginx)?;
    let (status, said) =
        says(&run(&rings, &["revoke", "--key", &hex8(&first.key_name()), "--yes"])?);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains(&format!("ended 1 key: {}", hex8(&first.key_name()))), "{said}");
    assert!(!resumes(&client, &nginx, &first)?);
    assert!(resumes(&client, &nginx, &second)?);
    Ok(())
}

#[test]
fn revoke_all_under_load_refuses_every_earlier_ticket_and_fails_nobody() -> Result {
    let rings = RingDir::new()?;
    let nginx = nginx(&rings)?;
    let promise = Promise::constant(Duration::from_secs(300));
    let mut load = Load::with_threads(nginx.addr(), 8, promise, 4)?.pace(Duration::ZERO);
    let before = load.run(LIMIT, |progress| progress.handshakes >= 200);
    assert_eq!((before.total().failed(), before.total().unexpected_full), (0, 0), "{before}");
    let early = load.tickets();
    assert_eq!(early.len(), 16);

    let (report, output) = load.during(LIMIT, || run(&rings, &["revoke", "--all", "--yes"]));
    let (status, said) = says(&output?);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(report.total().failed(), 0, "{report}");
    // Often enough to meet both workers.
    for _ in 0..4 {
        let offered = load.offer(&early).total();
        assert_eq!((offered.handshakes, offered.resumed), (16, 0), "{offered}");
        assert_eq!(offered.failed(), 0, "{offered}");
    }
    let mut load = Load::with_threads(nginx.addr(), 8, promise, 4)?;
    let after = load.run(LIMIT, |progress| progress.handshakes >= 100).total();
    assert_eq!((after.failed(), after.unexpected_full), (0, 0), "{after}");
    assert!(after.resumed > 0);
    Ok(())
}

#[test]
fn revoke_asks_on_a_terminal_and_wants_yes_without_one() -> Result {
    let rings = RingDir::new()?;
    let nginx = nginx(&rings)?;
    let client = Client::new(TlsVersion::V13)?;
    let held = ticket(&client, &nginx)?;
    let (status, said) = says(&run(&rings, &["revoke", "--all"])?);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("no terminal to ask on: give --yes"), "{said}");
    assert!(resumes(&client, &nginx, &held)?);

    for (answer, revoked) in [("n\n", false), ("\n", false), ("yes\n", true)] {
        let held = ticket(&client, &nginx)?;
        let said = on_a_terminal(tktrot(&rings)?.args(["revoke", "--all"]), answer)?;
        assert!(
            said.contains("Clients with their tickets will do full handshakes. [y/N]"),
            "{said}"
        );
        assert_eq!(said.contains("ended "), revoked, "{said}");
        assert_eq!(resumes(&client, &nginx, &held)?, !revoked, "{answer:?}");
    }
    Ok(())
}

/// Runs a command on a pseudo-terminal of its own, where `answer` is typed when it asks: a terminal
/// shows at once what is typed, also in the middle of a question.
fn on_a_terminal(command: &mut Command, answer: &str) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let arguments: Vec<_> =
        command.get_args().map(|part| part.to_string_lossy().into_owned()).collect();
    // script(1) is in every Debian: bsdutils is essential.
    let mut child = Command::new("script");
    child
        .args(["--quiet", "--return", "--command"])
        .arg(format!("{program} {}", arguments.join(" ")))
        .arg("/dev/null")
        .env_clear()
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("PATH", "/usr/bin:/bin")
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Its own session, so that it is not stopped for reading from ours.
    // SAFETY: setsid is safe after fork and touches no memory.
    unsafe {
        child.pre_exec(|| {
            if libc::setsid() < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        })
    };
    let mut child = child.spawn()?;
    let (mut typed, mut shown) = (child.stdin.take(), child.stdout.take().ok_or("no stdout")?);
    let mut said = Vec::new();
    let mut byte = [0];
    // To the end, if it does not ask.
    while shown.read(&mut byte)? == 1 {
        said.extend(byte);
        if said.ends_with(b"[y/N]")
            && let Some(mut typed) = typed.take()
        {
            typed.write_all(answer.as_bytes())?;
        }
    }
    drop(typed);
    child.wait()?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn what_cannot_be_done_is_told_with_the_ring_and_the_reason() -> Result {
    needs_root("it takes another user's part");
    let rings = RingDir::new()?;
    let (status, said) = says(&run(&rings, &["rotate"])?);
    assert_eq!(status, Some(2));
    assert!(said.contains(&format!("there is no ring in {}", rings.path().display())), "{said}");

    let nginx = nginx(&rings)?;
    let client = Client::new(TlsVersion::V12)?;
    let name = hex8(&ticket(&client, &nginx)?.key_name());
    let absent = if name.starts_with('0') { "1" } else { "0" };
    let absent = absent.repeat(8);
    for (arguments, status, part) in [
        (
            &["rotate", "apache"][..],
            2,
            "apache.ring: there is no such ring; in its directory there are: nginx",
        ),
        (&["rotate", "../x"], 64, "accepted: a name of letters"),
        (&["revoke"], 64, "required arguments were not provided"),
        (&["revoke", "--key", "xyz"], 64, "accepted: 1 to 32 hex digits"),
        (&["revoke", "--key", &absent, "--yes"], 2, "no key's name begins with"),
        (&["revoke", "--key", "a", "--all"], 64, "cannot be used with"),
    ] {
        let (seen, said) = says(&run(&rings, arguments)?);
        assert_eq!(seen, Some(status), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    let mut two = Command::new("setpriv");
    two.args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(artifacts::tktrot()?)
        .args(["rotate", "nginx"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TKTROT_DIR", rings.path());
    let (status, said) = says(&two.output()?);
    assert_eq!(status, Some(2), "{said}");
    Ok(())
}

/// Ends a ring's keys behind the back of a server in which another ring serves: named wrongly,
/// nothing happens to it.
#[test]
fn of_several_rings_one_has_to_be_named() -> Result {
    let rings = RingDir::new()?;
    let nginx = nginx(&rings)?;
    let other = Nginx::builder()
        .preload(artifacts::shim()?)
        .ring(&rings)
        .env("TKTROT_RING", "other")
        .start()?;
    let client = Client::new(TlsVersion::V13)?;
    let held = (ticket(&client, &nginx)?, ticket(&client, &other)?);
    let (status, said) = says(&run(&rings, &["revoke", "--all", "--yes"])?);
    assert_eq!(status, Some(2));
    assert!(said.contains("more than one ring") && said.contains("nginx, other"), "{said}");
    let (status, said) = says(&run(&rings, &["revoke", "other", "--all", "--yes"])?);
    assert_eq!(status, Some(0), "{said}");
    assert!(resumes(&client, &nginx, &held.0)?);
    assert!(!resumes(&client, &other, &held.1)?);
    Ok(())
}
