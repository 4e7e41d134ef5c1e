//! `tktrot agent`: shares the keys of this host's ring with the other hosts of its fleet.
//!
//! - [`secrets`]: the files that hold the fleet secret

pub mod secrets;
