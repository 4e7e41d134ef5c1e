//! Tickets that a client offers in a real handshake: names and IVs that nobody made, sealed tickets
//! that were changed. The server has libtktrot, as a C program installs it.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::sync::LazyLock;

use foreign_types::ForeignType;
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslSession, SslSessionCacheMode,
    SslVersion,
};
use openssl::x509::{X509, X509NameBuilder};
use tktrot::capi::config::{TKT_UPKEEP_CALLBACK, tkt_config};
use tktrot::capi::error::TKT_OK;
use tktrot::capi::install::tkt_install;

use crate::in_memory::{self, Handshake};

/// In the first byte: TLS 1.3, else TLS 1.2.
pub const V13: u8 = 1;
/// In the first byte: the rest is the ticket. Else it is changes to a sealed one: where (16 bits,
/// big-endian), how many bytes, and the bytes that are added to it bit by bit. With [`CUT`] for their
/// number the ticket ends there; with [`MORE`] what follows is put behind it.
pub const WHOLE: u8 = 2;
/// In the first byte: at another server name than the one it was issued at.
pub const ELSEWHERE: u8 = 4;
/// See [`WHOLE`].
pub const CUT: u8 = 255;
/// See [`WHOLE`].
pub const MORE: u8 = 254;

const ISSUED_AT: &str = "a.test";
const OTHER: &str = "b.test";
/// As long as keys and tickets may live: no run of a fuzzer outlasts it.
const DAY: u32 = 24 * 3600;
const WEEK: u32 = 7 * DAY;

/// A server, a client, and a session of each version that was sealed for `ISSUED_AT`.
struct World {
    server: SslContext,
    client: SslContext,
    sessions: [Sealed; 2],
}

/// A session as the client has it.
struct Sealed {
    der: Vec<u8>,
    ticket: Vec<u8>,
}

static WORLD: LazyLock<World> = LazyLock::new(world);

/// See [`V13`], [`WHOLE`] and [`ELSEWHERE`]. True if the ticket resumed its session, which nothing
/// but a sealed ticket may do, and only where it was issued; all others are full handshakes.
pub fn ticket(bytes: &[u8]) -> bool {
    let Some((kind, rest)) = bytes.split_first() else { return false };
    let world = &*WORLD;
    let (version, session) = version(*kind & V13);
    let sealed = &world.sessions[session];
    let ticket = if kind & WHOLE != 0 { rest.to_vec() } else { changed(&sealed.ticket, rest) };
    let host = if kind & ELSEWHERE != 0 { OTHER } else { ISSUED_AT };
    let offered = in_memory::with_ticket(&sealed.der, &ticket);
    let done = world.handshake(version, host, Some(&offered));
    assert_eq!(done.resumed, ticket == sealed.ticket && host == ISSUED_AT);
    // A client that came with nonsense leaves with a ticket; TLS 1.2 renews none.
    let renews = version == SslVersion::TLS1_3;
    assert_eq!(done.session.is_some(), renews || !done.resumed, "{done:?}");
    done.resumed
}

fn version(bit: u8) -> (SslVersion, usize) {
    match bit {
        0 => (SslVersion::TLS1_2, 0),
        _ => (SslVersion::TLS1_3, 1),
    }
}

fn changed(sealed: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut ticket = sealed.to_vec();
    let mut rest = changes;
    while let [high, low, count, more @ ..] = rest {
        let at = usize::from(u16::from_be_bytes([*high, *low])) % sealed.len();
        let bytes;
        (bytes, rest) = match *count {
            CUT => {
                ticket.truncate(at);
                (&more[..0], more)
            }
            MORE => {
                ticket.extend_from_slice(more);
                break;
            }
            count => more.split_at(usize::from(count).min(more.len())),
        };
        for (to, added) in ticket.iter_mut().skip(at).zip(bytes) {
            *to ^= added;
        }
    }
    ticket
}

impl World {
    fn handshake(&self, version: SslVersion, host: &str, session: Option<&[u8]>) -> Handshake {
        let server = Ssl::new(&self.server).expect("memory");
        let mut client = Ssl::new(&self.client).expect("memory");
        client.set_min_proto_version(Some(version)).expect("a version that there is");
        client.set_max_proto_version(Some(version)).expect("a version that there is");
        client.set_hostname(host).expect("a name");
        if let Some(der) = session {
            let session = SslSession::from_der(der).expect("a session with another ticket");
            // SAFETY: the session was made for no other context than this one's kind.
            unsafe { client.set_session(&session) }.expect("a session of this client");
        }
        in_memory::handshake(server, client)
    }
}

fn world() -> World {
    tktrot::log::open(&tktrot::log::Destination::Nothing).expect("no file");
    let (server, client) = (server(), in_memory::client());
    let mut world = World { server, client, sessions: [sealed_in(&[]), sealed_in(&[])] };
    for bit in [0, V13] {
        let (version, session) = version(bit);
        let done = world.handshake(version, ISSUED_AT, None);
        world.sessions[session] = sealed_in(&done.session.expect("a ticket"));
    }
    world
}

fn sealed_in(der: &[u8]) -> Sealed {
    let ticket = in_memory::ticket_of(der).map(<[u8]>::to_vec).unwrap_or_default();
    Sealed { der: der.to_vec(), ticket }
}

/// One whose ring is in memory only: its file is removed as soon as it is open.
fn server() -> SslContext {
    let mut server = SslContextBuilder::new(SslMethod::tls_server()).expect("a context");
    with_certificate(&mut server);
    // Only tickets resume; a session's number does not.
    server.set_session_cache_mode(SslSessionCacheMode::OFF);
    server.set_options(SslOptions::NO_RENEGOTIATION);
    in_memory::last_for(&mut server, WEEK);
    let server = server.build();
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let path = CString::new(dir.path().as_os_str().as_bytes()).expect("a path without NUL");
    // SAFETY: a struct of numbers and pointers, for all of which zero has a meaning.
    let mut config: tkt_config = unsafe { std::mem::zeroed() };
    config.size = size_of::<tkt_config>();
    (config.dir, config.ring, config.log) = (path.as_ptr(), c"fuzz".as_ptr(), c"none".as_ptr());
    (config.rotate_every, config.lifetime) = (DAY, WEEK);
    config.upkeep = TKT_UPKEEP_CALLBACK;
    config.strict = 1;
    // SAFETY: a live context; a configuration whose strings outlive the call.
    assert_eq!(unsafe { tkt_install(server.as_ptr(), &config) }, TKT_OK);
    server
}

fn with_certificate(server: &mut SslContextBuilder) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("P-256");
    let key = PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key");
    let mut make = || {
        let mut name = X509NameBuilder::new()?;
        name.append_entry_by_nid(Nid::COMMONNAME, ISSUED_AT)?;
        let name = name.build();
        let mut certificate = X509::builder()?;
        certificate.set_version(2)?;
        certificate.set_subject_name(&name)?;
        certificate.set_issuer_name(&name)?;
        certificate.set_pubkey(&key)?;
        certificate.set_not_before(&*Asn1Time::days_from_now(0)?)?;
        certificate.set_not_after(&*Asn1Time::days_from_now(30)?)?;
        certificate.sign(&key, MessageDigest::sha256())?;
        server.set_certificate(&certificate.build())?;
        server.set_private_key(&key)
    };
    let made: Result<(), openssl::error::ErrorStack> = make();
    made.expect("a certificate");
}
