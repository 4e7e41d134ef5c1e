//! `tktrot ring`: what it lists, what it shows, and what it does not remove.

#[path = "../../tests/containers/contained.rs"]
#[allow(dead_code, reason = "each test program needs its part of it")]
mod contained;
#[path = "agent/daemon.rs"]
#[allow(dead_code, reason = "each test program needs its part of it")]
mod daemon;
#[allow(dead_code, reason = "each test program needs its part of it")]
mod program;

use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::RingDir;
use testbed::process::{Process, needs_root};
use testbed::wait::{self, PATIENCE};
use tktrot::ring::file::Place;
use tktrot::ring::layout::{Header, MAJOR};
use tktrot::ring::map::Mapping;

use contained::{Contained, shared};
use program::{
    NO_SETTINGS, NOBODY, Result, Said, TKTROT, as_nobody, checked, environment, keyring,
    keyring_with_keys, tktrot,
};

/// One test after the other: a child that one of them forks has all that others have mapped, and would
/// be a user of their rings.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `ring list --json`: the rings of this directory, and none of what other tests have.
fn list(dir: &RingDir) -> Result<Vec<Value>> {
    let said = tktrot(dir, &["ring", "list", "--json"])?;
    let list = checked(&said, include_str!("../../docs/schemas/ring-list.schema.json"))?;
    let is_here = |ring: &&Value| {
        ring["path"].as_str().is_some_and(|path| Path::new(path).parent() == Some(dir.path()))
    };
    let rings = list["rings"].as_array().into_iter().flatten();
    Ok(rings.filter(is_here).cloned().collect())
}

/// `ring show NAME --json`: the only ring of that name.
fn show(dir: &RingDir, name: &str) -> Result<Value> {
    let said = tktrot(dir, &["ring", "show", name, "--json"])?;
    let mut shown = checked(&said, include_str!("../../docs/schemas/ring-show.schema.json"))?;
    let rings = shown["rings"].as_array_mut().ok_or("no rings")?;
    assert_eq!(rings.len(), 1, "{rings:?}");
    Ok(rings.remove(0))
}

/// The line of a table that is about this ring, in words.
fn row(said: &Said, path: &Path) -> Result<Vec<String>> {
    let path = path.display().to_string();
    let line = said.stdout.lines().find(|line| line.starts_with(&path));
    let line = line.ok_or_else(|| format!("{path} is not listed: {said:?}"))?;
    Ok(line.split_whitespace().skip(1).map(str::to_owned).collect())
}

/// What a server of another release would have made, as far as this one may know.
fn of_version_1(dir: &RingDir, name: &str) -> Result<PathBuf> {
    let path = dir.path().join(format!("{name}.ring"));
    let mut bytes = vec![7; 8192];
    bytes[..12].copy_from_slice(b"tktrot\0\x01\x01\0\0\0");
    fs::write(&path, bytes)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(path)
}

/// What root removes where this machine hides processes from him, and where not.
fn remove(dir: &RingDir, name: &str) -> Result<Said> {
    tktrot(dir, &["ring", "remove", name, "--force"])
}

fn refused(said: &Said, why: &[&str]) {
    assert_eq!((said.status, &*said.stdout), (Some(2), ""), "{said:?}");
    for why in why.iter().chain(&["not removed"]) {
        assert!(said.stderr.contains(why), "{why}: {said:?}");
    }
}

#[test]
fn the_usual_directories_are_looked_into_and_nothing_there_is_said() -> Result<()> {
    let _alone = alone();
    needs_root("mounts");
    let run = |script: &str| -> Result<Said> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--pid", "--fork", "--mount-proc", "sh", "-euc"]);
        let mounts = "mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /dev/shm\n";
        unshare.arg(format!("{mounts}{script}")).arg(TKTROT).args(NO_SETTINGS);
        Ok(unshare.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").output()?.into())
    };
    let none = run("\"$0\" \"$@\" ring list")?;
    assert_eq!((none.status, &*none.stderr), (Some(0), ""), "{none:?}");
    assert!(none.stdout.starts_with("no rings"), "{none:?}");

    // Rings that are made where servers make them: by the program itself, before their first start.
    let some = run("
        umask 077
        head -c 80 /dev/urandom > /run/key
        made() { dir=$1; shift; TKTROT_DIR=$dir \"$@\" import /run/key --format nginx-80 ring >&2; }
        mkdir -p /run/user/1000 /run/user/1000/tktrot /dev/shm/tktrot-1000 /dev/shm/tktrot-x
        for dir in /run/tktrot /dev/shm/tktrot /dev/shm/tktrot-1000 /run/user/1000/tktrot \\
                   /dev/shm/tktrot-x; do
            made $dir \"$0\" \"$@\"
        done
        chown -R 1000 /dev/shm/tktrot-1000
        TKTROT_DIR=/run/tktrot/ \"$0\" \"$@\" ring list --dir /var/../run/tktrot")?;
    assert_eq!(some.status, Some(0), "{some:?}");
    let mut paths: Vec<_> = some.stdout.lines().skip(1).collect();
    paths.iter_mut().for_each(|line| *line = line.split_whitespace().next().unwrap_or_default());
    assert_eq!(
        paths,
        [
            "/dev/shm/tktrot/ring.ring",
            "/dev/shm/tktrot-1000/ring.ring",
            "/run/user/1000/tktrot/ring.ring",
            "/var/../run/tktrot/ring.ring",
        ],
        "each once: {some:?}"
    );
    let of_user = row(&some, "/dev/shm/tktrot-1000/ring.ring".as_ref())?;
    assert_ne!(of_user[1], "root", "{some:?}");
    assert_eq!(row(&some, "/dev/shm/tktrot/ring.ring".as_ref())?[1], "root");

    // In a container others cannot be seen.
    let removed = run("
        umask 077
        head -c 80 /dev/urandom > /run/key
        \"$0\" \"$@\" import /run/key --format nginx-80 ring >/dev/null 2>&1
        \"$0\" \"$@\" ring remove ring && exit 1
        \"$0\" \"$@\" ring remove --force ring
        ls -A /run/tktrot")?;
    let expected = "removed /run/tktrot/ring.ring: 1 key erased, nobody used it\n";
    assert_eq!((removed.status, &*removed.stdout), (Some(0), expected), "{removed:?}");
    assert!(removed.stderr.contains("run this on the host, or give --force"), "{removed:?}");

    let dirs = run("mkdir /run/tktrot; \"$0\" \"$@\" ring list")?;
    assert_eq!((dirs.status, &*dirs.stdout), (Some(0), "no rings in /run/tktrot\n"), "{dirs:?}");
    Ok(())
}

#[test]
fn rings_are_listed_with_what_they_take_and_who_uses_them() -> Result<()> {
    let _alone = alone();
    let dir = RingDir::new()?;
    assert_eq!(list(&dir)?, [Value::Null; 0]);
    let _used = keyring_with_keys(&dir, "used")?;
    drop(keyring(&dir, "idle")?);
    let rings = list(&dir)?;
    let of = |member: &str| rings.iter().map(|ring| ring[member].clone()).collect::<Vec<_>>();
    assert_eq!(of("name"), ["idle", "used"]);
    assert_eq!((of("keys"), of("users")), (vec![0.into(), 2.into()], vec![0.into(), 1.into()]));
    assert_eq!(of("format_version"), [MAJOR, MAJOR]);
    assert_eq!((of("removed"), of("governed")), (vec![Value::from(false); 2], of("removed")));
    let file = fs::metadata(dir.path().join("used.ring"))?;
    assert_eq!((&rings[1]["owner"], &rings[1]["severity"]), (&file.uid().into(), &"ok".into()));
    assert_eq!(rings[1]["memory_bytes"], file.blocks() * 512);

    let said = tktrot(&dir, &["ring", "list"])?;
    assert!(said.stdout.starts_with("RING "), "{said:?}");
    let row_of_used = row(&said, &dir.path().join("used.ring"))?;
    assert_eq!(row_of_used[0], MAJOR.to_string());
    let last = ["2", "1", "ok"].map(str::to_owned);
    assert_eq!((&row_of_used[4..], row_of_used.len()), (&last[..], 7), "{said:?}");

    // Also by who was not told of the directory, as long as somebody has it.
    let elsewhere = tktrot(&RingDir::new()?, &["ring", "list"])?;
    assert_eq!(row(&elsewhere, &dir.path().join("used.ring"))?, row_of_used);
    assert!(!elsewhere.stdout.contains("idle.ring"), "{elsewhere:?}");

    // What has holes takes less than its size.
    let sparse = of_version_1(&dir, "sparse")?;
    File::options().write(true).open(&sparse)?.set_len(2 << 20)?;
    let sparse = list(&dir)?.into_iter().find(|ring| ring["name"] == "sparse").ok_or("sparse")?;
    assert_eq!(sparse["memory_bytes"], 8192);

    Ok(())
}

#[test]
fn what_cannot_be_read_is_listed_with_the_reason_and_hides_nothing_else() -> Result<()> {
    let _alone = alone();
    let dir = RingDir::new()?;
    let path = |name: &str| dir.path().join(format!("{name}.ring"));
    let _sound = keyring_with_keys(&dir, "sound")?;
    of_version_1(&dir, "old")?;
    let rings = list(&dir)?;
    let said: Vec<_> = rings.iter().map(|ring| (&ring["condition"], &ring["severity"])).collect();
    let fine = Value::from("ok");
    assert_eq!(said, [(&"other-version".into(), &fine), (&"readable".into(), &fine)]);
    assert_eq!((&rings[0]["format_version"], &rings[0]["keys"]), (&1.into(), &Value::Null));
    let table = tktrot(&dir, &["ring", "list"])?;
    let words = row(&table, &path("old"))?;
    assert_eq!(
        (&*words[0], words[4..].join(" ")),
        ("1", "- 0 of another version".into()),
        "{table:?}"
    );

    fs::copy(path("sound"), path("copy"))?;
    fs::copy(path("sound"), path("rights"))?;
    fs::set_permissions(path("rights"), Permissions::from_mode(0o644))?;
    fs::write(path("junk"), [7; 4096])?;
    fs::set_permissions(path("junk"), Permissions::from_mode(0o600))?;
    fs::write(path("short"), b"tktrot")?;
    fs::set_permissions(path("short"), Permissions::from_mode(0o600))?;
    symlink(path("sound"), path("symlink"))?;
    fs::create_dir(path("directory"))?;
    let rings = list(&dir)?;
    assert_eq!(rings.len(), 8);
    for (name, why) in [
        ("copy", "it is a copy"),
        ("rights", "others have rights to it (mode 0644)"),
        ("junk", "it is not a ring"),
        ("short", "it has the wrong size (6 bytes)"),
        ("symlink", "it is a symbolic link"),
        ("directory", "it is not a regular file"),
    ] {
        let ring = rings.iter().find(|ring| ring["name"] == name).ok_or(name)?;
        let facts = (&ring["condition"], &ring["severity"], &ring["keys"]);
        assert_eq!(facts, (&"unreadable".into(), &"warning".into(), &Value::Null), "{ring:#}");
        assert!(ring["error"].as_str().is_some_and(|error| error.contains(why)), "{ring:#}");
        let has_version = ["copy", "rights"].contains(&name);
        assert_eq!(ring["format_version"].is_number(), has_version, "{ring:#}");
    }
    let table = tktrot(&dir, &["ring", "list"])?;
    assert_eq!(table.status, Some(1), "{table:?}");
    let junk = row(&table, &path("junk"))?;
    let expected = "- 0 cannot be read: it is not a ring (wrong magic number)";
    assert_eq!((&*junk[0], junk[4..].join(" ")), ("-", expected.into()), "{table:?}");
    assert_eq!(row(&table, &path("sound"))?.last().map(String::as_str), Some("ok"));
    Ok(())
}

#[test]
fn a_directory_that_is_not_there_is_an_error_if_it_was_named() -> Result<()> {
    let _alone = alone();
    let dir = RingDir::new()?;
    drop(keyring(&dir, "sound")?);
    let missing = dir.path().join("missing");
    let named = missing.display().to_string();
    let said = tktrot(&dir, &["ring", "list", "--json", "--dir", &named])?;
    let list = checked(&said, include_str!("../../docs/schemas/ring-list.schema.json"))?;
    assert_eq!(
        (&list["severity"], &list["unsearched"][0]["path"]),
        (&"critical".into(), &named.into())
    );
    assert!(said.stderr.contains("missing: cannot be read: No such file"), "{said:?}");
    assert!(said.stdout.contains("sound.ring"), "{said:?}");
    let file = dir.path().join("sound.ring").display().to_string();
    let said = tktrot(&dir, &["ring", "list", "--dir", &file])?;
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.stderr.contains("sound.ring: not a directory"), "{said:?}");

    // One that a server is yet to make.
    let mut command = environment(&dir).command(TKTROT.as_ref());
    command.args(NO_SETTINGS).args(["ring", "list", "--json"]).env("TKTROT_DIR", &missing);
    let said = Said::from(command.output()?);
    let list = checked(&said, include_str!("../../docs/schemas/ring-list.schema.json"))?;
    assert_eq!((&*said.stderr, &list["unsearched"]), ("", &Value::Array(Vec::new())));
    // And two that were named.
    let other = RingDir::new()?;
    drop(keyring(&other, "other")?);
    let named = [dir.path(), other.path()].map(|dir| dir.display().to_string());
    let said = tktrot(&RingDir::new()?, &["ring", "list", "--dir", &named[0], &named[1]])?;
    for path in [dir.path().join("sound.ring"), other.path().join("other.ring")] {
        row(&said, &path)?;
    }
    Ok(())
}

#[test]
fn a_removed_ring_is_listed_and_shown_as_long_as_a_process_has_it() -> Result<()> {
    let _alone = alone();
    needs_root("/proc/PID/map_files");
    let dir = RingDir::new()?;
    let old = keyring_with_keys(&dir, "some")?;
    fs::remove_file(dir.path().join("some.ring"))?;
    let rings = list(&dir)?;
    assert_eq!(rings.len(), 1, "{rings:#?}");
    let facts = (&rings[0]["removed"], &rings[0]["users"], &rings[0]["keys"]);
    assert_eq!(facts, (&true.into(), &1.into(), &2.into()), "{rings:#?}");
    assert_eq!(
        (&rings[0]["severity"], &rings[0]["condition"]),
        (&"warning".into(), &"readable".into())
    );
    assert_eq!(show(&dir, "some")?["removed"], true);
    let said = tktrot(&dir, &["ring", "remove", "some"])?;
    assert_eq!(said.status, Some(2), "{said:?}");
    for word in ["there is no file to remove", &std::process::id().to_string(), "tktrot revoke"] {
        assert!(said.stderr.contains(word), "{word}: {said:?}");
    }

    // Beside a new one of its name.
    let new = keyring(&dir, "some")?;
    let removed: Vec<_> = list(&dir)?.iter().map(|ring| ring["removed"].clone()).collect();
    assert_eq!(removed, [false, true]);
    let said = tktrot(&dir, &["ring", "show", "some"])?;
    assert_eq!((said.status, said.stdout.matches("ring   ").count()), (Some(1), 2), "{said:?}");
    drop((old, new));
    assert_eq!(list(&dir)?.len(), 1);
    Ok(())
}

#[test]
fn one_ring_is_shown_with_its_file_its_settings_and_who_has_it() -> Result<()> {
    let _alone = alone();
    let dir = RingDir::new()?;
    let keyring = keyring_with_keys(&dir, "some")?;
    keyring.settle();
    let file = fs::metadata(dir.path().join("some.ring"))?;
    let capacity = keyring.ring().capacity();
    let ring = show(&dir, "some")?;
    assert_eq!((&ring["inode"], &ring["mode"]), (&file.ino().into(), &"0600".into()));
    assert_eq!((&ring["capacity"], &ring["size_bytes"]), (&capacity.into(), &file.len().into()));
    assert_eq!(ring["rotation"]["rotate_seconds"], 3600.0);
    assert_eq!(ring["rotation"]["governed_for_seconds"], Value::Null);
    let made = file.created().ok().and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok());
    if made.is_some_and(|made| made.as_secs() > 0) {
        assert_eq!(ring["made"].as_u64(), made.map(|made| made.as_secs()));
    }
    let processes = ring["processes"].as_array().ok_or("no processes")?;
    assert_eq!(processes.len(), 1, "{ring:#}");
    let me = &processes[0];
    assert_eq!((&me["pid"], &me["presence"]), (&std::process::id().into(), &"maps".into()));
    // No secret, and no key: that is for `status`.
    let text = tktrot(&dir, &["ring", "show"])?;
    assert_eq!(text.status, Some(0), "{text:?}");
    for part in [
        format!("ring        {}", dir.path().join("some.ring").display()),
        format!("version     {MAJOR}\n"),
        "owner       root, mode 0600".into(),
        format!("inode       {} on device", file.ino()),
        format!("keys        2 of {capacity}"),
        "rotation    R 1 h, L ".into(),
        "governed    no".into(),
        "users       1 process".into(),
        format!("{:7}  ", std::process::id()),
        "uses tickets".into(),
        "tktrot status".into(),
    ] {
        assert!(text.stdout.contains(&part), "{part}: {}", text.stdout);
    }
    drop(keyring);
    let old = of_version_1(&dir, "old")?;
    let mapping = Mapping::to_read(File::open(old)?.as_fd(), 4096)?;
    let ring = show(&dir, "old")?;
    assert_eq!((&ring["format_version"], &ring["rotation"]), (&1.into(), &Value::Null));
    assert_eq!((&ring["processes"][0]["writes"], &ring["users"]), (&false.into(), &0.into()));
    let text = tktrot(&dir, &["ring", "show", "old"])?;
    assert!(text.stdout.contains("it is a ring of version 1, not "), "{text:?}");
    drop(mapping);

    let said = tktrot(&dir, &["ring", "show", "none"])?;
    assert_eq!((said.status, &*said.stdout), (Some(2), ""));
    assert!(said.stderr.contains("there is no such ring; in its directory there are: old, some"));
    Ok(())
}

/// A command that acts on the ring of this version says what it did not reach.
#[test]
fn the_ring_of_another_version_is_listed_beside_and_named_by_who_did_not_act_on_it() -> Result<()> {
    let _alone = alone();
    let dir = RingDir::new()?;
    let old = of_version_1(&dir, "web")?;
    let none = tktrot(&dir, &["status", "web"])?;
    assert_eq!(none.status, Some(2));
    assert!(
        none.stderr.contains("web.ring: this ring is for servers of another release"),
        "{none:?}"
    );
    let keyring = keyring_with_keys(&dir, "web")?;
    let own = dir.path().join(format!("web.ring.{MAJOR}"));
    let paths: Vec<_> = list(&dir)?.iter().map(|ring| ring["path"].clone()).collect();
    assert_eq!(paths, [&old, &own].map(|path| path.display().to_string()));
    let status = tktrot(&dir, &["status", "web"])?;
    assert!(status.stdout.contains(&own.display().to_string()), "{status:?}");

    needs_root("to see all processes");
    // As servers of this version have it, and as its own do.
    let looks = Mapping::to_read(File::open(&old)?.as_fd(), 4096)?;
    let said = tktrot(&dir, &["rotate", "web"])?;
    assert!(!said.stderr.contains(&std::process::id().to_string()), "{said:?}");
    let file = File::options().read(true).write(true).open(&old)?;
    let mapping = Mapping::of_file(file.as_fd(), 4096)?;
    let me = format!("{} (", std::process::id());
    let revoke = ["revoke", "web", "--all", "--yes"];
    for (arguments, status, undone) in
        [(&["rotate", "web"][..], 1, "no new key was made"), (&revoke, 2, "its keys live on")]
    {
        let said = tktrot(&dir, arguments)?;
        assert_eq!(said.status, Some(status), "{said:?}");
        assert!(said.stdout.contains(&own.display().to_string()), "{said:?}");
        for part in ["web.ring: ", undone, "format version 1", &me] {
            assert!(said.stderr.contains(part), "{part}: {said:?}");
        }
    }
    drop((looks, mapping, keyring));
    assert_eq!(remove(&dir, &old.display().to_string())?.status, Some(0));
    assert!(!old.exists() && own.exists());
    Ok(())
}

#[test]
fn a_ring_that_nobody_uses_is_removed_with_its_keys() -> Result<()> {
    let _alone = alone();
    needs_root("to see all processes");
    let dir = RingDir::new()?;
    let path = dir.path().join("some.ring");
    drop(keyring_with_keys(&dir, "some")?);
    // The file stays as long as it is open.
    let file = File::open(&path)?;
    let said = remove(&dir, "some")?;
    let expected = format!("removed {}: 2 keys erased, nobody used it", path.display());
    assert_eq!((said.status, &*said.stderr), (Some(0), ""), "{said:?}");
    assert!(said.stdout.starts_with(&expected), "{said:?}");
    assert_eq!((file.metadata()?.nlink(), dir.entries()?.len()), (0, 0));
    // By path, and there is nothing any more.
    let said = remove(&dir, &path.display().to_string())?;
    assert_eq!((said.status, &*said.stdout), (Some(2), ""), "{said:?}");
    assert!(said.stderr.contains("there is no such ring"), "{said:?}");
    Ok(())
}

#[test]
fn a_ring_that_a_process_has_is_not_removed_and_the_process_is_named() -> Result<()> {
    let _alone = alone();
    needs_root("to see all processes");
    let dir = RingDir::new()?;
    let path = dir.path().join("some.ring");
    let here = keyring_with_keys(&dir, "some")?;
    let me = format!("process {} (", std::process::id());
    for arguments in [&["ring", "remove", "some"][..], &["ring", "remove", "some", "--force"]] {
        refused(&tktrot(&dir, arguments)?, &["in use", &me]);
    }
    drop(here);

    // One that is at work in it, seen by that as well.
    let there = keyring_with_keys(&dir, "some")?;
    let writer = there.ring().try_write().map_err(|not| format!("{not:?}"))?;
    let said = tktrot(&dir, &["ring", "remove", "some"])?;
    refused(&said, &["in use", &me, "which holds its writer lock"]);
    drop(writer);
    drop(there);

    // In another PID namespace, seen from here; then stopped.
    let ready = &shared()[0];
    let contained = Contained::start(None, || {
        let _there = keyring(&dir, "some").unwrap();
        ready.store(1, Ordering::SeqCst);
        thread::sleep(Duration::from_secs(600));
    });
    contained::until("the contained server", || ready.load(Ordering::SeqCst) == 1);
    let there = format!("process {} (", contained.pid());
    refused(&tktrot(&dir, &["ring", "remove", "some"])?, &["in use", &there]);
    contained.signal(libc::SIGSTOP);
    let stopped = Process::find(contained.pid()).ok_or("it is gone")?;
    wait::until(PATIENCE, "the stop", || stopped.is_stopped().then_some(()))?;
    refused(&tktrot(&dir, &["ring", "remove", "some"])?, &["in use", &there]);

    // From another container, which does not see it: it told the ring of itself.
    let mut unshare = environment(&dir).command("/usr/bin/unshare".as_ref());
    unshare.args(["--pid", "--fork", "--mount-proc", TKTROT]).args(NO_SETTINGS);
    let said = Said::from(unshare.args(["ring", "remove", "some", "--force"]).output()?);
    refused(&said, &["in use", "process 1 (", "in another container"]);
    assert!(path.exists() && !here_are_zeroes(&path)?);
    Ok(())
}

fn here_are_zeroes(path: &Path) -> Result<bool> {
    Ok(fs::read(path)?.iter().all(|byte| *byte == 0))
}

#[test]
fn a_ring_that_is_looked_at_is_not_removed() -> Result<()> {
    let _alone = alone();
    needs_root("to see all processes");
    let dir = RingDir::new()?;
    drop(keyring_with_keys(&dir, "some")?);
    let place = Place { dir: dir.path().into(), file: "some.ring".into(), dir_mode: 0o700 };
    let view = place.look().map_err(|refused| refused.to_string())?.ok_or("no ring")?;
    refused(&tktrot(&dir, &["ring", "remove", "some"])?, &["which only reads it"]);
    drop(view);
    assert_eq!(remove(&dir, "some")?.status, Some(0));
    Ok(())
}

#[test]
fn a_ring_that_an_agent_governs_is_not_removed() -> Result<()> {
    let _alone = alone();
    needs_root("to see all processes");
    let mut agent = daemon::Agent::started("rotate = \"1h\"\n")?;
    let said = agent.tktrot(&["ring", "remove", daemon::RING])?;
    refused(&said, &["(tktrot)", "an agent, which governs it"]);
    let said = agent.tktrot(&["ring", "show", daemon::RING])?;
    assert!(said.stdout.contains("governed    by an agent"), "{said:?}");
    let said = agent.tktrot(&["ring", "list"])?;
    let path = agent.rings().join(format!("{}.ring", daemon::RING));
    assert_eq!(row(&said, &path)?.last().map(String::as_str), Some("governed"));
    agent.stop()?;
    let said = agent.tktrot(&["ring", "remove", daemon::RING, "--force"])?;
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(!path.exists());
    Ok(())
}

#[test]
fn what_this_version_cannot_read_is_removed_if_nobody_maps_it() -> Result<()> {
    let _alone = alone();
    needs_root("to see all processes");
    let dir = RingDir::new()?;
    let path = |name: &str| dir.path().join(format!("{name}.ring"));
    let file = File::options().read(true).write(true).open(of_version_1(&dir, "old")?)?;
    let mapping = Mapping::of_file(file.as_fd(), 4096)?;
    let me = format!("process {} (", std::process::id());
    for arguments in [&["ring", "remove", "old"][..], &["ring", "remove", "old", "--force"]] {
        refused(&tktrot(&dir, arguments)?, &["in use", &me]);
    }
    assert!(!here_are_zeroes(&path("old"))?);
    drop(mapping);
    let said = remove(&dir, "old")?;
    assert_eq!((said.status, &*said.stderr), (Some(0), ""), "{said:?}");
    for part in
        ["8 KiB erased", "nobody had it mapped", "no lock could be taken", "version 1, not "]
    {
        assert!(said.stdout.contains(part), "{part}: {said:?}");
    }
    let mut left = vec![1; 8192];
    file.read_exact_at(&mut left, 0)?;
    assert!(left.iter().all(|byte| *byte == 0) && !path("old").exists());

    let sound = keyring_with_keys(&dir, "sound")?;
    fs::copy(path("sound"), path("copy"))?;
    assert_eq!(remove(&dir, "copy")?.status, Some(0));
    fs::write(path("junk"), [7; 100])?;
    assert_eq!(remove(&dir, "junk")?.status, Some(0));
    // One that can be looked at, and no more.
    drop(keyring_with_keys(&dir, "broken")?);
    let behind = size_of::<Header>();
    let zeroes = vec![0; fs::metadata(path("broken"))?.len() as usize - behind];
    File::options().write(true).open(path("broken"))?.write_all_at(&zeroes, behind as u64)?;
    let said = remove(&dir, "broken")?;
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.stdout.contains("no lock could be taken"), "{said:?}");
    // Not what may be anything: of another name, or on a disk.
    let disk = tempfile::tempdir()?;
    let other = [dir.path().join("junk"), disk.path().join("junk.ring")];
    for other in &other {
        fs::write(other, [7; 100])?;
        let said = remove(&dir, &other.display().to_string())?;
        refused(&said, &["it is not a ring", "by hand"]);
        assert_eq!(fs::read(other)?, [7; 100]);
    }
    fs::hard_link(path("sound"), path("link"))?;
    refused(&tktrot(&dir, &["ring", "remove", "link"])?, &["several names"]);
    symlink(path("sound"), path("symlink"))?;
    refused(&tktrot(&dir, &["ring", "remove", "symlink"])?, &["not a regular file"]);
    assert!(path("link").exists() && path("symlink").exists());
    drop(sound);
    Ok(())
}

#[test]
fn another_users_ring_is_listed_and_removed_by_him_alone() -> Result<()> {
    let _alone = alone();
    needs_root("another user's rights are tried");
    let dir = RingDir::new()?;
    let path = dir.path().join("some.ring");
    let give_away = || -> Result<()> {
        chown(dir.path(), Some(NOBODY), Some(NOBODY))?;
        Ok(chown(&path, Some(NOBODY), Some(NOBODY))?)
    };
    let here = keyring_with_keys(&dir, "some")?;
    here.settle();
    give_away()?;
    assert_eq!(list(&dir)?[0]["owner"], NOBODY);
    let table = tktrot(&dir, &["ring", "list"])?;
    assert_eq!(row(&table, &path)?[1], "nobody");
    // This process is root's: nobody may not look at its memory, but the ring knows it.
    let me = format!("process {} (", std::process::id());
    for arguments in [&["ring", "remove", "some"][..], &["ring", "remove", "some", "--force"]] {
        refused(&as_nobody(&dir, arguments)?, &["in use", &me, "not visible"]);
        refused(&tktrot(&dir, arguments)?, &["in use", &me]);
    }
    drop(here);
    fs::remove_file(&path)?;

    // One whose makers are gone.
    chown(dir.path(), Some(0), Some(0))?;
    let key = dir.path().join("key");
    fs::write(&key, (0..80).collect::<Vec<u8>>())?;
    fs::set_permissions(&key, Permissions::from_mode(0o600))?;
    let key = key.display().to_string();
    let made = tktrot(&dir, &["import", &key, "--format", "nginx-80", "some"])?;
    assert_eq!(made.status, Some(0), "{made:?}");
    give_away()?;
    let said = tktrot(&dir, &["ring", "remove", "some", "--force"])?;
    refused(&said, &["belongs to user 65534", "sudo -u '#65534' tktrot ring remove --force"]);
    let said = as_nobody(&dir, &["ring", "list"])?;
    assert!(
        said.stdout.contains(
            "cannot be inspected: only root (with CAP_SYS_PTRACE) can see whether they use a ring"
        ),
        "{said:?}"
    );
    refused(
        &as_nobody(&dir, &["ring", "remove", "some"])?,
        &["cannot be inspected", "run this as root", "--force"],
    );
    assert!(path.exists());
    let said = as_nobody(&dir, &["ring", "remove", "some", "--force"])?;
    assert_eq!(said.status, Some(0), "{said:?}");
    let expected = format!("removed {}: 1 key erased, nobody used it (", path.display());
    assert!(said.stdout.starts_with(&expected), "{said:?}");
    assert!(!path.exists());
    Ok(())
}

/// A server that starts, as far as its ring goes; killed when dropped.
struct Server(libc::pid_t);

impl Server {
    /// Once `words[0]` is 1 it waits for `delay`, opens the ring, tells its node in `words[1]`, and stays.
    fn start(dir: &RingDir, words: &'static [AtomicU64], delay: Duration) -> Server {
        // SAFETY: the child opens a ring and ends without returning.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork failed");
        if pid != 0 {
            return Server(pid);
        }
        let _ = catch_unwind(AssertUnwindSafe(|| {
            contained::until("the start", || words[0].load(Ordering::SeqCst) == 1);
            thread::sleep(delay);
            let keyring = keyring(dir, "some").unwrap();
            words[1].store(keyring.ring().node(), Ordering::SeqCst);
            thread::sleep(Duration::from_secs(60));
        }));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(1) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SAFETY: ends our own child and waits for it.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

/// Whatever comes first: the server's ring is the one that the next server finds.
#[test]
fn a_server_that_starts_while_its_ring_is_removed_has_a_ring_with_a_name() -> Result<()> {
    let _alone = alone();
    needs_root("to see all processes");
    const ROUNDS: u32 = 60;
    let dir = RingDir::new()?;
    let place = Place { dir: dir.path().into(), file: "some.ring".into(), dir_mode: 0o700 };
    let words = shared();
    let open = || place.open_present().map_err(|refused| refused.to_string());
    let remove = || remove(&dir, "some");
    let mut took = Duration::ZERO;
    for round in 0..ROUNDS {
        drop(keyring_with_keys(&dir, "some")?);
        words.iter().for_each(|word| word.store(0, Ordering::SeqCst));
        let server = Server::start(&dir, words, took * round / (ROUNDS - 2));
        let start = || words[0].store(1, Ordering::SeqCst);
        let started = || words[1].load(Ordering::SeqCst) != 0;
        let begun = Instant::now();
        let said = match round {
            // After it, which also tells how long that takes.
            0 => {
                let said = remove()?;
                took = begun.elapsed();
                start();
                said
            }
            // Before it.
            1 => {
                start();
                contained::until("the server's ring", started);
                remove()?
            }
            _ => {
                start();
                remove()?
            }
        };
        contained::until("the server's ring", started);
        match (round, said.status) {
            (0, status) => assert_eq!(status, Some(0), "{said:?}"),
            (1, _) | (_, Some(2)) => {
                let server = format!("process {} (", server.0);
                // Or it came after the last look.
                let is_named = said.stderr.contains(&server) || said.stderr.contains("meanwhile");
                assert!(said.status == Some(2) && is_named, "round {round}: {said:?}");
            }
            (_, status) => assert_eq!(status, Some(0), "round {round}: {said:?}"),
        }
        let there = open()?.ok_or(format!("round {round}: the server's ring has no name"))?;
        let node = there.node();
        assert_eq!(words[1].load(Ordering::SeqCst), node, "round {round}: another ring; {said:?}");
        drop((there, server));
        fs::remove_file(place.path())?;
    }
    Ok(())
}
