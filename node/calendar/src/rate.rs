//! `rate(5 minutes)`: a number of minutes, hours or days of 24 hours, whatever the clocks do.

use crate::text::{Piece, Wrong};
use muster_model::Millis;

/// Ten years; what recurs more rarely is a date.
const DAYS_MAX: u64 = 3650;

const FORM: &str = "VALUE UNIT, such as 5 minutes, 1 hour or 7 days";

pub(crate) fn rate(inner: Piece<'_>) -> Result<Millis, Wrong> {
    let words = inner.words();
    let [value, unit] = words[..] else {
        return Err(words.get(2).copied().unwrap_or(inner).wrong(FORM));
    };
    let minutes = match unit.text {
        "minute" | "minutes" => 1,
        "hour" | "hours" => 60,
        "day" | "days" => 24 * 60,
        _ => return Err(unit.wrong("minute, minutes, hour, hours, day or days")),
    };
    let most = DAYS_MAX * 24 * 60 / minutes;
    match value.number().map(u64::from) {
        Some(count) if (1..=most).contains(&count) => Ok(Millis::from_secs(count * minutes * 60)),
        _ => Err(value.wrong(format!("a whole number from 1 to {most}"))),
    }
}
