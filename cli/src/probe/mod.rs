//! `tktrot probe`: what a server does with session tickets, seen from outside.
//!
//! The data flows one way: hosts, some of them in a file ([`targets`]), are resolved into [`endpoint`]s, [`measure`] connects to those and
//! makes [`observation`]s, [`findings`] judges them, [`report`] prints both. Below that: one
//! [`connection`], perhaps after [`starttls`], and how it can fail ([`failure`]); what a ticket shows
//! of its key ([`weak`]).

pub mod connection;
pub mod endpoint;
mod failure;
pub mod findings;
pub mod measure;
mod observation;
mod prometheus;
pub mod report;
pub mod starttls;
pub mod targets;
mod weak;
