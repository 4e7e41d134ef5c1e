//! `tktrot status` and `tktrot watch` beside real servers, dead writers and users without rights.

mod live;
mod program;
mod rights;
mod several;
mod watch;
mod writers;
