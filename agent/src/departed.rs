//! Hosts that were connected, and are gone. For as long as a key of that time can live, their servers
//! may open its tickets, though nobody counts them among the peers any more: a name leads elsewhere by
//! now, or they called and are not in the settings.

use std::net::IpAddr;

use tktrot::clock::Time;
use tktrot_fleet::message::NodeId;

/// More are not remembered.
const MOST: usize = 4096;

/// One of them.
pub struct Host {
    pub node: NodeId,
    /// Where it was.
    pub address: IpAddr,
    /// It has no key of that time any more then.
    until: Time,
}

/// All of them.
#[derive(Default)]
pub struct Departed(Vec<Host>);

impl Departed {
    /// One went, and has keys until then.
    pub fn left(&mut self, node: NodeId, address: IpAddr, until: Time, now: Time) {
        self.0.retain(|host| host.until > now && host.node != node);
        if self.0.len() < MOST {
            self.0.push(Host { node, address, until });
        }
    }

    /// One is there. It may be another node than before: the host was rebooted, and its ring is gone.
    pub fn came(&mut self, node: NodeId, address: IpAddr) {
        self.0.retain(|host| host.node != node && host.address != address);
    }

    /// Those that may have keys still.
    pub fn at(&self, now: Time) -> impl Iterator<Item = &Host> {
        self.0.iter().filter(move |host| host.until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_gone_is_remembered_until_it_comes_back_or_has_no_key_any_more() {
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let mut departed = Departed::default();
        departed.left(NodeId(1), one, Time(100), Time(0));
        departed.left(NodeId(2), other, Time(200), Time(0));
        departed.left(NodeId(2), other, Time(300), Time(10));
        let nodes = |departed: &Departed, now| {
            departed.at(Time(now)).map(|host| host.node.0).collect::<Vec<_>>()
        };
        assert_eq!(nodes(&departed, 99), [1, 2]);
        assert_eq!(nodes(&departed, 100), [2]);
        // Another node is where the first one was.
        departed.came(NodeId(3), one);
        assert_eq!(nodes(&departed, 99), [2]);
        departed.came(NodeId(2), one);
        assert!(nodes(&departed, 99).is_empty());
    }
}
