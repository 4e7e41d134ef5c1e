//! Meshes in one process, on loopback addresses, with real sockets and real TLS; and those who do
//! not belong to them.

pub mod keylog;
