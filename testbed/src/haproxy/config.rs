use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

/// What varies in the configuration.
pub(super) struct Config<'a> {
    pub dir: &'a Path,
    pub unprivileged: bool,
    pub admin_socket: bool,
    pub global: &'a [String],
    pub binds: &'a [String],
    pub addrs: &'a [SocketAddr],
}

impl Config<'_> {
    /// The text of haproxy.cfg.
    pub fn text(&self) -> String {
        let dir = self.dir.display();
        let mut text = String::new();
        let mut section = |head: &str, lines: &[String]| {
            // Writing to a String can't fail.
            let _ = writeln!(text, "{head}\n    {}\n", lines.join("\n    "));
        };
        let mut global = vec![format!("pidfile {dir}/haproxy.pid")];
        if self.unprivileged {
            global.extend(["user haproxy".into(), "group haproxy".into()]);
            global.push(format!("chroot {dir}/empty"));
        }
        if self.admin_socket {
            let options = "mode 600 level admin expose-fd listeners";
            global.push(format!("stats socket {dir}/admin.sock {options}"));
        }
        global.extend_from_slice(self.global);
        section("global", &global);
        let timeouts = ["client", "connect", "server"].map(|what| format!("timeout {what} 5s"));
        section("defaults", &[&["mode http".to_owned()], &timeouts[..]].concat());
        for (number, (bind, addr)) in self.binds.iter().zip(self.addrs).enumerate() {
            let answer = format!("status 200 content-type text/plain string {number}");
            section(
                &format!("frontend f{number}"),
                &[format!("bind {addr} ssl {bind}"), format!("http-request return {answer}")],
            );
        }
        text
    }
}
