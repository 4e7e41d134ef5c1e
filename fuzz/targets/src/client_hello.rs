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
    assert!(!host.iter().any(|byte| *byte == 0 || byte.is_ascii_uppercase()), "{host:?}");
    // The name is in what was sent, and the rest of that are a kind and two lengths.
    let sent = &bytes[bytes.len() - host.len() - usize::from(bytes.ends_with(b"."))..];
    let sent = if sent.len() > host.len() { &sent[..host.len()] } else { sent };
    assert!(sent.eq_ignore_ascii_case(&host), "{host:?} of {bytes:?}");
    for spelling in [host.to_vec(), host.to_ascii_uppercase(), [&host[..], b"."].concat()] {
        let name =
            ServerName::from_extension(&extension(&spelling)) == ServerName::Name(host.clone());
        assert!(name, "{spelling:?} is another name than {host:?}");
    }
    true
}

/// The extension for a host (RFC 6066 §3).
pub fn extension(host: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| (bytes as u16).to_be_bytes();
    [&length(host.len() + 3)[..], &[0], &length(host.len()), host].concat()
}
