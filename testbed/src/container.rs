//! What makes a container of a server: users of its own, and namespaces that it is started in.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::lchown;
use std::path::Path;
use std::process::{self, Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::process::Process;
use crate::wait::{self, PATIENCE};

/// How many users a container has.
const USERS: u32 = 65_536;

/// A user namespace without a name: its root is a user of the machine without rights. It lasts as
/// long as this, or longer if processes are in it.
#[derive(Debug)]
pub struct Users {
    handle: OwnedFd,
    first: u32,
}

impl Users {
    /// A new one, whose root is the machine's user `first`, and so on. Takes root.
    pub fn new(first: u32) -> Result<Users> {
        // Whoever makes a user namespace cannot say who is in it, if he has no more rights there
        // than here: another process makes it, and ends when its standard input does.
        let mut maker = Command::new("unshare")
            .args(["--user", "cat"])
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot run unshare; `make deps` installs it (util-linux)")?;
        let users = Users::of(&maker, first);
        drop(maker.stdin.take());
        maker.wait()?;
        users
    }

    fn of(maker: &Child, first: u32) -> Result<Users> {
        let path = |name: &str| format!("/proc/{}/{name}", maker.id());
        let own = fs::read_link("/proc/self/ns/user")?;
        wait::until(PATIENCE, "a user namespace", || {
            fs::read_link(path("ns/user")).ok().filter(|other| *other != own)
        })?;
        for map in ["uid_map", "gid_map"] {
            fs::write(path(map), format!("0 {first} {USERS}\n"))
                .with_context(|| format!("cannot write {map}, as root?"))?;
        }
        Ok(Users { handle: File::open(path("ns/user"))?.into(), first })
    }

    /// The machine's user that is root in it.
    pub fn root(&self) -> u32 {
        self.first
    }

    /// Gives its root a directory and all that is in it. Links are not followed.
    pub fn give(&self, path: &Path) -> Result<()> {
        lchown(path, Some(self.first), Some(self.first))
            .with_context(|| format!("cannot give away {}, as root?", path.display()))?;
        if fs::symlink_metadata(path)?.is_dir() {
            for entry in fs::read_dir(path)? {
                self.give(&entry?.path())?;
            }
        }
        Ok(())
    }

    /// Words to launch a server through, before those of [`own_namespaces`].
    pub fn launcher(&self) -> [String; 2] {
        let handle = self.handle.as_raw_fd();
        ["nsenter".to_owned(), format!("--user=/proc/{}/fd/{handle}", process::id())]
    }
}

/// Words to launch a server through: it is process 1 of a PID namespace, and has a mount, an IPC
/// and a UTS namespace, and a time namespace that is `ahead` of the machine by so many seconds.
pub fn own_namespaces(ahead: i64) -> Vec<String> {
    let made = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--ipc", "--uts"];
    let mut words: Vec<String> = made.map(str::to_owned).into();
    words.extend(["--time", "--boottime"].map(str::to_owned));
    words.push(ahead.to_string());
    words
}

/// How far the clock of a container can be behind and ahead, in seconds: a day, but not before
/// the machine was started.
pub fn a_day_apart() -> Result<[i64; 2]> {
    const DAY: i64 = 24 * 3600;
    let uptime = fs::read_to_string("/proc/uptime")?;
    let seconds = uptime.split_once('.').context("no uptime")?.0.parse::<i64>()?;
    Ok([-(seconds - 30).clamp(1, DAY), DAY])
}

/// Stops all these processes, the first ones first, as who pauses a container does.
pub fn pause(processes: &[Process]) -> Result<()> {
    for process in processes {
        ensure!(process.signal(libc::SIGSTOP), "process {} is gone", process.pid());
        wait::until(PATIENCE, "a process to stop", || process.is_stopped().then_some(()))?;
    }
    Ok(())
}

/// Lets them go on. Those that are gone need not.
pub fn resume(processes: &[Process]) {
    for process in processes.iter().rev() {
        process.signal(libc::SIGCONT);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::environment::Environment;
    use crate::process::needs_root;

    #[test]
    fn a_container_has_users_numbers_and_a_time_of_its_own() {
        needs_root("it makes user namespaces");
        let users = Users::new(100_000).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        users.give(dir.path()).unwrap();
        assert_eq!(fs::metadata(dir.path().join("file")).unwrap().uid(), 100_000);

        let [_, ahead] = a_day_apart().unwrap();
        let mut environment = Environment::default();
        environment.launch_through(&users.launcher());
        environment.launch_through(&own_namespaces(ahead));
        let script = "stat -c %u file; echo $$; cut -d. -f1 /proc/uptime; cat /proc/self/uid_map";
        let mut command = environment.command("sh".as_ref());
        let output = command.args(["-c", script]).current_dir(dir.path()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines[..2], ["0", "1"], "{said}");
        assert!(lines[2].parse::<i64>().unwrap() >= ahead, "{said}");
        let map: Vec<_> = lines[3].split_whitespace().collect();
        assert_eq!(map, ["0", "100000", "65536"]);
    }
}
