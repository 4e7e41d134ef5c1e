//! Taking rights from a thread: for one that starts before the server has
//! given up its own, and so cannot inherit what they will be.

use std::mem::offset_of;

use libc::{SYS_capget, sock_filter, sock_fprog};

/// True if the calling thread has no capability (capabilities(7)), and can get
/// none back: nothing that it may still give up is one.
pub fn has_no_capabilities() -> bool {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    #[repr(C)]
    #[derive(Default)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(), Data::default()];
    // SAFETY: the structures of that version (capget(2)), for the call to fill.
    let rc = unsafe { libc::syscall(SYS_capget, &raw mut header, data.as_mut_ptr()) };
    rc == 0 && data.iter().all(|data| data.permitted == 0)
}

/// Lets the calling thread, for ever, make no system calls but those that the
/// upkeep takes; any other fails with EPERM. It cannot get more rights by
/// starting a program either. False if that cannot be had.
pub fn to_upkeep() -> bool {
    let Some(filter) = filter() else { return false };
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program is valid for its length, and copied by the kernel. By system calls: the
    // shim stands in front of the function.
    unsafe {
        const ON: libc::c_ulong = 1;
        const UNUSED: libc::c_ulong = 0;
        let (prctl, mode) = (libc::SYS_prctl, libc::c_ulong::from(libc::SECCOMP_MODE_FILTER));
        libc::syscall(prctl, libc::PR_SET_NO_NEW_PRIVS, ON, UNUSED, UNUSED, UNUSED) == 0
            && libc::syscall(prctl, libc::PR_SET_SECCOMP, mode, &raw const program, UNUSED, UNUSED)
                == 0
    }
}

/// What seccomp calls this architecture (linux/audit.h); `None`: no filter is known for it.
const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else {
    None
};

/// Those that may be made with whatever arguments: to work, to sleep, to write
/// to the log, to end, and what glibc makes every thread do when a server
/// changes its user (nptl(7)); it ends the process if one cannot.
const WHATEVER: &[libc::c_long] = &[
    // To sleep, and to wait for locks.
    libc::SYS_futex,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    // Time, randomness, who is who.
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    // Memory, mostly the TLS library's.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_fallocate,
    // The log, whose descriptors are open, or of the kind below.
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_connect,
    libc::SYS_sendto,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    // Signals.
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigreturn,
    // What glibc makes every thread do.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    // The beginning and the end of a thread.
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_exit,
    // Calls that aarch64 has not.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pause,
];

/// What an argument of a system call must be. Only its lower half is looked at:
/// each is an int to the kernel.
enum Argument {
    Is(u32),
    Lacks(u32),
}

/// Those that may be made if an argument is as it has to be: call, which
/// argument, and what of it.
const IF: &[(libc::c_long, usize, Argument)] = &[
    // Whether a process lives.
    (libc::SYS_kill, 1, Argument::Is(0)),
    // The system's log.
    (libc::SYS_socket, 0, Argument::Is(libc::AF_UNIX as u32)),
    // Whether something is a terminal.
    (libc::SYS_ioctl, 1, Argument::Is(0x5401)),
    // The thread's name.
    (libc::SYS_prctl, 0, Argument::Is(libc::PR_SET_NAME as u32)),
    (libc::SYS_mmap, 2, Argument::Lacks(libc::PROT_EXEC as u32)),
    (libc::SYS_mprotect, 2, Argument::Lacks(libc::PROT_EXEC as u32)),
];

/// `struct seccomp_data` of linux/seccomp.h.
#[repr(C)]
struct Call {
    number: i32,
    architecture: u32,
    _at: u64,
    arguments: [u64; 6],
}

const _: () = assert!(size_of::<Call>() == 64);
// A conditional jump goes no further.
const _: () = assert!(WHATEVER.len() + 4 * IF.len() < 250);

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const IS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const HAS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;

const fn step(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// The filter, as a program for the kernel (seccomp(2)).
fn filter() -> Option<Vec<sock_filter>> {
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let number = step(LOAD, offset_of!(Call, number) as u32);
    let mut program = vec![
        step(LOAD, offset_of!(Call, architecture) as u32),
        sock_filter { jt: 1, ..step(IS, ARCHITECTURE?) },
        step(RETURN, refuse),
        number,
    ];
    // Numbers of the x32 ABI are none of these.
    for (call, which, wanted) in IF {
        // Its lower half, on machines of this byte order.
        let argument = offset_of!(Call, arguments) + 8 * which;
        let (test, value, refused) = match wanted {
            Argument::Is(value) => (IS, *value, false),
            Argument::Lacks(bits) => (HAS, *bits, true),
        };
        // Past the four that follow if it is another call; else one of them returns.
        program.push(sock_filter { jf: 4, ..step(IS, *call as u32) });
        program.push(step(LOAD, argument as u32));
        let (jt, jf) = if refused { (0, 1) } else { (1, 0) };
        program.push(sock_filter { jt, jf, ..step(test, value) });
        program.push(step(RETURN, refuse));
        program.push(step(RETURN, libc::SECCOMP_RET_ALLOW));
    }
    let count = WHATEVER.len();
    for (index, call) in WHATEVER.iter().enumerate() {
        // Over the others and the refusal.
        program.push(sock_filter { jt: (count - index) as u8, ..step(IS, *call as u32) });
    }
    program.push(step(RETURN, refuse));
    program.push(step(RETURN, libc::SECCOMP_RET_ALLOW));
    Some(program)
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::fs::File;
    use std::io::{Error, ErrorKind};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Whether a call is refused by the filter, and not by its arguments.
    fn refused(call: libc::c_long, arguments: [u64; 4]) -> bool {
        let [a, b, c, d] = arguments;
        // SAFETY: made with null pointers and descriptors that are none.
        let rc = unsafe { libc::syscall(call, a, b, c, d) };
        rc == -1 && Error::last_os_error().raw_os_error() == Some(libc::EPERM)
    }

    #[test]
    fn a_confined_thread_works_and_sleeps_and_ends_and_nothing_else() {
        let opened = File::open("/proc/self/status");
        assert!(opened.is_ok());
        let confined = thread::spawn(|| {
            assert!(to_upkeep());
            let none = u64::MAX;
            // It works.
            let memory: Vec<Vec<u8>> = (1..200).map(|kib| vec![1; kib << 10]).collect();
            assert!(memory.iter().all(|bytes| bytes.contains(&1)));
            drop(memory);
            thread::sleep(Duration::from_millis(1));
            let allowed = [
                (libc::SYS_kill, [std::process::id().into(), 0, 0, 0]),
                (libc::SYS_socket, [libc::AF_UNIX as u64, none, 0, 0]),
                (libc::SYS_mmap, [0, 0, libc::PROT_READ as u64, 0]),
                (libc::SYS_setresuid, [none, none, none, 0]),
                (libc::SYS_write, [none, 0, 0, 0]),
                (libc::SYS_getrandom, [0, 0, 0, 0]),
            ];
            for (call, arguments) in allowed {
                assert!(!refused(call, arguments), "{call} {arguments:?}");
            }
            // And no more.
            let executable = (libc::PROT_READ | libc::PROT_EXEC) as u64;
            let forbidden = [
                (libc::SYS_openat, [none, 0, 0, 0]),
                (libc::SYS_execve, [0, 0, 0, 0]),
                (libc::SYS_clone, [none, 0, 0, 0]),
                (libc::SYS_kill, [std::process::id().into(), libc::SIGCONT as u64, 0, 0]),
                (libc::SYS_socket, [libc::AF_INET as u64, none, 0, 0]),
                (libc::SYS_mmap, [0, 0, executable, 0]),
                (libc::SYS_mprotect, [0, 0, executable, 0]),
                (libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u64, 1, 0, 0]),
                (libc::SYS_read, [none, 0, 0, 0]),
                (libc::SYS_sendmsg, [none, 0, 0, 0]),
                (libc::SYS_ptrace, [none, 0, 0, 0]),
                (libc::SYS_tgkill, [0, 0, 0, 0]),
                // getpid of the x32 ABI, and no call at all.
                (0x4000_0000 | libc::SYS_getpid, [0; 4]),
                (100_000, [0; 4]),
            ];
            for (call, arguments) in forbidden {
                assert!(refused(call, arguments), "{call} {arguments:?}");
            }
            let error = File::open("/proc/self/status").map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        });
        confined.join().unwrap();
        // Others are not concerned.
        assert!(File::open("/proc/self/status").is_ok());
    }

    #[test]
    fn capabilities_that_are_left_are_seen() {
        // SAFETY: only asks the kernel.
        let is_root = unsafe { libc::geteuid() } == 0;
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let permitted = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).unwrap();
        let none = u64::from_str_radix(permitted.trim(), 16) == Ok(0);
        assert_eq!(has_no_capabilities(), none, "root: {is_root}");
    }
}
