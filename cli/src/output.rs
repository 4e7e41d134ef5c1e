//! What commands print, and how durations, sizes, moments and other people's names are written.
//!
//! An output that cannot be written, because its disk is full or its reader has gone, stops
//! nothing: a command finishes what it has begun.

use std::fmt::Arguments;
use std::io::{self, IsTerminal, Write};
use std::mem::MaybeUninit;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The first failure to write; that the reader has gone (EPIPE) is none.
static FAILURE: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints to stdout.
pub fn print(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    note(out.write_all(plain(text).as_bytes()).and_then(|()| out.flush()));
}

/// Keeps in mind that stdout could not be written, if so.
pub fn note(written: io::Result<()>) {
    let Err(error) = written else { return };
    if error.kind() != io::ErrorKind::BrokenPipe
        && let Ok(mut failure) = FAILURE.lock()
    {
        failure.get_or_insert(error);
    }
}

/// Prints to stderr; if that fails there is nobody to tell.
pub fn complain(text: Arguments<'_>) {
    let _ = io::stderr().lock().write_all(plain(text).as_bytes());
}

/// Without the numbers that Rust appends to what the system says: "(os error 2)" helps nobody.
fn plain(text: Arguments<'_>) -> String {
    let text = text.to_string();
    let mut parts = text.split(" (os error ");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                plain.push_str(rest);
            }
            _ => {
                plain.push_str(" (os error ");
                plain.push_str(part);
            }
        }
    }
    plain
}

/// Why some of the output was lost, if it was.
pub fn failure() -> Option<io::Error> {
    FAILURE.lock().ok()?.take()
}

/// As `println!`.
macro_rules! outln {
    ($($argument:tt)*) => {
        $crate::output::print(format_args!("{}\n", format_args!($($argument)*)))
    };
}

/// As `print!`.
macro_rules! out {
    ($($argument:tt)*) => { $crate::output::print(format_args!($($argument)*)) };
}

/// As `eprintln!`.
macro_rules! errln {
    ($($argument:tt)*) => {
        $crate::output::complain(format_args!("{}\n", format_args!($($argument)*)))
    };
}

pub(crate) use {errln, out, outln};

/// A text from another user's process or ring, without the control characters that a terminal
/// would obey.
pub fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// A text broken at spaces into lines of at most `width`; one that fits stays as it is.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    if text.chars().count() <= width {
        return vec![text.to_owned()];
    }
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The width of the terminal; without one, a width that reads well in a mail.
pub fn width() -> usize {
    const WIDEST: usize = 120;
    let terminal = io::stdout().is_terminal().then(ratatui::crossterm::terminal::size);
    terminal.and_then(Result::ok).map_or(100, |(columns, _)| usize::from(columns).clamp(60, WIDEST))
}

const SPANS: [(u64, &str); 4] = [(24 * 3600, "d"), (3600, "h"), (60, "min"), (1, "s")];

/// Up to two days are told in hours.
const DAYS_FROM: u64 = 48 * 3600;

/// A duration in its two largest units, rounded up, so that nothing lasts longer than is said.
pub fn in_words(span: Duration) -> String {
    let seconds = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    let is_unit = |unit: u64| seconds >= unit && (unit < SPANS[0].0 || seconds >= DAYS_FROM);
    let first = SPANS.iter().position(|(unit, _)| is_unit(*unit)).unwrap_or(SPANS.len() - 1);
    let smallest = SPANS[(first + 1).min(SPANS.len() - 1)].0;
    let mut left = seconds.div_ceil(smallest) * smallest;
    let mut parts = Vec::new();
    for (unit, name) in SPANS.into_iter().skip(first) {
        if left >= unit {
            parts.push(format!("{} {name}", left / unit));
            left %= unit;
        }
    }
    if parts.is_empty() { "0 s".into() } else { parts.join(" ") }
}

/// For serde: as seconds.
pub fn seconds<S: serde::Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(rounded(*span))
}

/// For serde: as seconds, or null.
pub fn seconds_if_any<S: serde::Serializer>(
    span: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match span {
        Some(span) => serializer.serialize_some(&rounded(*span)),
        None => serializer.serialize_none(),
    }
}

/// To the millisecond, which is more than any reader can use.
fn rounded(span: Duration) -> f64 {
    (span.as_secs_f64() * 1000.0).round() / 1000.0
}

/// A number as people read it: exact while it is short, then to one decimal place, rounded down.
pub fn number(exact: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    match UNITS.iter().find(|(unit, _)| exact >= *unit) {
        Some((unit, name)) if exact >= 10_000 => {
            format!("{}.{} {name}", exact / unit, exact % unit / (unit / 10))
        }
        _ => exact.to_string(),
    }
}

/// A share in percent, to one decimal place and rounded down: only all of them are 100 %.
pub fn percent(part: u64, all: u64) -> String {
    let tenths = u128::from(part) * 1000 / u128::from(all.max(1));
    match tenths % 10 {
        0 => format!("{} %", tenths / 10),
        rest => format!("{}.{rest} %", tenths / 10),
    }
}

/// A size in its largest unit, to one decimal place.
pub fn bytes(number: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = UNITS.iter().find(|(unit, _)| number >= *unit);
    match unit {
        None => format!("{number} B"),
        Some((unit, name)) if number.is_multiple_of(*unit) => format!("{} {name}", number / unit),
        Some((unit, name)) => format!("{:.1} {name}", number as f64 / *unit as f64),
    }
}

/// A moment in the past, and how long ago it was.
pub fn moment(then: SystemTime, now: SystemTime) -> String {
    let ago = now.duration_since(then).unwrap_or_default();
    let seconds = then.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format!("{} ({} ago)", utc(seconds), in_words(ago))
}

/// A moment as RFC 3339 has it, for lines that a program may read.
pub fn timestamp(moment: SystemTime) -> String {
    let seconds = moment.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let [date, time] = date_and_time(seconds);
    format!("{date}T{time}Z")
}

fn utc(seconds: u64) -> String {
    let [date, time] = date_and_time(seconds);
    format!("{date} {time} UTC")
}

fn date_and_time(seconds: u64) -> [String; 2] {
    let time = libc::time_t::try_from(seconds).unwrap_or(libc::time_t::MAX);
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both are valid for the call, which fills `parts`; a tm of zeroes is one, too.
    let parts = unsafe {
        libc::gmtime_r(&time, parts.as_mut_ptr());
        parts.assume_init()
    };
    let (year, month) = (i64::from(parts.tm_year) + 1900, parts.tm_mon + 1);
    [
        format!("{year:04}-{month:02}-{:02}", parts.tm_mday),
        format!("{:02}:{:02}:{:02}", parts.tm_hour, parts.tm_min, parts.tm_sec),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_not_passed_on() {
        assert_eq!(printable("a\x1b[2J\u{9b}b\n"), "a?[2J?b?");
    }

    #[test]
    fn the_numbers_of_system_errors_are_not_told() {
        let says = |text: &str| plain(format_args!("{text}"));
        let error = io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(says(&format!("a: {error}; b: {error}")), {
            let what = "No such file or directory";
            format!("a: {what}; b: {what}")
        });
        for other in ["", "(os error 2)", " (os error x)", " (os error 2", "a (b) c"] {
            assert_eq!(says(other), other);
        }
    }

    #[test]
    fn spans_are_told_in_two_units_and_never_as_less_than_they_are() {
        let cases = [
            (0, "0 s"),
            (1, "1 s"),
            (999, "1 s"),
            (1_001, "2 s"),
            (59_999, "1 min"),
            (62_000, "1 min 2 s"),
            (3_600_000, "1 h"),
            (3_601_000, "1 h 1 min"),
            (5_400_000, "1 h 30 min"),
            (86_399_000, "24 h"),
            (90_000_000, "25 h"),
            (90_000_001, "25 h 1 min"),
            (172_799_000, "48 h"),
            (172_800_000, "2 d"),
            (176_400_001, "2 d 2 h"),
        ];
        for (millis, expected) in cases {
            assert_eq!(in_words(Duration::from_millis(millis)), expected, "{millis} ms");
        }
    }

    #[test]
    fn numbers_are_short_and_shares_never_more_than_they_are() {
        for (exact, expected) in [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10.0 k"),
            (999_999, "999.9 k"),
            (1_299_999, "1.2 M"),
            (3_000_000_000, "3.0 G"),
            (u64::MAX, "18446744.0 T"),
        ] {
            assert_eq!(number(exact), expected);
        }
        for (part, all, expected) in [
            (0, 0, "0 %"),
            (1, 3, "33.3 %"),
            (3, 4, "75 %"),
            (999_999, 1_000_000, "99.9 %"),
            (7, 7, "100 %"),
            (u64::MAX, u64::MAX, "100 %"),
        ] {
            assert_eq!(percent(part, all), expected);
        }
    }

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
        let then = UNIX_EPOCH + Duration::from_millis(1_582_934_399_999);
        assert_eq!(timestamp(then), "2020-02-28T23:59:59Z");
    }
}
