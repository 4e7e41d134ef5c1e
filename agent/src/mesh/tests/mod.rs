//! Meshes in one process, on loopback addresses, with real sockets and real TLS; and those who do
//! not belong to them.
//!
//! - [`host`]: a mesh of a test's, and what it hears
//! - [`stranger`]: who is none of them, or a member that does not behave
//! - [`relay`]: a path between two, that keeps what passes
//! - [`log`], [`keylog`]: what was logged, and with what connections were encrypted

mod capture;
mod credentials;
mod host;
mod intruders;
pub mod keylog;
mod log;
mod members;
mod peers;
mod relay;
mod stranger;
