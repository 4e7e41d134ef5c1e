//! Ring files, whatever is in them: which there are, whose they are, who has them, and how one is
//! removed that nobody has. What the ring in them says is [`crate::status`]' business.
//!
//! - [`search`]: where rings lie, and which files are there
//! - [`file`]: what is known of one of them
//! - [`report`]: how that is said, as text and as JSON
//! - [`removal`]: how one is removed

pub mod file;
pub mod removal;
pub mod report;
pub mod search;
