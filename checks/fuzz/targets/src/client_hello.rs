//! The server_name extension of a ClientHello, and the whole message where a TLS library shows no
//! less: what a ticket is bound to is made of it.

use tktrot::tls::client_hello::{self, ClientHello};
use tktrot::tls::sni::ServerName;

/// Bytes of the extension, and of a message.
pub fn client_hello(bytes: &[u8]) -> bool {
    if let Some(hello) = ClientHello::read(bytes) {
        assert!(client_hello::is_one(bytes));
        let random = if bytes[4] == 0xfe { &bytes[14..46] } else { &bytes[6..38] };
        assert_eq!(random, hello.random);
    }
    if let Some(message) = message_with(bytes) {
        let hello = ClientHello::read(&message).expect("a message that is well-formed");
        assert!(hello.server_name == ServerName::from_extension(bytes), "{bytes:?}");
    }
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

/// A ClientHello with that extension, between others; `None` if it is too long.
fn message_with(extension: &[u8]) -> Option<Vec<u8>> {
    let length = |bytes: usize| u16::try_from(bytes).ok().map(u16::to_be_bytes);
    let others = [&[0, 23, 0, 0][..], &[0, 35, 0, 1, 9]];
    let named = [&[0, 0][..], &length(extension.len())?, extension].concat();
    let all = [others[0], &named, others[1]].concat();
    let fixed = [&[3, 3][..], &[5; 32], &[0, 0, 2, 0xc0, 0x2b, 1, 0]].concat();
    let body = [&fixed[..], &length(all.len())?, &all].concat();
    Some([&[1], &u32::try_from(body.len()).ok()?.to_be_bytes()[1..], &body].concat())
}

/// The extension for a host (RFC 6066 §3).
pub fn extension(host: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| (bytes as u16).to_be_bytes();
    [&length(host.len() + 3)[..], &[0], &length(host.len()), host].concat()
}
