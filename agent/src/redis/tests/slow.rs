//! A Redis that answers, but late.

use testbed::fleet::relay::Relay;
use testbed::port;

use super::*;

/// As long as it may take to be with such a Redis: for its R, and every answer before.
const LONG: Duration = Duration::from_secs(12);

/// A way to it, and the settings for whoever is on it.
fn way(redis: &Redis, delay: Duration, settings: &Settings) -> (Relay, Settings) {
    let (relay, address) = (Relay::slow(delay), port::free().unwrap());
    relay.pass_here(address, redis.addr()).unwrap();
    (relay, Settings { at: RedisAt::Url(format!("redis://{address}")), ..settings.clone() })
}

fn times(host: &Host, which: impl Fn(&RedisNote) -> bool) -> usize {
    host.notes().iter().filter(|note| which(note)).count()
}

fn is_up(host: &Host) -> bool {
    host.address().is_some()
}

#[test]
fn two_seconds_there_and_back_are_with_redis() {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let settings = files.settings(&redis);
        let (_relay, late) = way(&redis, Duration::from_secs(1), &settings);
        let every = [&settings, &late, &late];
        let mut hosts = every.map(|settings| Host::rotating(LONG, settings));
        until(&mut hosts, "all to be with Redis", |hosts| hosts.iter().all(is_up)).await;
        let before = agreement(&mut hosts).await;
        until(&mut hosts, "a rotation", |hosts| {
            let names = hosts.iter().map(|host| host.encrypting().expect("something encrypts"));
            let lacks = |name: &KeyName| hosts.iter().any(|host| !host.has(*name));
            let lacking: Vec<_> = names.filter(lacks).collect();
            assert!(lacking.is_empty(), "{lacking:?} are not everywhere");
            agree(hosts) && hosts[0].turn() != Some(before)
        })
        .await;
        for host in &hosts {
            let alone = |note: &RedisNote| matches!(note, RedisNote::Alone(_));
            assert!(is_up(host) && times(host, alone) == 0, "{:#?}", host.notes());
        }
    });
}

#[test]
fn what_is_too_slow_to_begin_with_is_not_too_slow_to_go_on_with() {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let settings = files.settings(&redis);
        let (relay, late) = way(&redis, Duration::ZERO, &settings);
        let mut hosts = vec![Host::rotating(LONG, &late)];
        until(&mut hosts, "the first to be with Redis", |hosts| is_up(&hosts[0])).await;
        relay.delay(Duration::from_millis(3500));
        hosts.push(Host::rotating(LONG, &late));
        until(&mut hosts, "the second to be without", |hosts| hosts[1].trouble().is_some()).await;
        let why = hosts[1].trouble().unwrap();
        assert!(why.contains("no answer within 5 s"), "{why}");
        // Each stays what it is.
        let begun = Instant::now();
        until(&mut hosts, "some answers", |hosts| {
            assert!(is_up(&hosts[0]) && !is_up(&hosts[1]), "{:#?}", hosts[0].notes());
            begun.elapsed() > Duration::from_secs(8)
        })
        .await;
        relay.delay(Duration::ZERO);
        agreement(&mut hosts).await;
    });
}
