//! The addresses of the peers of the settings: names are looked up again and again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tktrot_fleet::config::{Host, Peer};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::shared::Shared;
use super::targets::{name, tell_first_round, update};

/// How long a look-up may take: a resolver's usual limit for one attempt.
const LIMIT: Duration = Duration::from_secs(5);

/// Keeps the addresses of the peer of this number current.
pub async fn follow(shared: Rc<Shared>, number: usize, peer: Peer) {
    let host = match &peer.host {
        Host::Address(address) => {
            update(&shared, number, Ok([SocketAddr::new(*address, peer.port)].into()));
            return tell_first_round(&shared).await;
        }
        Host::Name(host) => host,
    };
    loop {
        let found = look_up(host, peer.port).await;
        let name = name(&peer);
        match &found {
            Ok(_) => shared.is_over(&name, LOOK_UP),
            Err(error) => shared.complain_about(&name, LOOK_UP, error),
        }
        update(&shared, number, found);
        tell_first_round(&shared).await;
        tokio::time::sleep(shared.timing.lookup).await;
    }
}

/// What the complaint is about.
const LOOK_UP: &str = "it cannot be looked up";

async fn look_up(host: &str, port: u16) -> Result<BTreeSet<SocketAddr>, String> {
    match timeout(LIMIT, lookup_host((host, port))).await {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
    }
}
