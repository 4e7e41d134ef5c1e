//! `LD_PRELOAD=libtktrot_preload.so`: rotating, shared session ticket keys for
//! servers that nobody wants to patch.
//!
//! - [`hooks`]: the functions that stand in front of libssl's, and pass on
//! - [`limits`]: those in front of what servers confine themselves by
//! - [`guest`]: whether we are wanted in this process, and with which settings
//! - [`context`]: what the hooks know of each SSL_CTX, and what they decide
//!
//! A process that never makes an SSL_CTX is not touched: nothing runs at load,
//! no file is opened, no TLS library is mapped.

mod context;
mod guest;
mod hooks;
mod limits;
