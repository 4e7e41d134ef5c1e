//! HAProxy with client certificates. What else happens to it is in `tests/haproxy`.

use crate::Result;
use crate::journey::{journeys, strangers_stay_out};
use crate::kind::{Asks, Kind, PLAIN, Reload, Site};

pub const HAPROXY: Kind = Kind {
    ring: "haproxy",
    configure,
    command: |site| {
        let config = site.path("haproxy.cfg");
        ["/usr/sbin/haproxy", "-W", "-db", "-f", &config].map(str::to_owned).to_vec()
    },
    // Also logged at the start.
    reload: Some(Reload::Signal(libc::SIGUSR2, "Loading success")),
    // Before that its master executes itself once more, and loses what comes meanwhile.
    settled: Some(libc::SIGCHLD),
    ..PLAIN
};

fn configure(site: &Site, asks: Asks) -> Result {
    let verify = asks.among("none", "optional", "required");
    let config = format!(
        "global\n  stats socket {} mode 600 level admin expose-fd listeners\n\
         defaults\n  mode http\n  timeout client 30s\n  timeout connect 30s\n  timeout server 30s\n\
         frontend tls\n  bind {} ssl crt {} ca-file {} verify {verify}\n  \
         http-request return status 200 content-type text/plain lf-string \"%[ssl_c_s_dn]\"\n",
        site.path("admin.sock"),
        site.addr,
        site.path("both.pem"),
        site.clients.display(),
    );
    site.write("haproxy.cfg", &config)
}

#[test]
fn haproxy_resumes_whomever_it_asks() -> Result {
    journeys(HAPROXY, &Asks::ALL)
}

#[test]
fn haproxy_keeps_strangers_out() -> Result {
    strangers_stay_out(HAPROXY, &[Asks::Nobody, Asks::Anybody])
}
