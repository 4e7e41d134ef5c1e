//! Addresses of this host on which the agent listens.

use std::net::{IpAddr, SocketAddr, TcpListener};

use nix::sys::socket::sockopt::{IpFreebind, Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, getsockopt, listen,
    setsockopt, socket,
};

use super::mesh::about;

/// Listens there, also if this host does not have the address yet: at boot, or before a floating one
/// comes. From then on connections arrive.
///
/// # Errors
///
/// Somebody else has it, or it may not be had.
pub fn on(address: SocketAddr) -> nix::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // As the standard library does it: for who is started again.
    setsockopt(&socket, ReuseAddr, &true)?;
    // ip(7); where it cannot be had, the address must be there.
    let _ = setsockopt(&socket, IpFreebind, &true);
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(socket.into())
}

/// True if one of the two could not be listened on while the other one is.
pub fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: IpAddr, narrow: IpAddr| {
        let is_of_both = || wide.is_ipv6() && takes_ipv4().unwrap_or(true);
        wide.is_unspecified() && (wide.is_ipv6() == narrow.is_ipv6() || is_of_both())
    };
    let [ip, other_ip] = [one, other].map(|address| address.ip().to_canonical());
    let is_same_port = one.port() == other.port() && one.port() != 0;
    is_same_port && (ip == other_ip || covers(ip, other_ip) || covers(other_ip, ip))
}

/// Whether IPv6's unspecified address is IPv4's, too, as a setting of the host says (ipv6(7)).
fn takes_ipv4() -> nix::Result<bool> {
    let socket = socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    Ok(!getsockopt(&socket, Ipv6V6Only)?)
}

/// True if connections to this address come to this host now.
pub fn is_here(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified() || about::addresses().contains(&address)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn an_address_need_not_be_there_yet_but_must_be_free() {
        // For documentation only (RFC 5737, RFC 3849): no host has them.
        for absent in ["192.0.2.7:0", "[2001:db8::7]:0"] {
            let absent: SocketAddr = absent.parse().unwrap();
            let listener = on(absent).unwrap_or_else(|error| panic!("{absent}: {error}"));
            assert_eq!(listener.local_addr().unwrap().ip(), absent.ip());
            assert!(!is_here(absent.ip()));
        }
        let listener = on("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        assert!(is_here(address.ip()));
        TcpStream::connect(address).unwrap();
        assert_eq!(on(address).err(), Some(nix::errno::Errno::EADDRINUSE));
    }

    #[test]
    fn addresses_clash_as_the_kernel_says() {
        let ips = ["127.0.0.1", "127.0.0.2", "0.0.0.0", "[::]", "[::1]", "[::ffff:127.0.0.1]"];
        for one in ips {
            let listener = on(format!("{one}:0").parse().unwrap()).unwrap();
            let address = listener.local_addr().unwrap();
            for other in ips {
                let other = format!("{other}:{}", address.port()).parse().unwrap();
                let is_refused = on(other).is_err();
                assert_eq!(clash(address, other), is_refused, "{address} {other}");
            }
        }
        let any = "0.0.0.0:0".parse().unwrap();
        assert!(!clash(any, any), "each gets a port of its own");
    }
}
