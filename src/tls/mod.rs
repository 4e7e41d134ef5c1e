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
//! - [`scope`]: what a ticket is bound to; [`sni`]: the server name of it;
//!   [`connection`]: what a connection keeps of both
//! - [`errors`]: the error queue stays as the application has it

pub mod api;
pub mod attach;
pub mod attachment;
pub mod caller;
pub mod connection;
pub mod errors;
pub mod evp;
pub mod hmac;
pub mod iv;
pub mod pool;
pub mod primed;
pub mod resolve;
pub mod scope;
pub mod sni;
pub mod source;
pub mod ticket;
