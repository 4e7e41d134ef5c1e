//! A server's configuration: whether it switches session tickets off, which leaves libtktrot nothing
//! to do.
//!
//! This searches lines and is not a parser. What it finds is reported with file and line, for the
//! reader to judge whether it is in force; if it finds nothing, it says nothing.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Finding;

/// Of a configuration with more files, or larger ones, only this much is searched.
const FILES: usize = 1000;
const BYTES: u64 = 1 << 20;
/// This many occurrences are named; the rest are counted.
const TOLD: usize = 3;

/// OpenSSL's own name for it, in the directives that pass it on to SSL_CONF_cmd(3).
const SSL_CONF: &str = "-SessionTicket";

/// A server whose configuration is known.
struct Server {
    /// Its executables.
    programs: &'static [&'static str],
    /// Where distributions put its configuration.
    usual: &'static [&'static str],
    /// The option that names another.
    file: &'static str,
    /// The option that names the directory to which relative names refer; without one it is the
    /// directory in which the server was started.
    base: Option<&'static str>,
    /// The switch, as an operator writes it.
    switch: &'static str,
    /// The switch in the words of a line, if there is one, as it is to be reported.
    switches_off: fn(&[&str]) -> Option<&'static str>,
}

const SERVERS: [Server; 4] = [
    Server {
        programs: &["haproxy"],
        // HAProxy has no default and does not start without -f. This is what the units pass.
        usual: &["/etc/haproxy/haproxy.cfg"],
        file: "-f",
        base: None,
        switch: "no-tls-tickets",
        switches_off: haproxy,
    },
    Server {
        programs: &["nginx"],
        usual: &["/etc/nginx/nginx.conf"],
        file: "-c",
        base: Some("-p"),
        switch: "\"ssl_session_tickets off\"",
        switches_off: nginx,
    },
    Server {
        programs: &["apache2", "httpd"],
        usual: &["/etc/apache2/apache2.conf", "/etc/httpd/conf/httpd.conf"],
        file: "-f",
        base: Some("-d"),
        switch: "\"SSLSessionTickets off\"",
        switches_off: apache,
    },
    Server {
        programs: &["lighttpd"],
        usual: &["/etc/lighttpd/lighttpd.conf"],
        file: "-f",
        base: None,
        switch: "-SessionTicket",
        switches_off: lighttpd,
    },
];

/// How a server was, or will be, started.
pub struct Start {
    /// The server's root directory, as seen from here.
    pub root: PathBuf,
    /// The directory in which it was started, as the server sees it; `None` if that is not known.
    pub dir: Option<PathBuf>,
    /// The command line after the program.
    pub arguments: Vec<OsString>,
}

/// A line that switches tickets off.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Occurrence {
    /// As the server sees it.
    file: PathBuf,
    line: usize,
    what: &'static str,
}

/// What switches tickets off in the configuration of a program, if the program is known.
pub fn switch_of(program: &str) -> Option<&'static str> {
    server(OsStr::new(program)).map(|server| server.switch)
}

/// Searches for what switches tickets off; `None` if nothing is found, or the program is not known.
pub fn inspect(executable: &Path, start: &Start) -> Option<Finding> {
    let server = server(executable.file_name()?)?;
    let mut found_at = BTreeSet::new();
    for file in server.files(executable, start) {
        search(server, start, file, &mut found_at);
    }
    let what = found_at.first()?.what;
    let mut found = String::new();
    for Occurrence { file, line, what } in found_at.iter().take(TOLD) {
        let separator = if found.is_empty() { "" } else { ", " };
        found.push_str(&format!("{separator}{what} found in {} line {line}", file.display()));
    }
    if let more @ 1.. = found_at.len().saturating_sub(TOLD) {
        found.push_str(&format!(", and in {more} more"));
    }
    let advice = format!(
        "connections to which it applies get no tickets from libtktrot: remove {what}, unless it is intended"
    );
    Some(Finding::warning("tickets", found, &advice))
}

fn server(program: &OsStr) -> Option<&'static Server> {
    SERVERS.iter().find(|server| server.programs.iter().any(|name| *name == program))
}

impl Server {
    /// The files with which its configuration begins, as the server sees them.
    fn files(&self, executable: &Path, start: &Start) -> Vec<PathBuf> {
        let named = values(&start.arguments, self.file);
        if named.is_empty() {
            // A server that was built by hand has its configuration elsewhere.
            let packaged = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Path::new);
            let packaged = executable.parent().is_some_and(|dir| packaged.contains(&dir));
            // Apache's -d moves its default file.
            let moved = self.base == Some("-d") && !values(&start.arguments, "-d").is_empty();
            let usual = self.usual.iter().filter(|_| packaged && !moved).map(PathBuf::from);
            return usual.collect();
        }
        let base = match self.base {
            None => start.dir.clone(),
            // The directory that is compiled in is not known here.
            Some(option) => values(&start.arguments, option).pop().and_then(|base| {
                let relative = base.is_relative();
                if relative { Some(start.dir.as_ref()?.join(base)) } else { Some(base) }
            }),
        };
        let full = |file: PathBuf| match &base {
            Some(base) => Some(base.join(file)),
            None => file.is_absolute().then_some(file),
        };
        named.into_iter().filter_map(full).flat_map(|file| all_of(start, file)).collect()
    }

    /// The files that a line includes, as the server sees them.
    fn included(&self, start: &Start, base: &Path, words: &[&str]) -> Vec<PathBuf> {
        match words {
            [word, file] if includes(word) => expand(start, &base.join(file)),
            _ => Vec::new(),
        }
    }
}

fn includes(word: &str) -> bool {
    ["include", "includeoptional"].iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// The values of an option on a command line.
fn values(arguments: &[OsString], option: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_bytes().strip_prefix(option.as_bytes()) {
            Some([]) => found.extend(arguments.next().map(PathBuf::from)),
            Some(attached) => found.push(OsString::from_vec(attached.to_vec()).into()),
            None => {}
        }
    }
    found
}

/// The file; or, for a directory, which HAProxy accepts as well, the files that HAProxy reads in it.
fn all_of(start: &Start, file: PathBuf) -> Vec<PathBuf> {
    if start.seen(&file).is_dir() { expand(start, &file.join("*.cfg")) } else { vec![file] }
}

/// The files that match a name with `*` in its last part.
fn expand(start: &Start, pattern: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Vec::new();
    };
    if !name.as_bytes().contains(&b'*') {
        return vec![pattern.to_owned()];
    }
    let entries = fs::read_dir(start.seen(dir)).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    let shown = names.filter(|found| !found.as_bytes().starts_with(b"."));
    let matching = shown.filter(|found| matches(name.as_bytes(), found.as_bytes()));
    let mut files: Vec<_> = matching.map(|name| dir.join(name)).collect();
    files.sort();
    files
}

/// True if `name` matches `pattern`, in which `*` stands for anything.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.iter().position(|byte| *byte == b'*') {
        None => pattern == name,
        Some(star) => {
            let (head, tail) = (&pattern[..star], &pattern[star + 1..]);
            name.strip_prefix(head)
                .is_some_and(|rest| (0..=rest.len()).any(|from| matches(tail, &rest[from..])))
        }
    }
}

/// Adds what is found in a file and in those that it includes.
fn search(server: &Server, start: &Start, main: PathBuf, found_at: &mut BTreeSet<Occurrence>) {
    let mut base = main.parent().unwrap_or(Path::new("/")).to_owned();
    let (mut waiting, mut read) = (vec![main], BTreeSet::new());
    for _ in 0..FILES {
        let Some(file) = waiting.pop() else { return };
        if !read.insert(file.clone()) {
            continue;
        }
        let Some(text) = start.read(&file) else { continue };
        for (number, line) in text.lines().enumerate() {
            let words = words(line);
            if let Some(what) = (server.switches_off)(&words) {
                found_at.insert(Occurrence { file: file.clone(), line: number + 1, what });
            }
            if let ["ServerRoot", root] = words[..] {
                base = PathBuf::from(root);
            }
            waiting.extend(server.included(start, &base, &words));
        }
    }
}

impl Start {
    /// A path of the server, as seen from here.
    fn seen(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The text of a file; `None` if it cannot be read.
    fn read(&self, path: &Path) -> Option<String> {
        // Opening a FIFO would wait.
        let options = File::options().read(true).custom_flags(libc::O_NONBLOCK).clone();
        let file = options.open(self.seen(path)).ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(BYTES).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The words of a line, without comments, quotes and the punctuation of any of the languages.
fn words(line: &str) -> Vec<&str> {
    let between = |c: char| c.is_whitespace() || ";{}(),=>\"'".contains(c);
    let comment = line
        .char_indices()
        .find(|(at, c)| *c == '#' && line[..*at].chars().next_back().is_none_or(between));
    let code = comment.map_or(line, |(at, _)| &line[..at]);
    code.split(between).filter(|word| !word.is_empty()).collect()
}

/// Finds the switch in what is passed on to OpenSSL: `Options` and its values.
fn ssl_conf(words: &[&str]) -> Option<&'static str> {
    let [options, values @ ..] = words else { return None };
    let off = values.iter().any(|value| value.eq_ignore_ascii_case(SSL_CONF));
    (options.eq_ignore_ascii_case("Options") && off).then_some(SSL_CONF)
}

/// On a `server` line the word is about connections that HAProxy makes itself.
fn haproxy(words: &[&str]) -> Option<&'static str> {
    let [first, rest @ ..] = words else { return None };
    let listens = ["bind", "ssl-default-bind-options"].contains(first);
    (listens && rest.contains(&"no-tls-tickets")).then_some("no-tls-tickets")
}

fn nginx(words: &[&str]) -> Option<&'static str> {
    let off = words.windows(2).any(|pair| pair == ["ssl_session_tickets", "off"]);
    let handed_on = words.iter().position(|word| *word == "ssl_conf_command");
    let handed_on = || ssl_conf(&words[handed_on? + 1..]);
    if off { Some("ssl_session_tickets off") } else { handed_on() }
}

fn apache(words: &[&str]) -> Option<&'static str> {
    match words {
        [first, off] if first.eq_ignore_ascii_case("SSLSessionTickets") => {
            off.eq_ignore_ascii_case("off").then_some("SSLSessionTickets off")
        }
        [first, rest @ ..] if first.eq_ignore_ascii_case("SSLOpenSSLConfCmd") => ssl_conf(rest),
        _ => None,
    }
}

/// Its `ssl.openssl.ssl-conf-cmd` may go over several lines.
fn lighttpd(words: &[&str]) -> Option<&'static str> {
    let options = words.iter().position(|word| word.eq_ignore_ascii_case("Options"))?;
    ssl_conf(&words[options..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off(name: &str, line: &str) -> Option<&'static str> {
        (server(OsStr::new(name)).unwrap().switches_off)(&words(line))
    }

    #[test]
    fn each_servers_own_words_are_known_and_no_others() {
        for (name, line, is_off) in [
            ("haproxy", "\tssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets", true),
            ("haproxy", "bind :443 ssl crt /x no-tls-tickets alpn h2 # fast", true),
            ("haproxy", "bind :443 ssl crt /x # no-tls-tickets", false),
            ("haproxy", "# bind :443 ssl crt /x no-tls-tickets", false),
            ("haproxy", "server s1 10.0.0.1:443 ssl no-tls-tickets", false),
            ("haproxy", "default-server ssl no-tls-tickets", false),
            ("haproxy", "ssl-default-server-options no-tls-tickets", false),
            ("haproxy", "ssl-default-bind-options tls-tickets", false),
            ("nginx", "    ssl_session_tickets off;", true),
            ("nginx", "server { listen 443 ssl; ssl_session_tickets  \"off\"; }", true),
            ("nginx", "ssl_conf_command Options -SessionTicket;", true),
            ("nginx", "ssl_conf_command Options ServerPreference,-SessionTicket;", true),
            ("nginx", "proxy_ssl_conf_command Options -SessionTicket;", false),
            ("nginx", "ssl_conf_command Options SessionTicket;", false),
            ("nginx", "ssl_session_tickets on;", false),
            ("nginx", "#ssl_session_tickets off;", false),
            ("nginx", "ssl_session_cache off;", false),
            ("apache2", "  SSLSessionTickets Off", true),
            ("httpd", "sslsessiontickets off", true),
            ("apache2", "SSLOpenSSLConfCmd Options -SessionTicket,ServerPreference", true),
            ("apache2", "SSLSessionTickets on", false),
            ("apache2", "#SSLSessionTickets off", false),
            ("lighttpd", "ssl.openssl.ssl-conf-cmd = (\"Options\" => \"-SessionTicket\")", true),
            ("lighttpd", "  \"Options\" => \"-SessionTicket,ServerPreference\",# no", true),
            (
                "lighttpd",
                "  \"MinProtocol\" => \"TLSv1.2\", # \"Options\" => \"-SessionTicket\"",
                false,
            ),
            ("lighttpd", "ssl.openssl.ssl-conf-cmd = (\"Options\" => \"SessionTicket\")", false),
        ] {
            assert_eq!(off(name, line).is_some(), is_off, "{name}: {line}");
        }
    }

    /// A server's files below a directory, as a container's are.
    struct Files(tempfile::TempDir);

    impl Files {
        fn new(files: &[(&str, &str)]) -> Files {
            let dir = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = dir.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Files(dir)
        }

        fn found(&self, executable: &str, dir: &str, arguments: &[&str]) -> Option<String> {
            let start = Start {
                root: self.0.path().to_owned(),
                dir: Some(dir.into()),
                arguments: arguments.iter().map(OsString::from).collect(),
            };
            inspect(Path::new(executable), &start).map(|finding| finding.found)
        }
    }

    #[test]
    fn file_and_line_are_named_and_the_command_line_tells_which_file() {
        let off = "# first\n\nbind :1 ssl no-tls-tickets\n";
        let files = Files::new(&[
            ("etc/haproxy/haproxy.cfg", "bind :1 ssl\n"),
            ("srv/other.cfg", off),
            ("srv/conf/20-b.cfg", off),
            ("srv/conf/10-a.cfg", off),
            ("srv/conf/.hidden.cfg", off),
            ("srv/conf/note.txt", off),
        ]);
        let found = |dir, arguments: &[&str]| files.found("/usr/sbin/haproxy", dir, arguments);
        assert_eq!(found("/", &[]), None);
        let other = Some("no-tls-tickets found in /srv/other.cfg line 3".to_owned());
        assert_eq!(found("/", &["-W", "-f", "/srv/other.cfg", "-p", "/run/pid"]), other);
        assert_eq!(found("/srv", &["-f", "other.cfg"]), other);
        assert_eq!(found("/", &["-f", "other.cfg"]), None);
        assert_eq!(
            found("/", &["-f", "/srv/conf"]).unwrap(),
            "no-tls-tickets found in /srv/conf/10-a.cfg line 3, no-tls-tickets found in /srv/conf/20-b.cfg line 3"
        );
        let four = ["-f", "/srv/conf", "-f", "/srv/other.cfg", "-f", "/srv/conf/note.txt"];
        assert!(found("/", &four).unwrap().ends_with(" line 3, and in 1 more"));
        assert_eq!(files.found("/usr/sbin/unknown", "/srv", &["-f", "other.cfg"]), None);
    }

    #[test]
    fn included_files_are_looked_at_once() {
        let nginx = "include /etc/nginx/sites-enabled/*;\nhttp {\n  include conf.d/*.conf;\n}\n";
        let files = Files::new(&[
            ("etc/nginx/nginx.conf", nginx),
            ("etc/nginx/sites-enabled/site", "server {\n  ssl_session_tickets off;\n}\n"),
            ("etc/nginx/conf.d/loop.conf", "include nginx.conf;\ninclude conf.d/loop.conf;\n"),
            ("etc/nginx/conf.d/note.txt", "ssl_session_tickets off;\n"),
            ("etc/apache2/apache2.conf", "IncludeOptional sites-enabled/*.conf\n"),
            ("etc/apache2/sites-enabled/a.conf", "<VirtualHost *:443>\nSSLSessionTickets off\n"),
            ("etc/httpd/conf/httpd.conf", "ServerRoot \"/etc/httpd\"\nInclude conf.d/ssl.conf\n"),
            ("etc/httpd/conf.d/ssl.conf", "SSLSessionTickets off\n"),
            ("etc/lighttpd/lighttpd.conf", "include \"/etc/lighttpd/conf-enabled/*.conf\"\n"),
            ("etc/lighttpd/conf-enabled/10-ssl.conf", "\"Options\" => \"-SessionTicket\"\n"),
        ]);
        let found = |executable| files.found(executable, "/", &[]).unwrap_or_default();
        assert_eq!(
            found("/usr/sbin/nginx"),
            "ssl_session_tickets off found in /etc/nginx/sites-enabled/site line 2"
        );
        assert_eq!(
            found("/usr/sbin/apache2"),
            "SSLSessionTickets off found in /etc/apache2/sites-enabled/a.conf line 2, \
             SSLSessionTickets off found in /etc/httpd/conf.d/ssl.conf line 1"
        );
        assert_eq!(
            found("/usr/sbin/lighttpd"),
            "-SessionTicket found in /etc/lighttpd/conf-enabled/10-ssl.conf line 1"
        );
        // One that was built by hand does not read what a package brought.
        assert_eq!(found("/usr/local/nginx/sbin/nginx"), "");
    }

    #[test]
    fn a_relative_name_belongs_to_the_servers_own_directory() {
        let files = Files::new(&[("srv/web/conf/nginx.conf", "ssl_session_tickets off;\n")]);
        let found = |arguments: &[&str]| files.found("/usr/sbin/nginx", "/srv/web", arguments);
        assert!(found(&["-p", "/srv/web/", "-c", "conf/nginx.conf"]).is_some());
        assert!(found(&["-p/srv/web", "-cconf/nginx.conf"]).is_some());
        assert!(found(&["-p", "../web", "-c", "conf/nginx.conf"]).is_some());
        // Without -p it is a directory that was compiled in.
        assert!(found(&["-c", "conf/nginx.conf"]).is_none());
    }

    #[test]
    fn a_pattern_matches_from_end_to_end() {
        for (pattern, name, does) in [
            ("*", "anything", true),
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
            ("plain", "plain", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), does, "{pattern} {name}");
        }
    }
}
