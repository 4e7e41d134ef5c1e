//! The ring: the shared-memory keyring of one trust domain. A file uses those above it in this
//! list, and no other:
//!
//! - `mutex`: what shows that a thread lives
//! - [`layout`]: the binary format, every offset asserted
//! - [`map`]: its memory, locked and undumpable, as the parts that the layout has
//! - [`key`]: a key out of a ring; [`seqlock`]: how a slot is read without a lock, and written
//! - `reader`: lookup without a lock
//! - [`graves`]: the names of revoked keys, which nobody brings back
//! - [`lock`]: the right to write
//! - [`life`]: which processes live, who leads the upkeep, and whether an agent governs the ring
//! - [`stats`]: counters, a cache line for each thread
//! - [`asks`]: what each process asks for, and what the ring does
//! - [`versions`]: rings of other versions of the format
//! - [`Ring`]: all that, of one ring
//! - [`writer`]: publish, erase, repair, under the writer lock
//! - [`refused`]: why one is refused
//! - [`mod@file`]: where a ring lies, and what is refused there
//! - [`view`]: what an onlooker sees, without a lock
//! - [`removal`]: rings that nobody uses
//! - [`open`]: from a file to a ring
//!
//! `modelled` has what stands for memory, mutexes and the lock in a model (docs/models.md).

pub mod asks;
pub mod file;
pub mod graves;
pub mod key;
pub mod layout;
pub mod life;
pub mod lock;
pub mod map;
mod mutex;
pub mod open;
mod reader;
pub mod refused;
pub mod removal;
#[expect(clippy::module_inception, reason = "it holds the type that the directory is named for")]
mod ring;
pub mod seqlock;
pub mod stats;
#[cfg(all(test, not(loom)))]
mod tests;
pub mod versions;
pub mod view;
pub mod writer;

pub use ring::Ring;
