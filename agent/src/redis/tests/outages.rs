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

/// Dead, full or read-only: all have the keys that each goes on with.
#[test]
fn twenty_five_seconds_without_redis_cost_nothing_where_keys_last_five() {
    run(async {
        let files = Files::new();
        let mut stores = [(); 3].map(|()| Redis::new().unwrap());
        let mut hosts = Vec::new();
        for redis in &stores {
            let settings = Settings { ahead: Ahead::default(), ..files.settings(redis) };
            hosts.extend([(); 2].map(|()| Host::rotating(Duration::from_secs(5), &settings)));
        }
        let open_all = |hosts: &[Host]| {
            hosts.chunks(2).all(|two| {
                let used = two.iter().map(|host| host.encrypting().expect("something encrypts"));
                used.into_iter().all(|name| two.iter().all(|host| host.has(name)))
            })
        };
        until(&mut hosts, "keys for half a minute", |hosts| {
            hosts.chunks(2).all(agree) && hosts.iter().all(|host| host.view.keys().len() > 8)
        })
        .await;
        stores[0].kill().unwrap();
        stores[1].ask(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
        stores[2].ask(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
        let away = Instant::now();
        while away.elapsed() < Duration::from_secs(25) {
            until(&mut hosts, "a moment", |hosts| {
                assert!(open_all(hosts), "{:#?}", hosts[0].notes());
                true
            })
            .await;
            sleep(Duration::from_millis(20)).await;
        }
        assert!(hosts.iter().all(|host| host.trouble().is_some()));
        stores[0].start().unwrap();
        stores[1].ask(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
        stores[2].ask(&["REPLICAOF", "no", "one"]).unwrap();
        until(&mut hosts, "Redis to be back", |hosts| {
            assert!(open_all(hosts), "{:#?}", hosts[0].notes());
            hosts.iter().all(|host| host.address().is_some() && host.redis.is_synced())
        })
        .await;
        let alone = |note: &&RedisNote| matches!(note, RedisNote::Alone(_));
        for host in &hosts {
            assert_eq!(host.notes().iter().filter(alone).count(), 1, "{:#?}", host.notes());
        }
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
