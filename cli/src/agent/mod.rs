//! `tktrot agent`: one per host, owns the host's ring.
//!
//! - [`export`]: keeps the key files of servers current that cannot load a plugin

// Nothing of the program starts it yet.
#[allow(dead_code)]
pub mod export;
