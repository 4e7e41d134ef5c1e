//! `tktrot probe` against real servers, and against what is no server at all.

mod fleet;
mod names;
mod output;
mod program;
mod starttls;
mod strangers;
mod tickets;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
