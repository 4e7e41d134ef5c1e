//! Servers that ask for client certificates in their own ways, each without the shim and with it: with
//! it, a client that comes back resumes at least as often within one life of the server, always over a
//! rotation, a reload and a restart, and gets no further than a full handshake would let it. What
//! `tktrot status` counts is what the clients saw. `docs/servers.md` tells what is seen here.

mod counters;
mod dovecot;
mod ftp;
mod gunicorn;
mod journey;
mod kind;
mod mariadb;
mod mosquitto;
mod node;
mod proftpd;
mod redis;
mod visitor;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;
