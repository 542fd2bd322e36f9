//! A moment as people say it: a span before now, or a date and time.

use prost_types::Timestamp;
use std::time::{Duration, SystemTime};

/// For `--since` and `--until`, as `docker logs` and `journalctl` take them.
///
/// # Errors
/// What is allowed.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    at(text, SystemTime::now())
}

fn at(text: &str, now: SystemTime) -> Result<Timestamp, String> {
    let moment = span(text).and_then(|span| now.checked_sub(span)).map(Timestamp::from);
    moment.or_else(|| text.parse().ok()).ok_or_else(|| {
        format!(
            "{text:?} is not allowed; allowed: a span before now, such as 90s, 10m, 2h30m or 1d, \
             or a time such as 2026-01-31T15:04:05Z or 2026-01-31T16:04:05+01:00"
        )
    })
}

/// Numbers with units, one after the other.
fn span(text: &str) -> Option<Duration> {
    let mut seconds: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(unit);
        let mut after = after.chars();
        let unit = match after.next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            _ => return None,
        };
        seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = after.as_str();
    }
    (!text.is_empty()).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_before_now_and_a_time_is_itself() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let read = |text| at(text, now).map(|at| (at.seconds, at.nanos));
        assert_eq!(read("90s"), Ok((999_910, 0)));
        assert_eq!(read("2h30m"), Ok((991_000, 0)));
        assert_eq!(read("1d1s"), Ok((913_599, 0)));
        assert_eq!(read("1970-01-01T00:00:07.5Z"), Ok((7, 500_000_000)));
        assert_eq!(read("1970-01-01T01:00:07+01:00"), Ok((7, 0)));
        let words = ["", "10", "m", "10x", "1m10", "-5m", "10 m", "1h\u{e9}", "yesterday"];
        for bad in words.into_iter().chain(["99999999999999999999s", "9999999999999999999d"]) {
            let told = read(bad).unwrap_err();
            assert!(told.contains("10m") && told.contains("2026-01-31T15:04:05Z"), "{bad}: {told}");
        }
    }
}
