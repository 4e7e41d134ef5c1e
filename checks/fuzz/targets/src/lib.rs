//! What reads bytes that others wrote, as functions of bytes: libFuzzer calls them (`make fuzz`),
//! and so do tests, with the inputs of checks/fuzz/corpus and thousands made of those.
//!
//! Each panics if what it calls does, or does what it never may. It returns true if the input was
//! taken for what it claims to be: that shows that the inputs of the corpus lead somewhere.
//!
//! | target | bytes are | and may come from |
//! |---|---|---|
//! | [`wire()`] | a frame of the mesh | a peer |
//! | [`node()`] | what happens to a node of the mesh | peers that lie |
//! | [`wrapped_value()`] | what Redis has in a slot, or a record, or a slot's name | whoever can write to Redis |
//! | [`shared()`] | what happens to a node that shares through Redis | the same, and a lost Redis |
//! | [`configuration()`] | the agent's sections of a settings file | an operator |
//! | [`settings()`] | `TKTROT_` variables, and a `tkt_config` with the same | an operator, a C program |
//! | [`tkt_config()`] | the memory of a `tkt_config`, of any size | a C program |
//! | [`fleet_secret()`] | a file with a fleet secret | an operator |
//! | [`key_files()`] | a file of keys, of each format | other servers |
//! | [`ring_file()`] | a ring found on disk | who may write into its directory |
//! | [`client_hello()`] | a server_name extension | anybody |
//! | [`ticket()`] | the ticket that a handshake offers: name, IV, the rest | anybody |
//!
//! Nothing in here is a secret: all keys are made of small numbers.

mod client_hello;
mod configuration;
mod fleet_secret;
mod in_memory;
mod key_files;
mod made_up;
mod mesh;
mod node;
mod passing;
mod redis;
mod ring_file;
pub mod seeds;
mod settings;
mod shared;
mod ticket;
mod tkt_config;
mod wire;
mod wrapped_value;

pub use client_hello::client_hello;
pub use configuration::configuration;
pub use fleet_secret::fleet_secret;
pub use key_files::key_files;
pub use node::node;
pub use ring_file::ring_file;
pub use settings::settings;
pub use shared::shared;
pub use ticket::ticket;
pub use tkt_config::tkt_config;
pub use wire::wire;
pub use wrapped_value::wrapped_value;

/// A function of bytes.
pub type Target = fn(&[u8]) -> bool;

/// All of them, by name.
pub const TARGETS: [(&str, Target); 12] = [
    ("client_hello", client_hello),
    ("configuration", configuration),
    ("fleet_secret", fleet_secret),
    ("key_files", key_files),
    ("node", node),
    ("ring_file", ring_file),
    ("settings", settings),
    ("shared", shared),
    ("ticket", ticket),
    ("tkt_config", tkt_config),
    ("wire", wire),
    ("wrapped_value", wrapped_value),
];
