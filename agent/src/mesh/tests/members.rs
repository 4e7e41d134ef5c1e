//! Members of the fleet that do not behave: what they say is bounded, and the others do not notice.

use std::net::SocketAddr;
use std::time::Duration;

use testbed::wait::PATIENCE;
use tktrot::clock::Time;
use tktrot::secret::KeySecrets;
use tktrot_fleet::message::{Message, NodeId};
use tktrot_fleet::wire::{self, Hello, MAJOR};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::state::Timing;
use super::host::{Host, address, key, run, timing, tls};
use super::log::Log;
use super::stranger::{greeted_member, is_closed_at_last, member};

/// A node, and a peer that talks to it all the time.
struct Bench {
    log: Log,
    host: Host,
    honest: JoinHandle<Host>,
}

impl Bench {
    async fn new(number: u8) -> Bench {
        Bench::with(number, timing()).await
    }

    async fn with(number: u8, timing: Timing) -> Bench {
        let log = Log::new();
        let (a, b) = (address(number), address(number + 1));
        let mut host = Host::start_as(1, 1, a, tls(&[7]), vec![], timing);
        let mut honest = Host::start(2, b, tls(&[7]), &[a]);
        host.until_up(2).await;
        honest.until_up(1).await;
        let honest = tokio::task::spawn_local(async move {
            loop {
                honest.during(Duration::from_millis(50)).await;
                honest.says(1, &Message::Keys(vec![]));
                assert_eq!(honest.changes.len(), 1, "{:?}", honest.changes);
            }
        });
        Bench { log, host, honest }
    }

    fn address(&self) -> SocketAddr {
        self.host.address
    }

    /// The peer has noticed nothing: it is up, as ever, and heard.
    async fn sees_nothing_else(mut self) {
        let honest = NodeId(2);
        self.host.heard.clear();
        let is_heard = |host: &Host| host.heard.iter().any(|(from, ..)| *from == honest);
        self.host.until("the honest peer is heard", is_heard).await;
        let changes = self.host.changes.iter().filter(|(node, _)| *node == honest).count();
        assert_eq!(changes, 1, "{:?}", self.host.changes);
        assert!(!self.honest.is_finished(), "the honest peer lost its connection");
    }

    /// A member says this after its greeting; its connection ends, for this reason, told once.
    async fn refuses(&mut self, from: u8, said: &[u8], reason: &str) {
        for _ in 0..3 {
            let mut stream = greeted_member(from, self.address()).await;
            self.host.until_up(from).await;
            stream.write_all(said).await.unwrap();
            assert!(is_closed_at_last(&mut stream).await);
            let down = self.host.until_down(from).await;
            assert!(down.contains(reason), "{down}");
        }
        let refused = self.log.lines(&format!("refused address=127.0.0.{from} "));
        assert!(refused.len() == 1 && refused[0].contains(reason), "{refused:?}");
    }
}

/// A frame of this type.
fn frame(major: u8, kind: u16, body: &[u8]) -> Vec<u8> {
    let length = 11 + body.len() as u32;
    let kind = kind.to_be_bytes();
    [&length.to_be_bytes()[..], &[major], &kind, &1_u64.to_be_bytes(), body].concat()
}

fn bytes(message: &Message<Box<KeySecrets>>) -> Vec<u8> {
    let frames = wire::message(message, Time(1));
    frames.iter().flat_map(|frame| frame.iter().copied()).collect()
}

#[test]
fn what_is_no_message_ends_the_connection() {
    run(async {
        let mut bench = Bench::new(171).await;
        bench.refuses(173, &(1024 * 1024 + 1_u32).to_be_bytes(), "too long").await;
        bench.refuses(174, &[0xff; 64], "too long").await;
        bench.refuses(175, &[0; 64], "too short").await;
        bench.refuses(176, &frame(MAJOR, 16, &[0xff; 9]), "malformed message of type 16").await;
        bench.refuses(177, &frame(2, 16, &[]), "speaks version 2 of the protocol").await;
        let hello = Hello { node: NodeId(9), instance: 9, ring: "ring-of-the-test".into() };
        bench.refuses(178, &wire::hello(&hello, Time(1)), "says twice who it is").await;
        bench.sees_nothing_else().await;
    });
}

#[test]
fn messages_of_a_later_version_are_skipped() {
    run(async {
        let mut bench = Bench::new(179).await;
        let mut stream = greeted_member(181, bench.address()).await;
        bench.host.until_up(181).await;
        for _ in 0..3 {
            stream.write_all(&frame(MAJOR, 999, b"who knows")).await.unwrap();
        }
        stream.write_all(&bytes(&Message::Pull)).await.unwrap();
        let is_pull = |host: &Host| {
            host.heard
                .iter()
                .any(|(from, message, _)| *from == NodeId(181) && matches!(message, Message::Pull))
        };
        bench.host.until("the message after it is heard", is_pull).await;
        assert!(bench.host.up.contains(&NodeId(181)));
        bench.log.says_once("skipped a message of type 999");
        bench.sees_nothing_else().await;
    });
}

#[test]
fn a_part_of_a_message_is_none() {
    run(async {
        let mut bench = Bench::new(182).await;
        let whole = bytes(&Message::Keys(vec![key(1)]));
        for end in [1, 4, 5, 20, whole.len() - 1] {
            let mut stream = greeted_member(184, bench.address()).await;
            bench.host.until_up(184).await;
            stream.write_all(&whole[..end]).await.unwrap();
            stream.shutdown().await.unwrap();
            bench.host.until_down(184).await;
        }
        assert!(!bench.host.heard.iter().any(|(from, ..)| *from == NodeId(184)));
        bench.sees_nothing_else().await;
    });
}

#[test]
fn a_message_byte_by_byte_has_an_end() {
    run(async {
        let timing = Timing { message: Duration::from_secs(1), ..timing() };
        let mut bench = Bench::with(185, timing).await;
        let mut stream = greeted_member(187, bench.address()).await;
        bench.host.until_up(187).await;
        let whole = bytes(&Message::Keys(vec![key(1)]));
        let feed = async {
            for byte in whole {
                if stream.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let (_, down) = tokio::join!(timeout(PATIENCE, feed), bench.host.until_down(187));
        assert_eq!(down, "it takes too long over a message");
        bench.log.says_once("refused address=127.0.0.187 ");
        bench.sees_nothing_else().await;
    });
}

#[test]
fn who_says_nothing_is_gone() {
    run(async {
        let timing = Timing { silence: Duration::from_secs(2), ..timing() };
        let mut bench = Bench::with(188, timing).await;
        // Before it said who it is, and after.
        let mut silent = member(190, bench.address()).await;
        let mut greeted = greeted_member(191, bench.address()).await;
        bench.host.until_up(191).await;
        assert_eq!(bench.host.until_down(191).await, "silent for 2 s");
        assert!(is_closed_at_last(&mut silent).await && is_closed_at_last(&mut greeted).await);
        bench.log.says_once("refused address=127.0.0.190 reason=\"silent for 2 s\"");
        bench.sees_nothing_else().await;
    });
}

#[test]
fn who_does_not_read_is_not_waited_for() {
    run(async {
        let mut bench = Bench::new(192).await;
        let mut stream = greeted_member(194, bench.address()).await;
        bench.host.until_up(194).await;
        // It gives signs of life all the time.
        let alive = tokio::task::spawn_local(async move {
            while stream.write_all(&wire::ping(1, Time(1))).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let keys = Message::Held { keys: (0..5000).map(key).collect(), last: false };
        for _ in 0..1000 {
            bench.host.says(194, &keys);
            bench.host.during(Duration::from_millis(1)).await;
            if !bench.host.up.contains(&NodeId(194)) {
                break;
            }
        }
        assert_eq!(bench.host.until_down(194).await, "it does not read what it is sent");
        assert!(timeout(PATIENCE, alive).await.is_ok(), "its connection is closed");
        bench.sees_nothing_else().await;
    });
}

#[test]
fn a_flood_of_messages_waits_where_it_comes_from() {
    run(async {
        let mut bench = Bench::new(195).await;
        let stream = greeted_member(197, bench.address()).await;
        bench.host.until_up(197).await;
        // 40 MB, and the agent looks at none of it.
        let flood = bytes(&Message::Held { keys: (0..5000).map(key).collect(), last: false });
        let (mut reader, mut writer) = tokio::io::split(stream);
        let reading = tokio::task::spawn_local(async move {
            let mut sink = [0; 4096];
            while matches!(reader.read(&mut sink).await, Ok(1..)) {}
        });
        let mut taken = 0;
        let patience = Duration::from_secs(2);
        while taken < 64 && timeout(patience, writer.write_all(&flood)).await.is_ok() {
            taken += 1;
        }
        assert!(taken < 64, "{taken} messages of {} bytes were taken in", flood.len());
        bench.sees_nothing_else().await;
        drop((reading, writer));
    });
}

#[test]
fn another_ring_is_not_ours() {
    run(async {
        let mut bench = Bench::new(198).await;
        let mut stream = member(200, bench.address()).await;
        let hello = Hello { node: NodeId(200), instance: 1, ring: "another".into() };
        stream.write_all(&wire::hello(&hello, Time(1))).await.unwrap();
        assert!(is_closed_at_last(&mut stream).await);
        bench.host.during(Duration::from_millis(50)).await;
        assert_eq!(bench.host.changes.len(), 1);
        bench.log.says_once("all rings of a mesh must have the same name");
        bench.sees_nothing_else().await;
    });
}
