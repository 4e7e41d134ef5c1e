//! The hosts that are to be tested, and the addresses and names with which they are tested.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::output::in_words;

/// `HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub host: String,
    pub port: Option<u16>,
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Host, String> {
        const ACCEPTED: &str =
            "accepted: HOST, HOST:PORT, IPV6, [IPV6]:PORT or an https:// URL of these";
        let wrong = |_| ACCEPTED.to_owned();
        // Of a URL, only where the server is.
        let text = match text.strip_prefix("https://") {
            Some(rest) => rest.split(['/', '?', '#']).next().unwrap_or_default(),
            None => text,
        };
        // The colons of an IPv6 address without brackets do not introduce a port.
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Host { host: address.to_string(), port: None });
        }
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => {
                let address: Ipv6Addr = host.parse().map_err(|_| ACCEPTED.to_owned())?;
                let port = match rest {
                    "" => None,
                    rest => Some(rest.strip_prefix(':').ok_or(ACCEPTED)?),
                };
                (address.to_string(), port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host.to_owned(), Some(port)),
                None => (text.to_owned(), None),
            },
        };
        let is_host = |byte: u8| byte.is_ascii_graphic() && !b"/\\@[]?#".contains(&byte);
        if host.is_empty() || host.len() > 253 || !host.bytes().all(is_host) {
            return Err(ACCEPTED.to_owned());
        }
        let port = port.map(str::parse::<u16>).transpose().map_err(wrong)?;
        if port == Some(0) {
            return Err(ACCEPTED.to_owned());
        }
        Ok(Host { host, port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host.contains(':'), self.port) {
            (true, Some(port)) => write!(f, "[{}]:{port}", self.host),
            (false, Some(port)) => write!(f, "{}:{port}", self.host),
            (_, None) => f.write_str(&self.host),
        }
    }
}

/// Where a ticket is obtained or offered: an address, and the name that the client sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub sni: Option<String>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        self.sni.as_ref().map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}

/// A host, and what the resolver said.
#[derive(Serialize)]
pub struct Resolved {
    /// As it was given, with the port.
    pub target: String,
    pub addresses: Vec<SocketAddr>,
    /// Where it is tested.
    #[serde(skip)]
    pub endpoints: Vec<Endpoint>,
    /// Why there are none.
    pub error: Option<String>,
}

/// Looks up all addresses of a host, for at most `limit`.
pub fn resolve(target: &Host, default_port: u16, limit: Duration) -> Resolved {
    let target = Host { host: target.host.clone(), port: target.port.or(Some(default_port)) };
    let name = (target.host.clone(), target.port.unwrap_or(default_port));
    let (sender, receiver) = mpsc::channel();
    // getaddrinfo(3) has no time limit; a thread that is still in it ends with the process.
    thread::spawn(move || sender.send(name.to_socket_addrs().map(Iterator::collect::<Vec<_>>)));
    let mut resolved = Resolved {
        target: target.to_string(),
        addresses: Vec::new(),
        endpoints: Vec::new(),
        error: None,
    };
    match receiver.recv_timeout(limit) {
        Ok(Ok(addresses)) if addresses.is_empty() => {
            resolved.error = Some("the name has no address".to_owned());
        }
        Ok(Ok(addresses)) => {
            for address in addresses {
                if !resolved.addresses.contains(&address) {
                    resolved.addresses.push(address);
                }
            }
        }
        Ok(Err(error)) => resolved.error = Some(error.to_string()),
        Err(_) => resolved.error = Some(format!("no answer within {}", in_words(limit))),
    }
    resolved
}

/// The endpoints of a host: each address with each of the names, or with the host's own name if none
/// are given. The empty name means that none is sent.
pub fn endpoints(host: &Host, addresses: &[SocketAddr], names: &[String]) -> Vec<Endpoint> {
    let own = host.host.parse::<IpAddr>().is_err().then(|| host.host.clone());
    let names: Vec<Option<String>> = if names.is_empty() {
        vec![own]
    } else {
        names.iter().map(|name| (!name.is_empty()).then(|| name.clone())).collect()
    };
    let at = |address: &SocketAddr| {
        let address = *address;
        names.clone().into_iter().map(move |sni| Endpoint { address, sni })
    };
    addresses.iter().flat_map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_come_with_and_without_ports() {
        let parsed = |text: &str| {
            text.parse::<Host>().map(|target| (target.host, target.port)).map_err(|_| ())
        };
        let is = |host: &str, port| Ok((host.to_owned(), port));
        assert_eq!(parsed("example.org"), is("example.org", None));
        assert_eq!(parsed("example.org:8443"), is("example.org", Some(8443)));
        assert_eq!(parsed("127.0.0.1:1"), is("127.0.0.1", Some(1)));
        assert_eq!(parsed("::1"), is("::1", None));
        assert_eq!(parsed("[::1]"), is("::1", None));
        assert_eq!(parsed("[::1]:443"), is("::1", Some(443)));
        for wrong in ["", ":443", "a:", "a:0", "a:65536", "a:b", "[::1", "[::1]443", "[a]:1"] {
            assert_eq!(parsed(wrong), Err(()), "{wrong}");
        }
        assert_eq!(parsed("https://example.org"), is("example.org", None));
        assert_eq!(parsed("https://example.org:8443/a:b?c#d"), is("example.org", Some(8443)));
        assert_eq!(parsed("https://[::1]:443/"), is("::1", Some(443)));
        for wrong in ["https://", "https:///a", "http://example.org/", "https://me@example.org/"] {
            assert_eq!(parsed(wrong), Err(()), "{wrong}");
        }
    }

    #[test]
    fn an_address_is_not_a_server_name_and_the_empty_name_is_none() {
        let addresses = ["127.0.0.1:1".parse().unwrap()];
        let names = |host: &str, names: &[&str]| {
            let target: Host = host.parse().unwrap();
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let endpoints = endpoints(&target, &addresses, &names);
            endpoints.into_iter().map(|endpoint| endpoint.sni).collect::<Vec<_>>()
        };
        assert_eq!(names("127.0.0.1", &[]), [None]);
        assert_eq!(names("::1", &[]), [None]);
        assert_eq!(names("localhost", &[]), [Some("localhost".to_owned())]);
        assert_eq!(names("127.0.0.1", &["a", ""]), [Some("a".to_owned()), None]);
    }
}
