//! Rings of other versions of the format that have the same name: no command of this version acts
//! on them, and none may seem to have.

use tktrot::ring::file::Place;

use super::facts::{self, mapping};
use crate::status::processes::FileId;

/// A line for each that somebody has, or may have: `undone` says what was not done to it.
pub fn not_reached(place: &Place, undone: &str) -> Vec<String> {
    place.others_of_that_name().iter().filter_map(|place| not_done(place, undone)).collect()
}

fn not_done(place: &Place, undone: &str) -> Option<String> {
    let file = facts::open(place, false).ok()?;
    let version = tktrot::ring::versions::version_of(&file).ok()?.version?;
    let (users, hidden) = mapping(FileId::of(&file).ok()?).ok()?;
    // Servers of this version only look into it, for its keys.
    let users = users.iter().filter(|user| user.writes);
    let names: Vec<_> = users.map(|user| format!("{} ({})", user.pid, user.program)).collect();
    let who = match (names.is_empty(), hidden) {
        (false, _) => format!("is used by {}", names.join(", ")),
        (true, 0) => return None,
        (true, _) => "may be used by processes that this user cannot look at".into(),
    };
    Some(format!(
        "{}: {undone}: this ring of the same name is of format version {version} and {who}; use the \
         tktrot of that release, or this one with the path, or restart those servers",
        place.path().display()
    ))
}
