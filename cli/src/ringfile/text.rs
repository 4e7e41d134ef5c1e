//! Ring files as people read them.

use std::fmt::Write;
use std::fs::Metadata;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use comfy_table::{Table, presets};
use nix::unistd::{Uid, User as Account};

use super::facts::{Condition, Facts};
use crate::status::processes::printable;
use crate::status::span::words;
use crate::status::text::{self, wrapped};

/// All rings, a line for each.
pub fn table(rings: &[Facts], searched: &[PathBuf]) -> String {
    if rings.is_empty() {
        let dirs: Vec<_> = searched.iter().map(|dir| printable(&dir.to_string_lossy())).collect();
        return match &*dirs {
            [] => "no rings: none of the usual directories is there\n".into(),
            dirs => format!("no rings in {}\n", dirs.join(", ")),
        };
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["RING", "VERSION", "OWNER", "MEMORY", "KEYS", "USERS", "STATE"]);
    for facts in rings {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        table.add_row([
            facts.path.clone(),
            or_none(facts.version.map(|version| version.to_string())),
            or_none(facts.owner().map(owner)),
            or_none(facts.memory().map(bytes)),
            or_none(facts.reading.as_ref().ok().map(|reading| reading.keys.len().to_string())),
            facts.count_users().to_string(),
            state(facts),
        ]);
    }
    let mut text: String = table.lines().map(|line| format!("{}\n", line.trim())).collect();
    if let Some(hidden) = rings.iter().map(|facts| facts.hidden_processes).max().filter(|n| *n > 0)
    {
        let _ = writeln!(text, "{}", unseen(hidden, "a ring"));
    }
    text
}

fn state(facts: &Facts) -> String {
    let mut state = match (&facts.reading, facts.condition()) {
        (Ok(reading), _) if reading.is_governed() => "governed".to_owned(),
        (_, Condition::Readable) => "ok".to_owned(),
        (_, Condition::OtherVersion) => "of another version".to_owned(),
        (_, Condition::Unreadable) => {
            format!("cannot be read: {}", printable(facts.reason().unwrap_or_default()))
        }
    };
    if facts.removed {
        state = format!("removed; {state}");
    }
    state
}

/// One ring, in lines.
pub fn full(facts: &Facts, now: SystemTime, width: usize) -> String {
    let mut page = String::new();
    let mut line = |what: &str, text: &str| {
        let mut first = what;
        for part in wrapped(text, width.saturating_sub(INDENT)) {
            let _ = writeln!(page, "{first:INDENT$}{part}");
            first = "";
        }
    };
    line("ring", &format!("{}{}", facts.path, if facts.removed { " (removed)" } else { "" }));
    match facts.version {
        Some(version) if facts.condition() == Condition::OtherVersion => {
            line("version", &format!("{version}: for servers of another release of libtktrot"));
        }
        Some(version) => line("version", &version.to_string()),
        None => line("version", "unknown"),
    }
    if let Some(file) = &facts.file {
        line("owner", &format!("{}, mode {}", owner(file.uid()), mode(file)));
        line("inode", &format!("{} on device {}", file.ino(), device(file)));
        let size = bytes(file.size());
        line("memory", &format!("{} (the file's size is {size})", bytes(file.blocks() * 512)));
    }
    line("made", &facts.made().map_or("unknown".into(), |made| moment(made, now)));
    if let Ok(reading) = &facts.reading {
        line("keys", &format!("{} of {}", reading.keys.len(), reading.capacity));
        let (r, l) = (reading.exposure.rotate_every, reading.exposure.lifetime);
        line("rotation", &format!("R {}, L {}", words(r), words(l)));
        line("governed", &text::governed(reading));
    }
    let mut users = match facts.count_users() {
        1 => "1 process".to_owned(),
        0 => "nobody that is visible".to_owned(),
        number => format!("{number} processes"),
    };
    if facts.hidden_processes > 0 {
        let _ = write!(users, "; {}", unseen(facts.hidden_processes, "it"));
    }
    line("users", &users);
    for user in &facts.users {
        let does = match &facts.reading {
            Ok(_) => text::does(user),
            Err(_) if user.writes => "has it mapped",
            Err(_) => "only looks",
        };
        line("", &format!("{:7}  {:15}  {does}", user.pid, user.program));
    }
    match facts.reason() {
        Some(reason) => line("unreadable", &printable(reason)),
        None => line("", &format!("=> keys, counters, alarms: tktrot status {}", facts.path)),
    }
    page
}

/// How many processes were not looked at.
pub fn hidden(processes: usize) -> String {
    match processes {
        1 => "1 process cannot be looked at".into(),
        number => format!("{number} processes cannot be looked at"),
    }
}

fn unseen(processes: usize, what: &str) -> String {
    let (hidden, they) = (hidden(processes), if processes == 1 { "it uses" } else { "they use" });
    format!("{hidden}: whether {they} {what} is seen by root (with CAP_SYS_PTRACE)")
}

/// Where what is said begins.
const INDENT: usize = 12;

/// A user's name, or number where it has none.
pub fn owner(uid: u32) -> String {
    let account = Account::from_uid(Uid::from_raw(uid)).ok().flatten();
    account.map_or_else(|| uid.to_string(), |account| printable(&account.name))
}

/// As chmod(1) takes it.
pub fn mode(file: &Metadata) -> String {
    format!("{:04o}", file.mode() & 0o7777)
}

/// As /proc/PID/maps has it.
pub fn device(file: &Metadata) -> String {
    format!("{:02x}:{:02x}", libc::major(file.dev()), libc::minor(file.dev()))
}

/// In the largest unit that leaves a whole number, or one place.
pub fn bytes(number: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = UNITS.iter().find(|(unit, _)| number >= *unit);
    match unit {
        None => format!("{number} B"),
        Some((unit, name)) if number.is_multiple_of(*unit) => format!("{} {name}", number / unit),
        Some((unit, name)) => format!("{:.1} {name}", number as f64 / *unit as f64),
    }
}

/// A moment of the past, and how long ago it was.
fn moment(then: SystemTime, now: SystemTime) -> String {
    let ago = now.duration_since(then).unwrap_or_default();
    let seconds = then.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format!("{} ({} ago)", utc(seconds), words(ago))
}

fn utc(seconds: u64) -> String {
    let time = libc::time_t::try_from(seconds).unwrap_or(libc::time_t::MAX);
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both are valid for the call, which fills `parts`; a tm of zeroes is one, too.
    let parts = unsafe {
        libc::gmtime_r(&time, parts.as_mut_ptr());
        parts.assume_init()
    };
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
        i64::from(parts.tm_year) + 1900,
        parts.tm_mon + 1,
        parts.tm_mday,
        parts.tm_hour,
        parts.tm_min,
        parts.tm_sec
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_moments_are_told_as_people_read_them() {
        let cases = [
            (0, "0 B"),
            (512, "512 B"),
            (4096, "4 KiB"),
            (44544, "43.5 KiB"),
            (2_202_009, "2.1 MiB"),
            (1 << 30, "1 GiB"),
        ];
        for (number, expected) in cases {
            assert_eq!(bytes(number), expected);
        }
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(1_582_934_399), "2020-02-28 23:59:59 UTC");
        assert_eq!(utc(1_582_934_400), "2020-02-29 00:00:00 UTC");
    }
}
