//! TLS session ticket keys that rotate, are shared, and are gone when they expire.
//!
//! A server gets them by linking (`tkt_install(ctx, &cfg)`, `include/tktrot.h`)
//! or, unmodified, by `LD_PRELOAD=libtktrot_preload.so`. This crate is the
//! library; the shim (`preload/`) contains it.
//!
//! # One ticket's way
//!
//! A handshake runs the callback of its context, one out of [`tls::pool`],
//! which ends in [`tls::ticket`]: *seal* asks [`rotate::Keyring`] for the key
//! that encrypts now, *open* looks the ticket's key name up in the
//! [`ring::Ring`]; both prime the cipher and MAC that the TLS library handed
//! in ([`tls::evp`], [`tls::hmac`]), with [`tls::scope`] as associated data.
//! No lock, no syscall, no file, no socket.
//!
//! # Where things are
//!
//! | module | holds |
//! |---|---|
//! | [`secret`] | key bytes: zeroized, not printed, not copied by accident |
//! | [`clock`] | time since boot; a virtual clock for tests |
//! | [`schedule`] | pure: (key times, policy, now) → the next step |
//! | [`ring`] | the shared memory: format, safe opening, readers, writers |
//! | [`rotate`] | embedded rotation: what the schedule says, done to a ring; [`rotate::govern`]: by an agent, for a fleet |
//! | [`terms`] | what the processes of a ring ask for, and what then applies |
//! | [`import`] | keys that other servers made, so that their tickets go on |
//! | [`upkeep`] | the thread that rotates when no handshake happens |
//! | [`confine`] | taking rights from a thread that starts before the server has given up its own |
//! | [`keyrings`] | each ring opened once per process tree |
//! | [`tls`] | the TLS library: its functions, contexts, callbacks |
//! | [`config`] | defaults, environment and C struct → one `Config` |
//! | [`capi`] | the exported functions: translation only |
//! | [`atomics`] | those of the modules that are model-checked |
//! | [`thread`], [`epoch`] | what each thread has of its own; when what others may be reading is freed |
//! | [`process`], [`log`] | being a guest: fork, exit, signals, log lines |
//! | [`program`] | what the running program is called |
//! | [`random`] | random bytes from the kernel, where there is no TLS library |
//! | [`unnoticed`] | being a guest: the server's thread stays as it was |
//!
//! Dependencies point one way: `secret, clock → schedule → ring → rotate, tls
//! → capi`. The library opens no socket (but to write a line to the system's log), starts nothing
//! at load, and depends
//! on `libc`, `once_cell`, `zeroize` and `openssl-sys` (types only).

pub mod atomics;
pub mod capi;
pub mod clock;
pub mod config;
pub mod confine;
pub mod epoch;
pub mod import;
pub mod keyrings;
#[cfg(feature = "kill-points")]
pub mod kill_points;
pub mod log;
pub mod process;
pub mod program;
pub mod random;
pub mod ring;
pub mod rotate;
pub mod schedule;
pub mod secret;
pub mod terms;
pub mod thread;
pub mod tls;
pub mod unnoticed;
pub mod upkeep;
