//! Hosts that were connected, and are gone. For as long as a key of that time can live, their servers
//! may open its tickets, though nobody counts them among the peers any more: a name leads elsewhere by
//! now, the settings have changed, or they called and never were in the settings.
//!
//! A host is known by its node. Several may call from one address (NAT), so that one of them comes
//! from there says nothing of the others. Only an address of the settings is one host's: if it was
//! rebooted, another node answers there.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use tktrot::clock::Time;
use tktrot_fleet::message::NodeId;

/// More are not remembered.
const MOST: usize = 4096;

/// One of them.
pub struct Host {
    pub node: NodeId,
    /// Where it was.
    pub address: IpAddr,
    /// The addresses of the settings at which it answered; none if it has only called.
    pub answered: BTreeSet<SocketAddr>,
    /// It has no key of that time any more then.
    pub until: Time,
}

/// All of them.
#[derive(Default)]
pub struct Departed(Vec<Host>);

impl Departed {
    /// One went.
    pub fn left(&mut self, host: Host, now: Time) {
        self.0.retain(|other| other.until > now && other.node != host.node);
        if self.0.len() < MOST {
            self.0.push(host);
        }
    }

    /// One is there again.
    pub fn came(&mut self, node: NodeId) {
        self.0.retain(|host| host.node != node);
    }

    /// Forgets whose place another node has taken: at every address of the settings where it
    /// answered another one does. Its ring is gone with the reboot that made it another one.
    pub fn forget_replaced(&mut self, answering: impl Fn(&SocketAddr) -> Option<NodeId>) {
        let is_replaced = |host: &Host| {
            let is_another = |address| answering(address).is_some_and(|node| node != host.node);
            !host.answered.is_empty() && host.answered.iter().all(is_another)
        };
        self.0.retain(|host| !is_replaced(host));
    }

    /// Those that may have keys still.
    pub fn at(&self, now: Time) -> impl Iterator<Item = &Host> {
        self.0.iter().filter(move |host| host.until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(node: u64, answered: &[&str], until: u64) -> Host {
        let answered = answered.iter().map(|address| address.parse().unwrap()).collect();
        Host {
            node: NodeId(node),
            address: "192.0.2.1".parse().unwrap(),
            answered,
            until: Time(until),
        }
    }

    fn nodes(departed: &Departed, now: u64) -> Vec<u64> {
        departed.at(Time(now)).map(|host| host.node.0).collect()
    }

    #[test]
    fn who_is_gone_is_remembered_until_it_comes_back_or_has_no_key_any_more() {
        let mut departed = Departed::default();
        departed.left(host(1, &[], 100), Time(0));
        departed.left(host(2, &[], 200), Time(0));
        departed.left(host(2, &[], 300), Time(10));
        assert_eq!(nodes(&departed, 99), [1, 2]);
        assert_eq!(nodes(&departed, 100), [2]);
        // Others come from the address where all of them were.
        departed.came(NodeId(3));
        assert_eq!(nodes(&departed, 99), [1, 2]);
        departed.came(NodeId(1));
        assert_eq!(nodes(&departed, 99), [2]);
    }

    #[test]
    fn only_who_answers_at_all_its_addresses_of_the_settings_has_taken_its_place() {
        const V4: &str = "192.0.2.1:4744";
        const V6: &str = "[2001:db8::1]:4744";
        let mut departed = Departed::default();
        departed.left(host(1, &[], 100), Time(0));
        departed.left(host(2, &[V4, V6], 100), Time(0));
        let mut answers = |answering: &[(&str, u64)]| {
            let answering: Vec<(SocketAddr, NodeId)> = answering
                .iter()
                .map(|(address, node)| (address.parse().unwrap(), NodeId(*node)))
                .collect();
            let at = |address: &SocketAddr| {
                answering.iter().find(|(other, _)| other == address).map(|(_, node)| *node)
            };
            departed.forget_replaced(at);
            nodes(&departed, 0)
        };
        assert_eq!(answers(&[]), [1, 2]);
        assert_eq!(answers(&[(V4, 2), (V6, 2)]), [1, 2], "it is the one that answered last there");
        assert_eq!(answers(&[(V4, 3)]), [1, 2]);
        assert_eq!(answers(&[(V4, 3), (V6, 2)]), [1, 2]);
        assert_eq!(answers(&[(V4, 3), (V6, 3)]), [1]);
    }
}
