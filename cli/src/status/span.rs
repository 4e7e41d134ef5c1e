//! Lengths of time in words.

use std::time::Duration;

const UNITS: [(u64, &str); 4] = [(24 * 3600, "d"), (3600, "h"), (60, "min"), (1, "s")];

/// In the two largest units, rounded up: what is said to last at most so long does.
pub fn words(span: Duration) -> String {
    let seconds = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    let first = UNITS.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(UNITS.len() - 1);
    let smallest = UNITS[(first + 1).min(UNITS.len() - 1)].0;
    let mut left = seconds.div_ceil(smallest) * smallest;
    let mut parts = Vec::new();
    for (unit, name) in UNITS {
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

#[cfg(test)]
mod tests {
    use super::*;

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
            (86_399_000, "1 d"),
            (90_000_000, "1 d 1 h"),
            (90_000_001, "1 d 2 h"),
        ];
        for (millis, expected) in cases {
            assert_eq!(words(Duration::from_millis(millis)), expected, "{millis} ms");
        }
    }
}
