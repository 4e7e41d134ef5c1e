//! The agent's sections of a settings file.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use tktrot_fleet::ahead::Ahead;
use tktrot_fleet::config::flaw::Flaw;
use tktrot_fleet::config::{Config, Credentials, Export, Format, Host, Mesh, Redis, RedisAt};

/// The text of the file; what is no UTF-8 is replaced, as no file is read that has it.
pub fn configuration(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let parsed = Config::parse(&text);
    assert_eq!(parsed, Config::parse(&text), "the same text means two things");
    match parsed {
        Ok(config) => {
            is_sound(&config);
            true
        }
        Err(flaws) => {
            assert!(!flaws.is_empty());
            flaws.iter().for_each(|flaw| is_in(flaw, &text));
            false
        }
    }
}

/// Whoever looks at that line and column finds something, or the end of the line.
fn is_in(flaw: &Flaw, text: &str) {
    let line = text.split('\n').nth(flaw.line.wrapping_sub(1));
    let Some(line) = line else { panic!("{flaw}: there is no such line") };
    let columns = 1..=line.chars().count() + 1;
    assert!(columns.contains(&flaw.column), "{flaw}: there is no such column");
    assert!(!flaw.message.is_empty());
}

/// Whatever was set, an agent can be started with it.
fn is_sound(config: &Config) {
    assert!(config.mesh.is_none() || config.redis.is_none(), "a mesh and Redis");
    assert!({
        let has_token = config.agent.metrics_token.is_some();
        config.agent.metrics.is_none_or(|at| at.ip().is_loopback() || has_token)
    });
    config.agent.metrics_token.iter().for_each(|file| is_file(file));
    if let Some((certificate, key)) = &config.agent.metrics_certificate {
        [certificate, key].into_iter().for_each(|file| is_file(file));
    }
    is_user(&config.agent.user);
    config.mesh.iter().for_each(is_sound_mesh);
    config.redis.iter().for_each(is_sound_redis);
    config.exports.iter().for_each(is_sound_export);
    let files: HashSet<_> = config.exports.iter().map(|export| &export.output).collect();
    assert_eq!(files.len(), config.exports.len(), "two exports write one file");
    assert!((1..=10_000).contains(&config.nodes()));
}

fn is_sound_mesh(mesh: &Mesh) {
    let leads = Duration::from_millis(100)..=Duration::from_secs(60);
    assert!(leads.contains(&mesh.lead_min) && leads.contains(&mesh.lead_max));
    assert!(mesh.lead_min <= mesh.lead_max);
    for peer in &mesh.peers {
        assert_ne!(peer.port, 0);
        if let Host::Name(name) = &peer.host {
            assert!(name.parse::<std::net::IpAddr>().is_err(), "{name} is an address");
            assert!(!name.is_empty() && name.len() <= 254 && name.is_ascii(), "{name}");
        }
    }
    match &mesh.credentials {
        Credentials::Secrets(files) => are_files(files),
        Credentials::Certificate { certificate, key, ca } => {
            [certificate, key, ca].into_iter().for_each(|file| is_file(file));
        }
    }
}

fn is_sound_redis(redis: &Redis) {
    let urls = match &redis.at {
        RedisAt::Url(url) => std::slice::from_ref(url),
        RedisAt::Cluster(urls) => urls,
        RedisAt::Sentinels { urls, master } => {
            assert!(!master.is_empty());
            urls
        }
    };
    assert!(!urls.is_empty());
    for url in urls {
        let (scheme, rest) = url.split_once("://").expect("a scheme");
        assert!(["redis", "rediss", "unix"].contains(&scheme), "{url}");
        assert!(!url.contains(|letter: char| letter.is_ascii_control() || letter == ' '));
        let authority = rest.split(['/', '?', '#']).next().expect("a part");
        if scheme != "unix"
            && let Some((user, _)) = authority.rsplit_once('@')
        {
            assert!(!user.contains(':'), "a password in {url}");
        }
    }
    are_files(&redis.secrets);
    redis.password_file.iter().chain(&redis.ca).for_each(|file| is_file(file));
    assert!(!redis.prefix.is_empty() && redis.prefix.len() <= 100 && redis.prefix.is_ascii());
    // Where a Redis Cluster finds a hash tag, there is one.
    let tag = redis.prefix.split_once('{').map(|(_, rest)| rest.split_once('}'));
    assert!(tag.is_none_or(|tag| tag.is_some_and(|(tag, _)| !tag.is_empty())));
    assert!(redis.ahead.0.is_none_or(|ahead| ahead <= Ahead::LONGEST));
    assert!(redis.lead <= Duration::from_secs(60) && redis.poll >= Duration::from_millis(100));
}

fn is_sound_export(export: &Export) {
    is_file(&export.output);
    export.socket.iter().for_each(|file| is_file(file));
    assert!(export.socket.is_none() || export.format == Format::Haproxy);
    assert!(export.mode == 0o600 || (export.mode == 0o640 && export.group.is_some()));
    export.group.iter().for_each(|group| is_user(group));
    assert!(export.command.first().is_none_or(|program| !program.is_empty()));
    assert!(!export.command.iter().any(|argument| argument.contains('\0')));
    let spans = Duration::from_millis(100)..=Duration::from_secs(600);
    assert!(spans.contains(&export.timeout));
}

fn is_user(name: &str) {
    assert!((1..=32).contains(&name.len()) && !name.starts_with('-') && !name.contains('/'));
}

fn are_files(files: &[std::path::PathBuf]) {
    assert!(!files.is_empty());
    files.iter().for_each(|file| is_file(file));
}

fn is_file(path: &Path) {
    let text = path.to_str().expect("out of a text");
    assert!(path.is_absolute() && !text.ends_with('/') && !text.contains('\0'), "{text}");
}
