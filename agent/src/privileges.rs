//! Privileges: the agent opens what it needs as root, then becomes a user who can do nothing
//! except with what is open.

use std::fs;
use std::io;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, User, geteuid, setgid, setgroups, setuid};

/// No core dump, and no other process of this user's looks into its memory.
pub fn keep_memory_to_itself() -> Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    set(libc::PR_SET_DUMPABLE, 0)
}

/// Becomes that user, if it is root, and tells who it is now.
///
/// # Errors
///
/// There is no such user, or the kernel did not do as asked.
pub fn drop_to(name: &str) -> Result<Uid> {
    set(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    let Some(user) = user(name)? else { return Ok(geteuid()) };
    become_user(user.uid, user.gid)
        .with_context(|| format!("the agent cannot become user \"{name}\""))?;
    // A change of user lets the process be dumped again, or not, as a setting of the host says.
    set(libc::PR_SET_DUMPABLE, 0)?;
    Ok(user.uid)
}

/// Whom [`drop_to`] becomes, if that is not who it is already.
///
/// # Errors
///
/// There is no such user.
pub fn user(name: &str) -> Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let user = User::from_name(name).ok().flatten().with_context(|| {
        format!("there is no user \"{name}\"; set user in [agent] to one, or to \"root\"")
    })?;
    Ok(Some(user).filter(|user| !user.uid.is_root()))
}

fn become_user(uid: Uid, gid: Gid) -> Result<()> {
    // Groups first: who is not root may not change them.
    setgroups(&[gid]).context("setgroups")?;
    setgid(gid).context("setgid")?;
    setuid(uid).context("setuid")?;
    ensure!(setuid(Uid::from_raw(0)).is_err(), "it could become root again");
    let status = fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    // Real, effective, saved and file-system ids; and no capability is left.
    let (uid, gid) = (uid.to_string(), gid.to_string());
    is_said(&status, "Uid:", &[uid.as_str(); 4])?;
    is_said(&status, "Gid:", &[gid.as_str(); 4])?;
    is_said(&status, "Groups:", &[&gid])?;
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        is_said(&status, set, &["0000000000000000"])?;
    }
    is_said(&status, "NoNewPrivs:", &["1"])
}

fn is_said(status: &str, name: &str, expected: &[&str]) -> Result<()> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let fields: Vec<_> = line.split_whitespace().collect();
    ensure!(fields == expected, "the kernel says {name} {}", fields.join(" "));
    Ok(())
}

fn set(option: libc::c_int, value: libc::c_ulong) -> Result<()> {
    let none: libc::c_ulong = 0;
    // SAFETY: prctl with these options takes numbers only.
    if unsafe { libc::prctl(option, value, none, none, none) } != 0 {
        bail!("prctl({option}): {}", io::Error::last_os_error());
    }
    Ok(())
}
