//! What is said of a revocation: that Redis has it when it has, and why not when it has not.

use std::process::Command;

use tktrot_fleet::redis::stored::Revoked as What;

use super::*;
use crate::control::{Reach, Revoked};

/// Long enough for a Redis that answers.
const LONG: Duration = PATIENCE;
/// Long enough to see that the answer is waited for.
const SHORT: Duration = Duration::from_secs(1);

/// Revokes on the only host, and returns how many keys ended and why Redis may not have it.
async fn revoke(
    hosts: &mut [Host; 1],
    names: Option<Vec<KeyName>>,
    wait: Duration,
) -> (usize, Option<String>) {
    let mut answered = hosts[0].revoke(names, wait);
    let mut reply = answered.try_recv().ok();
    if reply.is_none() {
        until(hosts, "an answer", |_| {
            reply = answered.try_recv().ok();
            reply.is_some()
        })
        .await;
    }
    let Some(Reply::Answer(answer)) = reply else { panic!("{reply:?}") };
    let Revoked { keys, reach: Reach::Redis { address, missing } } =
        serde_json::from_value(answer).unwrap()
    else {
        panic!("it has no peers")
    };
    assert!(address.is_some() || missing.is_some(), "nobody can have it");
    (keys, missing)
}

fn records(redis: &Redis) -> usize {
    redis.ask(&["ZCARD", "tktrot:{web}:revoked"]).unwrap().parse().unwrap()
}

#[test]
fn it_is_there_when_it_is_said_to_be() {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let mut hosts = [Host::new(&files.settings(&redis))];
        let key = agreement(&mut hosts).await;
        for keys in [1, 0] {
            assert_eq!(revoke(&mut hosts, Some(vec![key]), LONG).await, (keys, None));
            assert_eq!(records(&redis), 1);
            redis.ask(&["FLUSHALL"]).unwrap();
        }
        agreement(&mut hosts).await;
        let (keys, missing) = revoke(&mut hosts, None, LONG).await;
        assert!(keys > 0 && missing.is_none(), "{keys} {missing:?}");
        let before = records(&redis);
        assert!(before >= 3, "the key before, one of now, and the epoch");
        assert_eq!(revoke(&mut hosts, None, LONG).await.1, None);
        assert!(records(&redis) > before, "and the next epoch");
    });
}

/// Redis is in this state when a revocation is asked for, and later it is not.
fn while_redis(fails: impl Fn(&Redis), is_well: impl Fn(&Redis), reason: &str) {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let mut hosts = [Host::new(&files.settings(&redis))];
        let key = agreement(&mut hosts).await;
        assert_eq!(revoke(&mut hosts, Some(vec![key]), LONG).await, (1, None));
        until(&mut hosts, "another key", |hosts| hosts[0].turn().is_some()).await;

        fails(&redis);
        // Its record is there, whether Redis can be asked now or not.
        let (keys, _) = revoke(&mut hosts, Some(vec![key]), SHORT).await;
        assert_eq!(keys, 0, "it ended before");
        let key = hosts[0].encrypting().unwrap();
        let (keys, missing) = revoke(&mut hosts, None, SHORT).await;
        assert!(keys > 0 && missing.is_some(), "{keys} {missing:?}");
        assert!(!hosts[0].has(key), "here at once");
        until(&mut hosts, "trouble", |hosts| hosts[0].trouble().is_some()).await;
        let (_, missing) = revoke(&mut hosts, Some(vec![key]), Duration::ZERO).await;
        let missing = missing.expect("a reason");
        assert!(missing.contains(reason), "{missing}");

        is_well(&redis);
        until(&mut hosts, "Redis to be told", |hosts| {
            let node = &hosts[0].redis.node;
            node.is_told(&What::All(node.epoch())) && node.is_told(&What::Key(key))
        })
        .await;
        assert!(records(&redis) >= 3, "both keys, and the epoch");
        assert_eq!(revoke(&mut hosts, Some(vec![key]), LONG).await, (0, None));
    });
}

fn ask(command: &'static [&str]) -> impl Fn(&Redis) {
    |redis| _ = redis.ask(command).unwrap()
}

#[test]
fn it_is_not_there_while_memory_is_full() {
    let begin = ask(&["CONFIG", "SET", "maxmemory", "1"]);
    while_redis(begin, ask(&["CONFIG", "SET", "maxmemory", "0"]), "maxmemory");
}

#[test]
fn it_is_not_there_while_redis_is_a_replica() {
    let [begin, end] = [ask(&["REPLICAOF", "127.0.0.1", "1"]), ask(&["REPLICAOF", "NO", "ONE"])];
    while_redis(begin, end, "read only");
}

#[test]
fn it_is_not_there_while_writes_are_paused() {
    let begin = ask(&["CLIENT", "PAUSE", "600000", "WRITE"]);
    while_redis(begin, ask(&["CLIENT", "UNPAUSE"]), "timed out");
}

#[test]
fn it_is_not_there_while_redis_stands_still() {
    let pid = std::cell::OnceCell::new();
    let signal = |redis: &Redis, signal: &str| {
        let pid = pid.get_or_init(|| {
            let info = redis.ask(&["INFO", "server"]).unwrap();
            let line = info.lines().find_map(|line| line.trim().strip_prefix("process_id:"));
            line.expect("its process").to_owned()
        });
        assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
    };
    while_redis(|redis| signal(redis, "-STOP"), |redis| signal(redis, "-CONT"), "timed out");
}
