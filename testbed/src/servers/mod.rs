//! The servers, each in a module of its own, with the operations that an administrator has.

pub mod example;
pub mod foreground;
pub mod haproxy;
pub mod hitch;
mod home;
pub mod nginx;
pub mod redis;
pub mod solo;
pub mod stud;

use std::fmt;
use std::net::SocketAddr;

use anyhow::Result;

/// What every server can do. Dropping it stops it.
pub trait Server: fmt::Debug {
    /// Where it listens.
    fn addr(&self) -> SocketAddr;

    /// Starts it and waits until it accepts connections.
    fn start(&mut self) -> Result<()>;

    /// Stops it, and waits until all its processes are gone.
    fn stop(&mut self) -> Result<()>;

    /// Reloads its configuration and waits until that is done; `None` if it has no reload.
    fn reload(&mut self) -> Option<Result<()>>;

    /// Everything that it, and libtktrot in it, has logged.
    fn log(&self) -> String;
}

/// Lets a type's own operations be those of a [`Server`].
macro_rules! server {
    ($server:ty, addr: $addr:expr, reload: $reload:expr) => {
        impl Server for $server {
            fn addr(&self) -> SocketAddr {
                $addr(self)
            }

            fn start(&mut self) -> Result<()> {
                <$server>::start(self)
            }

            fn stop(&mut self) -> Result<()> {
                <$server>::stop(self)
            }

            fn reload(&mut self) -> Option<Result<()>> {
                let reload: Option<fn(&mut $server) -> Result<()>> = $reload;
                reload.map(|reload| reload(self))
            }

            fn log(&self) -> String {
                self.home.log()
            }
        }
    };
}

use server;
