//! Ring files, whatever is in them: which there are, whose they are, who has them, and how one is
//! removed that nobody has. What a ring that can be read says is [`crate::status`]'.
//!
//! - [`places`]: where rings lie, and which files are there
//! - [`facts`]: what is known of one
//! - [`json`], [`text`]: the forms in which that is told
//! - [`removal`]: the end of one
//! - [`versions`]: those that other releases use

pub mod facts;
pub mod json;
pub mod places;
pub mod removal;
pub mod text;
pub mod versions;
