//! What touches the TLS library.
//!
//! - [`api`]: its functions as a table
//! - [`resolve`]: from a caller to the library it uses
//! - [`caller`]: who called, the first step to it
//! - [`attach`]: a context gets a callback of its own, out of [`pool`], and an
//!   [`attachment`], what that needs to answer
//! - [`ticket`]: seal and open, once, for both callback forms
//! - [`evp`] and [`hmac`]: the two callback ABIs
//! - [`source`]: the library context, and what is fetched from it once;
//!   [`primed`]: MACs that are keyed once and copied; [`iv`]: IVs, drawn many at
//!   once
//! - [`scope`]: what a ticket is bound to, made of [`leaves`], a [`policy`],
//!   [`anchors`] and the server name ([`sni`]); [`connection`]: what a connection keeps of it
//! - [`shown`]: a session that a ticket held, before libssl takes it
//! - [`errors`]: the error queue stays as the application has it

pub mod anchors;
pub mod api;
pub mod attach;
pub mod attachment;
pub mod connection;
pub mod errors;
pub mod evp;
pub mod hmac;
pub mod iv;
pub mod leaves;
pub mod policy;
pub mod pool;
pub mod primed;
pub mod resolve;
pub mod scope;
pub mod shown;
pub mod sni;
pub mod source;
pub mod ticket;
