//! Somebody else writes under the ring's names: something of another type, something large, something
//! that looks like what agents write. Agents say so, do not write without pause, and go on.

use super::*;

/// More than is looked through.
const CROWD: &str = "
for i = 1, tonumber(ARGV[1]) do
  redis.call('ZADD', KEYS[1], '+inf', string.rep('x', tonumber(ARGV[2]) - 5) .. string.format('%05d', i))
end";

/// How long junk is there while writes are counted; `poll` is 0.4 s with this R.
const WHILE: Duration = Duration::from_secs(12);

fn named(what: &str) -> String {
    format!("tktrot:{{web}}:{what}")
}

fn problems(host: &Host) -> Vec<String> {
    let problems = host.redis.tell(&host.ring).problems;
    problems.into_iter().map(|problem| problem.what).collect()
}

fn is_told_of(host: &Host, name: &str) -> bool {
    problems(host).iter().any(|what| what.contains(name))
}

/// How many scripts were run.
fn scripts(redis: &Redis) -> u64 {
    let info = redis.ask(&["INFO", "commandstats"]).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_eval:calls="));
    line.and_then(|rest| rest.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
}

/// Puts junk under a name, as `put` does. The hosts find it, say where it is, and write no more than
/// they poll and look meanwhile; they agree on keys all the time, and after it is gone a newcomer has
/// what they have. Then nothing is said any more.
fn while_there_is(name: &str, put: impl Fn(&Redis, &str)) {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let settings = files.settings(&redis);
        let mut hosts = vec![Host::new(&settings), Host::new(&settings)];
        let first = agreement(&mut hosts).await;
        // So that there is something to tell.
        hosts[0].revoke(Some(vec![first]), Duration::ZERO);
        until(&mut hosts, "it to be told", |hosts| {
            !hosts.iter().any(|host| host.has(first)) && agree(hosts)
        })
        .await;
        let name = named(name);
        redis.ask(&["DEL", &name]).unwrap();
        put(&redis, &name);
        until(&mut hosts, "the junk to be found", |hosts| {
            hosts.iter().all(|host| is_told_of(host, &name))
        })
        .await;
        // What cannot be told by a record is told by the keys that are made after it.
        hosts[1].revoke(None, Duration::ZERO);
        until(&mut hosts, "a key after the revocation", |hosts| {
            agree(hosts) && hosts.iter().all(|host| host.redis.node.epoch() == 1)
        })
        .await;

        let (began, before) = (Instant::now(), scripts(&redis));
        let mut turns = Vec::new();
        until(&mut hosts, "rotations", |hosts| {
            turns.extend(hosts[0].turn().filter(|turn| !turns.contains(turn)));
            assert!(hosts.iter().all(|host| host.encrypting().is_some()));
            began.elapsed() > WHILE && turns.len() > 2 && agree(hosts)
        })
        .await;
        // Each host: a poll, at most a look and a write after each look, and what rotations need.
        let polls = began.elapsed().as_millis() as u64 / 400 + 1;
        let most = 2 * (2 * polls + 20);
        let run = scripts(&redis) - before;
        assert!(run <= most, "{run} scripts in {polls} polls of two hosts each");
        assert!(hosts.iter().all(|host| host.trouble().is_none()), "it is used all the time");
        let is_put_back = |note: &RedisNote| matches!(note, RedisNote::PutBack(_));
        let nothing_lost = |host: &Host| !host.notes().iter().any(is_put_back);
        assert!(hosts.iter().all(nothing_lost), "what is there under its name is not lost");

        redis.ask(&["DEL", &name]).unwrap();
        until(&mut hosts, "nothing to be said", |hosts| {
            hosts.iter().all(|host| problems(host).is_empty())
        })
        .await;
        hosts.push(Host::new(&settings));
        agreement(&mut hosts).await;
        let known = hosts[2].redis.node.epoch();
        assert_eq!((known, hosts[2].has(first)), (1, false), "nothing is forgotten");
    });
}

fn push(redis: &Redis, name: &str) {
    redis.ask(&["RPUSH", name, "rubbish"]).unwrap();
}

#[test]
fn the_list_of_revocations_has_another_type() {
    while_there_is("revoked", push);
}

#[test]
fn the_index_has_another_type() {
    while_there_is("keys", push);
}

#[test]
fn the_list_of_groups_has_another_type() {
    // An agent may write it anew at any moment.
    let list = "redis.call('DEL', KEYS[1]); redis.call('RPUSH', KEYS[1], 'rubbish')";
    while_there_is("groups", |redis, name| {
        redis.ask(&["EVAL", list, "1", name]).unwrap();
    });
}

/// Hosts that are said to be there, and are not.
#[test]
fn the_list_of_groups_is_full_of_what_is_none() {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let settings = files.settings(&redis);
        let name = named("groups");
        redis.ask(&["EVAL", CROWD, "1", &name, "17000", "100"]).unwrap();
        let mut hosts = vec![Host::new(&settings), Host::new(&settings)];
        agreement(&mut hosts).await;
        assert!(hosts.iter().all(|host| problems(host).is_empty()), "for ever is too long");
        // They are not read for longer than an agent would write them.
        let time = redis.ask(&["TIME"]).unwrap();
        let soon = time.lines().next().unwrap().parse::<u64>().unwrap() * 1000 + 590_000;
        for (number, text) in ["", "x", "0123456789abcdef 1 1"].iter().enumerate() {
            redis.ask(&["ZADD", &name, &(soon + number as u64).to_string(), text]).unwrap();
        }
        let before = agreement(&mut hosts).await;
        until(&mut hosts, "a rotation", |hosts| {
            assert!(hosts.iter().all(|host| problems(host).is_empty()));
            agree(hosts) && hosts[0].turn() != Some(before)
        })
        .await;
    });
}

/// More than any host reads, and all before what agents write.
#[test]
fn the_list_of_revocations_is_full_of_what_is_none() {
    for size in ["41", "100"] {
        while_there_is("revoked", |redis, name| {
            redis.ask(&["EVAL", CROWD, "1", name, "17000", size]).unwrap();
        });
    }
}

/// The mark is anybody's: it is written anew.
#[test]
fn the_mark_has_another_type_or_is_large() {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let settings = files.settings(&redis);
        let state = named("state");
        let large = "redis.call('SET', KEYS[1], string.rep('x', 8000000))";
        let list = "redis.call('DEL', KEYS[1]); redis.call('RPUSH', KEYS[1], 'rubbish')";
        // At the start, and in service.
        redis.ask(&["EVAL", large, "1", &state]).unwrap();
        let mut hosts = vec![Host::new(&settings), Host::new(&settings)];
        agreement(&mut hosts).await;
        for junk in [list, large, list] {
            redis.ask(&["EVAL", junk, "1", &state]).unwrap();
            let before = hosts[0].turn();
            let mut told = false;
            until(&mut hosts, "a rotation and a mark", |hosts| {
                told |= hosts.iter().any(|host| is_told_of(host, &state));
                agree(hosts) && hosts[0].turn() != before
            })
            .await;
            assert!(told && hosts.iter().all(|host| host.trouble().is_none()));
            let mark = redis.ask(&["GET", &state]).unwrap();
            assert!(mark.starts_with("2 ") && mark.len() < 64, "{mark}");
            until(&mut hosts, "nothing to be said", |hosts| {
                hosts.iter().all(|host| problems(host).is_empty())
            })
            .await;
        }
    });
}

/// Under the names of the next keys.
#[test]
fn keys_have_another_type_or_are_large() {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let settings = files.settings(&redis);
        let mut hosts = vec![Host::new(&settings), Host::new(&settings)];
        agreement(&mut hosts).await;
        let now: u64 = redis.ask(&["TIME"]).unwrap().lines().next().unwrap().parse().unwrap();
        // The first for which neither has stored a key, however long the question took.
        let period = now / R.as_secs() + 3;
        let large = "redis.call('SET', KEYS[1], string.rep('x', 8000000))";
        for (period, turn) in [(period, ""), (period + 1, ""), (period + 1, ":1")] {
            let name = named(&format!("key:{period}{turn}"));
            match turn {
                "" => redis.ask(&["EVAL", large, "1", &name]).unwrap(),
                _ => redis.ask(&["RPUSH", &name, "rubbish"]).unwrap(),
            };
        }
        let mut turns = Vec::new();
        let mut told = false;
        let before = scripts(&redis);
        let began = Instant::now();
        until(&mut hosts, "keys of further turns", |hosts| {
            told |= hosts.iter().all(|host| is_told_of(host, &named("key:")));
            let turn = hosts[0].redis.node.turn(hosts[0].ring.now()).map(|(turn, _)| turn);
            turns.extend(turn.filter(|turn| !turns.contains(turn)));
            let is_there = |period, number| {
                turns.iter().any(|turn| turn.period == period && turn.number == number)
            };
            agree(hosts) && is_there(period, 1) && is_there(period + 1, 2)
        })
        .await;
        assert!(told && hosts.iter().all(|host| host.trouble().is_none()));
        let polls = began.elapsed().as_millis() as u64 / 400 + 1;
        let run = scripts(&redis) - before;
        assert!(run <= 2 * (2 * polls + 20), "{run} scripts in {polls} polls of two hosts each");
        until(&mut hosts, "what is over to be forgotten", |hosts| {
            hosts.iter().all(|host| problems(host).is_empty())
        })
        .await;
    });
}

/// What is there is said to whoever revokes, who is told that Redis does not have it.
#[test]
fn who_revokes_is_told_why_redis_does_not_have_it() {
    run(async {
        let (files, redis) = (Files::new(), Redis::new().unwrap());
        let mut hosts = [Host::new(&files.settings(&redis))];
        let key = agreement(&mut hosts).await;
        push(&redis, &named("revoked"));
        let mut answered = hosts[0].revoke(Some(vec![key]), Duration::from_secs(3));
        let mut reply = None;
        until(&mut hosts, "an answer", |_| {
            reply = answered.try_recv().ok();
            reply.is_some()
        })
        .await;
        let Some(Reply::Answer(answer)) = reply else { panic!("{reply:?}") };
        let said = answer.to_string();
        assert!(said.contains("tktrot:{web}:revoked") && said.contains("DEL"), "{said}");
        assert!(!said.contains("has not answered"), "{said}");
    });
}
