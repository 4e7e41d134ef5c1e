//! What is not used, and what is said about it.

use testbed::{certificate, port};
use tktrot_fleet::redis::stored::Flaw;

use super::*;

/// A host that is told to use this, until it is in trouble; which.
async fn trouble(settings: &Settings) -> String {
    let mut hosts = [Host::new(settings)];
    until(&mut hosts, "trouble and a key of its own", |hosts| {
        hosts[0].trouble().is_some() && hosts[0].encrypting().is_some()
    })
    .await;
    assert!(hosts[0].address().is_none() && hosts[0].turn().is_none());
    hosts[0].trouble().unwrap()
}

#[test]
fn a_redis_that_writes_every_change_to_disk_is_refused_unless_allowed() {
    run(async {
        let files = Files::new();
        let redis = Redis::new().unwrap();
        redis.ask(&["CONFIG", "SET", "appendonly", "yes"]).unwrap();
        let settings = files.settings(&redis);
        let why = trouble(&settings).await;
        assert!(why.contains("appendonly yes") && why.contains("allow_persistence"), "{why}");
        assert_eq!(redis.ask(&["KEYS", "*"]).unwrap(), "", "nothing was stored");

        let settings = Settings { allow_persistence: true, ..settings };
        agreement(&mut [Host::new(&settings), Host::new(&settings)]).await;
    });
}

#[test]
fn a_user_who_may_do_only_what_is_needed_suffices() {
    run(async {
        let files = Files::new();
        let redis = Redis::builder()
            .unwrap()
            .line(
                "user web on >letmein resetchannels ~tktrot:* &tktrot:* -@all +eval +time +get \
                 +set +del +pttl +pexpire +zadd +zrem +zremrangebyscore +zrevrangebyscore \
                 +publish +subscribe",
            )
            .start()
            .unwrap();
        let settings = Settings {
            at: RedisAt::Url(redis.url().replace("redis://", "redis://web@")),
            password_file: Some(files.write("password", "letmein\n")),
            ..files.settings(&redis)
        };
        agreement(&mut [Host::new(&settings), Host::new(&settings)]).await;
    });
}

#[test]
fn a_host_with_another_secret_says_so_once_and_disturbs_nobody() {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let settings = files.settings(&redis);
        let other = files.write("other.secret", &FleetSecret::generate().unwrap());
        let stranger = Settings { secrets: vec![other.clone()], ..settings.clone() };
        let mut hosts = vec![Host::new(&settings), Host::new(&settings)];
        agreement(&mut hosts).await;
        hosts.push(Host::new(&stranger));
        let flaws = |host: &Host| {
            let flaw = |note: &&RedisNote| matches!(note, RedisNote::Flawed(_, Flaw::Secret(_)));
            host.notes().iter().filter(flaw).count()
        };
        let mut turns = Vec::new();
        until(&mut hosts, "rotations of the others", |hosts| {
            turns.extend(hosts[0].turn().filter(|turn| !turns.contains(turn)));
            let strange = hosts[2].encrypting();
            assert!(hosts[..2].iter().all(|host| strange.is_none_or(|name| !host.has(name))));
            turns.len() == 3 && agree(&hosts[..2]) && strange.is_some()
        })
        .await;
        assert!(flaws(&hosts[2]) == 1 && flaws(&hosts[0]) <= 1);
        let own = |note: &&RedisNote| matches!(note, RedisNote::OwnKey(_));
        let needed = hosts[0].notes().iter().filter(own).count();

        // With both secrets, whichever comes first, it belongs to them.
        let both = vec![other, files.path("fleet.secret")];
        hosts[2] = Host::new(&Settings { secrets: both, ..settings });
        agreement(&mut hosts[..]).await;
        assert_eq!(hosts[0].notes().iter().filter(own).count(), needed, "it was never alone");
    });
}

#[test]
fn tls_and_a_password_are_used_and_needed() {
    run(async {
        let files = Files::new();
        let certificate = certificate::create(files.dir.path()).unwrap();
        let redis =
            Redis::builder().unwrap().tls(&certificate).password("letmein").start().unwrap();
        let settings = Settings {
            ca: Some(certificate.cert.clone()),
            password_file: Some(files.write("password", "letmein\n")),
            ..files.settings(&redis)
        };
        agreement(&mut [Host::new(&settings), Host::new(&settings)]).await;

        let why = trouble(&Settings { ca: None, ..settings.clone() }).await;
        assert!(why.contains("certificate"), "{why}");
        let wrong = Some(files.write("wrong", "letmeout\n"));
        let why = trouble(&Settings { password_file: wrong, ..settings.clone() }).await;
        assert!(why.contains("WRONGPASS") || why.contains("assword"), "{why}");
        assert!(!why.contains("letmeout"), "the password is told to nobody");
    });
}

#[test]
fn one_that_accepts_and_does_not_answer_holds_up_nothing() {
    run(async {
        let files = Files::new();
        let redis = Redis::new().unwrap();
        let address = port::free().unwrap();
        let _silent = std::net::TcpListener::bind(address).unwrap();
        let at = RedisAt::Url(format!("redis://{address}"));
        let why = trouble(&Settings { at, ..files.settings(&redis) }).await;
        assert!(!why.is_empty());
    });
}

/// A Redis without TLS waits for the rest of what it takes for a command. With several addresses, each of
/// them has its time.
#[test]
fn silence_is_told_once_there_was_time_to_answer() {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let url = redis.url().replace("redis://", "rediss://");
        for (at, what, within) in [
            (RedisAt::Url(url.clone()), "timed out", 15),
            (RedisAt::Cluster(vec![url; 3]), "not answered within 20 s", 25),
        ] {
            let began = Instant::now();
            let why = trouble(&Settings { at, ..files.settings(&redis) }).await;
            assert!(why.contains(what), "{why}");
            assert!(began.elapsed() < Duration::from_secs(within), "{:?}", began.elapsed());
        }
    });
}

#[test]
fn what_an_error_says_is_said_once() {
    run(async {
        let (files, mut redis) = (Files::new(), Redis::new().unwrap());
        let settings = files.settings(&redis);
        redis.kill().unwrap();
        let why = trouble(&settings).await;
        assert_eq!(why.matches("refused").count(), 1, "{why}");
    });
}

#[test]
fn what_is_no_wrapped_key_is_told_and_another_turn_is_taken() {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let settings = files.settings(&redis);
        let mut hosts = vec![Host::new(&settings), Host::new(&settings)];
        agreement(&mut hosts).await;
        // The next periods' turns are taken by something else.
        let now: u64 = redis.ask(&["TIME"]).unwrap().lines().next().unwrap().parse().unwrap();
        let period = now / R.as_secs();
        for period in period + 2..period + 4 {
            redis.ask(&["SET", &format!("tktrot:{{web}}:key:{period}"), "rubbish"]).unwrap();
        }
        let flawed = |host: &Host| {
            host.notes().iter().any(|note| matches!(note, RedisNote::Flawed(_, Flaw::NoKey)))
        };
        until(&mut hosts, "the rubbish to be found", |hosts| hosts.iter().all(flawed)).await;
        let later = |host: &Host| {
            let turn = host.redis.node.turn(host.ring.now()).map(|(turn, _)| turn);
            turn.is_some_and(|turn| turn.number == 1)
        };
        until(&mut hosts, "the second turn", |hosts| agree(hosts) && later(&hosts[0])).await;
    });
}
