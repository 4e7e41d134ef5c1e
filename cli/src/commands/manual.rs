//! What the man pages say that is in no argument: exit status, environment, files, examples, and which
//! other pages there are. By the name of the page, such as `tktrot-ring-list`.

use crate::settings;

/// For commands whose help has no other.
pub const EXIT_STATUS: &str = "0 ok; 1 warning: it works, and deserves a look; 2 critical: it does \
    not work or is not safe, or the command failed; 64 the command line is wrong.";

/// The variables that matter to a command, each with what it sets.
pub fn environment(page: &str) -> Vec<(String, String)> {
    let ours = |wanted: fn(&str) -> bool| {
        let wanted = settings::SETTINGS.iter().filter(move |setting| wanted(setting.name));
        wanted.map(|setting| (setting.variable(), setting.what.to_owned()))
    };
    let mut variables: Vec<_> = match page {
        "tktrot" | "tktrot-run" | "tktrot-check" | "tktrot-agent" => ours(|_| true).collect(),
        "tktrot-probe" | "tktrot-secret" | "tktrot-secret-new" => Vec::new(),
        _ => ours(|name| ["dir", "ring"].contains(&name)).collect(),
    };
    let mut also = |name: &str, what: &str| variables.push((name.into(), what.into()));
    match page {
        "tktrot-run" => also("LD_PRELOAD", "what it names is loaded after the shim"),
        "tktrot-watch" => also("NO_COLOR", "if it is set, nothing is coloured"),
        "tktrot-probe" | "tktrot-secret" | "tktrot-secret-new" => {
            also("TKTROT_*", "not used by this command");
        }
        _ => {}
    }
    variables
}

type Entry = (&'static str, &'static str);

const SETTINGS_FILE: Entry = (
    "/etc/tktrot/tktrot.toml",
    "the settings, as the variables but in lower case and without TKTROT_; a variable overrides it",
);
const RINGS: [Entry; 2] = [
    (
        "/run/tktrot/NAME.ring, /dev/shm/tktrot/NAME.ring",
        "the rings of servers that root starts; the second where /run is not on tmpfs",
    ),
    (
        "$RUNTIME_DIRECTORY/NAME.ring, /run/user/UID/tktrot/NAME.ring, /dev/shm/tktrot-UID/NAME.ring",
        "the rings of servers that another user starts; the first of them that can be used",
    ),
];
const SHIM: Entry = (
    "libtktrot_preload.so",
    "the shim: beside this program, or in lib, lib64 or the multiarch directory of its prefix",
);
const SECRET: Entry = ("/etc/tktrot/fleet.secret", "what the hosts of a fleet share (mode 0600)");

/// The files that a command reads or writes.
pub fn files(page: &str) -> Vec<Entry> {
    match page {
        "tktrot-secret" | "tktrot-secret-new" => vec![SECRET],
        "tktrot-probe" => vec![("/etc/hosts, /etc/resolv.conf", "as for every look-up of a host")],
        "tktrot-config" | "tktrot-config-check" => vec![SETTINGS_FILE, SECRET],
        "tktrot-run" | "tktrot-check" => [vec![SETTINGS_FILE, SHIM], RINGS.to_vec()].concat(),
        "tktrot" => [vec![SETTINGS_FILE, SECRET, SHIM], RINGS.to_vec()].concat(),
        "tktrot-agent" | "tktrot-peers" => [
            vec![SETTINGS_FILE, SECRET, ("NAME.agent", "the agent's socket, beside its ring")],
            RINGS.to_vec(),
        ]
        .concat(),
        _ => [vec![SETTINGS_FILE], RINGS.to_vec()].concat(),
    }
}

/// What is done, and the line that does it.
pub fn examples(page: &str) -> &'static [Entry] {
    match page {
        "tktrot" => &[
            ("Will it work here, and if not, why:", "tktrot check nginx"),
            ("Start nginx under libtktrot:", "tktrot run -- nginx"),
            ("How are the rings of this host:", "tktrot status"),
            ("What does a server do with tickets, seen from outside:", "tktrot probe example.com"),
        ],
        "tktrot-run" => &[
            ("Start nginx with a new key every 30 minutes:", "tktrot run --rotate 30m nginx"),
            (
                "Two servers that resume each other's tickets, the second in another shell:",
                "tktrot run --ring web -- haproxy -f /etc/haproxy/haproxy.cfg",
            ),
            ("Do not start if anything is wrong:", "tktrot run --strict -- nginx"),
        ],
        "tktrot-check" => &[
            ("Before the first start:", "tktrot check nginx"),
            (
                "With the server's arguments, which say where its configuration is:",
                "tktrot check -- haproxy -f /etc/haproxy/haproxy.cfg",
            ),
            ("Is the shim in a process, and does it work there:", "sudo tktrot check --pid 4711"),
        ],
        "tktrot-status" => &[
            ("All rings, a line each, or the only one in full:", "tktrot status"),
            ("One ring, and what happens in ten seconds:", "tktrot status nginx --interval 10"),
            ("For a program:", "tktrot status --json | jq .severity"),
            ("For the node exporter's textfile collector:", "tktrot status --prometheus"),
        ],
        "tktrot-watch" => &[
            ("Until q:", "tktrot watch nginx"),
            (
                "A line a minute into a file, for an hour:",
                "tktrot watch nginx --interval 60 --count 60 > watch.log",
            ),
        ],
        "tktrot-rotate" => &[
            ("A new key now, on this host:", "tktrot rotate nginx"),
            ("And on every host of the fleet:", "tktrot rotate nginx --fleet"),
        ],
        "tktrot-revoke" => &[
            ("End all keys of a ring, without a question:", "tktrot revoke nginx --all --yes"),
            ("End one key:", "tktrot revoke nginx --key 548e3a2b"),
            (
                "End all keys on every host, and wait until each has confirmed it:",
                "tktrot revoke nginx --all --fleet",
            ),
        ],
        "tktrot-ring" => &[("The rings of this machine:", "tktrot ring list")],
        "tktrot-ring-list" => {
            &[("The rings of this machine, for a program:", "tktrot ring list --json")]
        }
        "tktrot-ring-show" => {
            &[("Who has a ring, and of which version it is:", "tktrot ring show web")]
        }
        "tktrot-ring-remove" => {
            &[("Remove a ring that no process uses:", "tktrot ring remove web")]
        }
        "tktrot-probe" => &[
            ("One server:", "tktrot probe example.com"),
            ("Do two hosts resume each other's tickets:", "tktrot probe --sni www.example.com a b"),
            (
                "Do tickets cross between two names:",
                "tktrot probe --sni a.example --sni b.example host",
            ),
            ("When does the key change:", "tktrot probe --watch 2h example.com"),
            ("All servers of a list, one a line:", "tktrot probe --file /etc/tktrot/probe.targets"),
            ("A mail server:", "tktrot probe --starttls smtp mail.example.com"),
            (
                "For the node exporter's textfile collector:",
                "tktrot probe --file /etc/tktrot/probe.targets --prometheus",
            ),
            (
                "A chat server, by the name of its domain:",
                "tktrot probe --starttls xmpp --sni example.com chat.example.com",
            ),
        ],
        "tktrot-import" => &[(
            "Before a server that had its own key file starts under libtktrot:",
            "tktrot import --format nginx-80 /etc/nginx/ticket.key nginx",
        )],
        "tktrot-export" => &[(
            "For a server that does not run under libtktrot:",
            "tktrot export --format nginx-80 --output /run/tickets/key web",
        )],
        "tktrot-secret" | "tktrot-secret-new" => &[(
            "Make the secret once, then copy it to the other hosts:",
            "tktrot secret new /etc/tktrot/fleet.secret",
        )],
        "tktrot-config" | "tktrot-config-check" => &[
            ("The settings of this host:", "tktrot config check"),
            ("A file before it is put there:", "tktrot config check new.toml"),
        ],
        "tktrot-agent" => {
            &[("As the service does; the ring is that of the servers:", "tktrot agent web")]
        }
        "tktrot-peers" => &[
            ("How are the other hosts:", "tktrot peers"),
            ("For a program:", "tktrot peers web --json"),
        ],
        _ => &[],
    }
}

/// Other pages.
pub fn see_also(page: &str) -> &'static [&'static str] {
    match page {
        "tktrot" => &[
            "tktrot-run(1)",
            "tktrot-check(1)",
            "tktrot-status(1)",
            "tktrot-watch(1)",
            "tktrot-rotate(1)",
            "tktrot-revoke(1)",
            "tktrot-ring(1)",
            "tktrot-probe(1)",
            "tktrot-import(1)",
            "tktrot-export(1)",
            "tktrot-agent(1)",
            "tktrot-peers(1)",
            "tktrot-secret(1)",
            "tktrot-config(1)",
        ],
        "tktrot-run" => &["tktrot(1)", "tktrot-check(1)", "tktrot-status(1)", "ld.so(8)"],
        "tktrot-check" => &["tktrot(1)", "tktrot-run(1)", "tktrot-status(1)", "ld.so(8)"],
        "tktrot-status" => &["tktrot(1)", "tktrot-watch(1)", "tktrot-ring(1)", "tktrot-peers(1)"],
        "tktrot-watch" => &["tktrot(1)", "tktrot-status(1)"],
        "tktrot-rotate" => &["tktrot(1)", "tktrot-revoke(1)", "tktrot-status(1)"],
        "tktrot-revoke" => &["tktrot(1)", "tktrot-rotate(1)", "tktrot-peers(1)"],
        "tktrot-ring" => {
            &["tktrot(1)", "tktrot-ring-list(1)", "tktrot-ring-show(1)", "tktrot-ring-remove(1)"]
        }
        "tktrot-ring-list" | "tktrot-ring-show" | "tktrot-ring-remove" => {
            &["tktrot(1)", "tktrot-ring(1)", "tktrot-status(1)"]
        }
        "tktrot-probe" => &["tktrot(1)", "tktrot-check(1)", "openssl-s_client(1ssl)"],
        "tktrot-import" => &["tktrot(1)", "tktrot-export(1)"],
        "tktrot-export" => &["tktrot(1)", "tktrot-import(1)", "tktrot-agent(1)"],
        "tktrot-agent" => &["tktrot(1)", "tktrot-peers(1)", "tktrot-config(1)", "tktrot-secret(1)"],
        "tktrot-peers" => &["tktrot(1)", "tktrot-agent(1)", "tktrot-status(1)"],
        _ => &["tktrot(1)", "tktrot-agent(1)"],
    }
}
