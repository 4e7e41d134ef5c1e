//! `tktrot agent`: shares the keys of this host's ring with the other hosts of its fleet.
//!
//! - [`mesh`]: encrypted connections with its peers
//! - [`export`]: keeps the key files of servers current that cannot load a plugin
//! - [`secrets`]: the files that hold the fleet secret

pub mod export;
pub mod mesh;
pub mod secrets;
