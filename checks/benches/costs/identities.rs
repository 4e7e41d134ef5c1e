//! A ClientHello that offers very many tickets, none of which the server knows.

use std::ptr;

use foreign_types::ForeignType;
use openssl::rand::rand_bytes;
use openssl::ssl::{Ssl, SslContext};
use openssl_sys as ffi;
use testbed::client::TlsVersion;

use crate::client_hello::ClientHello;
use crate::clock::ThreadTime;
use crate::connection::{self, Link};
use crate::options::Options;
use crate::ratios::Series;
use crate::section::{Curve, Goal, Group, Line, Section, Wanted};
use crate::servers::{self, Keys, Workshop};
use crate::{Result, alternation};

const COUNTS: [usize; 5] = [1, 100, 200, 400, 600];
/// Longer than name and IV, so that the server has to look at it; 600 longer ones do not fit.
const IDENTITY: usize = 16 + 16 + 32;

pub fn measure(options: &Options) -> Result<Section> {
    let workshop = Workshop::new()?;
    let mut servers = Vec::new();
    for keys in Keys::ALL {
        servers.push(workshop.server(keys)?);
    }
    let hello = record(&servers[0])?;
    let names = || Keys::ALL.map(Keys::name);
    let (mut groups, mut goals) = (Vec::new(), Vec::new());
    let mut lines: Vec<Line> =
        names().map(|name| Line { name: name.to_owned(), points: Vec::new() }).into();
    for count in COUNTS {
        let values = alternation::measure(options.rounds, &mut servers, |server| {
            let mut micros = Series::default();
            for _ in 0..options.unless_quick(5, 1) {
                micros.0.push(answer(server, &with_unknown(&hello, count)?)? / 1000.0);
            }
            Ok(micros.median())
        })?;
        for (line, series) in lines.iter_mut().zip(&values) {
            line.points.push((count as f64, series.clone()));
        }
        let group = Group::compared(format!("{count} unknown identities"), "µs", names(), values);
        if count == 600 {
            let ours = group.things.last().and_then(|thing| thing.ratios.clone());
            goals.push(Goal {
                what: "600 unknown PSK identities, to built-in keys",
                wanted: Wanted::AtMost(1.0),
                measured: ours.unwrap_or_default(),
                unit: "",
            });
        }
        groups.push(group);
    }
    let curves = vec![Curve {
        name: "identities",
        title: "One ClientHello, by the number of tickets in it that nobody knows",
        x: "unknown identities",
        y: "µs",
        logarithmic_x: false,
        lines,
    }];
    let about = format!(
        "Processor time of the server from a TLS 1.3 ClientHello to its own first flight, both of a\n\
         full handshake. OpenSSL's client wrote the ClientHello; its pre_shared_key extension was\n\
         replaced by one with so many identities of {IDENTITY} random bytes."
    );
    Ok(Section { name: "identities", about, groups, goals, curves })
}

/// What a client says that has a ticket.
fn record(server: &SslContext) -> Result<ClientHello> {
    let client = servers::client(TlsVersion::V13)?;
    let session = Link { server, client: &client }.connect(None)?.session;
    ClientHello::of_record(&connection::first_flight(&client, &session)?)
}

/// The same with so many tickets that nobody knows, as records.
fn with_unknown(hello: &ClientHello, count: usize) -> Result<Vec<u8>> {
    let mut identities = vec![vec![0; IDENTITY]; count];
    for identity in &mut identities {
        rand_bytes(identity)?;
    }
    hello.with_identities(&identities)
}

/// Nanoseconds of the server's answer.
fn answer(server: &SslContext, hello: &[u8]) -> Result<f64> {
    let mut server = Ssl::new(server)?;
    server.set_accept_state();
    // SAFETY: both BIOs are new and pass into the ownership of the SSL; what is written is copied.
    let to_client = unsafe {
        let from_client = ffi::BIO_new(ffi::BIO_s_mem());
        let to_client = ffi::BIO_new(ffi::BIO_s_mem());
        let len = hello.len() as i32;
        if ffi::BIO_write(from_client, hello.as_ptr().cast(), len) != len {
            return Err("the ClientHello does not fit into memory".into());
        }
        ffi::SSL_set_bio(server.as_ptr(), from_client, to_client);
        to_client
    };
    let mut time = ThreadTime::default();
    if time.measure(|| connection::advance(&server))? {
        return Err("a handshake of one message".into());
    }
    let mut flight = [0u8; 6];
    // SAFETY: the SSL keeps the BIO; a buffer with its length.
    let got = unsafe { ffi::BIO_read(to_client, ptr::from_mut(&mut flight).cast(), 6) };
    // A handshake record, in it a ServerHello.
    match got == 6 && flight[0] == 22 && flight[5] == 2 {
        true => Ok(time.nanos as f64),
        false => Err("the server did not answer with a ServerHello".into()),
    }
}
