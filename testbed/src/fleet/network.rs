//! The network of a fleet: a switch to which every host has two links. Over one the hosts talk to
//! each other, over the other clients come; so a test can take the hosts apart, and still see what
//! each of them does to clients.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::namespace::Namespace;

/// The two halves of a network that was taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where everybody is unless told.
    Mainland,
    /// Where those are who are cut off, together.
    Island,
}

impl Side {
    fn bridge(self) -> &'static str {
        match self {
            Side::Mainland => "mainland",
            Side::Island => "island",
        }
    }
}

/// The switch, in a namespace of its own.
#[derive(Debug)]
pub struct Network {
    switch: Namespace,
}

/// A namespace that is attached to the network.
#[derive(Debug)]
pub struct Node {
    number: u8,
    namespace: Namespace,
}

impl Network {
    /// A network to which nobody is attached.
    pub fn new() -> Result<Network> {
        let switch = Namespace::new()?;
        let bridges = ["mainland", "island", "public"]
            .map(|name| [format!("link add {name} type bridge"), format!("link set {name} up")]);
        switch.ip(bridges.as_flattened())?;
        Ok(Network { switch })
    }

    /// A new namespace with the addresses of this number, 1 to 254.
    pub fn attach(&self, number: u8) -> Result<Node> {
        let node = Node { number, namespace: Namespace::new()? };
        let place = node.namespace.path();
        self.switch.ip(&[
            format!("link add f{number} type veth peer name fleet netns {place}"),
            format!("link add p{number} type veth peer name public netns {place}"),
            format!("link set f{number} master mainland up"),
            format!("link set p{number} master public up"),
        ])?;
        node.namespace.ip(&[
            format!("addr add {}/24 dev fleet", node.fleet()),
            format!("addr add {}/24 dev public", node.public()),
            "link set fleet up".to_owned(),
            "link set public up".to_owned(),
        ])?;
        Ok(node)
    }

    /// Moves a host's link to the others to this side.
    pub fn place(&self, node: &Node, side: Side) -> Result<()> {
        self.switch.ip(&[format!("link set f{} master {}", node.number, side.bridge())])
    }

    /// Takes a host's link to the others down, or up again.
    pub fn connect(&self, node: &Node, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.switch.ip(&[format!("link set f{} {state}", node.number)])
    }
}

impl Node {
    /// Where it runs.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its address for the other hosts.
    pub fn fleet(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number)
    }

    /// Its address for clients.
    pub fn public(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 78, 0, self.number)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::process::needs_root;
    use crate::wait::{self, PATIENCE};

    const PORT: u16 = 4744;

    fn reach(from: &Node, to: Ipv4Addr) -> io::Result<()> {
        let to = (to, PORT).into();
        from.namespace().run(|| TcpStream::connect_timeout(&to, Duration::from_millis(500)))?;
        Ok(())
    }

    /// The kernel tells of a link that came up when it gets round to it, once a second at most.
    fn reaches(from: &Node, to: Ipv4Addr) {
        let what = format!("a way from {} to {to}", from.fleet());
        wait::until(PATIENCE, &what, || reach(from, to).ok()).unwrap();
    }

    #[test]
    fn hosts_reach_each_other_on_one_side_and_clients_reach_them_always() {
        needs_root("it makes network namespaces");
        let network = Network::new().unwrap();
        let [a, b, c] = [1, 2, 3].map(|number| network.attach(number).unwrap());
        let any = (Ipv4Addr::UNSPECIFIED, PORT);
        let _listeners =
            [&a, &b, &c].map(|node| node.namespace().run(|| TcpListener::bind(any)).unwrap());
        reaches(&a, b.fleet());
        reaches(&a, c.fleet());

        network.place(&b, Side::Island).unwrap();
        network.place(&c, Side::Island).unwrap();
        reaches(&b, c.fleet());
        reaches(&a, b.public());
        assert!(reach(&a, b.fleet()).is_err());

        network.place(&b, Side::Mainland).unwrap();
        reaches(&a, b.fleet());
        assert!(reach(&a, c.fleet()).is_err());

        network.connect(&a, false).unwrap();
        assert!(reach(&a, b.fleet()).is_err());
        network.connect(&a, true).unwrap();
        reaches(&a, b.fleet());
    }
}
