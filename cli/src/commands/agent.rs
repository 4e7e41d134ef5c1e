//! `tktrot agent [RING]`, and how other commands ask one that runs.

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};
use serde::de::DeserializeOwned;
use tktrot::ring::file::Place;
use tktrot_agent::control::{AskError, Question};
use tktrot_agent::{Opened, RingMetrics};

use crate::rings::{self, RingArgument};
use crate::settings::{self, Settings};
use crate::severity::Severity;
use crate::status::observer::Observer;
use crate::status::prometheus;

#[derive(clap::Args)]
#[command(after_long_help = "\
The settings file says with whom keys are shared, in its sections [agent], [mesh], [redis] and \
[[export]]; without them the agent only rotates. It tells the service manager when it is ready \
(sd_notify), reads its settings again at SIGHUP, and stops at SIGTERM. Servers then rotate the keys themselves again, as they do if it dies.")]
pub struct Arguments {
    #[command(flatten)]
    ring: RingArgument,
}

pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    tktrot_agent::hold_reload();
    let settings = settings::read(config)?;
    let open = || open(&settings, &arguments.ring);
    let ring = || arguments.ring.usable(&settings);
    let file = config.map(ToOwned::to_owned);
    let reread = Box::new(move || settings::read(file.as_deref()).map(|read| of_agent(&read)));
    tktrot_agent::run(of_agent(&settings), ring, open, reread)?;
    Ok(Severity::Ok)
}

fn of_agent(settings: &Settings) -> tktrot_agent::Settings {
    let Settings { fleet, config, doubts, .. } = settings.clone();
    tktrot_agent::Settings { fleet, config, doubts }
}

fn open(settings: &Settings, argument: &RingArgument) -> Result<Opened> {
    let (place, keyring, made) = argument.open_or_make(settings)?;
    let view = Arc::new(rings::look_at(&place)?);
    let observer = Observer::of_open(place.path(), Arc::clone(&view));
    let name = observer.name();
    Ok(Opened { place, name, keyring, view, made, metrics: metrics(observer) })
}

/// A ring that cannot be read has metrics, too: that it cannot.
fn metrics(observer: Observer) -> RingMetrics {
    let name = observer.name();
    let observer = Mutex::new(observer);
    Arc::new(move || {
        // An earlier look may have failed in the middle.
        let reading = observer.lock().ok().and_then(|mut observer| observer.read().ok());
        prometheus::text(&[(name.clone(), reading)])
    })
}

/// Asks the agent of a ring.
///
/// # Errors
///
/// None runs, it is somebody else's, or it says why not.
pub fn ask<A: DeserializeOwned>(place: &Place, question: &Question) -> Result<A> {
    tktrot_agent::control::ask(place, question).map_err(|error| {
        let path = place.path();
        let hint = match error {
            AskError::NoAgent | AskError::Gone => {
                format!(" (start one: tktrot agent {})", rings::title(&path))
            }
            AskError::Unanswered if matches!(question, Question::Revoke { .. }) => {
                "; tktrot revoke without --fleet ends keys on this host at once".into()
            }
            _ => String::new(),
        };
        anyhow!("{}: {error}{hint}", path.display())
    })
}
