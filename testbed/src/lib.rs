//! Real servers and a real TLS client for the tests and the demo of libtktrot.
//!
//! The library's promise is about what a client of a stock server sees, so it is tested there: this
//! crate starts nginx or `examples/server` as production would, drives them with OpenSSL's own
//! client, and does the things that lose tickets (reload, restart, upgrade, killed workers).
//!
//! - [`Server`]: what every server can do, and [`journey`]: what every server is put through
//! - [`nginx`], [`haproxy`], [`hitch`], [`stud`], [`example`]: servers with all the operations that an
//!   administrator has
//! - [`foreground`]: any other server, from its configuration file
//! - [`solo`]: servers of one process that start at once, for tests that need many
//! - [`backend`]: what answers behind servers that only terminate TLS
//! - [`redis`]: through which a fleet may share its keys
//! - [`client`]: one handshake, with or without a ticket, and the tickets that it brought
//! - [`visitors`]: clients that come back with what they were given
//! - [`visit`]: one of their connections, and what the server owed them
//! - [`load`]: many visits, each classified by what its ticket's age promised
//! - [`soak`]: nginx and HAProxy for long, while everything happens to them
//! - [`container`]: the namespaces that a server is started in
//! - [`environment`]: what a server's environment holds; [`RingDir`], the ring's own directory
//! - [`log`]: our lines in what a server wrote
//! - [`memory`]: searches processes and core files for secrets
//! - [`schema`]: what the program prints for programs
//! - [`artifacts`]: the libraries and C programs that `make` builds
//! - [`certificate`], [`port`], [`process`], [`wait`]: what the servers are made of
//!
//! ```no_run
//! use std::time::Duration;
//! use testbed::{RingDir, journey::{Event, Journey}, nginx::Nginx, visitors::Visitors};
//!
//! let (rotate, lifetime) = (Duration::from_secs(2), Duration::from_secs(60));
//! let ring = RingDir::new()?;
//! let mut nginx = Nginx::builder().workers(2).rotating(&ring, rotate, lifetime)?.start()?;
//! let visitors = Visitors::of(nginx.addr())?;
//! nginx.reload()?;
//! visitors.resume(nginx.addr(), "after a reload")?;
//! // The same and more, under load:
//! Journey::new(rotate, lifetime).run(&mut nginx, vec![Event::reload()])?;
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
pub mod schema;
mod servers;
pub mod soak;
pub mod visit;
pub mod visitors;
pub mod wait;

/// What operations of servers return.
pub type Result<T = ()> = anyhow::Result<T>;

pub use environment::RingDir;
pub use servers::{Server, example, foreground, haproxy, hitch, nginx, redis, solo, stud};
