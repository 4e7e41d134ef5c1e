//! nginx with client certificates. What else happens to it is in `tests/nginx.rs` and its like.

use crate::Result;
use crate::journey::{journeys, strangers_stay_out};
use crate::kind::{Asks, Kind, PLAIN, Reload, Site};

pub const NGINX: Kind = Kind {
    ring: "nginx",
    configure,
    command: |site| {
        let config = site.path("nginx.conf");
        ["/usr/sbin/nginx", "-e", "stderr", "-c", &config].map(str::to_owned).to_vec()
    },
    // Also logged at the start.
    reload: Some(Reload::Signal(libc::SIGHUP, "start worker processes")),
    ..PLAIN
};

fn configure(site: &Site, asks: Asks) -> Result {
    let verify = asks.among("off", "optional", "on");
    let config = format!(
        "daemon off;\n\
         user www-data;\n\
         worker_processes 2;\n\
         pid {};\n\
         error_log stderr notice;\n\
         events {{}}\n\
         http {{\n\
         access_log off;\n\
         server {{\n\
         listen {} ssl;\n\
         ssl_protocols TLSv1.2 TLSv1.3;\n\
         ssl_certificate {};\n\
         ssl_certificate_key {};\n\
         ssl_client_certificate {};\n\
         ssl_verify_client {verify};\n\
         location / {{ return 200 \"$ssl_client_verify $ssl_client_s_dn\"; }}\n\
         }}\n\
         }}\n",
        site.path("nginx.pid"),
        site.addr,
        site.certificate.cert.display(),
        site.certificate.key.display(),
        site.clients.display(),
    );
    site.write("nginx.conf", &config)
}

#[test]
fn nginx_resumes_whomever_it_asks() -> Result {
    journeys(NGINX, &Asks::ALL)
}

#[test]
fn nginx_keeps_strangers_out() -> Result {
    strangers_stay_out(NGINX, &[Asks::Nobody, Asks::Anybody])
}
