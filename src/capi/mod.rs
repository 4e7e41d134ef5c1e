//! The exported functions: translation only. Each body is one call of
//! [`error::guard`], so that no panic leaves and each error leaves its message.

pub mod api;
pub mod config;
pub mod control;
pub mod error;
pub mod install;
pub mod message;
pub mod version;
