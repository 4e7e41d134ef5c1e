//! Somebody who may write to Redis, without the fleet secret, puts back what was there before.

use super::*;

/// Copies the fleet's keys to where they are not deleted, with their index and the mark.
const RECORD: &str = "
for _, name in ipairs(redis.call('KEYS', 'tktrot:{web}:*')) do
  if name ~= 'tktrot:{web}:revoked' then
    redis.call('COPY', name, name, 'DB', 1, 'REPLACE')
    redis.call('SELECT', 1)
    redis.call('PERSIST', name)
    redis.call('SELECT', 0)
  end
end";

/// Empties Redis, and puts back what was recorded, as if it did not end for an hour.
const REPLAY: &str = "
local later = redis.call('TIME')[1] * 1000 + 3600000
redis.call('FLUSHDB')
redis.call('SELECT', 1)
local names = redis.call('KEYS', 'tktrot:{web}:*')
for _, name in ipairs(names) do redis.call('COPY', name, name, 'DB', 0, 'REPLACE') end
redis.call('SELECT', 0)
for _, slot in ipairs(redis.call('ZRANGE', 'tktrot:{web}:keys', 0, -1)) do
  redis.call('ZADD', 'tktrot:{web}:keys', later, slot)
end
redis.call('PUBLISH', 'tktrot:{web}', 'changed')
return #names";

fn replay(redis: &Redis) {
    let names: usize = redis.ask(&["EVAL", REPLAY, "0"]).unwrap().parse().unwrap();
    assert!(names >= 3, "keys, index and mark: {names}");
}

/// Until the hosts agree on a new key: none of these comes back meanwhile.
async fn stay_dead(hosts: &mut [Host], revoked: &[KeyName]) {
    until(hosts, "a key of the fleet", |hosts| {
        let back = |name: &KeyName| hosts.iter().any(|host| host.has(*name));
        assert!(!revoked.iter().any(back), "a revoked key is back");
        agree(hosts)
    })
    .await;
}

#[test]
fn revoked_keys_stay_dead_when_agents_start_anew_and_old_values_are_put_back() {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let settings = files.settings(&redis);
        let mut hosts = vec![Host::new(&settings), Host::new(&settings)];
        let one = agreement(&mut hosts).await;
        redis.ask(&["EVAL", RECORD, "0"]).unwrap();
        hosts[0].revoke(Some(vec![one]), Duration::ZERO);
        until(&mut hosts, "both to heed it", |hosts| !hosts.iter().any(|host| host.has(one))).await;

        for all in [false, true] {
            let mut revoked = vec![one];
            if all {
                agreement(&mut hosts).await;
                redis.ask(&["EVAL", RECORD, "0"]).unwrap();
                let names = |host: &Host| host.view.keys().iter().map(|key| key.name).collect();
                revoked.append(&mut names(&hosts[0]));
                hosts[1].revoke(None, Duration::ZERO);
                let gone = |host: &Host| !revoked.iter().any(|name| host.has(*name));
                until(&mut hosts, "both to heed it", |hosts| hosts.iter().all(gone)).await;
            }
            let places: Vec<_> = hosts.drain(..).map(Host::die).collect();
            replay(&redis);
            let (places, dirs): (Vec<_>, Vec<_>) = places.into_iter().unzip();
            hosts.extend(places.into_iter().map(|place| Host::on(place, &settings)));
            hosts.iter_mut().zip(dirs).for_each(|(host, dir)| host._dir = dir);
            stay_dead(&mut hosts, &revoked).await;
            // Nor while they run.
            replay(&redis);
            let present = hosts[0].turn();
            until(&mut hosts, "a rotation", |hosts| {
                assert!(!revoked.iter().any(|name| hosts.iter().any(|host| host.has(*name))));
                agree(hosts) && hosts[0].turn() != present
            })
            .await;
        }
        let records = redis.ask(&["ZCARD", "tktrot:{web}:revoked"]).unwrap();
        assert!(records.trim().parse::<u32>().unwrap() > 1, "the fleet knows it again: {records}");
    });
}

/// As `tktrot revoke` does it, without `--fleet`.
#[test]
fn what_is_revoked_in_the_ring_of_one_host_is_gone_on_all() {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let settings = files.settings(&redis);
        let mut hosts = vec![Host::new(&settings), Host::new(&settings)];
        let revoked = agreement(&mut hosts).await;
        let ring = hosts[0].place.open(Capacity::new(64).unwrap()).unwrap();
        Keyring::new(ring, BootClock, &OpenSsl).revoke_those(|name| *name == revoked).unwrap();
        assert!(!hosts[0].has(revoked) && hosts[1].has(revoked));
        until(&mut hosts, "the other host to heed it", |hosts| !hosts[1].has(revoked)).await;
        stay_dead(&mut hosts, &[revoked]).await;
    });
}
