//! Real servers and a real TLS client for the tests and the demo of libtktrot.
//!
//! The library's promise is about what a client of a stock server sees, so it is tested there: this
//! crate starts nginx or `examples/server` as production would, drives them with OpenSSL's own
//! client, and does the things that lose tickets (reload, restart, upgrade, killed workers).
//!
//! - [`client`]: one handshake, with or without a ticket, and the tickets that it brought
//! - [`visit`]: one connection of somebody who comes back, and what was owed to them
//! - [`journey`]: what every server is put through under the shim
//! - [`load`]: many handshakes, each classified by what its ticket's age promised
//! - [`Server`]: what they all can do; [`nginx`], [`haproxy`], [`hitch`], [`stud`], [`example`] have
//!   the operations that an administrator has
//! - [`foreground`]: any other server, from its configuration file
//! - [`redis`]: what a fleet may share its keys through
//! - [`backend`]: what answers behind servers that only end TLS
//! - [`solo`]: servers of one process that start at once, for tests that need many
//! - [`soak`]: nginx and HAProxy for long, while everything happens to them
//! - [`container`]: the namespaces that a server is started in
//! - [`environment`]: what a server's environment holds; [`RingDir`], the ring's own directory
//! - [`log`]: our lines in what a server wrote
//! - [`memory`]: searches processes and core files for secrets
//! - [`artifacts`]: the libraries and C programs that `make` builds
//! - [`certificate`], [`port`], [`process`], [`wait`]: what the servers are made of
//!
//! ```no_run
//! use testbed::{artifacts, client::{Client, TlsVersion}, nginx::Nginx, RingDir};
//!
//! let ring = RingDir::new()?;
//! let mut nginx = Nginx::builder()
//!     .workers(2)
//!     .preload(artifacts::shim()?)
//!     .ring(&ring)
//!     .env("TKTROT_ROTATE", "2s")
//!     .start()?;
//! let client = Client::new(TlsVersion::V13)?;
//! let first = client.connect(nginx.addr(), None, None)?;
//! nginx.reload()?;
//! let second = client.connect(nginx.addr(), None, first.tickets.last())?;
//! assert!(second.resumed);
//! # Ok::<(), anyhow::Error>(())
//! ```

pub mod artifacts;
pub mod backend;
pub mod certificate;
pub mod client;
pub mod container;
pub mod environment;
pub mod fleet;
pub mod journey;
pub mod load;
pub mod log;
pub mod memory;
pub mod plot;
pub mod port;
pub mod process;
pub mod servers;
pub mod soak;
pub mod visit;
pub mod visitors;
pub mod wait;

/// What operations of servers return.
pub type Result<T = ()> = anyhow::Result<T>;

pub use environment::RingDir;
pub use servers::{Server, example, foreground, haproxy, hitch, nginx, redis, solo, stud};
