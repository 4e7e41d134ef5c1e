//! `tktrot probe`: what a server does with session tickets, seen from outside.
//!
//! The data flows one way: [`target`]s are resolved into places, [`measure`] and [`watch`] connect
//! to them and make [`observation`]s, [`findings`] judges those, [`report`] and [`table`] show both.
//! Below that: one [`connection`] (over a bounded [`wire`], perhaps after [`starttls`]), the
//! [`session`]s and the [`certificate`] that it brings, what the tickets tell ([`key_name`], [`weak`]), and how it can
//! fail ([`failure`]).

mod certificate;
mod connection;
mod failure;
pub mod findings;
mod key_name;
pub mod measure;
pub mod observation;
pub mod report;
mod session;
pub mod starttls;
mod table;
pub mod target;
pub mod watch;
mod weak;
mod wire;

pub use connection::Connector;
