//! Servers that may do little: system call filters that kill, and limits of resources. With the
//! shim they start and serve wherever they do without.

mod filters;
mod limits;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
