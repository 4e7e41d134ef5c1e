//! One entry's delivery: what its server has, what it should have, and how far that is.

use std::time::Duration;

use anyhow::{Context, Result};
use tktrot::secret::KeyName;
use tktrot_fleet::config::Export;
use tktrot_keyfile::files::{self, Fate, Format, Writing};
use tktrot_keyfile::lighttpd::Now;
use tktrot_keyfile::selection::Selection;
use tokio::time::Instant;

use super::entry::{Entry, ExportStatus};
use super::haproxy::{self, Row};
use super::holdings::Holdings;
use super::plan::{Outline, Wish};
use super::{command, lighttpd};

/// How long after its command a server counts as having read its files: `reload` commands return
/// before the reload is done.
const SETTLING: Duration = Duration::from_secs(2);
/// How long after a failure it is tried again, first and at most.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// What is to be done once files are written.
pub struct Errand {
    row: Option<Row>,
    entry: Entry,
}

/// How an errand ended.
pub enum Outcome {
    Told(Option<String>),
    /// The server does not run; when it starts, it reads its files.
    Absent(anyhow::Error),
    Failed(anyhow::Error),
}

/// One entry.
pub struct Delivery {
    entry: Entry,
    holdings: Holdings,
    /// What its server was told to read.
    done: Option<Wish>,
    /// What it is being told to read.
    under_way: Option<Wish>,
    /// The keys that lighttpd was given, the newest first.
    given: Vec<KeyName>,
    written: Option<Instant>,
    /// What it was to have last time, and when that is tried again.
    tried: Option<Wish>,
    retry_at: Option<Instant>,
    pub status: ExportStatus,
}

impl Delivery {
    pub fn new(entry: Entry) -> Delivery {
        let holdings = Holdings::of_files(&entry);
        // lighttpd would take the same key for a new one.
        let is_lighttpd = entry.format == Format::Lighttpd;
        let given = holdings.certain().filter(|_| is_lighttpd).map(<[_]>::to_vec);
        Delivery {
            status: ExportStatus::new(entry.format, entry.setting.output.clone()),
            holdings,
            done: given.clone().map(Wish),
            under_way: None,
            given: given.unwrap_or_default(),
            written: None,
            tried: None,
            retry_at: None,
            entry,
        }
    }

    /// Whether its server is in nobody's way who wants to encrypt with that key: it can decrypt it,
    /// or never will.
    pub fn can_follow(&self, name: &KeyName, now: Instant) -> bool {
        self.entry.format == Format::Apache || self.holdings.has(name, now)
    }

    /// How long before its time a key is to be with the server that is to encrypt with it.
    pub fn ahead(&self) -> Duration {
        if self.entry.format == Format::Lighttpd { lighttpd::AHEAD } else { Duration::ZERO }
    }

    /// Writes files if its server is to have others than it has, or to encrypt with another key.
    /// Returns what is to be done then.
    pub fn write(
        &mut self,
        outline: &Outline,
        encrypts: &KeyName,
        select: impl FnOnce() -> Result<Selection>,
        now: Now,
    ) -> Option<Errand> {
        if self.under_way.is_some() {
            return None;
        }
        let instant = Instant::now();
        let wish = outline.wish(self.entry.format, encrypts)?;
        let is_there = self.entry.setting.output.exists();
        self.status.current = is_there && self.done.as_ref() == Some(&wish);
        let was_tried = self.tried.as_ref() == Some(&wish);
        let waits = was_tried && self.retry_at.is_some_and(|at| instant < at);
        let is_good = self.given.first().is_some_and(|given| outline.line.has(given));
        let is_too_soon = self.entry.format == Format::Lighttpd
            && !lighttpd::may_write(now.seconds(), self.written, is_good && is_there, instant);
        if self.status.current || waits || is_too_soon {
            return None;
        }
        self.tried = Some(wish.clone());
        let not_before = lighttpd::not_before(now.seconds(), is_good);
        match self.write_now(encrypts, select, now, not_before) {
            Ok(errand) => {
                self.done = None;
                self.written = Some(instant);
                self.status.written = Some(now.seconds());
                self.status.keys = wish.0.len();
                self.status.encrypts = Some(encrypts.to_string());
                self.under_way = Some(wish);
                Some(errand)
            }
            Err(error) => {
                self.fail(&error, instant);
                None
            }
        }
    }

    fn write_now(
        &self,
        encrypts: &KeyName,
        select: impl FnOnce() -> Result<Selection>,
        now: Now,
        not_before: u64,
    ) -> Result<Errand> {
        let selection = select()?;
        let lineup = selection.lineup_of(encrypts).context("the key is gone")?;
        let (format, manner) = (self.entry.format, self.entry.manner());
        let writing = Writing { now, manner, fate: Fate::Current, not_before };
        files::write(format, &lineup, &self.entry.setting.output, writing)?;
        let has_socket = self.entry.setting.socket.is_some();
        let row = has_socket.then(|| Row::of(lineup.for_haproxy([lineup.encrypts; 2])));
        Ok(Errand { row, entry: self.entry.clone() })
    }

    /// Takes down how its errand ended.
    pub fn finish(&mut self, outcome: Outcome) {
        let now = Instant::now();
        let Some(wish) = self.under_way.take() else { return };
        let names = self.read_by_then(&wish);
        match outcome {
            Outcome::Told(said) => {
                self.holdings.told(names, self.settling(), now);
                self.done = Some(wish);
                (self.tried, self.retry_at) = (None, None);
                self.status.current = true;
                (self.status.error, self.status.failures) = (None, 0);
                self.status.said = said;
            }
            Outcome::Absent(error) => {
                self.holdings.told(names, Duration::ZERO, now);
                self.fail(&error, now);
            }
            Outcome::Failed(error) => {
                self.holdings.maybe(&names, now);
                self.fail(&error, now);
            }
        }
    }

    /// What its server has once it has read its files: lighttpd keeps what it read before.
    fn read_by_then(&mut self, wish: &Wish) -> Vec<KeyName> {
        if self.entry.format != Format::Lighttpd {
            return wish.0.clone();
        }
        if self.given.first() != wish.0.first() {
            self.given.splice(0..0, wish.0.iter().copied());
            self.given.truncate(lighttpd::KEPT);
        }
        self.given.clone()
    }

    fn settling(&self) -> Duration {
        match self.entry.format {
            Format::Lighttpd => lighttpd::SETTLING,
            _ if self.entry.setting.command.is_empty() => Duration::ZERO,
            _ => SETTLING,
        }
    }

    fn fail(&mut self, error: &anyhow::Error, now: Instant) {
        let [first, longest] = RETRY;
        let pause = first.saturating_mul(1 << self.status.failures.min(10)).min(longest);
        self.retry_at = Some(now + pause);
        self.status.failures = self.status.failures.saturating_add(1);
        let text = format!("{error:#}");
        self.status.current = false;
        if self.status.error.as_ref() != Some(&text) {
            tracing::warn!(output = %self.entry.setting.output.display(), "export: {text}");
        }
        self.status.error = Some(text);
    }
}

impl Errand {
    /// Lets the server know that its files are new.
    pub async fn run(self) -> Outcome {
        let Export { socket, output, timeout, command, .. } = self.entry.setting;
        let mut absent = None;
        if let Some((socket, row)) = socket.zip(self.row) {
            match haproxy::bring(&socket, &output, &row, timeout).await {
                Ok(()) => {}
                Err(failure) => {
                    let is_absent = matches!(failure, haproxy::Failure::Absent(_));
                    let place = format!("HAProxy's socket {}", socket.display());
                    let error = anyhow::Error::new(failure).context(place);
                    if !is_absent {
                        return Outcome::Failed(error);
                    }
                    absent = Some(error);
                }
            }
        }
        let said = match command.is_empty() {
            true => Ok(None),
            false => command::run(&command, timeout).await,
        };
        match (said, absent) {
            (Err(error), _) => Outcome::Failed(error),
            (Ok(_), Some(error)) => Outcome::Absent(error),
            (Ok(said), None) => Outcome::Told(said),
        }
    }
}
