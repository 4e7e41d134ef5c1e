//! Reads what callgrind wrote, without compression of names and positions
//! (<https://valgrind.org/docs/manual/cl-format.html>).

use std::collections::BTreeMap;

use crate::Result;

/// What one file says, by objects: the libraries and the program, by their files' base names.
#[derive(Default)]
pub struct Profile {
    /// Instructions of its own code.
    own: BTreeMap<String, u64>,
    /// From an object into another one.
    calls: BTreeMap<(String, String), Calls>,
}

/// Calls from an object into another one.
#[derive(Clone, Copy, Default)]
pub struct Calls {
    pub count: u64,
    /// Instructions from the call to its return.
    pub instructions: u64,
}

impl Profile {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Profile> {
        let mut profile = Profile::default();
        let (mut object, mut called) = (String::new(), None);
        let mut pending: Option<u64> = None;
        for line in text.lines() {
            if let Some(file) = line.strip_prefix("ob=") {
                object = base_name(file);
            } else if let Some(file) = line.strip_prefix("cob=") {
                called = Some(base_name(file));
            } else if let Some(calls) = line.strip_prefix("calls=") {
                pending = Some(first_number(calls)?);
            } else if line.starts_with(|start: char| start.is_ascii_digit()) {
                let cost: u64 = line.split(' ').nth(1).ok_or("a line without cost")?.parse()?;
                match pending.take() {
                    None => *profile.own.entry(object.clone()).or_default() += cost,
                    // Without an object of its own a function that is called is in the caller's.
                    Some(count) => {
                        let other = called.take().unwrap_or_else(|| object.clone());
                        let calls = profile.calls.entry((object.clone(), other)).or_default();
                        calls.count += count;
                        calls.instructions += cost;
                    }
                }
            }
        }
        if profile.total() == 0 {
            return Err("callgrind has counted nothing".into());
        }
        Ok(profile)
    }

    /// All instructions.
    pub fn total(&self) -> u64 {
        self.own.values().sum()
    }

    /// Those of an object's own code.
    pub fn own(&self, object: &str) -> u64 {
        let is_it = |name: &str| name.starts_with(object);
        self.own.iter().filter(|(name, _)| is_it(name)).map(|(_, cost)| cost).sum()
    }

    /// The calls from objects whose names begin so to others whose names begin so.
    pub fn calls(&self, from: &str, to: &str) -> Calls {
        let mut all = Calls::default();
        for ((caller, callee), calls) in &self.calls {
            if caller.starts_with(from) && callee.starts_with(to) {
                all.count += calls.count;
                all.instructions += calls.instructions;
            }
        }
        all
    }
}

fn base_name(file: &str) -> String {
    file.rsplit('/').next().unwrap_or(file).to_owned()
}

fn first_number(text: &str) -> Result<u64> {
    Ok(text.split(' ').next().unwrap_or(text).parse()?)
}
