use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use crate::certificate::Certificate;

/// What varies in the configuration.
pub(super) struct Config<'a> {
    pub dir: &'a Path,
    pub certificate: &'a Certificate,
    pub workers: usize,
    pub user: Option<&'a str>,
    pub main: &'a [String],
    pub http: &'a [String],
    pub sites: &'a [Site],
}

/// A server block with a listener of its own.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub addr: SocketAddr,
    /// The directives of `location /`.
    pub answer: String,
    pub lines: Vec<String>,
}

impl Config<'_> {
    /// The text of nginx.conf. It says nothing about tickets, as most configurations.
    pub fn text(&self) -> String {
        let dir = self.dir.display();
        let mut text = String::new();
        let mut line = |depth: usize, content: &str| {
            // Writing to a String can't fail.
            let _ = writeln!(text, "{:1$}{content}", "", depth * 4);
        };
        if let Some(user) = self.user {
            line(0, &format!("user {user};"));
        }
        line(0, &format!("worker_processes {};", self.workers));
        line(0, &format!("pid {dir}/nginx.pid;"));
        line(0, &format!("error_log {dir}/error.log notice;"));
        self.main.iter().for_each(|extra| line(0, extra));
        line(0, "events { worker_connections 512; }");
        line(0, "http {");
        line(1, "access_log off;");
        for module in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            line(1, &format!("{module}_temp_path {dir}/{module};"));
        }
        self.http.iter().for_each(|extra| line(1, extra));
        for site in self.sites {
            line(1, "server {");
            line(2, &format!("listen {} ssl;", site.addr));
            line(2, "server_name localhost;");
            line(2, &format!("ssl_certificate {};", self.certificate.cert.display()));
            line(2, &format!("ssl_certificate_key {};", self.certificate.key.display()));
            line(2, "ssl_protocols TLSv1.2 TLSv1.3;");
            site.lines.iter().for_each(|extra| line(2, extra));
            line(2, &format!("location / {{ {} }}", site.answer));
            line(1, "}");
        }
        line(0, "}");
        text
    }
}
