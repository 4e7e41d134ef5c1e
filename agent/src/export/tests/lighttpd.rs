//! A stock lighttpd with `ssl.stek-file`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use testbed::RingDir;
use testbed::foreground::Foreground;
use testbed::wait;
use tktrot::clock::{BootClock, Clock};
use tktrot::config::Bind;
use tktrot_fleet::config::Format;

use super::{Result, Running, Visitors, active, export, key_names, look, ring};
use tktrot_keyfile::files::{self, Fate, Writing};
use tktrot_keyfile::lighttpd::Now;
use tktrot_keyfile::private::{Disk, Manner};
use tktrot_keyfile::selection::Selection;

const BINARY: &str = "/usr/sbin/lighttpd";
/// It looks for a new file every 64 seconds.
const LOOKS: Duration = Duration::from_secs(90);

fn start(stek_file: &str) -> Result<Foreground> {
    let builder = Foreground::builder()?;
    let (dir, addr) = (builder.dir().display(), builder.addr());
    let config = format!(
        "server.modules = (\"mod_openssl\")\nserver.document-root = \"{dir}\"\n\
         server.bind = \"{}\"\nserver.port = {}\nssl.engine = \"enable\"\n\
         ssl.pemfile = \"{dir}/both.pem\"\nssl.stek-file = \"{stek_file}\"\n",
        addr.ip(),
        addr.port()
    );
    let path = builder.file("lighttpd.conf", config.as_bytes())?;
    let path = path.to_str().ok_or("the path is not UTF-8")?.to_owned();
    Ok(builder.start(BINARY, &["-D", "-f", &path])?)
}

fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The exporter's file, and what it relies on: a key whose time has not come is read by itself, and
/// decrypts, but does not encrypt.
#[test]
fn lighttpd_takes_a_key_ahead_of_its_time() -> Result<()> {
    let (rings, files) = (RingDir::new()?, RingDir::new()?);
    let (place, keyring) = ring(&rings, Bind::NONE)?;
    let view = look(&place)?;
    let old = active(&view)?;
    let output = files.path().join("stek");
    let path = output.to_str().ok_or("a path")?;
    let exporter = Running::start(&place, &[export(Format::Lighttpd, output.clone())])?;
    let status = exporter.wait_for_key(0, &old);
    assert_eq!(status.keys, 1);
    let lighttpd = start(path)?;
    let first = Visitors::of(lighttpd.addr())?;
    assert_eq!(key_names(&first), [old; 2]);

    // The rotation that the ring makes is not written at once: the file was written just now.
    keyring.rotate().map_err(|failure| failure.to_string())?;
    let new = active(&view)?;
    exporter.wait(0, "the pause", |status| !status.current);
    let file = std::fs::read(&output)?;
    assert_eq!(file[12..28], old.0);
    drop(exporter);

    // As the exporter will write it then.
    let now = Now { ring: BootClock.now(), wall: SystemTime::now() };
    let manner = Manner { disk: Disk::Never, mode: 0o600, group: None };
    let not_before = super::super::lighttpd::not_before(wall(), true);
    let writing = Writing { now, manner, fate: Fate::Current, not_before };
    wait::until(LOOKS, "a second in which it does not look", || {
        super::super::lighttpd::may_write(wall(), None, true, tokio::time::Instant::now())
            .then_some(())
    })?;
    let keys = Selection::of(&view, now.ring)?;
    files::write(files::Format::Lighttpd, &keys.lineup(), &output, writing)?;
    // A lighttpd of which that is the first key has none to encrypt with, but opens its tickets.
    let lone = start(path)?;
    assert!(Visitors::of(lone.addr()).is_err(), "no tickets yet");

    let begun = not_before.saturating_sub(wall());
    assert!(begun > 64, "its time is after its next look");
    let mut without_time = writing;
    without_time.not_before = 0;
    let now_file = files.path().join("now");
    files::write(files::Format::Lighttpd, &keys.lineup(), &now_file, without_time)?;
    let at_once = start(now_file.to_str().ok_or("a path")?)?;
    let second = Visitors::of(at_once.addr())?;
    assert_eq!(key_names(&second), [new; 2]);
    wait::until(LOOKS, "lighttpd to read its file", || {
        (second.resumed(lighttpd.addr()).ok()? == [true; 2]).then_some(())
    })?;
    assert_eq!(first.resumed(lighttpd.addr())?, [true; 2], "of the former key");
    if wall() < not_before {
        let third = Visitors::of(lighttpd.addr())?;
        assert!(wall() >= not_before || key_names(&third) == [old; 2], "its time has not come");
    }
    Ok(())
}
