//! `tktrot agent`: on its own, beside servers, and as one of a fleet.

mod asking;
mod daemon;
mod fleet;
mod governs;
mod refused;
mod reload;
mod rights;
mod serving;
mod several;
mod telling;
