use super::*;

/// All flaws, a line each.
fn flaw(text: &str) -> String {
    let flaws = Config::parse(text).unwrap_err();
    flaws.iter().map(|flaw| format!("{flaw}\n")).collect()
}

#[test]
fn without_sections_an_agent_rotates_alone() {
    for text in ["", "rotate = \"1h\"\nring = \"nginx\"\n"] {
        let config = Config::parse(text).unwrap();
        assert_eq!(config, Config::default());
        assert_eq!((config.agent.user.as_str(), config.nodes()), ("nobody", 1));
    }
}

#[test]
fn a_mesh_in_full() {
    let config = Config::parse(
        r#"
        ring = "nginx"
        [agent]
        user = "tickets"
        metrics = "127.0.0.1:9187"
        metrics_token_file = "/etc/tktrot/metrics.token"
        log = "json"
        [mesh]
        listen = "10.0.0.1"
        peers = ["10.0.0.2", "fleet.example:99"]
        secrets = ["/etc/tktrot/new", "/etc/tktrot/old"]
        lead_min = "500ms"
        lead_max = "2s"
        ahead = "2d"
        "#,
    )
    .unwrap();
    assert_eq!(config.agent.user, "tickets");
    assert_eq!(config.agent.metrics, "127.0.0.1:9187".parse().ok());
    assert_eq!(config.agent.metrics_token, Some("/etc/tktrot/metrics.token".into()));
    assert_eq!(config.agent.log, LogForm::Json);
    let mesh = config.mesh.unwrap();
    assert_eq!(mesh.listen, "10.0.0.1:4744".parse().unwrap());
    assert_eq!(mesh.peers[1], Peer { host: Host::Name("fleet.example".into()), port: 99 });
    let secrets = vec!["/etc/tktrot/new".into(), "/etc/tktrot/old".into()];
    assert_eq!(mesh.credentials, Credentials::Secrets(secrets));
    assert_eq!(
        (mesh.lead_min, mesh.lead_max),
        (Duration::from_millis(500), Duration::from_secs(2))
    );
    assert_eq!(mesh.ahead, Ahead(Some(Ahead::LONGEST)));
    assert_eq!(mesh.nodes, MANY_NODES, "a name may stand for many");
}

#[test]
fn a_mesh_of_defaults() {
    let text = "[mesh]\ncertificate = \"/c\"\nkey = \"/k\"\nca = \"/a\"\n";
    let mesh = Config::parse(text).unwrap().mesh.unwrap();
    assert_eq!(mesh.listen, "0.0.0.0:4744".parse().unwrap());
    assert!(matches!(mesh.credentials, Credentials::Certificate { .. }));
    assert_eq!((mesh.lead_min, mesh.lead_max), (Limits::LEAD_MIN, Limits::LEAD_MAX));
    assert_eq!(mesh.ahead, Ahead::default());
    assert_eq!(mesh.nodes, FEW_NODES);
    let peers: Vec<_> = (1..=20).map(|host| format!("\"10.0.0.{host}\"")).collect();
    let text = format!("[mesh]\nsecrets = [\"/s\"]\npeers = [{}]", peers.join(","));
    assert_eq!(Config::parse(&text).unwrap().nodes(), 21);
    let text = "[mesh]\nsecrets = [\"/s\"]\nlead_min = \"9s\"";
    assert_eq!(Config::parse(text).unwrap().mesh.unwrap().lead_max, Duration::from_secs(9));
}

#[test]
fn redis_and_exports() {
    let config = Config::parse(
        r#"
        [redis]
        sentinels = ["redis://a", "rediss://b:26379"]
        ca = "/etc/tktrot/ca.pem"
        poll = "10s"
        ahead = "30m"
        master = "keys"
        secrets = ["/s"]
        allow_persistence = true
        [[export]]
        format = "haproxy"
        output = "/run/haproxy/tickets"
        socket = "/run/haproxy/admin.sock"
        [[export]]
        format = "nginx-80"
        output = "/run/nginx/tickets"
        command = ["systemctl", "reload", "nginx"]
        timeout = "3s"
        mode = "0640"
        group = "www-data"
        "#,
    )
    .unwrap();
    let redis = config.redis.unwrap();
    let urls = vec!["redis://a".into(), "rediss://b:26379".into()];
    assert_eq!(redis.at, RedisAt::Sentinels { urls, master: "keys".into() });
    assert_eq!((redis.prefix.as_str(), redis.allow_persistence), ("tktrot", true));
    assert_eq!(redis.ca, Some("/etc/tktrot/ca.pem".into()));
    assert_eq!((redis.lead.as_secs(), redis.poll.as_secs()), (5, 10));
    assert_eq!(redis.ahead, Ahead(Some(Duration::from_secs(1800))));
    let [haproxy, nginx] = &*config.exports else { panic!("{:?}", config.exports) };
    assert_eq!(haproxy.socket, Some("/run/haproxy/admin.sock".into()));
    assert_eq!((haproxy.format, haproxy.timeout), (Format::Haproxy, Duration::from_secs(10)));
    assert_eq!((nginx.command.len(), nginx.timeout), (3, Duration::from_secs(3)));
    assert_eq!((haproxy.mode, &haproxy.group), (0o600, &None));
    assert_eq!((nginx.mode, nginx.group.as_deref()), (0o640, Some("www-data")));
}

#[test]
fn a_cluster_and_a_prefix_with_a_hash_tag() {
    let text = "[redis]\ncluster = [\"redis://a\", \"rediss://b\"]\nsecrets = [\"/s\"]\nprefix = ";
    for good in ["{a}", "x:{a}:y", "{a}{}", "a}b", "{{a}"] {
        let redis = Config::parse(&format!("{text}\"{good}\"")).unwrap().redis.unwrap();
        let urls = vec!["redis://a".into(), "rediss://b".into()];
        assert_eq!((redis.at, redis.prefix.as_str()), (RedisAt::Cluster(urls), good));
    }
    // A cluster would find no tag in it, and keep each key elsewhere.
    for bad in ["{}", "{}{a}", "a{", "}a{"] {
        let flaws = Config::parse(&format!("{text}\"{bad}\"")).unwrap_err();
        let flaw = flaws[0].to_string();
        assert!(flaw.contains("prefix has no valid value") && flaw.contains("hash tag"), "{flaw}");
    }
}

#[test]
fn a_flaw_is_told_with_line_and_column_and_what_is_accepted() {
    let mesh = "[mesh]\nsecrets = [\"/s\"]\n";
    let cases = [
        (
            "[agent]\nusr = 1",
            "2:1: there is no setting \"usr\" in [agent] (did you mean user?); there are user, metrics",
        ),
        ("[agent]\nuser = 1", "2:8: user has no valid value; accepted: a string"),
        (
            "[agent]\nmetrics = \"0.0.0.0:1\"",
            "2:11: [agent]: metrics tell how busy this host is: beyond loopback",
        ),
        ("[agent]\nmetrics = \"host:1\"", "2:11: metrics has no valid value; accepted: an address"),
        ("[agent]\nmetrics_token_file = \"/t\"", "2:22: [agent]: it needs metrics = "),
        (
            "[agent]\nmetrics = \"127.0.0.1:1\"\nmetrics_key = \"/k\"",
            "1:2: [agent]: metrics_certificate and metrics_key are needed together",
        ),
        ("[agent]\nlog = \"xml\"", "2:7: log has no valid value; accepted: text or json"),
        ("agent = 1", "1:1: [agent] is a section"),
        ("[mesh]\n", "1:2: [mesh]: nodes need something to authenticate with"),
        ("[mesh]\nsecrets = []", "2:11: secrets has no valid value; accepted: one file or more"),
        (
            "[mesh]\nsecrets = [\"s\"]",
            "2:12: secrets has no valid value; accepted: an absolute path",
        ),
        ("[mesh]\nsecrets = \"/s\"", "2:11: secrets has no valid value; accepted: a list"),
        (
            "[mesh]\ncertificate = \"/c\"",
            "1:2: [mesh]: certificate, key and ca are needed together",
        ),
        (&format!("{mesh}ca = \"/c\""), "3:6: [mesh]: nodes authenticate with secrets or"),
        (
            &format!("{mesh}peers = [\"a\", \"10.0.0\"]"),
            "3:15: peers has no valid value; accepted: an",
        ),
        (&format!("{mesh}listen = \"x\""), "3:10: listen has no valid value"),
        (
            &format!("{mesh}nodes = 0"),
            "3:9: nodes has no valid value; accepted: a number from 1 to 1",
        ),
        (
            &format!("{mesh}lead_max = \"2m\""),
            "3:12: lead_max has no valid value; accepted: 100ms to",
        ),
        (&format!("{mesh}ahead = \"3d\""), "3:9: ahead has no valid value; accepted: 0s to 2d"),
        (
            &format!("{mesh}lead_min = \"9s\"\nlead_max = \"2s\""),
            "3:12: [mesh]: lead_min is longer",
        ),
        (
            &format!("{mesh}[redis]\nurl = \"redis://h\"\nsecrets = [\"/s\"]"),
            "3:2: [redis]: keys are shared either by a mesh or through",
        ),
        ("[redis]\nsecrets = [\"/s\"]", "1:2: [redis]: it needs url"),
        (
            "[redis]\nurl = \"redis://h\"\ncluster = [\"redis://h\"]\nsecrets = [\"/s\"]",
            "1:2: [redis]: it needs url",
        ),
        ("[redis]\ncluster = []\nsecrets = [\"/s\"]", "1:2: [redis]: it needs url"),
        ("[redis]\nurl = \"redis://h\"", "1:2: secrets has no valid value"),
        ("[redis]\nurl = \"redis://u:p@h\"", "2:7: url has no valid value; accepted: redis://"),
        (
            "[redis]\nallow_persistence = 1\nurl = \"redis://h\"\nsecrets=[\"/s\"]",
            "2:21: allow_per",
        ),
        ("[export]\nformat = \"raw\"", "1:2: exports are a list: write [[export]]"),
        ("[[export]]\nformat = \"raw\"", "1:1: [[export]]: it needs output"),
        ("[[export]]\noutput = \"/o\"", "1:1: [[export]]: it needs format"),
        (
            "[[export]]\nformat = \"raw\"\noutput = \"/o\"\nsocket = \"/s\"",
            "4:10: [[export]]: only HAProxy",
        ),
        (
            "[[export]]\nformat = \"raw\"\noutput = \"/o\"\ncommand = []",
            "4:11: command has no valid value",
        ),
        (
            "[[export]]\nformat = \"raw\"\noutput = \"/o\"\n[[export]]\nformat = \"raw\"\noutput = \"/o\"",
            "6:10: [[export]]: another [[export]] writes this file",
        ),
        ("[[export]]\nformat = \"haproxy\"\noutput = \"/o\"", "1:1: [[export]]: it needs socket"),
        ("[[export]]\nformat = \"apache\"\noutput = \"/o\"", "1:1: [[export]]: it needs a command"),
        (
            "[[export]]\nformat = \"raw\"\noutput = \"/o\"\nmode = \"0644\"",
            "4:8: mode has no valid value; accepted: \"0600\"",
        ),
        (
            "[[export]]\nformat = \"raw\"\noutput = \"/o\"\nmode = \"0640\"",
            "4:8: [[export]]: a group that may read",
        ),
        ("[mesh", "1:6: "),
        ("é = [\"ö\"", "1:"),
    ];
    for (text, start) in cases {
        let flaw = flaw(text);
        assert!(flaw.lines().any(|line| line.starts_with(start)), "{text:?}: {flaw}");
    }
}

#[test]
fn all_flaws_are_told_at_once_and_none_that_follows_from_another() {
    let text = "[agent]\nusr = 1\nlog = \"xml\"\n[mesh]\nsecrets = [\"s\", \"t\"]\npeers = [\"a b\"]\n\
                [[export]]\nformat = \"what\"\n[[export]]\nformat = \"raw\"\noutput = \"o\"\n";
    let told = flaw(text);
    let told: Vec<_> = told.lines().map(|line| line.split(';').next().unwrap()).collect();
    let expected = [
        "2:1: there is no setting \"usr\" in [agent] (did you mean user?)",
        "3:7: log has no valid value",
        "5:12: secrets has no valid value",
        "5:17: secrets has no valid value",
        "6:10: peers has no valid value",
        "7:1: [[export]]: it needs output = \"/run/…\", a file on tmpfs",
        "8:10: format has no valid value",
        "11:10: output has no valid value",
    ];
    assert_eq!(told, expected);
}
