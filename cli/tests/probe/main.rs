//! `tktrot probe` against real servers, and against what is no server at all.

mod mariadb;
mod metrics;
mod output;
mod program;
mod strangers;
mod targets;
mod tickets;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
