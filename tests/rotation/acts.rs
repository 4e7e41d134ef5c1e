//! What may happen to a ring.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::source::Fault;

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct Settings {
    pub rotate_every: Duration,
    pub lifetime: Option<Duration>,
    /// In sixteenths of R; a lead is at most half of it.
    pub lead: Option<u32>,
}

/// How much time passes.
#[derive(Clone, Debug)]
pub enum Span {
    Nanos(u32),
    /// In sixteenths of R.
    Sixteenths(u32),
    /// A suspended machine.
    Days(u32),
    /// To the ring's deadline, and some nanoseconds before or after.
    UntilDeadline(i32),
    /// The same, to the end of the active key.
    UntilSwitch(i32),
}

/// What an agent does to the ring.
#[derive(Clone, Debug)]
pub enum Steer {
    /// Nothing more.
    Renew,
    /// A key continues the line, or begins one.
    Make,
    /// The key that follows encrypts from now on, in place of the present one.
    Begin,
    /// One key's ends, where these are earlier: in sixteenths of R from now.
    Shorten(Index, i32, i32),
    Erase(Index),
    /// The lease ends.
    Release,
}

/// By a process, where it holds an [`Index`] of those that live.
#[derive(Clone, Debug)]
pub enum Act {
    /// A process opens the ring.
    Start,
    Die(Index),
    /// Its callback seals a ticket.
    Seal(Index),
    /// Its upkeep comes by.
    Upkeep(Index),
    Rotate(Index),
    RevokeAll(Index),
    /// One key, of those that there are.
    Revoke(Index, Index),
    /// The last context goes.
    Abandon(Index),
    /// A context with this timeout comes.
    Expect(Index, Duration),
    Configure(Index, Settings),
    /// An agent renews its lease of the ring, and does this.
    Govern(Index, Steer),
    Break(Fault),
    Mend,
    /// How long the generator takes for a draw.
    Take(Duration),
    Pass(Span),
    /// Somebody comes by at each deadline, late by so many eighths of the
    /// lead, for so many sixteenths of R.
    Attend {
        who: Index,
        late: u32,
        sixteenths: u32,
    },
}

pub fn capacity() -> impl Strategy<Value = u32> {
    prop_oneof![8_u32..=12, Just(64)]
}

pub fn settings() -> impl Strategy<Value = Settings> {
    let lifetime = prop::option::weighted(0.8, seconds(604_800));
    let lead = prop::option::of(1_u32..=8);
    (seconds(86_400), lifetime, lead).prop_map(|(rotate_every, lifetime, lead)| Settings {
        rotate_every,
        lifetime,
        lead,
    })
}

/// From a second to so many, all orders of magnitude alike.
fn seconds(most: u64) -> impl Strategy<Value = Duration> {
    let most = (most as f64).log2();
    let seconds = (0.0..=most).prop_map(|log| Duration::from_secs(log.exp2().round() as u64));
    prop_oneof![4 => seconds, 1 => select(vec![Duration::from_secs(1), Duration::from_secs(3600)])]
}

/// A clock that stands still is a span of none.
fn span() -> impl Strategy<Value = Span> {
    prop_oneof![
        1 => (0..2000_u32).prop_map(Span::Nanos),
        4 => (0..40_u32).prop_map(Span::Sixteenths),
        1 => (1..30_u32).prop_map(Span::Days),
        3 => (-3_000..=1_000).prop_map(Span::UntilDeadline),
        3 => (-3_000..=1_000).prop_map(Span::UntilSwitch),
    ]
}

fn who() -> impl Strategy<Value = Index> {
    any::<Index>()
}

fn steer() -> impl Strategy<Value = Steer> {
    prop_oneof![
        2 => Just(Steer::Renew),
        4 => Just(Steer::Make),
        2 => Just(Steer::Begin),
        4 => (who(), -8..=40_i32, -8..=80_i32).prop_map(|(which, encrypts, decrypts)| {
            Steer::Shorten(which, encrypts, decrypts)
        }),
        1 => who().prop_map(Steer::Erase),
        1 => Just(Steer::Release),
    ]
}

pub fn acts() -> impl Strategy<Value = Act> {
    let faults = select(vec![Fault::Fails, Fault::Zeroes, Fault::Repeats]);
    prop_oneof![
        12 => who().prop_map(Act::Seal),
        8 => who().prop_map(Act::Upkeep),
        14 => span().prop_map(Act::Pass),
        3 => Just(Act::Start),
        2 => who().prop_map(Act::Die),
        2 => who().prop_map(Act::Rotate),
        1 => who().prop_map(Act::RevokeAll),
        2 => (who(), who()).prop_map(|(who, which)| Act::Revoke(who, which)),
        1 => who().prop_map(Act::Abandon),
        1 => (who(), seconds(604_800)).prop_map(|(who, timeout)| Act::Expect(who, timeout)),
        1 => (who(), settings()).prop_map(|(who, settings)| Act::Configure(who, settings)),
        1 => faults.prop_map(Act::Break),
        3 => Just(Act::Mend),
        1 => select(vec![0, 1, 1_000]).prop_map(|nanos| Act::Take(Duration::from_nanos(nanos))),
    ]
}

/// The same, where an agent comes and goes.
pub fn governed_acts() -> impl Strategy<Value = Act> {
    let govern = (who(), steer()).prop_map(|(who, steer)| Act::Govern(who, steer));
    prop_oneof![2 => acts(), 1 => govern]
}

/// Days on which all goes well, and what an operator does meanwhile.
pub fn attended_acts() -> impl Strategy<Value = Act> {
    let attend = (who(), 0..8_u32, 1..80_u32).prop_map(|(who, late, sixteenths)| Act::Attend {
        who,
        late,
        sixteenths,
    });
    prop_oneof![
        8 => attend,
        4 => who().prop_map(Act::Seal),
        1 => Just(Act::Start),
        1 => who().prop_map(Act::Die),
        1 => who().prop_map(Act::Rotate),
        1 => (who(), who()).prop_map(|(who, which)| Act::Revoke(who, which)),
        1 => (who(), settings()).prop_map(|(who, settings)| Act::Configure(who, settings)),
    ]
}
