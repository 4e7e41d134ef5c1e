//! Redis is gone, has lost everything, or another one has taken over.

use super::*;

/// Every host encrypts, at every look.
fn all_encrypt(hosts: &[Host]) {
    for (number, host) in hosts.iter().enumerate() {
        assert!(host.encrypting().is_some(), "host {number} has no key: {:#?}", host.notes());
    }
}

#[test]
fn without_redis_each_goes_on_alone_and_returns() {
    run(async {
        let (files, mut redis) = (Files::new(), Redis::new().unwrap());
        let settings = files.settings(&redis);
        let mut hosts = vec![Host::new(&settings), Host::new(&settings), Host::new(&settings)];
        let shared = agreement(&mut hosts).await;
        redis.kill().unwrap();
        // The present key and its successor last first; then each has one of its own.
        until(&mut hosts, "keys of the hosts' own", |hosts| {
            all_encrypt(hosts);
            hosts.iter().all(|host| host.turn().is_none())
        })
        .await;
        assert!(hosts.iter().all(|host| host.trouble().is_some()));
        assert!(matches!(hosts[0].rotate().try_recv(), Ok(Reply::Error(_))));
        let own = hosts[0].encrypting();
        until(&mut hosts, "a rotation alone", |hosts| {
            all_encrypt(hosts);
            hosts[0].encrypting() != own
        })
        .await;
        redis.start().unwrap();
        until(&mut hosts, "the fleet's key", |hosts| {
            all_encrypt(hosts);
            agree(hosts)
        })
        .await;
        assert_ne!(hosts[0].turn(), Some(shared));
    });
}

#[test]
fn what_a_flush_has_lost_is_put_back() {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let settings = files.settings(&redis);
        let mut hosts = vec![Host::new(&settings), Host::new(&settings)];
        agreement(&mut hosts).await;
        redis.ask(&["FLUSHALL"]).unwrap();
        let stored = || {
            let names = redis.ask(&["KEYS", "tktrot:{web}:key:*"]).unwrap();
            names.lines().count()
        };
        until(&mut hosts, "the keys to be back", |hosts| {
            all_encrypt(hosts);
            stored() >= 2
        })
        .await;
        // Nothing splits: at every look all have what any encrypts with, the newcomer, too.
        hosts.push(Host::new(&settings));
        until(&mut hosts, "the newcomer", |hosts| hosts[2].redis.is_synced()).await;
        let before = hosts[0].turn();
        until(&mut hosts, "the next rotation", |hosts| {
            let names: Vec<_> = hosts.iter().filter_map(Host::encrypting).collect();
            assert!(names.iter().all(|name| hosts.iter().all(|host| host.has(*name))));
            agree(hosts) && hosts[0].turn() != before
        })
        .await;
    });
}

#[test]
fn sentinel_names_the_one_that_takes_over() {
    run(async {
        let files = Files::new();
        let mut master = Redis::new().unwrap();
        let replica = Redis::builder().unwrap().replica_of(&master).start().unwrap();
        let sentinel = Redis::builder().unwrap().sentinel_of("keys", &master).start().unwrap();
        let at = RedisAt::Sentinels { urls: vec![sentinel.url()], master: "keys".into() };
        let settings = Settings { at, ..files.settings(&master) };
        let mut hosts = vec![Host::new(&settings), Host::new(&settings)];
        agreement(&mut hosts).await;
        assert_eq!(hosts[0].address(), Some(master.addr().to_string()));
        // Sentinel must know the replica before it can make it the master.
        until(&mut hosts, "Sentinel to know the replica", |_| {
            let replicas = sentinel.ask(&["SENTINEL", "REPLICAS", "keys"]).unwrap_or_default();
            replicas.contains(&replica.addr().port().to_string())
                && replica.ask(&["INFO", "replication"]).unwrap().contains("link_status:up")
        })
        .await;
        master.kill().unwrap();
        let there = replica.addr().to_string();
        until(&mut hosts, "the fail-over", |hosts| {
            all_encrypt(hosts);
            hosts.iter().all(|host| host.address().as_ref() == Some(&there))
        })
        .await;
        let before = agreement(&mut hosts).await;
        until(&mut hosts, "a rotation there", |hosts| {
            agree(hosts) && hosts[0].turn() != Some(before)
        })
        .await;
    });
}

/// It can be read, and is not up for a moment.
#[test]
fn a_redis_that_stores_nothing_is_one_state() {
    run(async {
        for (setting, yes, no, why) in [
            ("maxmemory", "1", "0", "maxmemory"),
            ("replicaof", "127.0.0.1 1", "no one", "read only"),
        ] {
            let (files, redis) = (Files::new(), Redis::new().unwrap());
            let settings = files.settings(&redis);
            let mut hosts = vec![Host::new(&settings), Host::new(&settings)];
            agreement(&mut hosts).await;
            let set = |value: &str| {
                let words: Vec<_> = value.split(' ').collect();
                let command = match setting {
                    "maxmemory" => [&["CONFIG", "SET", setting][..], &words].concat(),
                    _ => [&["REPLICAOF"][..], &words].concat(),
                };
                redis.ask(&command).unwrap();
            };
            set(yes);
            until(&mut hosts, "keys of the hosts' own", |hosts| {
                all_encrypt(hosts);
                hosts.iter().all(|host| host.turn().is_none())
            })
            .await;
            for host in &hosts {
                let trouble = host.trouble().unwrap();
                assert!(trouble.contains(why) && trouble.contains("stores nothing"), "{trouble}");
                let alone = |note: &&RedisNote| matches!(note, RedisNote::Alone(_));
                assert_eq!(host.notes().iter().filter(alone).count(), 1, "{:#?}", host.notes());
            }
            set(no);
            until(&mut hosts, "the fleet's key", |hosts| {
                all_encrypt(hosts);
                agree(hosts)
            })
            .await;
        }
    });
}
