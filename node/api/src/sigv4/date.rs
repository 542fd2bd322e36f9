//! Dates as signatures write them: `20150830T123600Z`. Reads and writes, without a clock.

use super::refusal::{Refusal, echo};
use muster_model::Time;
use std::fmt;
use time::{Month, OffsetDateTime};

/// The header that carries the date.
pub const HEADER: &str = "x-amz-date";

/// A date as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub text: String,
    pub at: Time,
    /// Its first eight digits.
    pub day: String,
}

impl Stamp {
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let at = instant(text).ok_or_else(|| {
            Refusal::Incomplete(format!(
                "Date must be in ISO-8601 'basic format' (20150830T123600Z). Got '{}'. See \
                 http://en.wikipedia.org/wiki/ISO_8601",
                echo(text)
            ))
        })?;
        let day = text.chars().take(8).collect();
        Ok(Self { text: text.to_owned(), at, day })
    }
}

/// `None` for what is no date, or one before 1970.
fn instant(text: &str) -> Option<Time> {
    let (day, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let (day, clock) = (numbers(day, [4, 2, 2])?, numbers(clock, [2, 2, 2])?);
    let [year, month, day] = day;
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date =
        time::Date::from_calendar_date(i32::from(year), month, u8::try_from(day).ok()?).ok()?;
    let [hour, minute, second] = clock.map(|n| u8::try_from(n).unwrap_or(u8::MAX));
    let at = date.with_hms(hour, minute, second).ok()?.assume_utc().unix_timestamp();
    Some(Time(u64::try_from(at).ok()?.checked_mul(1000)?))
}

/// Numbers of exactly so many digits, one after another.
fn numbers(mut text: &str, widths: [usize; 3]) -> Option<[u16; 3]> {
    let mut numbers = [0; 3];
    for (number, width) in numbers.iter_mut().zip(widths) {
        let (digits, rest) = text.split_at_checked(width)?;
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *number = digits.parse().ok()?;
        text = rest;
    }
    text.is_empty().then_some(numbers)
}

/// Writes an instant in the same form, to the second.
pub struct Date(pub Time);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = i64::try_from(self.0.0 / 1000).unwrap_or(i64::MAX);
        let Ok(at) = OffsetDateTime::from_unix_timestamp(secs) else { return f.write_str("never") };
        let (month, day) = (u8::from(at.month()), at.day());
        write!(f, "{:04}{month:02}{day:02}", at.year())?;
        write!(f, "T{:02}{:02}{:02}Z", at.hour(), at.minute(), at.second())
    }
}
