//! Counts instructions of the server's side of handshakes under callgrind: unlike times they say the
//! same on a busy machine. Those with libtktrot are compared with a baseline that is checked in, so
//! that a test can fail on them; and with those of the other servers.
//!
//! The program starts itself under valgrind with `--be-counted`.

mod baseline;
mod callgrind;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testbed::RingDir;

use crate::connection::Link;
use crate::handshakes::Kind;
use crate::options::Options;
use crate::ratios::Series;
use crate::section::{Group, Section};
use crate::servers::{self, Keys, Workshop};
use crate::{Result, filled, machine};
use baseline::{Baseline, Counts};
use callgrind::Profile;

/// Handshakes of each kind that are counted, each for itself. The median counts: what libtktrot does
/// once in a second is in one of many, and in how many depends on how fast the machine is.
const COUNTED: usize = 9;
/// And before: what is set up once is not part of a handshake.
const WARM_UP: usize = 3;
/// In how many rings a count is looked for that has not grown: names of keys are random, and now and
/// then two share a chain of the look-up table, which makes one of them take some fifty more.
const RINGS: usize = 4;
/// In how large a ring it is counted once more.
const KEYS: u64 = 5000;
/// What the counted program says in front of what its TLS library makes of the processor.
const PROCESSOR: &str = "processor: ";

/// Counts, compares with the baseline, and fails if something has grown.
pub fn check() -> Result<()> {
    let base = Baseline::read()?;
    let mut now = count()?;
    for _ in 1..RINGS {
        if base.compare(&now).grown == 0 {
            break;
        }
        now = now.least(&count()?);
    }
    let comparison = base.compare(&now);
    print!("{}", comparison.text);
    let many = now.beside(&count_with_many_keys()?);
    print!("\nthe same in a ring that has grown to {KEYS} keys:\n{}", many.text);
    match comparison.grown + many.grown {
        0 => Ok(()),
        grown => Err(format!(
            "{grown} counts have grown by more than allowed; if that has to be, say why in the \
             commit and run: make bench-baseline"
        )
        .into()),
    }
}

/// Counts and writes the baseline.
pub fn write() -> Result<()> {
    let now = count()?;
    print!("{}", now.text());
    now.write()
}

/// The servers that are compared; more of them differ in nothing that is counted.
const COMPARED: [Keys; 5] =
    [Keys::BuiltIn, Keys::Plain, Keys::LockedList, Keys::MutexAndThree, Keys::Tktrot];

/// All instructions of the server, by whose ticket keys it uses.
pub fn measure(options: &Options) -> Result<Section> {
    let kinds = &Kind::ALL[..options.unless_quick(Kind::ALL.len(), 1)];
    let mut wholes = vec![Vec::new(); kinds.len()];
    for keys in COMPARED {
        let run = Run::of(keys, kinds, None)?;
        for (wholes, kind) in wholes.iter_mut().zip(kinds) {
            let totals = run.profiles[&kind.name()].iter().map(|profile| profile.total() as f64);
            wholes.push(Series(totals.collect()));
        }
    }
    let groups = wholes.into_iter().zip(kinds).map(|(wholes, kind)| {
        Group::compared(kind.name(), "instructions", COMPARED.map(Keys::name), wholes)
    });
    let about = format!(
        "What a server executes for one handshake in memory, counted under callgrind; {COUNTED} of\n\
         each kind. It varies with the random numbers in ECDSA and in the key exchange. Valgrind hides\n\
         some of the processor's instructions from OpenSSL: this is not what is fast, but where\n\
         the work is."
    );
    let groups = groups.collect();
    Ok(Section { name: "instructions", about, groups, goals: Vec::new(), curves: Vec::new() })
}

/// Counts what is compared with the baseline.
fn count() -> Result<Baseline> {
    of(Run::of(Keys::Tktrot, &Kind::ALL, None)?)
}

/// The same in a ring of many keys, which other nodes made.
fn count_with_many_keys() -> Result<Baseline> {
    let dir = RingDir::new()?;
    filled::fill(dir.path(), "bench.ring", KEYS)?;
    of(Run::of(Keys::Tktrot, &Kind::ALL, Some(dir.path()))?)
}

fn of(run: Run) -> Result<Baseline> {
    let mut cases = BTreeMap::new();
    for (kind, profiles) in &run.profiles {
        cases.insert(kind.clone(), Counts::median(profiles)?);
    }
    Ok(Baseline {
        tls_library: machine::tls_library().to_owned(),
        processor: run.processor,
        compiler: compiler()?,
        cases,
    })
}

/// What one run of this program under callgrind has counted.
struct Run {
    /// As the counted program's TLS library sees it.
    processor: String,
    /// By kind of handshake.
    profiles: BTreeMap<String, Vec<Profile>>,
}

impl Run {
    /// With a server that uses those keys; the first kinds of [`Kind::ALL`].
    fn of(keys: Keys, kinds: &[Kind], ring: Option<&Path>) -> Result<Run> {
        let dir = tempfile::tempdir()?;
        let profile = dir.path().join("profile");
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--quiet", "--compress-strings=no", "--compress-pos=no"])
            .args(["--dump-line=no", "--toggle-collect=server_turn"])
            .args(["--toggle-collect=server_answer", "--zero-before=counting_begins"])
            .arg("--dump-before=counting_ends")
            .arg(format!("--callgrind-out-file={}", profile.display()))
            .arg(env::current_exe()?)
            .args(["--be-counted", keys.name(), "--kinds", &kinds.len().to_string()])
            .args(ring.iter().flat_map(|dir| [OsStr::new("--ring"), dir.as_os_str()]))
            // Else the first call of each function would also look for it.
            .env("LD_BIND_NOW", "1")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot run valgrind: {error}; `make deps` installs it"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(format!("under valgrind: {}\n{said}{errors}", output.status).into());
        }
        let processor = said.lines().find_map(|line| line.strip_prefix(PROCESSOR));
        let processor = processor.ok_or("the counted program did not say on what it runs")?;
        let mut profiles = BTreeMap::new();
        let mut dumps = 1..;
        for kind in kinds {
            let read = |number| Profile::parse(&fs::read_to_string(dump(&profile, number))?);
            let all: Result<Vec<_>> = dumps.by_ref().take(COUNTED).map(read).collect();
            profiles.insert(kind.name(), all?);
        }
        Ok(Run { processor: processor.to_owned(), profiles })
    }
}

/// Callgrind numbers what it writes.
fn dump(file: &Path, number: u32) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Does the handshakes that are counted. The certificate, the keys and the client's part are as in
/// the benchmark; keys and nonces are random, and what that changes is in [`baseline`].
pub fn be_counted(keys: Keys, options: &Options) -> Result<()> {
    println!("{PROCESSOR}{}", processor());
    let workshop = Workshop::new()?;
    let server = match &options.ring {
        Some(dir) => workshop.with_ring(dir)?,
        None => workshop.server(keys)?,
    };
    for kind in Kind::ALL.into_iter().take(options.kinds) {
        let client = servers::client(kind.version)?;
        let link = Link { server: &server, client: &client };
        let ticket = link.connect(None)?.session;
        let offered = kind.resumed.then_some(ticket.as_slice());
        for _ in 0..WARM_UP {
            link.expect(offered)?;
        }
        for _ in 0..COUNTED {
            counting_begins();
            link.expect(offered)?;
            counting_ends();
        }
    }
    Ok(())
}

/// Callgrind starts from zero here. Different from the other one, lest they become one function.
#[unsafe(no_mangle)]
#[inline(never)]
fn counting_begins() {
    black_box(1);
}

/// Callgrind writes down here what it has.
#[unsafe(no_mangle)]
#[inline(never)]
fn counting_ends() {
    black_box(2);
}

/// What the TLS library found that the processor can do, which decides what code it runs; valgrind
/// hides some of it.
#[cfg(openssl_3)]
fn processor() -> String {
    const CPU_SETTINGS: std::ffi::c_int = 1008;
    // A public function that openssl-sys does not declare: OPENSSL_info(3).
    unsafe extern "C" {
        fn OPENSSL_info(what: std::ffi::c_int) -> *const std::ffi::c_char;
    }
    // SAFETY: takes a number; the string is static, or none.
    let text = unsafe { OPENSSL_info(CPU_SETTINGS) };
    if text.is_null() {
        return "unknown".to_owned();
    }
    // SAFETY: a static string.
    unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Before OpenSSL 3.0 it does not tell.
#[cfg(not(openssl_3))]
fn processor() -> String {
    "unknown".to_owned()
}

/// As in "rustc 1.88.0 (6b00bc388 2025-06-23)": what our own part was compiled with.
fn compiler() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
