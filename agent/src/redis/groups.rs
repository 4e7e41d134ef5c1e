//! Which hosts use a ring's names in Redis: not each of them, but those of each rotation and secret,
//! which do not understand, or not quite, what the others have there.
//!
//! With each poll a host says which group it is of, if nobody of that group has lately. That is written
//! for a few polls, so it tells of the present; and it is anybody's who may write to Redis, so that
//! nothing follows from it but words.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tktrot::config::values::Written;

use crate::problems::{self, Problem};

/// Hosts that make the same keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// The public identity of the secret that they wrap keys with.
    pub secret: [u8; 8],
    /// R.
    pub rotate_every: Duration,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x} {}", u64::from_be_bytes(self.secret), self.rotate_every.as_nanos())
    }
}

/// Text that is no group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoGroup;

impl FromStr for Group {
    type Err = NoGroup;

    fn from_str(text: &str) -> Result<Self, NoGroup> {
        let (secret, nanos) = text.split_once(' ').ok_or(NoGroup)?;
        let secret = u64::from_str_radix(secret, 16).map_err(|_| NoGroup)?;
        let nanos = nanos.parse().map_err(|_| NoGroup)?;
        let group =
            Group { secret: secret.to_be_bytes(), rotate_every: Duration::from_nanos(nanos) };
        // One text for each.
        if group.to_string() == text { Ok(group) } else { Err(NoGroup) }
    }
}

/// How long a group is known after one of its hosts has said that it is there.
pub fn life(poll: Duration) -> Duration {
    (2 * poll + Duration::from_secs(5)).min(LONGEST)
}

/// Nobody says it for longer.
pub const LONGEST: Duration = Duration::from_secs(600);

/// What is wrong between a host of this group, which has these secrets, and the others.
pub fn problems(own: Group, secrets: &HashSet<[u8; 8]>, all: &HashSet<Group>) -> Vec<Problem> {
    let mut problems = Vec::new();
    if all.iter().any(|group| !secrets.contains(&group.secret)) {
        problems.push(problems::other_secret());
    }
    let known = all.iter().filter(|group| secrets.contains(&group.secret));
    let rotations = known.map(|group| group.rotate_every);
    let mut rotations: Vec<_> = rotations.filter(|every| *every != own.rotate_every).collect();
    rotations.sort();
    rotations.dedup();
    if !rotations.is_empty() {
        let theirs = rotations.iter().map(|every| Written(*every).to_string());
        let theirs: Vec<_> = theirs.collect();
        problems.push(problems::others_rotate(&theirs.join(" or "), own.rotate_every));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problems::Kind;

    const HOUR: Duration = Duration::from_secs(3600);

    fn group(secret: u8, rotate_every: Duration) -> Group {
        Group { secret: [secret; 8], rotate_every }
    }

    #[test]
    fn a_group_has_one_text() {
        let one = group(0xa, HOUR);
        assert_eq!(one.to_string(), "0a0a0a0a0a0a0a0a 3600000000000");
        assert_eq!(one.to_string().parse(), Ok(one));
        for text in ["", "0a0a0a0a0a0a0a0a", "0A0A0A0A0A0A0A0A 1", "a 1", "0a0a0a0a0a0a0a0a 01"] {
            assert_eq!(text.parse::<Group>(), Err(NoGroup), "{text}");
        }
    }

    #[test]
    fn only_what_differs_is_a_problem() {
        let kinds = |all: &[Group]| {
            let (own, secrets) = (group(1, HOUR), [[1; 8], [2; 8]].into());
            let found = problems(own, &secrets, &all.iter().copied().collect());
            found.into_iter().map(|problem| problem.problem).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&[]), []);
        assert_eq!(kinds(&[group(1, HOUR), group(2, HOUR)]), [], "the secret is being replaced");
        assert_eq!(kinds(&[group(1, HOUR), group(2, HOUR / 2)]), [Kind::OtherRotate]);
        assert_eq!(kinds(&[group(3, HOUR), group(3, HOUR / 2)]), [Kind::OtherSecret]);
    }
}
