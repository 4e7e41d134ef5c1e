//! hitch in the foreground. What else happens to it is in `tests/hitch.rs`.

use testbed::backend::Backend;

use crate::Result;
use crate::journey::journeys;
use crate::kind::{Asks, Kind, PLAIN, Reload, Site};

pub const HITCH: Kind = Kind {
    ring: "hitch",
    configure: |site, _| configure(site),
    command: |site| {
        let config = site.path("hitch.conf");
        ["/usr/sbin/hitch", "--config", &config].map(str::to_owned).to_vec()
    },
    // Until then the old worker cuts connections that it has accepted; so there is one worker, which
    // says it once.
    reload: Some(Reload::Signal(libc::SIGHUP, "is now exiting")),
    deaf: true,
    ..PLAIN
};

fn configure(site: &Site) -> Result {
    // It lives as long as the test program.
    let backend = Box::leak(Box::new(Backend::start("ok")?)).addr();
    let config = format!(
        "frontend = \"[{}]:{}\"\nbackend = \"[{}]:{}\"\npem-file = \"{}\"\nworkers = 1\n\
         daemon = off\nuser = \"nobody\"\ngroup = \"nogroup\"\n",
        site.addr.ip(),
        site.addr.port(),
        backend.ip(),
        backend.port(),
        site.path("both.pem"),
    );
    site.write("hitch.conf", &config)
}

#[test]
fn hitch_resumes() -> Result {
    journeys(HITCH, &[Asks::Nobody])
}
