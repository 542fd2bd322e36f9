//! When a schedule is due: the expressions of Amazon EventBridge Scheduler, in a time zone.
//!
//! Pure: the time zones are compiled in, and what time it is comes as an argument. Who asks is the
//! leader, whose answer rides in its plan, and whoever takes a request: `apply` never does, so that
//! managers with other time zones than the leader's come to the same state.
//! Invariant: `next` is later than what it follows.

mod cron;
mod field;
mod rate;
mod text;

use cron::Cron;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use muster_model::{Error, Millis, Time};
use text::Wrong;

/// EventBridge Scheduler's name of the field that an error is about.
const EXPRESSION: &str = "scheduleExpression";
const TIMEZONE: &str = "scheduleExpressionTimezone";
/// EventBridge: characters of an expression.
pub const EXPRESSION_CHARS_MAX: usize = 256;
/// EventBridge: characters of a time zone's name.
pub const TIMEZONE_CHARS_MAX: usize = 50;
/// Due times that nobody fired are counted this far: a week of every ten minutes.
pub const PASSED_COUNTED_MAX: u32 = 1000;

/// An expression in its time zone.
#[derive(Clone, Debug)]
pub struct Calendar {
    expression: Expression,
    zone: TimeZone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    /// Every so often, counted from the first time.
    Rate(Millis),
    /// The minutes that six fields name.
    Cron(Box<Cron>),
    /// Once.
    At(DateTime),
}

/// The due times from one that was not fired up to a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The last of them; the first itself if there is no other.
    pub latest: Time,
    /// Those before it, counted up to `PASSED_COUNTED_MAX`.
    pub before: u32,
    /// What follows.
    pub next: Option<Time>,
}

impl Calendar {
    /// Reads `rate(5 minutes)`, `cron(0 12 * * ? *)` or `at(2026-11-20T13:00:00)`, and the IANA
    /// name of a time zone; empty means UTC.
    ///
    /// # Errors
    /// `Invalid` with the field, the value and, of an expression, the column and what is allowed
    /// there.
    pub fn parse(expression: &str, timezone: &str) -> Result<Self, Error> {
        let zone = zone(timezone)?;
        let read = text::expression(expression).and_then(|call| match call.name {
            "rate" => rate::rate(call.inner).map(Expression::Rate),
            "cron" => Cron::parse(call.inner).map(|cron| Expression::Cron(Box::new(cron))),
            _ => text::date_time(call.inner).map(Expression::At),
        });
        let expression = read.map_err(|Wrong { column, allowed }| {
            Error::invalid(EXPRESSION, expression, format!("at column {column}: {allowed}"))
        })?;
        Ok(Self { expression, zone })
    }

    /// The first due time that is not before `from`. EventBridge: a rate begins with `from`.
    pub fn first(&self, from: Time) -> Option<Time> {
        match &self.expression {
            Expression::Rate(_) => Some(from),
            Expression::Cron(cron) => cron.next(&self.zone, from - Millis(1)),
            Expression::At(at) => instant(&self.zone, *at).filter(|at| *at >= from),
        }
    }

    /// The due time that follows the due time `due`; always later.
    pub fn next(&self, due: Time) -> Option<Time> {
        match &self.expression {
            Expression::Rate(period) => Some(due + *period).filter(|next| *next > due),
            Expression::Cron(cron) => cron.next(&self.zone, due),
            Expression::At(_) => None,
        }
    }

    /// What is due from the due time `due` to `now`, both included. `due` may not be later.
    pub fn passed(&self, due: Time, now: Time) -> Passed {
        if let Expression::Rate(period) = self.expression {
            let before = now.since(due).0 / period.0;
            let latest = due + Millis(before * period.0);
            let before = u32::try_from(before).unwrap_or(u32::MAX).min(PASSED_COUNTED_MAX);
            return Passed { latest, before, next: self.next(latest) };
        }
        let counted =
            (self.walk(due, now).take(PASSED_COUNTED_MAX as usize + 1)).collect::<Vec<_>>();
        let before = counted.len().saturating_sub(1).min(PASSED_COUNTED_MAX as usize) as u32;
        let latest = match counted.len() > PASSED_COUNTED_MAX as usize {
            true => self.last(due, now),
            false => counted.last().copied().unwrap_or(due),
        };
        Passed { latest, before, next: self.next(latest) }
    }

    /// The time as clocks there show it, for people: `Fri 2026-11-20 13:00:00 CET`.
    pub fn shown(&self, at: Time) -> String {
        let at = i64::try_from(at.0).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
        let zoned = at.map(|at| at.to_zoned(self.zone.clone()));
        zoned.map_or("never".into(), |at| at.strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string())
    }

    fn walk(&self, due: Time, now: Time) -> impl Iterator<Item = Time> + '_ {
        std::iter::successors(Some(due), |due| self.next(*due)).take_while(move |due| *due <= now)
    }

    /// The last due time of a series too long to walk: looked for in spans before `now`, the
    /// shortest first, so that what names every minute is not walked for a year.
    fn last(&self, due: Time, now: Time) -> Time {
        let spans = HOURS_BACK.map(|hours| now - Millis::from_secs(hours * 3600));
        let mut found = spans.into_iter().filter_map(|from| {
            let from = self.first(from.max(due)).filter(|first| *first <= now)?;
            self.walk(from, now).last()
        });
        found.next().unwrap_or(due)
    }
}

/// An hour, a day, a month, a year, all years.
const HOURS_BACK: [u64; 5] = [1, 24, 24 * 31, 24 * 366, 24 * 366 * 230];

fn zone(name: &str) -> Result<TimeZone, Error> {
    let wrong =
        || Error::invalid(TIMEZONE, name, "an IANA time zone, such as Europe/Berlin or UTC");
    match name {
        "" => Ok(TimeZone::UTC),
        _ if name.chars().count() > TIMEZONE_CHARS_MAX => Err(wrong()),
        _ => TimeZoneDatabase::bundled().get(name).map_err(|_| wrong()),
    }
}

/// EventBridge: what the clocks skip does not happen, what they repeat happens once, at first.
fn instant(zone: &TimeZone, local: DateTime) -> Option<Time> {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    let found = match ambiguous.offset() {
        AmbiguousOffset::Gap { .. } => None,
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => {
            ambiguous.earlier().ok()
        }
    };
    u64::try_from(found?.as_millisecond()).ok().map(Time)
}

/// The local time of a moment; none beyond the year 9999.
fn local(zone: &TimeZone, at: Time) -> Option<DateTime> {
    let millis = i64::try_from(at.0).ok()?;
    let at = Timestamp::from_millisecond(millis).ok()?;
    Some(zone.to_datetime(at))
}
