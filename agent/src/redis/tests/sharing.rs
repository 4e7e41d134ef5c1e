//! What hosts of a fleet do while Redis is there.

use super::*;

/// What one encrypts with, all have, at every look, for so many rotations.
async fn rotations(hosts: &mut [Host], count: usize) {
    let mut used = Vec::new();
    until(hosts, "rotations", |hosts| {
        for host in hosts {
            let name = host.encrypting().expect("something encrypts");
            assert!(hosts.iter().all(|other| other.has(name)), "{name} is not everywhere");
            if !used.contains(&name) {
                used.push(name);
            }
        }
        used.len() > count
    })
    .await;
}

#[test]
fn three_hosts_agree_on_one_key_per_rotation() {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let settings = files.settings(&redis);
        let mut hosts = vec![Host::new(&settings), Host::new(&settings), Host::new(&settings)];
        until(&mut hosts, "every host to be ready", |hosts| {
            let ready =
                |host: &Host| host.redis.is_synced() && host.redis.has_active(host.ring.now());
            hosts.iter().all(ready)
        })
        .await;
        agreement(&mut hosts).await;
        rotations(&mut hosts, 2).await;

        // One that joins has all that the others have.
        hosts.push(Host::new(&settings));
        let joined = |hosts: &[Host]| hosts[3].redis.is_synced() && hosts[3].encrypting().is_some();
        until(&mut hosts, "the fourth host", joined).await;
        assert!(agree(&hosts) && hosts[3].has(hosts[0].turn().unwrap()));
        let own = |note: &RedisNote| matches!(note, RedisNote::OwnKey(_));
        assert!(!hosts[3].notes().iter().any(own), "it needed none of its own");

        // Nothing stays in Redis for good, and nothing is there in clear.
        let names = redis.ask(&["KEYS", "*"]).unwrap();
        assert!(
            names.contains("tktrot:{web}:key:") && names.contains("tktrot:{web}:keys"),
            "{names}"
        );
        for name in names.lines() {
            let left: i64 = redis.ask(&["PTTL", name]).unwrap().parse().unwrap();
            // Gone meanwhile is as well.
            assert!(left > 0 || left == -2, "{name}: {left}");
        }
    });
}

#[test]
fn a_rotation_by_hand_turns_the_fleet_to_one_new_key() {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let settings = files.settings(&redis);
        let mut hosts = vec![Host::new(&settings), Host::new(&settings), Host::new(&settings)];
        agreement(&mut hosts).await;
        let (first, second) = (0, 1);
        let mut answers = Vec::new();
        for asker in [first, second] {
            answers.push(hosts[asker].rotate());
        }
        let answer = |host: &Host| {
            host.notes().iter().find_map(|note| match note {
                RedisNote::Turns(name, _) => Some(*name),
                _ => None,
            })
        };
        let mut both = (None, None);
        until(&mut hosts, "both askers to be told", |hosts| {
            both = (answer(&hosts[first]), answer(&hosts[second]));
            both.0.is_some() && both.1.is_some()
        })
        .await;
        assert_eq!(both.0, both.1, "two who ask at once agree");
        let new = both.0.unwrap();
        until(&mut hosts, "the fleet to turn", |hosts| {
            hosts.iter().all(|host| host.turn() == Some(new))
        })
        .await;
        rotations(&mut hosts, 2).await;
    });
}

#[test]
fn a_revocation_reaches_all_and_one_that_was_away_before_it_is_ready() {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let settings = files.settings(&redis);
        let mut hosts = vec![Host::new(&settings), Host::new(&settings), Host::new(&settings)];
        let revoked = agreement(&mut hosts).await;
        let away = hosts.pop().unwrap();
        assert!(away.has(revoked));
        let (place, _dir) = away.die();

        hosts[0].revoke(None, Duration::ZERO);
        assert!(!hosts[0].has(revoked) && hosts[0].encrypting().is_some(), "here at once");
        until(&mut hosts, "the other host to heed it", |hosts| !hosts[1].has(revoked)).await;
        assert!(hosts[1].encrypting().is_some());

        hosts.push(Host::on(place, &settings));
        until(&mut hosts, "the one that was away", |hosts| hosts[2].redis.is_synced()).await;
        assert!(!hosts[2].has(revoked) && hosts[2].encrypting().is_some());
        let new = agreement(&mut hosts).await;
        assert_ne!(new, revoked);

        // One key by its name; and Redis may forget everything.
        hosts[1].revoke(Some(vec![new]), Duration::ZERO);
        until(&mut hosts, "all to heed it", |hosts| !hosts.iter().any(|host| host.has(new))).await;
        redis.ask(&["FLUSHALL"]).unwrap();
        rotations_without(&mut hosts, &[revoked, new]).await;
        assert!(!redis.ask(&["ZCARD", "tktrot:{web}:revoked"]).unwrap().starts_with('0'));
    });
}

/// A rotation long, none of these keys comes back.
async fn rotations_without(hosts: &mut [Host], revoked: &[KeyName]) {
    let before = agreement(hosts).await;
    until(hosts, "a rotation", |hosts| {
        let back = |name: &KeyName| hosts.iter().any(|host| host.has(*name));
        assert!(!revoked.iter().any(back));
        agree(hosts) && hosts[0].turn() != Some(before)
    })
    .await;
}
