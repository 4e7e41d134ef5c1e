//! Servers for musl, with an OpenSSL for musl: one that knows nothing of the library, under the shim,
//! and one that is linked with it. `make test-musl` builds them, and runs this.

use std::path::PathBuf;

use testbed::artifacts;

use crate::Result;
use crate::journey::journeys;
use crate::kind::{Asks, Kind, PLAIN};

/// Sixteen threads, which replace contexts that others are using.
const THREADED: Kind = Kind {
    ring: "threaded",
    command: |site| {
        let server = built(artifacts::server_for_musl("threaded", "c-tests/servers/threaded.c"));
        let port = site.addr.port().to_string();
        // What starts it is a program of glibc, which the shim is not for.
        let shim = built(artifacts::shim_for_musl());
        let loads = ["/usr/bin/env".to_owned(), format!("LD_PRELOAD={shim}")];
        let words = if site.variables.is_empty() { &[] } else { &loads[..] };
        [words, &[server, port, site.path("cert.pem"), site.path("key.pem")]].concat()
    },
    shim: || Ok(None),
    ..PLAIN
};

/// A master that forks its workers.
const PREFORK: Kind = Kind {
    ring: "prefork",
    command: |site| {
        let prefork = built(artifacts::server_for_musl("prefork", "examples/server.c"));
        let [port, cert, key] =
            [site.addr.port().to_string(), site.path("cert.pem"), site.path("key.pem")];
        let options = ["--port", &port, "--cert", &cert, "--key", &key].map(str::to_owned);
        // What it is without the library.
        let bare = ["/usr/bin/env", "TKTROT_DISABLE=1"].map(str::to_owned);
        let words = if site.variables.is_empty() { &bare[..] } else { &[] };
        [words, &[prefork], &options].concat()
    },
    shim: || Ok(None),
    ..PLAIN
};

fn built(file: testbed::Result<PathBuf>) -> String {
    file.unwrap_or_else(|error| panic!("{error}")).display().to_string()
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
