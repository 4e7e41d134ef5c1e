//! Hosts that use the same names with another secret, or rotate otherwise.

use super::*;
use crate::problems::Kind;

fn problems(host: &Host) -> Vec<Kind> {
    let problems = host.redis.tell(&host.ring).problems;
    problems.into_iter().map(|problem| problem.problem).collect()
}

fn all_have(hosts: &[Host], kinds: &[Kind]) -> bool {
    hosts.iter().all(|host| problems(host) == kinds)
}

/// What is right again is told within this time.
const SOON: Duration = Duration::from_secs(9);

/// Whichever comes first, and however late the others.
#[test]
fn another_secret_is_a_problem_on_every_host_until_it_is_the_same() {
    run(async {
        for stranger in [0, 2] {
            let (files, redis) = (Files::new(), Redis::new().unwrap());
            let settings = files.settings(&redis);
            let other = files.write("other.secret", &FleetSecret::generate().unwrap());
            let strange = Settings { secrets: vec![other], ..settings.clone() };
            let mut hosts = Vec::new();
            for number in 0..3 {
                hosts.push(Host::new(if number == stranger { &strange } else { &settings }));
                until(&mut hosts, "a key", |hosts| hosts[number].turn().is_some()).await;
            }
            until(&mut hosts, "all to say it", |hosts| all_have(hosts, &[Kind::OtherSecret])).await;
            let strange_key = hosts[stranger].encrypting().unwrap();
            assert!((0..3).all(|number| hosts[number].has(strange_key) == (number == stranger)));
            // It is said all the time.
            let began = Instant::now();
            until(&mut hosts, "rotations", |hosts| {
                assert!(all_have(hosts, &[Kind::OtherSecret]));
                began.elapsed() > 3 * R
            })
            .await;

            hosts[stranger] = Host::new(&settings);
            let began = Instant::now();
            until(&mut hosts, "nothing to be said", |hosts| all_have(hosts, &[])).await;
            assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
            agreement(&mut hosts).await;
        }
    });
}

/// The one that differs is first, so that what it has is there when the others come.
#[test]
fn hosts_of_either_rotation_share_among_themselves_and_say_so() {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let settings = files.settings(&redis);
        let mut hosts = vec![Host::rotating(R / 2, &settings)];
        until(&mut hosts, "a key", |hosts| hosts[0].turn().is_some()).await;
        hosts.extend([(); 2].map(|()| Host::new(&settings)));
        until(&mut hosts, "all to say it", |hosts| {
            all_have(hosts, &[Kind::OtherRotate]) && agree(&hosts[1..])
        })
        .await;
        let (mut keys, mut strange) = (Vec::new(), Vec::new());
        until(&mut hosts, "rotations", |hosts| {
            assert!(all_have(hosts, &[Kind::OtherRotate]));
            let encrypting: Vec<_> = hosts.iter().map(|host| host.turn()).collect();
            let opens = |name: &KeyName| hosts.iter().all(|host| host.has(*name));
            assert!(encrypting.iter().all(|name| name.as_ref().is_some_and(opens)));
            strange.extend(encrypting[0].filter(|name| !strange.contains(name)));
            keys.extend(encrypting[1].filter(|name| !keys.contains(name)));
            keys.len() > 3 && strange.len() > 5 && agree(&hosts[1..])
        })
        .await;
        assert!(strange.iter().all(|name| !keys.contains(name)));

        // It is changed where it differs; the ring stays.
        let (place, _dir) = hosts.remove(0).die();
        hosts.push(Host::on(place, &settings));
        let began = Instant::now();
        until(&mut hosts, "nothing to be said", |hosts| all_have(hosts, &[])).await;
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        agreement(&mut hosts).await;
    });
}

#[test]
fn a_key_of_the_hosts_own_is_a_problem_while_it_encrypts() {
    run(async {
        let (files, mut redis) = (Files::new(), Redis::new().unwrap());
        let settings = files.settings(&redis);
        let mut hosts = vec![Host::new(&settings), Host::new(&settings)];
        agreement(&mut hosts).await;
        assert!(all_have(&hosts, &[]));
        let told = hosts[0].redis.tell(&hosts[0].ring);
        assert!(told.own_keys == 0 && told.other_keys == hosts[0].ring.keys());
        redis.kill().unwrap();
        until(&mut hosts, "keys of the hosts' own", |hosts| {
            hosts.iter().all(|host| host.turn().is_none())
        })
        .await;
        assert!(all_have(&hosts, &[Kind::OwnKey]));
        let told = hosts[0].redis.tell(&hosts[0].ring);
        assert!(told.own_keys > 0 && told.other_keys > 0);
        redis.start().unwrap();
        until(&mut hosts, "the fleet's key", |hosts| agree(hosts) && all_have(hosts, &[])).await;
    });
}
