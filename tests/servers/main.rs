//! Debian's servers, each in a small file that says how it is configured, started and spoken to, and
//! what is special about it; the same journey for all. Clients come without the shim and with it: with
//! it they resume at least as often within one life of the server, always over a rotation, a reload and
//! a restart, and get no further than a full handshake would let them. What `tktrot status` counts is
//! what the clients saw. `docs/servers.md` tells what is seen here.
//!
//! One more server is one more file with a [`Kind`](kind::Kind) and its tests.

mod apache;
mod distributions;
mod dovecot;
mod ftp;
mod gunicorn;
mod haproxy;
mod hitch;
mod journey;
mod kind;
mod lighttpd;
mod mariadb;
mod mosquitto;
mod musl;
mod nginx;
mod node;
mod postfix;
mod proftpd;
mod redis;
mod release;
mod stunnel;
mod visitor;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;
