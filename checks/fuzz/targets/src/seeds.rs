//! The first inputs of each target: what is really written, said and set, and what is only nearly
//! so. `good-` ones are taken for what they claim to be, `bad-` ones are not.

use std::mem::offset_of;
use std::time::Duration;

use openssl::base64;
use tktrot::capi::config::tkt_config;
use tktrot::clock::Time;
use tktrot::ring::layout::{AES_128, BLOCKS_AT, BUCKETS_AT, Header, MEMBERS_AT, SLOTS_AT, Slot};
use tktrot_fleet::message::{Left, Message, NodeId, Offer, Refusal, Tombstone};
use tktrot_fleet::wire::{self, About, Hello, MAJOR, PREFIX};

use crate::client_hello::extension;
use crate::wrapped_value::{CHANGED, CHANGED_RECORD, RECORD, SLOT, VALUE};
use crate::{key_files, made_up, node, ring_file, shared, ticket, wrapped_value};

/// The name of a file, and what is in it.
pub type Seed = (&'static str, Vec<u8>);

/// Those of a target.
pub fn of(target: &str) -> Vec<Seed> {
    match target {
        "client_hello" => hosts(),
        "configuration" => files(),
        "fleet_secret" => secrets(),
        "key_files" => keys(),
        "node" => peers(),
        "ring_file" => rings(),
        "settings" => variables(),
        "shared" => redis(),
        "ticket" => tickets(),
        "tkt_config" => structs(),
        "wire" => frames(),
        "wrapped_value" => values(),
        other => panic!("there is no target {other}"),
    }
}

fn hosts() -> Vec<Seed> {
    let two = [&extension(b"a.test")[2..], &extension(b"b.test")[2..]].concat();
    vec![
        ("good-name", extension(b"example.org")),
        ("good-capitals-and-dot", extension(b"WWW.Example.ORG.")),
        ("good-longest", extension(&[b'a'; 255])),
        ("bad-too-long", extension(&[b'a'; 256])),
        ("bad-empty-name", extension(b"")),
        ("bad-nul", extension(b"a\0b")),
        ("good-two-dots", extension(b"example.org..")),
        ("bad-more", [&extension(b"a.test")[..], b"x"].concat()),
        ("bad-two-names", [&[0, 18][..], &two].concat()),
        ("bad-other-kind", [&[0, 5, 1][..], &[0, 2], b"ab"].concat()),
        ("bad-nothing", Vec::new()),
    ]
}

fn files() -> Vec<Seed> {
    let text = |name, text: &str| (name, text.as_bytes().to_vec());
    vec![
        text("good-nothing", ""),
        text(
            "good-mesh",
            "[agent]\nuser = \"tktrot\"\nmetrics = \"[::1]:9187\"\nlog = \"json\"\n[mesh]\nlisten = \
             \"[::]:4744\"\npeers = [\"10.0.0.2\", \"[2001:db8::2]:99\", \"fleet.example.:4745\"]\n\
             secrets = [\"/etc/tktrot/fleet.secret\"]\nlead_min = \"500ms\"\nlead_max = \"9s\"\nnodes = 12\n",
        ),
        text(
            "good-certificates",
            "[mesh]\ncertificate = \"/c.pem\"\nkey = \"/k.pem\"\nca = '''/ca.pem'''\npeers = []\n",
        ),
        text(
            "good-redis",
            "rotate = \"1h\"\n[redis]\nurl = \"rediss://user@redis:6380/1\"\nsecrets = [\"/s\", \
             \"/old\"]\npassword_file = \"/p\"\nca = \"/ca\"\nprefix = \"{web}:\"\nlead = \"5s\"\npoll = \
             \"100ms\"\nallow_persistence = true\n",
        ),
        text(
            "good-sentinels",
            "[redis]\nsentinels = [\"redis://a\", \"rediss://b:26379\"]\nmaster = \"keys\"\nsecrets = \
             [\"/s\"]\n",
        ),
        text(
            "good-cluster",
            "[redis]\ncluster = [\"redis://a:7000\", \"rediss://b\"]\nsecrets = [\"/s\"]\nprefix = \
             \"{keys}:web\"\n",
        ),
        text(
            "good-exports",
            "[[export]]\nformat = \"haproxy\"\noutput = \"/run/h\"\nsocket = \"/run/a\"\n[[export]]\n\
             format = \"nginx-80\"\noutput = \"/run/n\"\ncommand = [\"nginx\", \"-s\", \"reload\"]\n\
             timeout = \"3s\"\nmode = \"0640\"\ngroup = \"www-data\"\n[[export]]\nformat = \"raw\"\n\
             output = \"/run/r\"\n",
        ),
        text("good-dotted", "redis.url = 'unix:///run/redis.sock'\nredis.secrets = ['/s']\n"),
        text(
            "bad-two-ways",
            "[mesh]\nsecrets = [\"/s\"]\n[redis]\nurl = \"redis://h\"\nsecrets = [\"/s\"]\n",
        ),
        text("bad-password", "[redis]\nurl = \"redis://u:p@h\"\nsecrets = [\"/s\"]\n"),
        text("bad-setting", "[agent]\n\"us\\u0065r\\n\" = 1\n"),
        text("bad-toml", "[mesh\né = \"ö\nü\r\n"),
        text("bad-list", "[export]\nformat = \"raw\"\n"),
        text("bad-number", "[mesh]\nsecrets = [\"/s\"]\nnodes = 1_0\nlisten = 0x10\n"),
        text("bad-leads", "[mesh]\nsecrets=[\"/s\"]\nlead_min=\"9s\"\nlead_max=\"2s\"\n"),
        text("bad-deep", &"[".repeat(300)),
    ]
}

fn secrets() -> Vec<Seed> {
    let mut bytes = [0; 33];
    made_up::fill(&mut bytes, 5);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let long = |count: usize| {
        let mut bytes = vec![0; count];
        made_up::fill(&mut bytes, 6);
        bytes
    };
    let coded = base64::encode_block(&bytes[..32]);
    vec![
        ("good-hex", format!("{hex}\n").into_bytes()),
        ("good-base64", format!(" {coded}\r\n").into_bytes()),
        ("good-url-alphabet", base64::encode_block(&[0xfb; 7].repeat(9)).into_bytes()),
        ("good-bytes", bytes.to_vec()),
        ("good-longest", long(1024)),
        ("bad-longer", long(1025)),
        ("bad-short", hex[..62].into()),
        ("bad-sentence", b"correct horse battery staple, and some more of them".to_vec()),
        ("bad-zeroes", b"00".repeat(32)),
        ("bad-nothing", Vec::new()),
    ]
    .into_iter()
    .map(|(name, bytes)| match name {
        // Fewer than ten bytes differ in the block above.
        "good-url-alphabet" => {
            let coded = base64::encode_block(&long(64)).replace('+', "-").replace('/', "_");
            (name, coded.trim_end_matches('=').as_bytes().to_vec())
        }
        _ => (name, bytes),
    })
    .collect()
}

fn keys() -> Vec<Seed> {
    let number = |format: &str| {
        let place = key_files::FORMATS.iter().position(|other| *other == format);
        place.expect("a format") as u8
    };
    let bytes = |count: usize, seed: u64| {
        let mut bytes = vec![0; count];
        made_up::fill(&mut bytes, seed);
        bytes
    };
    let of = |format, file: &[u8]| [&[number(format)][..], file].concat();
    let lines = |size: usize, count: u64, end: &str| {
        let line = |seed| format!("{}{end}", base64::encode_block(&bytes(size, seed)));
        (0..count).map(line).collect::<String>().into_bytes()
    };
    let lighttpd = |version: u32, end: u64| {
        let numbers = [version, key_files::WALL as u32 - 9, end as u32];
        [numbers.map(u32::to_ne_bytes).concat(), bytes(80, 3)].concat()
    };
    let twice = [lines(80, 2, "\n"), lines(80, 1, "\n")].concat();
    vec![
        ("good-nginx-80", of("nginx-80", &bytes(80, 1))),
        ("good-nginx-48", of("nginx-48", &bytes(48, 1))),
        ("good-haproxy", of("haproxy", &lines(80, 3, "\n"))),
        ("good-haproxy-48-crlf", of("haproxy", &lines(48, 4, "\r\n"))),
        ("good-lighttpd", of("lighttpd", &lighttpd(0, key_files::WALL + 60))),
        ("good-raw", of("raw", &bytes(3 * 80, 2))),
        ("bad-haproxy-two", of("haproxy", &lines(80, 2, "\n"))),
        ("bad-haproxy-repeats", of("haproxy", &twice)),
        ("bad-haproxy-mixed", of("haproxy", &[lines(80, 2, "\n"), lines(48, 1, "\n")].concat())),
        ("bad-haproxy-padding", {
            let mut file = of("haproxy", &lines(80, 3, "\n"));
            file[50] = b'=';
            file
        }),
        ("bad-lighttpd-ended", of("lighttpd", &lighttpd(0, key_files::WALL))),
        ("bad-lighttpd-version", of("lighttpd", &lighttpd(1, key_files::WALL + 60))),
        ("bad-nginx-size", of("nginx-80", &bytes(79, 1))),
        ("bad-nginx-zeroes", of("nginx-80", &[0; 80])),
        ("bad-raw-too-many", of("raw", &bytes(9 * 80, 2))),
    ]
}

/// An event of a state machine, by its name.
fn event(events: &[&str], name: &str, rest: &[u8]) -> Vec<u8> {
    let number = events.iter().position(|other| *other == name);
    [&[number.unwrap_or_else(|| panic!("no event {name}")) as u8][..], rest].concat()
}

/// The byte for a span of about so many seconds.
fn about(seconds: u64) -> u8 {
    let wanted = Duration::from_secs(seconds);
    (1..255).find(|byte| node::span(*byte) >= wanted).expect("a span")
}

fn peers() -> Vec<Seed> {
    let hourly = 3;
    let happens = |steps: &[(&str, &[u8])]| {
        let steps = steps.iter().flat_map(|(name, rest)| event(&node::EVENTS, name, rest));
        [hourly].into_iter().chain(steps).collect::<Vec<u8>>()
    };
    let (minute, hour, days) = (about(60), about(3600), about(200_000));
    // A key that encrypts for an hour and decrypts for three.
    let key = |number: u8| [0, 1, number, 0, 0, hour, hour + 12, 0];
    let long = ("pass", &[days][..]);
    vec![
        ("start-alone", happens(&[("pass", &[40]), long, ("jump", &[days]), long])),
        (
            "good-peer",
            happens(&[("up", &[0]), ("keys", &key(1)), ("pass", &[40]), ("answers", &[0]), long]),
        ),
        (
            "good-rotations",
            happens(&[
                ("pass", &[40]),
                ("up", &[0]),
                ("up", &[1]),
                ("answers", &[0]),
                ("operator", &[0]),
                ("answers", &[1]),
                ("answers", &[0]),
                ("keys", &key(3)),
                ("pass", &[80]),
                ("operator", &[0]),
                ("host", &[0, 0, 0]),
                ("host", &[3, 1, 0]),
                long,
            ]),
        ),
        (
            "good-revoked",
            happens(&[
                ("up", &[0]),
                ("keys", &key(1)),
                ("operator", &[130]),
                ("keys", &key(1)),
                ("pass", &[minute]),
                ("revoked", &[0, 2, 1, days, 2, days, 7, 0]),
                ("keys", &key(2)),
                ("host", &[4, 0, 0]),
                long,
            ]),
        ),
        (
            "good-others",
            happens(&[
                ("up", &[0]),
                ("held", &[0, 2, 4, 7, 2, 0, hour, hour + 8, 5, 7, 3, 0, hour, hour + 8, 1, 0]),
                ("pull", &[0, 0, 0]),
                ("host", &[2, 1, hour]),
                ("pull", &[0, 0, 0]),
                ("leaving", &[0, 0, 0]),
                long,
            ]),
        ),
        (
            "good-lies",
            happens(&[
                ("up", &[0]),
                ("up", &[1]),
                (
                    "keys",
                    &[
                        0, 4, 1, 0, 255, 255, 255, 161, 0, 0, hour, hour, 1, 8, hour, 0, 255, 255,
                        6, 0, 0, 1, 0,
                    ],
                ),
                ("keys", &[1, 1, 1, 7, 0, 255, 255, 0]),
                ("taken", &[1, 2, 1, 161, 0]),
                ("refused", &[0, 2, 161, 0, 162, 3, 0]),
                ("revoked", &[1, 2, 161, 255, 1, 255, 0, 0]),
                long,
            ]),
        ),
        (
            "good-troubles",
            happens(&[
                ("trouble", &[1]),
                ("pass", &[60]),
                ("up", &[0]),
                ("trouble", &[2]),
                ("keys", &key(1)),
                ("trouble", &[0]),
                ("keys", &key(1)),
                ("policy", &[0]),
                ("pass", &[80]),
                ("policy", &[8]),
                ("down", &[0]),
                long,
            ]),
        ),
        ("good-too-many", {
            let keys = |first: u8| {
                let key = |number: u8| [number, 0, 0, hour, hour + 12];
                let keys = (first..first + 4).flat_map(key);
                [0, 4].into_iter().chain(keys).chain([0]).collect::<Vec<u8>>()
            };
            let said = [0, 4, 8, 12, 16, 20].map(keys);
            let said = said.iter().map(|keys| ("keys", &keys[..]));
            happens(&[("up", &[0][..])].into_iter().chain(said).collect::<Vec<_>>())
        }),
        (
            "start-silent-peer",
            happens(&[
                ("up", &[0]),
                ("operator", &[0]),
                ("pass", &[100]),
                ("up", &[0]),
                long,
                ("operator", &[3]),
            ]),
        ),
    ]
}

fn redis() -> Vec<Seed> {
    let hourly = 3;
    let happens = |steps: &[(&str, &[u8])]| {
        let steps = steps.iter().flat_map(|(name, rest)| event(&shared::EVENTS, name, rest));
        [hourly].into_iter().chain(steps).collect::<Vec<u8>>()
    };
    let (minute, hour, days) = ([about(60)], [about(3600)], [about(200_000)]);
    let year = about(1_000_000);
    vec![
        (
            "good-alone-in-the-fleet",
            happens(&[("up", &[]), ("pass", &minute), ("pass", &hour), ("pass", &days)]),
        ),
        (
            "good-another-makes-keys",
            happens(&[
                ("key", &[0]),
                ("key", &[1]),
                ("up", &[]),
                ("pass", &hour),
                ("key", &[1]),
                ("heard", &[]),
                ("pass", &hour),
            ]),
        ),
        (
            "start-without-redis",
            happens(&[
                ("pass", &minute),
                ("pass", &days),
                ("down", &[]),
                ("jump", &days),
                ("pass", &hour),
            ]),
        ),
        (
            "good-outage",
            happens(&[
                ("up", &[]),
                ("pass", &minute),
                ("down", &[]),
                ("pass", &days),
                ("up", &[]),
                ("pass", &hour),
            ]),
        ),
        (
            "good-loss",
            happens(&[
                ("up", &[]),
                ("pass", &hour),
                ("lost", &[0]),
                ("pass", &minute),
                ("lost", &[3]),
                ("heard", &[]),
                ("pass", &hour),
            ]),
        ),
        (
            "good-clock",
            happens(&[
                ("up", &[]),
                ("pass", &minute),
                ("clock", &[1, hour[0]]),
                ("pass", &minute),
                ("clock", &[0, year]),
                ("pass", &hour),
                ("pass", &days),
            ]),
        ),
        (
            "good-rotation",
            happens(&[
                ("up", &[]),
                ("pass", &minute),
                ("operator", &[0, 0]),
                ("pass", &minute),
                ("turn", &[2, 0]),
                ("pass", &hour),
            ]),
        ),
        (
            "good-revoked",
            happens(&[
                ("up", &[]),
                ("pass", &minute),
                ("operator", &[2, 0]),
                ("pass", &minute),
                ("operator", &[194, 7]),
                ("pass", &minute),
                ("grave", &[1, hour[0]]),
                ("grave", &[250, hour[0]]),
                ("pass", &hour),
            ]),
        ),
        (
            "good-strangers",
            happens(&[
                ("up", &[]),
                ("strange", &[0, hour[0], hour[0] + 8, 0, 2, 0]),
                ("strange", &[hour[0], 255, 255, 255, 6, 1]),
                ("strange", &[0, 0, days[0], 9, 131, 0]),
                ("pass", &hour),
                ("flaw", &[2, 0]),
                ("flaw", &[0, 1]),
                ("pass", &hour),
            ]),
        ),
        (
            "good-another-r",
            happens(&[
                ("up", &[]),
                ("pass", &minute),
                ("strange", &[0, hour[0], hour[0] + 8, 0, 66, 0]),
                ("pass", &hour),
                ("mark", &[]),
                ("pass", &hour),
                ("host", &[3, 2, 0]),
                ("pass", &hour),
            ]),
        ),
        (
            "good-troubles",
            happens(&[
                ("up", &[]),
                ("trouble", &[3]),
                ("pass", &minute),
                ("trouble", &[0]),
                ("pass", &hour),
                ("host", &[0, 0, 0]),
                ("host", &[1, 0, hour[0]]),
                ("host", &[2, 1, 0]),
                ("pass", &hour),
            ]),
        ),
    ]
}

fn rings() -> Vec<Seed> {
    let slots = SLOTS_AT;
    let changes = |changes: &[(usize, &[u8])]| {
        let change = |(at, bytes): &(usize, &[u8])| {
            let at = u16::try_from(*at).expect("a small ring").to_be_bytes();
            [&at[..], &[bytes.len() as u8], bytes].concat()
        };
        [vec![ring_file::CHANGES], changes.iter().flat_map(change).collect()].concat()
    };
    let cut = |at: usize| {
        let at = (at as u16).to_be_bytes();
        vec![ring_file::CHANGES, at[0], at[1], ring_file::CUT]
    };
    let header = |at: usize, bytes: &[u8]| changes(&[(at, bytes)]);
    let slot = |field: usize, bytes: &[u8]| changes(&[(slots + field, bytes)]);
    vec![
        ("good-unchanged", changes(&[])),
        ("good-dead-writer", header(offset_of!(Header, writer), &[1])),
        ("good-lead-of-nobody", header(offset_of!(Header, leader), &[255; 16])),
        ("good-members", changes(&[(MEMBERS_AT, &[255; 40])])),
        ("good-counters", changes(&[(BLOCKS_AT, &[255; 128])])),
        ("good-endless-lease", header(offset_of!(Header, governed_until), &[255; 8])),
        ("good-settings", header(offset_of!(Header, lifetime), &[255; 28])),
        ("good-node-of-imported-keys", header(offset_of!(Header, node), &[0; 8])),
        ("bad-short-key-that-encrypts", {
            let second = slots + size_of::<Slot>();
            changes(&[
                (offset_of!(Header, node), &[0; 8]),
                (second + offset_of!(Slot, node), &[0; 8]),
                (second + offset_of!(Slot, flags), &AES_128.to_ne_bytes()),
                (second + offset_of!(Slot, aes) + 16, &[0; 16]),
                (second + offset_of!(Slot, hmac) + 16, &[0; 16]),
            ])
        }),
        ("bad-magic", header(0, &[0; 8])),
        ("bad-version", header(offset_of!(Header, version), &[3])),
        ("bad-capacity", header(offset_of!(Header, capacity), &[255; 4])),
        ("good-lock-of-nobody", header(offset_of!(Header, writer), &[255; 16])),
        ("bad-line", header(offset_of!(Header, line), &[60, 0, 255, 255])),
        ("bad-rotation", header(offset_of!(Header, rotate_every), &[1])),
        ("bad-odd-slot", slot(offset_of!(Slot, seq), &[1])),
        ("bad-flags", slot(offset_of!(Slot, flags), &[4])),
        ("bad-short-key", slot(offset_of!(Slot, flags), &(AES_128).to_ne_bytes())),
        ("bad-loop", slot(offset_of!(Slot, next), &[1, 0, 0, 0])),
        ("bad-secret", slot(offset_of!(Slot, aes), &[0; 64])),
        ("bad-times", slot(offset_of!(Slot, encrypt_from), &[255; 8])),
        ("bad-chains", changes(&[(BUCKETS_AT, &[1, 0].repeat(64))])),
        ("bad-cut", cut(slots + 8)),
        ("bad-cut-in-the-header", cut(1000)),
        ("bad-empty", vec![ring_file::WHOLE]),
        ("bad-noise", {
            let mut noise = vec![ring_file::WHOLE; 2000];
            made_up::fill(&mut noise[1..], 8);
            noise
        }),
    ]
}

fn variables() -> Vec<Seed> {
    let text = |name, text: &str| (name, text.as_bytes().to_vec());
    let fields = |lines: &str, numbers: [u32; 10]| {
        [lines.as_bytes(), &[0], &numbers.map(u32::to_le_bytes).concat()].concat()
    };
    vec![
        text("good-nothing", ""),
        text(
            "good-all",
            "TKTROT_RING=web\nTKTROT_DIR=/dev/shm/t\nTKTROT_CAPACITY=128\nTKTROT_ROTATE=30m\n\
             TKTROT_LIFETIME=2h\nTKTROT_LABEL=web é\nTKTROT_BIND=cert, sni\nTKTROT_RENEW=always\n\
             TKTROT_TAKEOVER=no\nTKTROT_ONLY=nginx, haproxy\nTKTROT_UPKEEP=callback\nTKTROT_LOG=syslog\n\
             TKTROT_STRICT=1\nTKTROT_DISABLE=0\nPATH=/bin",
        ),
        text(
            "good-paths",
            "TKTROT_RING=/run/x/web.ring\nTKTROT_LOG=/var/log/tktrot\nTKTROT_BIND=none",
        ),
        text("good-many-keys", "TKTROT_ROTATE=1s\nTKTROT_LIFETIME=4h"),
        text("good-longest", "TKTROT_ROTATE=1d\nTKTROT_LIFETIME=999d\nTKTROT_ROTATE=86400"),
        text(
            "bad-values",
            "TKTROT_ROTATE=soon\nTKTROT_CAPACITY=7\nTKTROT_LIFETIME=0\nTKTROT_ONLY=a/b,",
        ),
        text("bad-paths", "TKTROT_RING=/run/..\nTKTROT_DIR=run\nTKTROT_LOG=file"),
        text("bad-name", "TKTROT_ROTTE=1h\nTKTROT_=1"),
        text("bad-contradiction", "TKTROT_ROTATE=1m\nTKTROT_LIFETIME=1h\nTKTROT_CAPACITY=20"),
        text("bad-too-many-keys", "TKTROT_ROTATE=1s\nTKTROT_LIFETIME=7d"),
        text("bad-numbers", "TKTROT_ROTATE=99999999999999999999d\nTKTROT_CAPACITY=-8"),
        ("bad-bytes", b"TKTROT_RING=/run/\xff\nTKTROT_BIND=\xff".to_vec()),
        (
            "good-struct",
            fields("TKTROT_RING=web\nTKTROT_LABEL=x", [64, 600, 3600, 60, 6, 1, 1, 1, 0, 0]),
        ),
        ("good-struct-allow-long", fields("", [0, 604_800, 604_800, 3600, 1, 2, 0, 0, 1, 0])),
        ("bad-struct-values", fields("TKTROT_LOG=x", [7, 86_401, 0, 600, 9, 3, 2, 0, 0, 0])),
        ("bad-struct-size", fields("", [0, 0, 0, 0, 0, 0, 0, 0, 0, 8000])),
        ("good-struct-later", fields("", [0, 0, 0, 0, 0, 0, 0, 0, 0, 16])),
        ("bad-struct-later", fields("", [0, 0, 0, 0, 0, 0, 0, 0, 0, 23])),
    ]
}

fn tickets() -> Vec<Seed> {
    let both = |kind: u8, rest: &[u8]| [ticket::V13, 0].map(|v| [&[kind | v], rest].concat());
    // Behind the name there are the IV, what is sealed, and the MAC.
    let changed = |at: u8| both(0, &[0, at, 1, 1]);
    let mut seeds = Vec::new();
    let mut add = |names: [&'static str; 2], inputs: [Vec<u8>; 2]| {
        seeds.extend(names.into_iter().zip(inputs));
    };
    add(["good-sealed", "good-sealed-12"], both(0, &[]));
    add(["good-changed-back", "good-changed-back-12"], both(0, &[0, 3, 1, 9, 0, 3, 1, 9]));
    add(["bad-host", "bad-host-12"], both(ticket::ELSEWHERE, &[]));
    add(["bad-name", "bad-name-12"], changed(15));
    add(["bad-iv", "bad-iv-12"], changed(31));
    add(["bad-sealed", "bad-sealed-12"], changed(40));
    add(["bad-mac", "bad-mac-12"], both(0, &[255, 255, 1, 1]));
    add(["bad-cut", "bad-cut-12"], both(0, &[0, 90, ticket::CUT]));
    add(["bad-name-only", "bad-name-only-12"], both(0, &[0, 16, ticket::CUT]));
    add(["bad-more", "bad-more-12"], both(0, &[0, 0, ticket::MORE, 7]));
    add(["bad-nothing", "bad-nothing-12"], both(ticket::WHOLE, &[]));
    add(["bad-zeroes", "bad-zeroes-12"], both(ticket::WHOLE, &[0; 192]));
    add(["bad-noise", "bad-noise-12"], both(ticket::WHOLE, &made_up_bytes(300, 11)));
    add(["bad-long", "bad-long-12"], both(ticket::WHOLE, &made_up_bytes(4000, 12)));
    seeds
}

fn made_up_bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; count];
    made_up::fill(&mut bytes, seed);
    bytes
}

fn structs() -> Vec<Seed> {
    const SIZE: usize = size_of::<tkt_config>();
    /// A member of four bytes, or of eight.
    fn with(size: usize, members: &[(usize, &[u8])], texts: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; size.clamp(8, 4096)];
        bytes[..8].copy_from_slice(&size.to_le_bytes());
        for (at, value) in members {
            bytes[*at..at + value.len()].copy_from_slice(value);
        }
        [&bytes[..], texts].concat()
    }
    let (ring, dir) = (offset_of!(tkt_config, ring), offset_of!(tkt_config, dir));
    let (label, log) = (offset_of!(tkt_config, label), offset_of!(tkt_config, log));
    let rotate_every = offset_of!(tkt_config, rotate_every);
    let bind = offset_of!(tkt_config, bind);
    let allow_long = offset_of!(tkt_config, allow_long);
    let texts: [(usize, &[u8]); 4] = [(ring, &[1]), (dir, &[2]), (label, &[3]), (log, &[4])];
    let strings = b"web\0/dev/shm/t\0web \xc3\xa9\0syslog";
    vec![
        ("good-defaults", with(SIZE, &[], b"")),
        ("good-strings", with(SIZE, &texts, strings)),
        ("good-numbers", with(SIZE, &[(rotate_every, &[60, 0, 0, 0]), (bind, &[10])], b"")),
        ("good-long", with(SIZE, &[(rotate_every, &[0, 0, 2, 0]), (allow_long, &[1])], b"")),
        ("good-later", with(SIZE + 40, &[], b"")),
        ("good-largest", with(4096, &[], b"")),
        ("bad-later", with(SIZE + 40, &[(SIZE + 39, &[1])], b"")),
        ("bad-larger", with(4097, &[], b"")),
        ("bad-endless", with(usize::MAX, &[], b"")),
        ("bad-nothing", with(0, &[], b"")),
        ("bad-smaller", with(SIZE - 1, &[], b"")),
        ("good-older", with(rotate_every + 4, &[(rotate_every, &[60, 0, 0, 0])], b"")),
        ("bad-half-a-pointer", with(ring + 4, &[(ring, &[1, 0, 0, 0])], b"web")),
        ("bad-strings", with(SIZE, &texts, b"..\0relative\0\0x")),
        ("bad-long", with(SIZE, &[(rotate_every, &[0, 0, 2, 0])], b"")),
        ("bad-bind", with(SIZE, &[(bind, &[3])], b"")),
    ]
}

fn frames() -> Vec<Seed> {
    let sent = Time(0x0102_0304_0506);
    let offer = |number: u32| {
        let hour = Duration::from_secs(3600);
        let left = Left { begins: hour / 60, encrypts: hour, decrypts: 3 * hour };
        let (origin, plain) = (NodeId(u64::from(number) << 50 | 1), number % 2 == 1);
        Offer {
            name: made_up::name(number),
            origin,
            left,
            plain,
            secrets: made_up::secrets(number),
        }
    };
    let said = |message: Message<_>| crate::wire::frames(&message, sent)[0][PREFIX..].to_vec();
    let names = [1, 2, 3].map(made_up::name);
    let refused = [Refusal::Ended, Refusal::TooMany, Refusal::Full, Refusal::Unusable];
    let refused = refused.into_iter().map(|why| (names[0], why)).collect();
    let tombstones: Vec<_> =
        names.iter().map(|name| Tombstone { name: *name, left: Duration::from_secs(60) }).collect();
    let hello = Hello { node: NodeId(7), instance: u64::MAX, ring: "web é".into() };
    let about = About {
        release: "1.2.3".into(),
        rotate_every: Duration::from_secs(3600),
        lifetime: Duration::from_secs(7200),
        plain: true,
        wall: 1_800_000_000_000_000_000,
        addresses: vec![[10, 0, 0, 2].into(), [0xfd; 16].into()],
    };
    let raw = |kind: u16, body: &[u8]| {
        [&[MAJOR][..], &kind.to_be_bytes(), &sent.0.to_be_bytes(), body].concat()
    };
    let keys = said(Message::Keys(vec![offer(1), offer(2)]));
    // A count that no memory could hold.
    let count = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    vec![
        ("good-hello", wire::hello(&hello, sent)[PREFIX..].to_vec()),
        ("good-ping", wire::ping(3, sent)[PREFIX..].to_vec()),
        ("good-pong", wire::pong(u64::MAX, sent)[PREFIX..].to_vec()),
        ("good-keys", keys.clone()),
        ("good-no-keys", said(Message::Keys(Vec::new()))),
        ("good-taken", said(Message::Taken(names.to_vec()))),
        ("good-refused", said(Message::Refused(refused))),
        ("good-revoked", said(Message::Revoked { keys: tombstones, all: true })),
        ("good-buried", said(Message::Buried(names.to_vec()))),
        ("good-pull", said(Message::Pull)),
        ("good-held", said(Message::Held { keys: vec![offer(3)], last: true })),
        ("good-leaving", said(Message::Leaving)),
        ("good-later-type", raw(0x7fff, b"whatever")),
        ("bad-cut", keys[..keys.len() - 1].to_vec()),
        ("bad-more", [&keys[..], &[0]].concat()),
        ("bad-short-secret", {
            let mut short = keys[..keys.len() - 1].to_vec();
            let length = short.len() - 32;
            short[length] = 31;
            short
        }),
        ("bad-version", [&[2][..], &keys[1..]].concat()),
        ("bad-header", vec![MAJOR, 0, 16]),
        ("bad-count-of-keys", raw(16, &count)),
        ("bad-count-of-names", raw(17, &[&count[..], &[7; 40]].concat())),
        ("bad-count-of-graves", raw(23, &[&count[..], &[7; 40]].concat())),
        ("bad-name-of-ring", raw(1, &[1, 2, 4, b'a', b'\n', b'b', b'c'])),
        ("good-later-refusal", raw(18, &[&[1][..], &[7; 16], &[99]].concat())),
        ("good-about", wire::about(&about, sent)[PREFIX..].to_vec()),
        ("bad-about", raw(4, &[1, b' ', 1, 1, 0, 1, 0])),
    ]
}

fn values() -> Vec<Seed> {
    let of = |kind: u8, rest: &[u8]| [&[kind][..], rest].concat();
    let value = wrapped_value::value();
    let [key, all] = wrapped_value::records();
    vec![
        ("good-key", of(VALUE, &value)),
        ("bad-key-cut", of(VALUE, &value[..100])),
        ("bad-key-version", of(VALUE, &[&[1][..], &value[1..]].concat())),
        ("bad-key-zeroes", of(VALUE, &[1; 173])),
        ("good-key-unchanged", of(CHANGED, &[])),
        ("good-key-changed-back", of(CHANGED, &[0, 99, 1, 0, 99, 1])),
        ("bad-key-place", of(CHANGED, &[0, 32, 1])),
        ("bad-key-times", of(CHANGED, &[0, 70, 128])),
        ("bad-key-epoch", of(CHANGED, &[0, 84, 1])),
        ("bad-key-flags", of(CHANGED, &[0, 88, 2])),
        ("bad-key-tag", of(CHANGED, &[0, 180, 1])),
        ("bad-key-longer", of(CHANGED, &[1, 0, 1])),
        ("good-record-key", of(RECORD, &key)),
        ("good-record-all", of(RECORD, &all)),
        ("bad-record", of(RECORD, &[1; 41])),
        ("good-record-unchanged", of(CHANGED_RECORD, &[1])),
        ("bad-record-end", of(CHANGED_RECORD, &[0, 0, 18, 255])),
        ("good-slot", of(SLOT, b"480000:3")),
        ("good-slot-kept", of(SLOT, b"kept:00102030405060708090a0b0c0d0e0f0")),
        ("bad-slot-zero", of(SLOT, b"480000:0")),
        ("bad-slot-plus", of(SLOT, b"+7")),
        ("bad-slot-capitals", of(SLOT, b"kept:00102030405060708090A0B0C0D0E0F0")),
    ]
}
