//! On what it was measured.

use std::ffi::CStr;
use std::fs;

use serde_json::{Value, json};

use crate::Result;
use crate::options::Options;
use crate::servers::tktrot;

/// For the head of every file of numbers.
pub fn facts(options: &Options) -> Result<Value> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(json!({
        "libtktrot": tktrot::version()?,
        "tls_library": tls_library(),
        "kernel": kernel(),
        "cpus": std::thread::available_parallelism()?.get(),
        "cpu": model.map(|(_, model)| model),
        "rounds": options.rounds,
        "handshakes_per_round": options.handshakes,
    }))
}

/// As in "OpenSSL 3.0.22 1 Jul 2026".
pub fn tls_library() -> &'static str {
    openssl::version::version()
}

/// As in "6.1.0-44-amd64".
pub fn kernel() -> String {
    // SAFETY: all zeroes is a valid utsname, which is only written.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: a valid out-pointer; what is written are strings that end with a zero.
    unsafe {
        libc::uname(&mut names);
        CStr::from_ptr(names.release.as_ptr()).to_string_lossy().into_owned()
    }
}
