//! What touches the TLS library. A file uses those above it in this list, and no other:
//!
//! - [`api`]: its functions as a table; [`error_queue`]: its error queue stays as the
//!   application has it
//! - [`algorithms`]: the library context, and what is fetched from it once
//! - [`resolve`]: from a caller to the library it uses
//! - [`certificates`], [`verification`], [`sni`]: what of a context and of a ClientHello a
//!   ticket is bound to; [`client_hello`]: read from the message; [`scope`]: how, as associated data
//! - [`attachment`]: what serves a context, and at which place of the pool it is
//! - [`connection`]: what a connection keeps of it, and what its tickets are bound to
//! - [`messages`]: the ClientHello, where libssl shows it in a message only
//! - [`late`]: a policy that a certificate callback sets, and in which context
//! - [`session`]: a session that a ticket held, before libssl takes it
//! - [`iv`]: IVs, drawn many at once; [`primed`]: MACs that are keyed once and copied
//! - [`ticket`]: seal and open, once, for both callback forms: [`evp`] and [`hmac`]
//! - [`pool`]: a callback function for each place
//! - [`attach`]: a context gets a place, and the callback of it

pub mod algorithms;
pub mod api;
pub mod attach;
pub mod attachment;
pub mod certificates;
pub mod client_hello;
pub mod connection;
pub mod error_queue;
pub mod evp;
pub mod hmac;
pub mod iv;
pub mod late;
pub mod messages;
pub mod pool;
pub mod primed;
pub mod resolve;
pub mod scope;
pub mod session;
pub mod sni;
pub mod ticket;
pub mod verification;
