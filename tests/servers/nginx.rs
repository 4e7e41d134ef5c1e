//! nginx with client certificates. What else happens to it is in `tests/nginx.rs` and its like.

use crate::Result;
use crate::journey::{journeys, strangers_stay_out};
use crate::kind::{Asks, Kind, PLAIN, Place, Reload};

const NGINX: Kind = Kind {
    ring: "nginx",
    configure,
    command: |place| {
        let config = place.path("nginx.conf");
        ["/usr/sbin/nginx", "-e", "stderr", "-c", &config].map(str::to_owned).to_vec()
    },
    // Also logged at the start.
    reload: Some(Reload::Signal(libc::SIGHUP, "start worker processes")),
    ..PLAIN
};

fn configure(place: &Place, asks: Asks) -> Result {
    let verify = match asks {
        Asks::Nobody => "off",
        Asks::Anybody => "optional",
        Asks::Everybody => "on",
    };
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
        place.path("nginx.pid"),
        place.addr,
        place.certificate.cert.display(),
        place.certificate.key.display(),
        place.clients.display(),
    );
    place.write("nginx.conf", &config)
}

#[test]
fn nginx_resumes_whomever_it_asks() -> Result {
    journeys(NGINX, &Asks::ALL)
}

#[test]
fn nginx_keeps_strangers_out() -> Result {
    strangers_stay_out(NGINX, &[Asks::Nobody, Asks::Anybody])
}
