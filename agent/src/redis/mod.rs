//! The fleet shares one key per rotation through Redis.
//!
//! What is stored, and when, is decided by [`tktrot_fleet::shared::Shared`]; this is the shell:
//!
//! - [`target`]: where Redis is: an address, or Sentinels that know it
//! - [`persistence`]: whether it writes keys to disk
//! - [`link`]: the connection, kept up
//! - [`script`]: what is asked of it
//! - [`engine`]: the state machine's actions, done to the ring and told to Redis
//! - [`through`]: the engine as the agent has it

pub mod engine;
mod link;
mod persistence;
mod script;
mod target;
#[cfg(test)]
mod tests;
pub mod through;
