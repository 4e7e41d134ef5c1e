//! `tktrot agent`: shares the keys of this host's ring with the other hosts of its fleet.
//!
//! - [`mesh`]: encrypted connections with its peers
//! - [`secrets`]: the files that hold the fleet secret

pub mod mesh;
pub mod secrets;
