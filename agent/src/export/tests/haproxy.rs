//! A stock HAProxy with key files, whose admin socket brings it every new key.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use testbed::client::{Client, Ticket, TlsVersion};
use testbed::haproxy::Haproxy;
use testbed::wait::{self, PATIENCE};
use testbed::{RingDir, artifacts};
use tktrot::clock::{BootClock, Clock};
use tktrot::ring::view::View;
use tktrot::schedule::KeyState;
use tktrot::secret::KeyName;
use tktrot_fleet::config::{Export, Format};

use crate::export::entry::ExportStatus;

use super::{
    Result, Running, Visitors, active, export, holds, key_names, look, names, operator, place,
};

/// A HAProxy under the shim whose keys are plain. Not nginx: whatever the keys, neither resumes a
/// ticket that is not of its own session id context.
fn with_the_shim(rings: &RingDir, rotate: &str) -> Result<Haproxy> {
    let builder = Haproxy::builder()?.preload(artifacts::shim()?).ring(rings);
    let (_, crt) = builder.certificate("site")?;
    let builder = builder.env("TKTROT_BIND", "none").env("TKTROT_ROTATE", rotate);
    Ok(builder.frontend(&format!("crt {}", crt.display())).start()?)
}

/// A HAProxy that reads `file`, and the entry that feeds it.
fn haproxy(file: &RingDir) -> Result<(Haproxy, Export)> {
    let output = file.path().join("ticket.keys");
    let builder = Haproxy::builder()?.admin_socket();
    let (_, crt) = builder.certificate("site")?;
    let bind = format!("crt {} tls-ticket-keys {}", crt.display(), output.display());
    let haproxy = builder.frontend(&bind).prepare()?;
    let mut setting = export(Format::Haproxy, output);
    setting.socket = Some(haproxy.dir().join("admin.sock"));
    Ok((haproxy, setting))
}

fn start_when_written(haproxy: &mut Haproxy, file: &Path) -> Result<()> {
    wait::until(PATIENCE, "HAProxy's file", || file.exists().then_some(()))?;
    Ok(haproxy.start()?)
}

/// A client that carries its ticket from server to server.
struct Traveller {
    client: Client,
    ticket: Option<Ticket>,
    resumed: usize,
}

impl Traveller {
    /// Visits a server; fails if its ticket is of a key that is now active, was so last, or comes
    /// next, and is refused. Returns the key of a new ticket.
    fn visit(&mut self, addr: SocketAddr, view: &View) -> Result<Option<KeyName>> {
        let offered = self.ticket.take().filter(|ticket| !ticket.is_withdrawn());
        let visit = self.client.connect(addr, None, offered.as_ref())?;
        let owes = offered.as_ref().is_some_and(|ticket| is_recent(view, &ticket.key_name()));
        assert!(visit.resumed || !owes, "{}: refused at {addr}", self.client.version());
        self.resumed += usize::from(visit.resumed);
        let new = visit.tickets.into_iter().next_back();
        let name = new.as_ref().map(|ticket| KeyName(ticket.key_name()));
        self.ticket = new.or(offered.filter(|_| visit.resumed));
        Ok(name)
    }
}

/// Whether a key is at most one before the active one.
fn is_recent(view: &View, name: &[u8; 16]) -> bool {
    let now = BootClock.now();
    let mut keys = view.keys();
    keys.sort_by_key(|key| key.times.encrypt_from);
    let place = |is: &dyn Fn(&tktrot::ring::key::KeyFacts) -> bool| keys.iter().position(is);
    let active = place(&|key| key.times.state(now) == KeyState::Active);
    let own = place(&|key| key.name.0 == *name);
    active.zip(own).is_some_and(|(active, own)| own + 1 >= active)
}

#[test]
fn tickets_go_both_ways_through_rotations_without_a_reload() -> Result<()> {
    const ROTATIONS: usize = 4;
    let (rings, file) = (RingDir::new()?, RingDir::new()?);
    let with = with_the_shim(&rings, "3s")?;
    Visitors::of(with.addr(0))?;
    let place = place(&rings, "haproxy");
    let view = look(&place)?;
    let (mut haproxy, setting) = haproxy(&file)?;
    let exporter = Running::start(&place, std::slice::from_ref(&setting))?;
    start_when_written(&mut haproxy, &setting.output)?;
    exporter.wait(0, "HAProxy's keys", |status| status.current);
    let process = haproxy.main_process()?;

    let mut travellers = Vec::new();
    for version in TlsVersion::ALL {
        travellers.push(Traveller { client: Client::new(version)?, ticket: None, resumed: 0 });
    }
    let mut issued: Vec<KeyName> = Vec::new();
    wait::until(Duration::from_secs(60), "HAProxy's own tickets through rotations", || {
        for traveller in &mut travellers {
            traveller.visit(with.addr(0), &view).unwrap();
            let before = names(&view, KeyState::Active);
            if let Some(name) = traveller.visit(haproxy.addr(0), &view).unwrap()
                && issued.last() != Some(&name)
            {
                let now = view.keys().into_iter().map(|key| key.name);
                assert!(before.into_iter().chain(now).any(|known| known == name), "a strange key");
                issued.push(name);
            }
        }
        // However slow the machine is.
        let often = travellers.iter().all(|traveller| traveller.resumed > 10 * ROTATIONS);
        (issued.len() > ROTATIONS && often).then_some(())
    })?;
    let mut distinct = issued.clone();
    distinct.sort_by_key(|name| name.0);
    distinct.dedup();
    assert_eq!(distinct.len(), issued.len(), "it never went back to a former key");
    assert!(travellers.iter().all(|traveller| traveller.resumed > 10 * ROTATIONS));
    assert_eq!(haproxy.main_process()?, process);
    let status = exporter.wait(0, "HAProxy's keys", |status| status.current);
    assert_eq!((status.failures, status.error, status.keys), (0, None, 3));
    Ok(())
}

#[test]
fn rotations_at_will_revocations_and_absences_reach_haproxy() -> Result<()> {
    let (rings, file) = (RingDir::new()?, RingDir::new()?);
    let with = with_the_shim(&rings, "1h")?;
    let first = Visitors::of(with.addr(0))?;
    let place = place(&rings, "haproxy");
    let view = look(&place)?;
    let (mut haproxy, setting) = haproxy(&file)?;
    let exporter = Running::start(&place, std::slice::from_ref(&setting))?;
    let status = exporter.wait(0, "the absence", |status| status.failures > 0);
    assert!(status.error.unwrap_or_default().contains("HAProxy's socket"));
    start_when_written(&mut haproxy, &setting.output)?;
    assert_eq!(first.resumed(haproxy.addr(0))?, [true; 2], "it has read its file");
    exporter.wait_for_key(0, &active(&view)?);

    let rotate = || operator(&place)?.rotate().map_err(|failure| failure.to_string().into());
    let rotated: Result<()> = rotate();
    rotated?;
    exporter.wait_for_key(0, &active(&view)?);
    let second = Visitors::of(haproxy.addr(0))?;
    assert_eq!(key_names(&second), [active(&view)?; 2]);
    assert_eq!(second.resumed(with.addr(0))?, [true; 2]);
    assert_eq!(first.resumed(haproxy.addr(0))?, [true; 2], "of the former key");

    // The former key goes out of HAProxy's memory, the others stay.
    let revoked = key_names(&first)[0];
    let ended = operator(&place)?.revoke_those(|name| *name == revoked);
    assert_eq!(ended.map_err(|failure| failure.to_string())?.len(), 1);
    wait::until(PATIENCE, "the end of the revoked key", || {
        (first.resumed(haproxy.addr(0)).ok()? == [false; 2]).then_some(())
    })?;
    assert_eq!(second.resumed(haproxy.addr(0))?, [true; 2]);
    let names = key_names(&first);
    let text = openssl::base64::encode_block(&names[0].0[..15]);
    assert!(!holds(&setting.output, text.as_bytes())?);

    // All keys at once.
    operator(&place)?.revoke().map_err(|failure| failure.to_string())?;
    exporter.wait_for_key(0, &active(&view)?);
    assert_eq!(second.resumed(haproxy.addr(0))?, [false; 2]);
    let third = Visitors::of(haproxy.addr(0))?;
    assert_eq!(key_names(&third), [active(&view)?; 2]);
    assert_eq!(third.resumed(with.addr(0))?, [true; 2]);

    // A rotation while it does not run.
    haproxy.stop()?;
    let rotated: Result<()> = rotate();
    rotated?;
    exporter.wait(0, "the absence", |status| status.failures > 0);
    haproxy.start()?;
    assert_eq!(third.resumed(haproxy.addr(0))?, [true; 2]);
    assert_eq!(key_names(&Visitors::of(haproxy.addr(0))?), [active(&view)?; 2]);
    exporter.wait(0, "HAProxy's keys", |status| status.current && status.failures == 0);
    Ok(())
}

#[test]
fn a_haproxy_that_reads_another_file_is_told_apart() -> Result<()> {
    let (rings, file, other) = (RingDir::new()?, RingDir::new()?, RingDir::new()?);
    let with = with_the_shim(&rings, "1h")?;
    Visitors::of(with.addr(0))?;
    let place = place(&rings, "haproxy");
    let (mut haproxy, mut setting) = haproxy(&file)?;
    let exporter = Running::start(&place, std::slice::from_ref(&setting))?;
    start_when_written(&mut haproxy, &setting.output)?;
    drop(exporter);
    setting.output = other.path().join("others");
    let exporter = Running::start(&place, &[setting])?;
    // That it does not listen yet is another failure, which passes.
    let says = |status: &ExportStatus, what: &str| {
        status.error.as_ref().is_some_and(|error| error.contains(what))
    };
    let status = exporter.wait(0, "the mistake", |status| says(status, "no bind line"));
    assert!(status.failures > 0 && says(&status, "others"), "{:?}", status.error);
    Ok(())
}
