//! `tktrot status` and `tktrot watch` beside real servers, and for users without rights.

mod live;
#[path = "../program/mod.rs"]
mod program;
mod rights;
mod several;
mod watch;
mod words;
