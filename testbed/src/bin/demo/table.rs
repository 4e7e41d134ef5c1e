//! The table: plain text, at most 100 columns.

use testbed::client::{TlsVersion, hex8};
use testbed::load::{Counts, Report};

use crate::side::{LIFETIME, Phase, ROTATE, Side};

/// How many key names a cell has room for.
const NAMES: usize = 2;

/// The first lines.
pub fn print_head() {
    let (rotate, lifetime) = (ROTATE.as_secs(), LIFETIME.as_secs());
    println!("Stock nginx, 2 workers, and OpenSSL clients that come back with their tickets.");
    println!("libtktrot: a new key every {rotate} s, tickets live {lifetime} s.\n");
    println!("{:15}{:40} | without", "", "nginx with libtktrot");
    println!("{:11}{:4}{} | {}", "phase", "TLS", columns(), columns().trim_end());
    println!("{}", "-".repeat(100));
}

fn columns() -> String {
    format!("{:>5}{:>8}{:>5}  {:20}", "conns", "resumed", "lost", "keys")
}

/// The rows of one phase.
pub fn print_phase(phase: Phase, left: &Report, right: &Report) {
    for version in TlsVersion::ALL {
        let name = if version == TlsVersion::V12 { phase.to_string() } else { String::new() };
        let version_number = version.to_string().replace("TLS ", "");
        let (left, right) = (cells(&left.of(version)), cells(&right.of(version)));
        println!("{name:11}{version_number:4}{left} | {}", right.trim_end());
    }
}

fn cells(counts: &Counts) -> String {
    let skipped = counts.keys.len().saturating_sub(NAMES);
    let mut names: Vec<String> = counts.keys[skipped..].iter().map(hex8).collect();
    if skipped > 0 {
        names.push(format!("+{skipped}"));
    }
    let lost = counts.unexpected_full + counts.failed();
    let names = names.join(" ");
    format!("{:>5}{:>8}{lost:>5}  {names:20}", counts.handshakes, counts.resumed)
}

/// The last lines, when everything held.
pub fn print_proof(with: &Side, without: &Side) {
    let (won, lost) = (with.report().total(), without.report().total());
    println!("{}", "-".repeat(100));
    println!(
        "lost: a ticket within its lifetime led to a full handshake, or the connection failed."
    );
    let gone = (ROTATE + LIFETIME).as_secs();
    println!(
        "expired: tickets of the first phase after {gone} s, when their key has to be gone.\n"
    );
    println!(
        "proved: {} keys, reload, restart: {} resumed, {} lost, {} failed. Without libtktrot: {} lost.",
        with.keys(),
        won.resumed,
        won.unexpected_full,
        won.failed(),
        lost.unexpected_full,
    );
}
