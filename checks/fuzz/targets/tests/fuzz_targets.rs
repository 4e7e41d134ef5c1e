//! Every target with the inputs of checks/fuzz/corpus, and with thousands made of those: the same in each
//! run. `make fuzz` looks further.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use fastrand::Rng;
use fuzz_targets::{TARGETS, Target, seeds};

/// No input is so large that anything made of it is larger.
const MOST: usize = 64 * 1024 * 1024;
/// An input grows no longer.
const LONGEST: usize = 4096;

/// Memory in portions that the inputs explain; what asks for more ends the test.
struct Limited;

// SAFETY: all is passed on to the system's allocator; null means that there is no memory.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MOST {
            return std::ptr::null_mut();
        }
        // SAFETY: as the caller vouches.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: it was the system's that gave it.
        unsafe { System.dealloc(memory, layout) };
    }
}

#[global_allocator]
static MEMORY: Limited = Limited;

/// A file of the corpus.
struct Input {
    name: String,
    bytes: Vec<u8>,
}

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target)
}

fn inputs(target: &str) -> Vec<Input> {
    let dir = corpus(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let input = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        Input { name, bytes: fs::read(path).unwrap() }
    };
    let mut inputs: Vec<_> = entries.map(input).collect();
    inputs.sort_by(|a, b| a.name.cmp(&b.name));
    inputs
}

/// Calls a target; what breaks it is left in a file.
fn call(name: &str, target: Target, bytes: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| target(bytes))).unwrap_or_else(|panic| {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-broken"));
        fs::write(&file, bytes).unwrap();
        eprintln!("{name} is broken by {} ({} bytes)", file.display(), bytes.len());
        resume_unwind(panic);
    })
}

fn run(name: &str, changed: usize) {
    let (_, target) = *TARGETS.iter().find(|(other, _)| *other == name).unwrap();
    let inputs = inputs(name);
    assert!(inputs.len() >= 5, "{} inputs", inputs.len());
    let (mut good, mut bad) = (0, 0);
    for input in &inputs {
        let taken = call(name, target, &input.bytes);
        let meant = match input.name.split_once('-').map(|(kind, _)| kind) {
            Some("good") => true,
            Some("bad") => false,
            _ => continue,
        };
        assert_eq!(taken, meant, "{name}: {}", input.name);
        *if taken { &mut good } else { &mut bad } += 1;
    }
    assert!(good > 0, "no input is taken");
    assert!(bad > 0 || ["node", "shared"].contains(&name), "none is refused");

    let mut rng = Rng::with_seed(0x7461_7267_6574);
    let mut taken = 0;
    for _ in 0..changed {
        let mut bytes = rng.choice(&inputs).unwrap().bytes.clone();
        for _ in 0..rng.usize(1..5) {
            let other = &rng.choice(&inputs).unwrap().bytes;
            change(&mut bytes, other, &mut rng);
        }
        bytes.truncate(LONGEST);
        taken += usize::from(call(name, target, &bytes));
    }
    println!("{name}: {} inputs, {taken} of {changed} changed ones are taken", inputs.len());
}

/// One change, as a fuzzer makes them.
fn change(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    const SPECIAL: [u8; 8] = [0, 1, 2, 31, 32, 127, 128, 255];
    let length = bytes.len();
    let at = rng.usize(0..length + 1);
    let span = at..(at + rng.usize(0..9)).min(length);
    match rng.u8(0..9) {
        _ if length == 0 => bytes.extend_from_slice(other),
        0 | 1 => bytes[at % length] ^= 1 << rng.u8(0..8),
        2 => bytes[at % length] = SPECIAL[rng.usize(0..8)],
        3 => bytes[at % length] = rng.u8(..),
        4 => bytes.insert(at, SPECIAL[rng.usize(0..8)]),
        5 => drop(bytes.drain(span)),
        6 => {
            let again = bytes[span].to_vec();
            bytes.splice(at..at, again);
        }
        7 => bytes.truncate(at),
        _ if other.is_empty() => {}
        _ => {
            let from = rng.usize(0..other.len());
            let count = rng.usize(0..other.len() - from + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..from + count]);
        }
    }
}

#[test]
fn client_hello() {
    run("client_hello", 20_000);
}

#[test]
fn configuration() {
    run("configuration", 10_000);
}

#[test]
fn fleet_secret() {
    run("fleet_secret", 5_000);
}

#[test]
fn key_files() {
    run("key_files", 5_000);
}

#[test]
fn node() {
    run("node", 5_000);
}

#[test]
fn ring_file() {
    run("ring_file", 3_000);
}

#[test]
fn settings() {
    run("settings", 10_000);
}

#[test]
fn shared() {
    run("shared", 5_000);
}

#[test]
fn ticket() {
    run("ticket", 1_500);
}

#[test]
fn tkt_config() {
    run("tkt_config", 20_000);
}

#[test]
fn wire() {
    run("wire", 20_000);
}

#[test]
fn wrapped_value() {
    run("wrapped_value", 10_000);
}

/// With `TKTROT_WRITE_SEEDS=1` those are written that are not there. What is there stays: a wrapped
/// key is another one each time.
#[test]
fn every_seed_is_in_the_corpus_and_every_target_has_a_fuzzer() {
    let write = std::env::var_os("TKTROT_WRITE_SEEDS").is_some();
    let fuzzers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz_targets");
    let mut names: Vec<_> = fs::read_dir(fuzzers)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.iter().eq(TARGETS.iter().map(|(name, _)| name)), "{names:?}");
    for (target, _) in TARGETS {
        for (name, bytes) in seeds::of(target) {
            let path = corpus(target).join(name);
            if write && !path.exists() {
                fs::create_dir_all(corpus(target)).unwrap();
                fs::write(&path, bytes).unwrap();
            }
            assert!(path.is_file(), "{}: make seeds writes it", path.display());
        }
    }
}
