//! The server_name extension of a ClientHello: what a ticket is bound to is made of it.

use tktrot::tls::sni::ServerName;

/// Bytes of the extension.
pub fn client_hello(bytes: &[u8]) -> bool {
    let _ = ServerName::from_host(bytes);
    let host = match ServerName::from_extension(bytes) {
        ServerName::None => panic!("an extension is there, and none was seen"),
        ServerName::Malformed(raw) => {
            assert_eq!(raw, bytes, "two malformed ones could count as the same");
            return false;
        }
        ServerName::Name(host) => host,
    };
    assert!((1..=255).contains(&host.len()), "a name of {} bytes", host.len());
    assert!(!host.contains(&0), "{host:?}");
    // Behind two lengths and a kind there is the name, and nothing else.
    let length = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    assert_eq!((length(0), bytes[2], length(3)), (bytes.len() - 2, 0, bytes.len() - 5));
    assert_eq!(&bytes[5..], host, "another name than what was sent");
    let again = extension(host);
    assert!(ServerName::from_extension(&again) == ServerName::Name(host), "{host:?}");
    true
}

/// The extension for a host (RFC 6066 §3).
pub fn extension(host: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| (bytes as u16).to_be_bytes();
    [&length(host.len() + 3)[..], &[0], &length(host.len()), host].concat()
}
