//! Who does not have the secret gets nowhere, and is in nobody's way.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use openssl::ssl::{Ssl, SslContextBuilder, SslFiletype, SslVersion};
use testbed::RingDir;
use tktrot_fleet::message::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_openssl::SslStream;

use super::super::psk;
use super::super::state::Timing;
use super::super::tls::no_dhe_kex;
use super::host::{Host, address, key, run, secret, timing, tls, until_all_up};
use super::log::Log;
use super::relay::{Relay, Way};
use super::stranger::{context, handshake, is_closed, is_closed_at_last, tcp};

/// Two nodes that know each other.
async fn pair(number: u8) -> [Host; 2] {
    let (a, b) = (address(number), address(number + 1));
    let mut hosts = [Host::start(1, a, tls(&[7]), &[b]), Host::start(2, b, tls(&[7]), &[])];
    until_all_up(&mut hosts).await;
    hosts
}

/// They still do, and have always done.
async fn are_undisturbed(hosts: &mut [Host; 2]) {
    hosts[0].says(2, &Message::Pull);
    let (_, message, _) = hosts[1].hears().await;
    assert!(matches!(message, Message::Pull));
    for host in hosts {
        host.during(Duration::from_millis(20)).await;
        assert_eq!(host.changes.len(), 1, "{:?}", host.changes);
    }
}

#[test]
fn another_secret_is_none() {
    run(async {
        let log = Log::new();
        let mut hosts = pair(41).await;
        let stranger = address(43);
        let all = [hosts[0].address, hosts[1].address];
        let mut other = Host::start(3, stranger, tls(&[8, 9]), &all);
        other.until("the first round is over", |host| host.first_round_is_over).await;
        other.during(Duration::from_millis(600)).await;
        assert!(other.changes.is_empty());
        are_undisturbed(&mut hosts).await;
        // Twice: the two nodes have one log here. From 127.0.0.1, as all that is bound to nothing.
        let refused = log.lines("it has a different fleet secret, or none");
        let said = |text: &str| refused.iter().filter(|line| line.contains(text)).count();
        assert_eq!((said(" refused "), said("cannot connect")), (2, 2), "{refused:?}");
    });
}

#[test]
fn clients_without_the_secret_are_refused_and_told_once() {
    run(async {
        let log = Log::new();
        let mut hosts = pair(44).await;
        let to = hosts[0].address;
        for _ in 0..5 {
            // TLS 1.3, and nothing to prove.
            let refused = handshake(context(SslVersion::TLS1_3), tcp(46, to).await).await;
            assert!(refused.is_err());
            // TLS 1.2, even with the secret.
            let mut old = context(SslVersion::TLS1_2);
            old.set_cipher_list("ALL:PSK").unwrap();
            old.set_psk_client_callback(|_, _, identity, key| {
                let psk = secret(7).mesh().unwrap();
                identity[..psk.identity.len()].copy_from_slice(psk.identity.as_bytes());
                key[..48].copy_from_slice(psk.key.expose());
                Ok(48)
            });
            assert!(handshake(old, tcp(47, to).await).await.is_err());
            // No TLS.
            let mut plain = tcp(48, to).await;
            plain.write_all(b"GET / HTTP/1.1\r\nHost: mesh\r\n\r\n").await.unwrap();
            assert!(is_closed_at_last(&mut plain).await);
            let mut noise = tcp(49, to).await;
            noise.write_all(&[0xa5; 4096]).await.unwrap();
            assert!(is_closed_at_last(&mut noise).await);
        }
        for number in 46..=49 {
            log.says_once(&format!("refused address=127.0.0.{number} "));
        }
        are_undisturbed(&mut hosts).await;
    });
}

/// A client with the secret that shares no group with a node: it could only do without ephemeral
/// keys (psk_ke), which it offers.
fn psk_ke_client() -> SslContextBuilder {
    let mut client = context(SslVersion::TLS1_3);
    client.set_ciphersuites("TLS_AES_256_GCM_SHA384").unwrap();
    client.set_groups_list("P-521").unwrap();
    client.set_options(no_dhe_kex());
    psk::offer(&mut client, vec![secret(7).mesh().unwrap()]).unwrap();
    client
}

/// A server with the secret and these groups that accepts this.
async fn psk_ke_server(groups: &str) -> SocketAddr {
    let mut server = context(SslVersion::TLS1_3);
    server.set_ciphersuites("TLS_AES_256_GCM_SHA384").unwrap();
    server.set_groups_list(groups).unwrap();
    server.set_options(no_dhe_kex());
    psk::accept(&mut server, vec![secret(7).mesh().unwrap()]).unwrap();
    serve(server).await
}

/// A server that says one byte to whoever it accepts.
async fn serve(context: SslContextBuilder) -> SocketAddr {
    let context = context.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = SslStream::new(Ssl::new(&context).unwrap(), stream).unwrap();
            if Pin::new(&mut stream).accept().await.is_ok() {
                // The client may have seen enough.
                let _ = stream.write_all(b"!").await;
            }
        }
    });
    address
}

#[test]
fn a_secret_without_ephemeral_keys_is_refused() {
    run(async {
        let log = Log::new();
        let mut hosts = pair(50).await;
        let with_other_groups = psk_ke_server("X25519").await;
        let client = psk_ke_client();
        let mut accepted = handshake(client, tcp(52, with_other_groups).await).await.unwrap();
        assert_eq!(accepted.read_u8().await.unwrap(), b'!', "the client can do it");
        let refused = handshake(psk_ke_client(), tcp(52, hosts[0].address).await).await;
        assert!(refused.is_err());
        log.says_once("refused address=127.0.0.52 ");

        // Nor does a node offer it: such a server is of use to it only with a group in common.
        let own = tls(&[7]);
        assert!(own.connect(0, tcp(52, with_other_groups).await).await.is_ok());
        let with_other_groups = psk_ke_server("P-521").await;
        assert!(own.connect(0, tcp(52, with_other_groups).await).await.is_err());
        are_undisturbed(&mut hosts).await;
    });
}

#[test]
fn a_server_that_does_not_prove_the_secret_is_told_nothing() {
    run(async {
        let dir = RingDir::new().unwrap();
        let certificate = testbed::certificate::create(dir.path()).unwrap();
        let mut impostor = context(SslVersion::TLS1_3);
        impostor.set_certificate_file(certificate.cert, SslFiletype::PEM).unwrap();
        impostor.set_private_key_file(certificate.key, SslFiletype::PEM).unwrap();
        let impostor = serve(impostor).await;
        let anybody = handshake(context(SslVersion::TLS1_3), tcp(53, impostor).await).await;
        assert!(anybody.is_ok(), "it works as a server");
        assert!(tls(&[7]).connect(0, tcp(53, impostor).await).await.is_err());

        let host = address(56);
        let mut host = Host::start(1, host, tls(&[7]), &[impostor]);
        host.until("the first round is over", |host| host.first_round_is_over).await;
        let error = host.mesh.peers()[0].failure.clone().unwrap().what;
        assert!(host.up.is_empty() && error.contains("certificate"), "{error}");
    });
}

/// A recorded session is worth nothing: neither side's words are those of another one.
#[test]
fn a_replayed_session_is_refused() {
    run(async {
        let log = Log::new();
        let (a, b) = (address(53), address(54));
        let relay = Relay::to(b).await;
        let mut hosts =
            [Host::start(1, a, tls(&[7]), &[relay.address]), Host::start(2, b, tls(&[7]), &[])];
        until_all_up(&mut hosts).await;
        hosts[0].says(2, &Message::Keys(vec![key(1)]));
        let (_, message, _) = hosts[1].hears().await;
        assert!(matches!(message, Message::Keys(_)));
        let pieces = relay.pieces();
        let said: Vec<u8> = pieces
            .iter()
            .filter(|(way, _)| *way == Way::There)
            .flat_map(|(_, bytes)| bytes.iter().copied())
            .collect();
        assert!(said.len() > 500, "a session with a key");
        for _ in 0..3 {
            let mut replay = tcp(55, b).await;
            replay.write_all(&said).await.unwrap();
            assert!(is_closed_at_last(&mut replay).await);
        }
        assert!(log.lines("refused address=127.0.0.55 ").len() == 1, "{:?}", log.lines("WARN"));
        hosts[1].during(Duration::from_millis(100)).await;
        assert!(hosts[1].heard.is_empty(), "nothing of it was heard again");
        are_undisturbed(&mut hosts).await;
    });
}

/// Room for both ends of a thousand connections.
fn allow_many_descriptors() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(4096)), hard).unwrap();
    assert!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0 >= 4096);
}

#[test]
fn a_thousand_idle_connections_keep_nobody_out() {
    run(async {
        allow_many_descriptors();
        let log = Log::new();
        let mut hosts = pair(57).await;
        // From one address, from that which peers have, too, and from many.
        let to = hosts[0].address;
        let sources = (0..1000).map(|n| match n {
            0..300 => 1,
            300..600 => 60,
            _ => 61 + (n % 100) as u8,
        });
        let mut idle = Vec::new();
        for source in sources {
            idle.push(tcp(source, to).await);
            if idle.len() % 100 == 0 {
                hosts[0].during(Duration::from_millis(1)).await;
            }
        }
        // Bounded, at once.
        hosts[0].during(Duration::from_millis(200)).await;
        let open = idle.iter().filter(|stream| is_open(stream)).count();
        assert!((1..=192).contains(&open), "{open} are open");
        // One more peer comes while they are there.
        let third = address(59);
        let mut third = Host::start(3, third, tls(&[7]), &[to]);
        third.until_up(1).await;
        hosts[0].until_up(3).await;
        assert!(idle.iter().any(is_open), "they were there all the time");
        // Those that are left have an end, too.
        for stream in &mut idle {
            assert!(is_closed(stream).await);
        }
        log.says_once("too many connections have not proved who they are");
        log.says_once("refused address=127.0.0.60 ");
        let [first, second] = &mut hosts;
        first.says(2, &Message::Pull);
        assert!(matches!(second.hears().await.1, Message::Pull));
        assert!(first.changes.len() == 2 && second.changes.len() == 1, "nobody was lost");
    });
}

/// As far as this end knows.
fn is_open(stream: &TcpStream) -> bool {
    let would_block = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
    stream.try_read(&mut [0]).is_err_and(would_block)
}

#[test]
fn a_handshake_that_is_fed_byte_by_byte_has_an_end() {
    run(async {
        let log = Log::new();
        let timing = Timing { handshake: Duration::from_secs(2), ..timing() };
        let (a, b) = (address(161), address(162));
        let mut one = Host::start_as(1, 1, a, tls(&[7]), vec![], timing);
        // The beginning of a ClientHello that announces 512 bytes.
        let mut slow = tcp(163, a).await;
        let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0x11; 400]].concat();
        let feed = async {
            for byte in hello {
                if slow.write_all(&[byte]).await.is_err() || !is_open(&slow) {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            false
        };
        let mut two = Host::start(2, b, tls(&[7]), &[a]);
        let (ended, ()) = tokio::join!(feed, async {
            one.until_up(2).await;
            two.until_up(1).await;
        });
        assert!(ended, "it was waited for longer than 20 s");
        log.says_once("refused address=127.0.0.163 reason=\"it did not say who it is in time\"");
    });
}
