//! A Redis Cluster: its keys have one master, which changes.

use super::*;

/// One of all that the ring has there.
const KEY: &str = "tktrot:{web}:state";

fn urls(cluster: &Cluster) -> RedisAt {
    RedisAt::Cluster(cluster.nodes.iter().map(Redis::url).collect())
}

fn address(cluster: &Cluster, node: usize) -> Option<String> {
    Some(cluster.nodes[node].addr().to_string())
}

/// How often a host went on without Redis.
fn times_alone(host: &Host) -> usize {
    host.notes().iter().filter(|note| matches!(note, RedisNote::Alone(_))).count()
}

/// Another key of the fleet than now; meanwhile all encrypt, with what all have.
async fn rotation(hosts: &mut [Host]) {
    let before = agreement(hosts).await;
    until(hosts, "a rotation", |hosts| {
        let names = hosts.iter().map(|host| host.encrypting().expect("something encrypts"));
        let lacks = |name: &KeyName| hosts.iter().any(|host| !host.has(*name));
        let lacking: Vec<_> = names.filter(lacks).collect();
        let notes: Vec<_> = hosts.iter().map(Host::notes).collect();
        assert!(lacking.is_empty(), "{lacking:?} are not everywhere: {notes:#?}");
        agree(hosts) && hosts[0].turn() != Some(before)
    })
    .await;
}

#[test]
fn any_node_leads_to_the_one_that_has_the_keys() {
    run(async {
        let (files, cluster) = (Files::new(), Cluster::new(3).unwrap());
        let settings = files.settings(&cluster.nodes[0]);
        let at = |node: &Redis| RedisAt::Url(node.url());
        let each = cluster.nodes.iter().map(|node| Settings { at: at(node), ..settings.clone() });
        let mut hosts: Vec<_> = each.map(|settings| Host::new(&settings)).collect();
        rotation(&mut hosts).await;
        let owner = address(&cluster, cluster.owner(KEY).unwrap());
        assert!(hosts.iter().all(|host| host.address() == owner), "{owner:?}");

        // A revocation reaches all, by all that is stored and published.
        let revoked = agreement(&mut hosts).await;
        hosts[0].revoke(None, Duration::ZERO);
        until(&mut hosts, "all to heed it", |hosts| !hosts.iter().any(|host| host.has(revoked)))
            .await;
        agreement(&mut hosts).await;
        let stored = |node: &Redis| node.ask(&["DBSIZE"]).unwrap() != "0";
        assert_eq!(cluster.nodes.iter().filter(|node| stored(node)).count(), 1);
    });
}

/// A prefix with a hash tag is left as it is.
#[test]
fn a_prefix_says_which_slot_it_is() {
    run(async {
        let (files, cluster) = (Files::new(), Cluster::new(3).unwrap());
        let settings = Settings {
            at: urls(&cluster),
            prefix: "a:{b}:c".into(),
            ..files.settings(&cluster.nodes[0])
        };
        let mut hosts = [Host::new(&settings), Host::new(&settings)];
        agreement(&mut hosts).await;
        let owner = cluster.owner("{b}").unwrap();
        assert_eq!(hosts[0].address(), address(&cluster, owner));
        let names = cluster.nodes[owner].ask(&["KEYS", "*"]).unwrap();
        assert!(names.lines().all(|name| name.starts_with("a:{b}:c:web:")), "{names}");
    });
}

/// The hosts follow, and are not alone for a moment.
#[test]
fn a_slot_that_moves_is_followed() {
    run(async {
        let (files, cluster) = (Files::new(), Cluster::new(3).unwrap());
        let settings = Settings { at: urls(&cluster), ..files.settings(&cluster.nodes[0]) };
        let mut hosts = vec![Host::new(&settings), Host::new(&settings)];
        agreement(&mut hosts).await;
        let from = cluster.owner(KEY).unwrap();
        let to = (from + 1) % 3;
        let slot = cluster.begin_move(KEY, from, to).unwrap();
        // Both nodes refuse what has begun to move, in one way or another.
        let begun = Instant::now();
        until(&mut hosts, "some looks", |_| begun.elapsed() > Duration::from_secs(1)).await;
        cluster.end_move(&slot, from, to).unwrap();
        let there = address(&cluster, to);
        until(&mut hosts, "the other node", |hosts| {
            hosts.iter().all(|host| host.address() == there)
        })
        .await;
        rotation(&mut hosts).await;
        assert!(hosts.iter().all(|host| times_alone(host) == 0), "{:#?}", hosts[0].notes());
    });
}

/// One state, with a reason, as long as a master is away that nobody stands in for.
#[test]
fn a_cluster_that_is_down_stores_nothing_until_it_is_up() {
    run(async {
        let (files, mut cluster) = (Files::new(), Cluster::new(3).unwrap());
        let settings = Settings { at: urls(&cluster), ..files.settings(&cluster.nodes[0]) };
        let mut hosts = vec![Host::new(&settings), Host::new(&settings)];
        agreement(&mut hosts).await;
        let owner = cluster.owner(KEY).unwrap();
        cluster.nodes[owner].kill().unwrap();
        let is_down = |host: &Host| {
            let why = host.trouble().unwrap_or_default();
            why.contains("stores nothing") && why.contains("cluster is down")
        };
        until(&mut hosts, "the reason, and keys of their own", |hosts| {
            let own = |host: &Host| host.turn().is_none() && host.encrypting().is_some();
            hosts.iter().all(|host| is_down(host) && own(host))
        })
        .await;
        assert!(hosts.iter().all(|host| times_alone(host) == 1), "{:#?}", hosts[0].notes());
        cluster.nodes[owner].start().unwrap();
        rotation(&mut hosts).await;
    });
}

#[test]
fn a_replica_takes_over() {
    run(async {
        let (files, mut cluster) = (Files::new(), Cluster::new(3).unwrap());
        cluster.add_replica_for(KEY).unwrap();
        let owner = cluster.owner(KEY).unwrap();
        let settings = Settings { at: urls(&cluster), ..files.settings(&cluster.nodes[0]) };
        let mut hosts = vec![Host::new(&settings), Host::new(&settings)];
        agreement(&mut hosts).await;
        cluster.nodes[owner].kill().unwrap();
        let there = address(&cluster, 3);
        until(&mut hosts, "the fail-over", |hosts| {
            assert!(hosts.iter().all(|host| host.encrypting().is_some()));
            hosts.iter().all(|host| host.address() == there)
        })
        .await;
        let before = agreement(&mut hosts).await;
        until(&mut hosts, "a rotation there", |hosts| {
            agree(hosts) && hosts[0].turn() != Some(before)
        })
        .await;
    });
}
