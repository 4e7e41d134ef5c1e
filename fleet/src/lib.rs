//! How the nodes of a fleet share ticket keys.
//!
//! Every node makes its own keys, announces them to its peers, and encrypts with one only when
//! they have it; every node decrypts with every node's keys. This crate is what is said and when:
//! it opens no socket, starts no thread and reads no clock. `tktrot agent` does that around it.
//!
//! | module | holds |
//! |---|---|
//! | [`ahead`] | how far ahead of its turn a key is announced |
//! | [`config`] | the agent's sections of the settings file |
//! | [`message`] | what nodes tell each other, and how they speak of keys |
//! | [`node`] | a node as a state machine: (event, now) → actions |
//! | [`redis`] | a node that shares one key per rotation with all others through Redis, the same way |
//! | [`secret`] | what the hosts of a fleet have in common, and the keys derived from it |
//! | [`wire`] | what nodes tell each other, as bytes |
//! | [`wrap`] | a key as it is kept in Redis |

pub mod ahead;
pub mod config;
pub mod message;
pub mod node;
pub mod redis;
pub mod secret;
pub mod wire;
pub mod wrap;
