//! What stands on the right of an operator: patterns, versions, times, numbers.
//!
//! Exact and the same on every machine: no floats, no time zones but an offset, no clock.

use crate::limits;
use crate::time::Time;
use regex_lite::{Regex, RegexBuilder};
use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

/// A regular expression that takes a whole value. Its text is its identity.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Box<str>,
    regex: Regex,
}

impl Pattern {
    /// With what it costs in memory, at most `room` bytes.
    pub(super) fn compile(text: &str, room: usize) -> Result<(Self, usize), regex_lite::Error> {
        let build = |text: &str, room| RegexBuilder::new(text).size_limit(room).build();
        // By itself first: `a)|(b` is a pattern only between the parentheses put around it.
        build(text, limits::QUERY_PATTERN_BYTES_MAX)?;
        let whole = format!("\\A(?:{text})\\z");
        let mut cost = limits::QUERY_PATTERN_BYTES_MIN;
        loop {
            // The engine says only whether a limit was kept, so the cost is the limit that was.
            match build(&whole, cost.min(room)) {
                Ok(regex) => return Ok((Self { text: text.into(), regex }, cost)),
                Err(error) if cost >= room => return Err(error),
                Err(_) => cost *= 2,
            }
        }
    }

    /// # Errors
    /// What is wrong with it, in the engine's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let compiled = Self::compile(text, limits::QUERY_PATTERN_BYTES_MAX);
        compiled.map(|(pattern, _)| pattern).map_err(|error| error.to_string())
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn takes(&self, value: &str) -> bool {
        self.regex.is_match(value)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// Numbers between dots, without zeros at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Vec<u64>);

impl Version {
    /// `None` unless it is numbers between dots.
    pub fn parse(text: &str) -> Option<Self> {
        let part = |part: &str| digits(part, 0..part.len());
        let mut parts = text.split('.').map(part).collect::<Option<Vec<u64>>>()?;
        while parts.last() == Some(&0) {
            parts.pop();
        }
        Some(Self(parts))
    }

    /// As an agent says it: with what it is a build of behind `-` or `+`.
    pub fn of_agent(text: &str) -> Option<Self> {
        Self::parse(text.split(['-', '+']).next()?)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(u64::to_string).collect();
        f.write_str(if parts.is_empty() { "0" } else { "" })?;
        f.write_str(&parts.join("."))
    }
}

/// An instant, as exact as it was written. Its text is its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Date {
    text: Box<str>,
    /// Since 1970-01-01 UTC; negative before it.
    at_ms: i64,
    /// What is compared: whole seconds, or milliseconds.
    unit_ms: i64,
}

impl Date {
    /// `2018-06-18`, `2018-06-18T22:28:28`, with a fraction, with `Z` or an offset; else `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let day = day(text)?;
        let at = |seconds: i64, ms, unit_ms| Self {
            text: text.into(),
            at_ms: (day * 86_400 + seconds) * 1000 + ms,
            unit_ms,
        };
        let Some(time) = text.get(10..).filter(|time| !time.is_empty()) else {
            return Some(at(0, 0, 1000));
        };
        let clock = time.strip_prefix('T')?;
        let mut seconds = clock_seconds(clock)?;
        let mut rest = clock.get(8..)?;
        let (mut ms, mut unit_ms) = (0, 1000);
        if let Some(fraction) = rest.strip_prefix('.') {
            let length = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
            if !(1..=9).contains(&length) {
                return None;
            }
            let three: String = fraction[..length].chars().chain("00".chars()).take(3).collect();
            (ms, unit_ms) = (three.parse().ok()?, 1);
            rest = &fraction[length..];
        }
        seconds -= offset_seconds(rest)?;
        Some(at(seconds, ms, unit_ms))
    }

    /// How a time stands to this one.
    pub fn order_of(&self, time: Time) -> Ordering {
        let time = i64::try_from(time.0).unwrap_or(i64::MAX);
        time.div_euclid(self.unit_ms).cmp(&self.at_ms.div_euclid(self.unit_ms))
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Days since 1970-01-01 of a text that begins with `YYYY-MM-DD`.
fn day(text: &str) -> Option<i64> {
    let (year, month, day) = (number(text, 0..4)?, number(text, 5..7)?, number(text, 8..10)?);
    if text.get(4..5)? != "-" || text.get(7..8)? != "-" {
        return None;
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1..=days_in_month).contains(&day) {
        return None;
    }
    // Years begin in March, so that the odd day is a year's last: Hinnant, `days_from_civil`.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468)
}

/// Seconds since midnight of a text that begins with `HH:MM:SS`.
fn clock_seconds(text: &str) -> Option<i64> {
    let (hour, minute, second) = (number(text, 0..2)?, number(text, 3..5)?, number(text, 6..8)?);
    let colons = text.get(2..3)? == ":" && text.get(5..6)? == ":";
    let fits = hour < 24 && minute < 60 && second < 60;
    (colons && fits).then_some((hour * 60 + minute) * 60 + second)
}

/// Nothing, `Z` or `+HH:MM`.
fn offset_seconds(text: &str) -> Option<i64> {
    let sign = match text.get(..1).unwrap_or_default() {
        "" | "Z" => return (text.len() < 2).then_some(0),
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = (number(text, 1..3)?, number(text, 4..6)?);
    let fits = text.len() == 6 && text.get(3..4)? == ":" && hours <= 18 && minutes < 60;
    fits.then_some(sign * (hours * 60 + minutes) * 60)
}

fn number(text: &str, at: Range<usize>) -> Option<i64> {
    digits(text, at).and_then(|number| i64::try_from(number).ok())
}

/// A part that is digits and nothing else; `None` also if it is beyond what 64 bits hold.
pub(super) fn digits(text: &str, at: Range<usize>) -> Option<u64> {
    let part = text.get(at)?;
    part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
}

/// A decimal number of any length, without zeros that say nothing.
#[derive(PartialEq, Eq)]
pub(super) struct Decimal<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    /// `-`? digits (`.` digits)?
    pub fn of(text: &'a str) -> Option<Self> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
        let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !number(whole) || !number(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let zero = whole.is_empty() && fraction.is_empty();
        Some(Self { negative: unsigned.len() < text.len() && !zero, whole, fraction })
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        fn size<'a>(of: &Decimal<'a>) -> (usize, &'a str, &'a str) {
            (of.whole.len(), of.whole, of.fraction)
        }
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => size(self).cmp(&size(other)),
            (true, true) => size(other).cmp(&size(self)),
        }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
