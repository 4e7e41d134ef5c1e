//! How keys are protected while they live, and that the process of the server stays as it was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output};

use testbed::client::{Client, TlsVersion};
use testbed::nginx::{BINARY, Nginx};
use testbed::process::needs_root;
use testbed::{RingDir, artifacts, log};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// `nginx -t`, which opens the ring, with no right to lock memory: root is not bound by the limit
/// unless it has lost CAP_IPC_LOCK.
fn without_memory_locks(variables: &[(&str, &str)]) -> Result<Output> {
    let ring = RingDir::new()?;
    let nginx = Nginx::builder().prepare()?;
    let output = Command::new("setpriv")
        .args(["--bounding-set=-ipc_lock", "prlimit", "--memlock=0:0", BINARY, "-t"])
        .args(["-e", "stderr", "-c"])
        .arg(nginx.dir().join("nginx.conf"))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .env("LD_PRELOAD", artifacts::shim()?)
        .env("TKTROT_DIR", ring.path())
        .envs(variables.iter().copied())
        .output()?;
    Ok(output)
}

#[test]
fn memory_that_cannot_be_locked_is_reported_once_and_refused_in_strict_mode() -> Result<()> {
    needs_root("it takes rights away and looks into all processes");
    for (variables, works) in [(&[][..], true), (&[("TKTROT_STRICT", "1")][..], false)] {
        let output = without_memory_locks(variables)?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.success(), works, "{variables:?}: {said}");
        let lines = log::ours(&said);
        assert_eq!(lines.len(), 1, "{variables:?}: {said}");
        for part in ["nginx.ring", "keys may be swapped out", "raise RLIMIT_MEMLOCK"] {
            assert!(lines[0].contains(part), "{variables:?}: {said}");
        }
    }
    Ok(())
}

/// What the kernel keeps for a process as a whole, as far as it is the server's to set.
fn state_of(pid: i32) -> Result<BTreeMap<String, String>> {
    let mut state = BTreeMap::new();
    for line in fs::read_to_string(format!("/proc/{pid}/status"))?.lines() {
        let (field, value) = line.split_once(':').ok_or("a line without a field")?;
        let counts = ["Vm", "Rss", "Hugetlb", "voluntary", "nonvoluntary"];
        let varies = ["Pid", "Tgid", "Ngid", "PPid", "NStgid", "NSpid", "NSpgid", "NSsid", "State"];
        // The upkeep thread.
        if !counts.iter().any(|start| field.starts_with(start))
            && !varies.contains(&field)
            && field != "Threads"
        {
            let value = if matches!(field, "SigIgn" | "SigCgt") {
                // Without signals 32 and 33, which the C library keeps for itself and handles as
                // soon as there is a thread (nptl(7)).
                format!("{:x}", u64::from_str_radix(value.trim(), 16)? & !(3 << 31))
            } else {
                value.trim().to_owned()
            };
            state.insert(field.to_owned(), value);
        }
    }
    for file in ["limits", "coredump_filter", "oom_score_adj", "personality", "timerslack_ns"] {
        state.insert(file.to_owned(), fs::read_to_string(format!("/proc/{pid}/{file}"))?);
    }
    // These files belong to root unless the process is dumpable (PR_SET_DUMPABLE(2const)).
    let owner = fs::metadata(format!("/proc/{pid}/environ"))?.uid();
    state.insert("owner, by PR_SET_DUMPABLE".to_owned(), owner.to_string());
    Ok(state)
}

#[test]
fn the_state_of_the_process_stays_as_the_server_set_it() -> Result<()> {
    needs_root("it takes rights away and looks into all processes");
    let ring = RingDir::new()?;
    let plain = Nginx::builder().workers(1).start()?;
    let ours = Nginx::builder().workers(1).preload(artifacts::shim()?).ring(&ring).start()?;
    for nginx in [&plain, &ours] {
        Client::new(TlsVersion::V13)?.connect(nginx.addr(), None, None)?;
    }
    assert_eq!(ring.rings()?.len(), 1, "the shim is not at work");
    assert_eq!(state_of(ours.master_pid()?)?, state_of(plain.master_pid()?)?);
    assert_eq!(state_of(ours.worker_pids()?[0])?, state_of(plain.worker_pids()?[0])?);
    Ok(())
}
