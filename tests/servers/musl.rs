//! Servers for musl, with an OpenSSL for musl: one that knows nothing of the library, under the shim,
//! and one that is linked with it. `make test-musl` builds them, and runs this.

use testbed::artifacts;

use crate::Result;
use crate::journey::journeys;
use crate::kind::{Asks, Kind, PLAIN};

/// Sixteen threads, which replace contexts that others are using.
const THREADED: Kind = Kind {
    ring: "threaded",
    command: |site| {
        let certificate = &site.certificate;
        let paths = [&certificate.cert, &certificate.key].map(|path| path.display().to_string());
        let port = site.addr.port().to_string();
        let server = program("threaded", "c-tests/servers/threaded.c");
        // What starts it is a program of glibc, which the shim is not for.
        let loads = ["/usr/bin/env".to_owned(), format!("LD_PRELOAD={}", shim())];
        let words = if site.variables.is_empty() { &[] } else { &loads[..] };
        [words, &[server, port], &paths].concat()
    },
    shim: || Ok(None),
    ..PLAIN
};

/// A master that forks its workers.
const PREFORK: Kind = Kind {
    ring: "prefork",
    command: |site| {
        let certificate = &site.certificate;
        let paths = [&certificate.cert, &certificate.key].map(|path| path.display().to_string());
        let [cert, key] = paths;
        let prefork = program("prefork", "examples/server.c");
        let port = site.addr.port().to_string();
        let options = ["--port", &port, "--cert", &cert, "--key", &key].map(str::to_owned);
        // What it is without the library.
        let bare = ["/usr/bin/env", "TKTROT_DISABLE=1"].map(str::to_owned);
        let words = if site.variables.is_empty() { &bare[..] } else { &[] };
        [words, &[prefork], &options].concat()
    },
    shim: || Ok(None),
    ..PLAIN
};

fn shim() -> String {
    let built = artifacts::shim_for_musl();
    built.unwrap_or_else(|error| panic!("{error}")).display().to_string()
}

fn program(name: &str, source: &str) -> String {
    let built = artifacts::server_for_musl(name, source);
    built.unwrap_or_else(|error| panic!("{error}")).display().to_string()
}

#[test]
#[ignore = "takes an OpenSSL for musl: make test-musl"]
fn a_threaded_server_resumes_under_the_shim() -> Result {
    journeys(THREADED, &[Asks::Nobody])
}

#[test]
#[ignore = "takes an OpenSSL for musl: make test-musl"]
fn a_prefork_server_resumes_that_is_linked_with_the_library() -> Result {
    journeys(PREFORK, &[Asks::Nobody])
}
