//! The exporter with real servers, and with entries that fail.

mod apache;
mod commands;
mod failing;
mod haproxy;
mod lighttpd;
mod nginx;
mod order;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use testbed::RingDir;
use testbed::visitors::Visitors;
use testbed::wait::{self, PATIENCE};
use tktrot::clock::{BootClock, Clock};
use tktrot::config::{Bind, Config};
use tktrot::ring::file::Place;
use tktrot::ring::key::Key;
use tktrot::ring::view::View;
use tktrot::rotate::Keyring;
use tktrot::schedule::KeyState;
use tktrot::secret::KeyName;
use tktrot_fleet::config::{Export, Format};
use tokio::sync::oneshot;

use super::Exporter;
use super::entry::{Entry, ExportStatus};
use tktrot_keyfile::generator::OpenSsl;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// An entry with nothing but what it must have.
fn export(format: Format, output: PathBuf) -> Export {
    let (socket, command, group) = (None, Vec::new(), None);
    Export { format, output, socket, command, timeout: PATIENCE, mode: 0o600, group }
}

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|&word| word.to_owned()).collect()
}

/// Where the ring of that name lies.
fn place(rings: &RingDir, name: &str) -> Place {
    Place { dir: rings.path().to_owned(), file: format!("{name}.ring"), dir_mode: 0o700 }
}

fn look(place: &Place) -> Result<View> {
    Ok(place.look().map_err(|refused| refused.to_string())?.ok_or("there is no ring")?)
}

/// A ring without a server, whose keys last for an hour.
fn ring(rings: &RingDir, bind: Bind) -> Result<(Place, Keyring)> {
    let hour = Duration::from_secs(3600);
    let place = place(rings, "test");
    let config = Config { bind: Some(bind), rotate_every: Some(hour), ..Config::default() };
    let ring = place.open(config.most_keys()).map_err(|refused| refused.to_string())?;
    let keyring = Keyring::new(ring, BootClock, &OpenSsl);
    keyring.configure(&config).map_err(|failure| failure.to_string())?;
    keyring.tick_patiently();
    Ok((place, keyring))
}

/// The ring that a server has made, to act on.
fn operator(place: &Place) -> Result<Keyring> {
    let ring = place.open_present().map_err(|refused| refused.to_string())?;
    Ok(Keyring::new(ring.ok_or("there is no ring")?, BootClock, &OpenSsl))
}

/// The name of the key that encrypts.
fn active(view: &View) -> Result<KeyName> {
    let mut key = Box::new(Key::blank());
    view.encrypting(BootClock.now(), &mut key).then_some(key.name).ok_or("no key".into())
}

/// The names of the ring's keys in that state.
fn names(view: &View, state: KeyState) -> Vec<KeyName> {
    let now = BootClock.now();
    let keys = view.keys().into_iter().filter(|key| key.times.state(now) == state);
    keys.map(|key| key.name).collect()
}

fn hex(name: &KeyName) -> String {
    name.to_string()
}

/// Whether a file has those bytes somewhere.
fn holds(file: &Path, bytes: &[u8]) -> Result<bool> {
    Ok(std::fs::read(file)?.windows(bytes.len()).any(|part| part == bytes))
}

/// An exporter at work in a thread of its own, as it is in the agent's.
struct Running {
    statuses: Arc<Mutex<Vec<ExportStatus>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(place: &Place, exports: &[Export]) -> Result<Running> {
        let entries = exports.iter().map(Entry::of).collect::<anyhow::Result<Vec<_>>>()?;
        let statuses = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = oneshot::channel();
        let (place, copies) = (place.clone(), statuses.clone());
        let thread = thread::spawn(move || {
            let view = place.look().expect("a ring").expect("a ring");
            let exporter = Exporter::new(entries, view.into());
            let status = exporter.status();
            let copy = async {
                loop {
                    *copies.lock().unwrap() = status.get();
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), async {
                tokio::select! {
                    () = exporter.run() => {}
                    () = copy => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Running { statuses, stop: Some(stop), thread: Some(thread) })
    }

    /// Waits until an entry's status is as it is wanted.
    fn wait(&self, entry: usize, what: &str, is: impl Fn(&ExportStatus) -> bool) -> ExportStatus {
        let find = || self.statuses.lock().unwrap().get(entry).filter(|status| is(status)).cloned();
        wait::until(PATIENCE, what, find)
            .unwrap_or_else(|late| panic!("{late}: {:?}", self.statuses.lock().unwrap()))
    }

    /// Waits until an entry's server is up to date and encrypts with that key.
    fn wait_for_key(&self, entry: usize, name: &KeyName) -> ExportStatus {
        self.wait(entry, "the key that encrypts", |status| {
            status.current && status.encrypts.as_ref() == Some(&hex(name))
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(ended.is_none_or(|ended| ended.is_ok()), "the exporter's thread panicked");
        }
    }
}

/// The names of the keys of their tickets.
fn key_names(visitors: &Visitors) -> Vec<KeyName> {
    visitors.key_names().into_iter().map(KeyName).collect()
}
