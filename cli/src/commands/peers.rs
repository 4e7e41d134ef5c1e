//! `tktrot peers [RING] [--json]`.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use comfy_table::{Table, presets};

use super::agent::ask;
use crate::output::{in_words, out, outln, printable};
use crate::rings::RingArgument;
use crate::settings;
use crate::severity::Severity;
use tktrot_agent::ExportStatus;
use tktrot_agent::control::Question;
use tktrot_agent::figures::{Figures, Peer, Redis, Sharing, State, Told};
use tktrot_agent::problems::Problem;

#[derive(clap::Args)]
#[command(after_long_help = "\
Exit status: 0 if every peer is up and has sent its keys, nothing is wrong with any of them, and every \
export is current; 1 if not; 2 if no agent answers. A peer is a host, however many addresses it has. What \
can be wrong: it is not connected, or never was; it refuses keys, or this host does; it has another rotate, \
lifetime or binding, another release, or a wall clock that shows another time. With Redis: 0 if it is used, \
the fleet's key encrypts, nobody uses the ring's names there with another rotate or with a secret that this \
host does not have, and nothing else is there; 1 if not.")]
pub struct Arguments {
    #[command(flatten)]
    ring: RingArgument,

    /// Prints JSON (docs/schemas/peers.schema.json)
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    let settings = settings::read(config)?;
    let place = arguments.ring.place(&settings)?;
    let figures: Figures = ask(&place, &Question::Peers {})?;
    if arguments.json {
        outln!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        out!("{}{}{}", told(&figures), problems(&figures), exports(&figures.exports));
    }
    let is_well = figures.problems().next().is_none();
    let all_current = figures.exports.iter().all(|export| export.current);
    let redis_is_well = figures
        .told
        .redis
        .iter()
        .all(|redis| redis.address.is_some() && redis.error.is_none() && redis.shared);
    Ok(if is_well && redis_is_well && all_current && figures.told.synced {
        Severity::Ok
    } else {
        Severity::Warning
    })
}

fn told(figures: &Figures) -> String {
    let Told { own_keys, other_keys, synced, .. } = figures.told;
    let keys = match figures.told.sharing {
        // Whose they are is not known yet.
        Sharing::Redis if !synced => format!("{} keys", own_keys + other_keys),
        Sharing::Redis => format!("{other_keys} keys of the fleet, {own_keys} of this host's own"),
        _ => format!("{own_keys} keys of its own, {other_keys} of others"),
    };
    let head = format!("{}: node {}, {keys}", printable(&figures.ring), printable(&figures.node));
    if figures.told.sharing != Sharing::Mesh {
        let with = match &figures.told.redis {
            Some(Redis { address: Some(address), error: Some(error), .. }) => {
                format!("Redis at {} IS NOT USED: {}", printable(address), printable(error))
            }
            Some(Redis { address: Some(address), shared, .. }) => {
                let address = printable(address);
                match shared {
                    true => format!(
                        "keys are shared through Redis at {address}; the fleet's key encrypts"
                    ),
                    false => {
                        format!("connected to Redis at {address}; the fleet's key DOES NOT encrypt")
                    }
                }
            }
            Some(Redis { error: Some(error), .. }) => {
                format!("Redis CANNOT BE USED: {}", printable(error))
            }
            Some(_) => "Redis has not answered yet".into(),
            None => "keys are shared with nobody".into(),
        };
        return format!("{head}\n{with}\n");
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["HOST", "NODE", "STATE", "ROUND TRIP", "KEYS", "ACKNOWLEDGED", "LAST ERROR"]);
    for peer in &figures.told.peers {
        table.add_row(row(peer));
    }
    let synced = if figures.told.synced { "" } else { "not every peer has sent its keys yet\n" };
    let up = figures.others().filter(|peer| peer.state == State::Up).count();
    format!(
        "{head}\n{up} of {} peers up\n{synced}\n{}\n",
        figures.others().count(),
        table.trim_fmt()
    )
}

/// All that is wrong, a line each; empty if nothing is. What Redis says is told above.
fn problems(figures: &Figures) -> String {
    let line = |(peer, problem): (Option<&Peer>, &Problem)| {
        let host = peer.map_or("this host".into(), |peer| printable(&peer.name));
        format!("{host}: {}\n", printable(&problem.what))
    };
    let lines: String = figures.problems().map(line).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

/// A table of the exports; empty if there are none.
fn exports(exports: &[ExportStatus]) -> String {
    if exports.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["EXPORT", "FORMAT", "STATE", "KEYS", "ENCRYPTS", "LAST ERROR"]);
    for export in exports {
        let or_none = |text: Option<&str>| text.map_or("-".into(), printable);
        let format = export.format.to_possible_value();
        table.add_row([
            printable(&export.output.to_string_lossy()),
            format.map_or("-".into(), |format| format.get_name().to_owned()),
            if export.current { "current".into() } else { "BEHIND".into() },
            export.keys.to_string(),
            or_none(export.encrypts.as_deref().and_then(|name| name.get(..8))),
            or_none(export.error.as_deref()),
        ]);
    }
    format!("\n{}\n", table.trim_fmt())
}

fn row(peer: &Peer) -> [String; 7] {
    let none = || "-".to_owned();
    [
        printable(&peer.name),
        peer.node.as_deref().map_or_else(none, printable),
        match peer.state {
            State::Up => "up".into(),
            State::Down => "DOWN".into(),
            State::Self_ => "this host".into(),
        },
        peer.round_trip.map_or_else(none, |seconds| format!("{:.1} ms", seconds * 1000.0)),
        peer.keys.to_string(),
        peer.acknowledged_ago.map_or_else(none, |seconds| {
            format!("{} ago", in_words(Duration::try_from_secs_f64(seconds).unwrap_or_default()))
        }),
        peer.last_error.as_deref().map_or_else(none, |error| {
            let ago = peer.last_error_ago.unwrap_or_default();
            let ago = in_words(Duration::try_from_secs_f64(ago).unwrap_or_default());
            format!("{} ({ago} ago)", printable(error))
        }),
    ]
}
