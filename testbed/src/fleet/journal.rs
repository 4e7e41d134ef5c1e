//! What became of visits: all of them, or those between some hosts or times.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use crate::client::{Error, TlsVersion, hex8};

/// One visit of one visitor.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The protocol.
    pub version: TlsVersion,
    /// Which host was visited.
    pub host: usize,
    /// When it began.
    pub began: Instant,
    /// When it was over.
    pub ended: Instant,
    /// The ticket that was offered, if one was.
    pub carried: Option<Carried>,
    /// What became of it.
    pub outcome: Outcome,
    /// The key of the new ticket, if one came.
    pub sealed_with: Option<[u8; 16]>,
}

/// The ticket of a visit.
#[derive(Clone, Debug)]
pub struct Carried {
    /// The host that issued it.
    pub issuer: usize,
    /// The key that sealed it.
    pub key: [u8; 16],
    /// When it was received.
    pub received: Instant,
    /// Whether it was within its lifetime when the visit was over.
    pub is_due: bool,
}

/// How a visit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a resumption.
    Resumed,
    /// With a full handshake.
    Full,
    /// Not well.
    Failed(Error),
}

impl Visit {
    /// Whether a ticket was refused that was within its lifetime.
    pub fn is_lost(&self) -> bool {
        self.outcome == Outcome::Full && self.carried.as_ref().is_some_and(|held| held.is_due)
    }

    /// Whether it had a ticket of one host and resumed on another.
    pub fn is_shared(&self) -> bool {
        let elsewhere = |held: &Carried| held.issuer != self.host;
        self.outcome == Outcome::Resumed && self.carried.as_ref().is_some_and(elsewhere)
    }

    /// Whether it failed.
    pub fn has_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }
}

/// Visits, in their order.
#[derive(Clone, Debug)]
pub struct Journal {
    /// They.
    pub visits: Vec<Visit>,
}

impl Journal {
    pub(super) fn new(visits: Vec<Visit>) -> Journal {
        Journal { visits }
    }

    /// Those for which that is so.
    pub fn only(&self, wanted: impl Fn(&Visit) -> bool) -> Journal {
        Journal { visits: self.visits.iter().filter(|visit| wanted(visit)).cloned().collect() }
    }

    /// Those that began then or later.
    pub fn since(&self, from: Instant) -> Journal {
        self.only(|visit| visit.began >= from)
    }

    /// Those that were over before.
    pub fn before(&self, until: Instant) -> Journal {
        self.only(|visit| visit.ended < until)
    }

    /// Those to these hosts with tickets of these hosts, or without.
    pub fn among(&self, hosts: &[usize]) -> Journal {
        self.only(|visit| {
            let issuer = visit.carried.as_ref().map_or(visit.host, |held| held.issuer);
            hosts.contains(&visit.host) && hosts.contains(&issuer)
        })
    }

    /// How many resumed.
    pub fn resumed(&self) -> usize {
        self.visits.iter().filter(|visit| visit.outcome == Outcome::Resumed).count()
    }

    /// How many tickets were refused within their lifetime.
    pub fn lost(&self) -> usize {
        self.visits.iter().filter(|visit| visit.is_lost()).count()
    }

    /// How many failed.
    pub fn failed(&self) -> usize {
        self.visits.iter().filter(|visit| visit.has_failed()).count()
    }

    /// How many keys sealed the new tickets.
    pub fn keys(&self) -> usize {
        self.visits.iter().filter_map(|visit| visit.sealed_with).collect::<BTreeSet<_>>().len()
    }

    /// The pairs of hosts of which no ticket of the first was resumed on the second.
    pub fn strangers(&self, hosts: &[usize], version: TlsVersion) -> Vec<(usize, usize)> {
        let met: BTreeSet<(usize, usize)> = self
            .visits
            .iter()
            .filter(|visit| visit.version == version && visit.outcome == Outcome::Resumed)
            .filter_map(|visit| Some((visit.carried.as_ref()?.issuer, visit.host)))
            .collect();
        let pairs = hosts.iter().flat_map(|&from| hosts.iter().map(move |&to| (from, to)));
        pairs.filter(|pair| !met.contains(pair)).collect()
    }
}

/// How many tickets of the first host resumed on the second, of how many that were offered there
/// within their lifetime.
type Cells = BTreeMap<(usize, usize), (usize, usize)>;

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let visits = &self.visits;
        let first = visits.iter().filter(|visit| visit.carried.is_none()).count();
        writeln!(
            f,
            "{} visits: {} resumed, {} lost, {} failed, {first} without a ticket; {} keys",
            visits.len(),
            self.resumed(),
            self.lost(),
            self.failed(),
            self.keys()
        )?;
        let mut cells = Cells::new();
        for visit in visits {
            let Some(held) = visit.carried.as_ref().filter(|held| held.is_due) else { continue };
            let (resumed, offered) = cells.entry((held.issuer, visit.host)).or_default();
            *resumed += usize::from(visit.outcome == Outcome::Resumed);
            *offered += 1;
        }
        let hosts: BTreeSet<usize> = cells.keys().flat_map(|&(from, to)| [from, to]).collect();
        for from in &hosts {
            write!(f, "  of {from}:")?;
            for to in &hosts {
                let (resumed, offered) = cells.get(&(*from, *to)).copied().unwrap_or_default();
                write!(f, "  on {to} {resumed}/{offered}")?;
            }
            writeln!(f)?;
        }
        let Some(start) = visits.first().map(|visit| visit.began) else { return Ok(()) };
        let bad = |visit: &&Visit| visit.is_lost() || visit.has_failed();
        for visit in visits.iter().filter(bad).take(12) {
            write!(f, "  {:.1?} {}", visit.began - start, visit.version)?;
            if let Some(held) = &visit.carried {
                let age: Duration = visit.began.saturating_duration_since(held.received);
                write!(f, " key {} of {}, {age:.1?} old,", hex8(&held.key), held.issuer)?;
            }
            writeln!(f, " on {}: {:?}", visit.host, visit.outcome)?;
        }
        Ok(())
    }
}
