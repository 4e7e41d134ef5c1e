//! The library's own sources, compiled with loom's atomics: what is checked is
//! what is shipped. Only the robust mutex, the mapping and the death of a
//! writer are stood for (`src/ring/modelled`, [`kill_points`]). See docs/models.md.

#[path = "../../../src/atomics.rs"]
pub mod atomics;
#[path = "../../../src/clock.rs"]
pub mod clock;
#[path = "../../../src/config/mod.rs"]
pub mod config;
#[path = "../../../src/epoch.rs"]
pub mod epoch;
pub mod kill_points;
#[path = "../../../src/log/mod.rs"]
pub mod log;
#[path = "../../../src/process.rs"]
pub mod process;
#[path = "../../../src/program.rs"]
pub mod program;
#[path = "../../../src/random.rs"]
pub mod random;
#[path = "../../../src/ring/mod.rs"]
pub mod ring;
#[path = "../../../src/rotate/mod.rs"]
pub mod rotate;
#[path = "../../../src/schedule.rs"]
pub mod schedule;
#[path = "../../../src/secret.rs"]
pub mod secret;
#[path = "../../../src/terms.rs"]
pub mod terms;
