//! `cron(MINUTES HOURS DAY-OF-MONTH MONTH DAY-OF-WEEK YEAR)`, and the next minute that it names.
//!
//! One of the two days is `?`: EventBridge refuses both and neither. Days are counted by the local
//! calendar, and so is their order: what the clocks repeat is taken once, so that later on the
//! clock is later in time.

use crate::field::{DAY_OF_MONTH, DAY_OF_WEEK, HOURS, Kind, MINUTES, MONTH, Set, YEAR};
use crate::text::{Piece, Wrong};
use crate::{instant, local};
use jiff::Span;
use jiff::civil::{Date, Weekday, date};
use jiff::tz::TimeZone;
use muster_model::{Millis, Time};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cron {
    minutes: Set,
    hours: Set,
    months: Set,
    years: Set,
    days: Days,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Days {
    OfMonth(Set),
    /// `L`
    LastOfMonth,
    /// `3W`: the day from Monday to Friday that is nearest the third, in the same month.
    NearestWeekday(u32),
    /// Sunday is 1.
    OfWeek(Set),
    /// `6L`: the last Friday of the month.
    LastOfWeek(u32),
    /// `3#2`: the second Tuesday of the month.
    NthOfWeek(u32, u32),
}

const FIELDS: [&Kind; 6] = [&MINUTES, &HOURS, &DAY_OF_MONTH, &MONTH, &DAY_OF_WEEK, &YEAR];

impl Cron {
    pub fn parse(inner: Piece<'_>) -> Result<Self, Wrong> {
        let words = inner.words();
        let [minutes, hours, of_month, months, of_week, years] = words[..] else {
            let named = FIELDS.map(|kind| kind.name).join(", ");
            let at = words.get(6).copied().unwrap_or(inner.end());
            return Err(at.wrong(format!("six fields: {named}; not {}", words.len())));
        };
        let days = match (of_month.text, of_week.text) {
            ("?", "?") => {
                let why = "a day of the week, or * there: ? may stand in one of the two days only";
                return Err(of_week.wrong(why));
            }
            ("?", _) => Days::of_week(of_week)?,
            (_, "?") => Days::of_month(of_month)?,
            _ => return Err(of_week.wrong("?: one of day-of-month and day-of-week must be ?")),
        };
        Ok(Self {
            minutes: MINUTES.set(minutes)?,
            hours: HOURS.set(hours)?,
            months: MONTH.set(months)?,
            years: YEAR.set(years)?,
            days,
        })
    }

    /// The first minute after `after`; `None` if there is none until the year 2199.
    pub fn next(&self, zone: &TimeZone, after: Time) -> Option<Time> {
        // Since 1970 no clock went back by more than three hours (Casey, 2010), so no later minute
        // reads earlier than this.
        let from = local(zone, after - Millis::from_secs(4 * 3600))?;
        let mut day = from.date();
        loop {
            day = self.day_from(day)?;
            for hour in (0..24).filter(|hour| self.hours.has(*hour as u32)) {
                // The day is entered in the middle.
                if day == from.date() && hour < from.hour() {
                    continue;
                }
                for minute in (0..60).filter(|minute| self.minutes.has(*minute as u32)) {
                    let found = instant(zone, day.at(hour, minute, 0, 0));
                    if let Some(found) = found.filter(|found| *found > after) {
                        return Some(found);
                    }
                }
            }
            day = day.tomorrow().ok()?;
        }
    }

    /// The first day from `day` on that the fields name.
    fn day_from(&self, mut day: Date) -> Option<Date> {
        loop {
            let year = u32::try_from(day.year()).ok().filter(|year| *year <= YEAR.max)?;
            day = if !self.years.has(year) {
                date(day.year(), 1, 1).checked_add(Span::new().years(1)).ok()?
            } else if !self.months.has(day.month() as u32) {
                day.first_of_month().checked_add(Span::new().months(1)).ok()?
            } else if !self.days.name(day) {
                day.tomorrow().ok()?
            } else {
                return Some(day);
            };
        }
    }
}

impl Days {
    fn of_month(field: Piece<'_>) -> Result<Self, Wrong> {
        if field.text == "L" {
            return Ok(Self::LastOfMonth);
        }
        if let Some(nearest) = field.strip_suffix("W") {
            return DAY_OF_MONTH.one(nearest).map(Self::NearestWeekday);
        }
        DAY_OF_MONTH.set(field).map(Self::OfMonth).map_err(|mut wrong| {
            wrong.allowed += "; by themselves L, the last, and 3W, the weekday nearest the third";
            wrong
        })
    }

    fn of_week(field: Piece<'_>) -> Result<Self, Wrong> {
        // The last day of the week is its seventh, Saturday.
        let field = match field.text {
            "L" => Piece { text: "7", ..field },
            _ => field,
        };
        if let Some((weekday, number)) = field.split_once('#') {
            let weekday = DAY_OF_WEEK.one(weekday)?;
            let fits = number.number().filter(|number| (1..=5).contains(number));
            let wrong = || number.wrong("1 to 5, and nothing after it: which of the month");
            return Ok(Self::NthOfWeek(weekday, fits.ok_or_else(wrong)?));
        }
        if let Some(last) = field.strip_suffix("L") {
            return DAY_OF_WEEK.one(last).map(Self::LastOfWeek);
        }
        DAY_OF_WEEK.set(field).map(Self::OfWeek).map_err(|mut wrong| {
            wrong.allowed += "; by themselves 6L, the last Friday, and 3#2, the second Tuesday";
            wrong
        })
    }

    /// Whether it is one of them; the month is not asked about.
    fn name(self, day: Date) -> bool {
        let of_week = weekday(day);
        let (number, last) = (day.day() as u32, day.days_in_month() as u32);
        match self {
            Self::OfMonth(set) => set.has(number),
            Self::LastOfMonth => number == last,
            Self::NearestWeekday(wanted) => number == nearest_weekday(day, wanted, last),
            Self::OfWeek(set) => set.has(of_week),
            Self::LastOfWeek(wanted) => of_week == wanted && number + 7 > last,
            Self::NthOfWeek(wanted, nth) => of_week == wanted && number.div_ceil(7) == nth,
        }
    }
}

/// Sunday is 1, as in the expressions.
fn weekday(day: Date) -> u32 {
    day.weekday().to_sunday_one_offset() as u32
}

/// The working day nearest the `wanted` day of this month; 0, no day, if the month is shorter.
fn nearest_weekday(day: Date, wanted: u32, last: u32) -> u32 {
    if wanted > last {
        return 0;
    }
    let at = i8::try_from(wanted).ok().and_then(|n| day.with().day(n).build().ok());
    match at.map(Date::weekday) {
        Some(Weekday::Saturday) if wanted == 1 => 3,
        Some(Weekday::Saturday) => wanted - 1,
        Some(Weekday::Sunday) if wanted == last => wanted - 2,
        Some(Weekday::Sunday) => wanted + 1,
        _ => wanted,
    }
}
