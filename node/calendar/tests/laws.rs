//! What holds of every expression: the next time is later, and is the one that a walk over all
//! minutes finds.

// A test may panic.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use jiff::Timestamp;
use jiff::civil::{DateTime, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use muster_calendar::Calendar;
use muster_model::{Millis, Time};
use proptest::prelude::*;

const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Asia/Kathmandu",
];
const MINUTE: u64 = 60_000;
/// Days that the walk covers: some transition of each zone lies in most walks of this length.
const DAYS: u64 = 40;

/// A field as text and as the walk judges it.
#[derive(Clone, Debug)]
struct Field {
    text: String,
    wanted: Vec<u32>,
}

fn field(min: u32, max: u32) -> impl Strategy<Value = Field> {
    let number = min..=max;
    prop_oneof![
        2 => Just(Field { text: "*".into(), wanted: (min..=max).collect() }),
        3 => number.clone().prop_map(|n| Field { text: n.to_string(), wanted: vec![n] }),
        1 => (number.clone(), 1..=max).prop_map(move |(n, step)| Field {
            text: format!("{n}/{step}"),
            wanted: (n..=max).step_by(step as usize).collect(),
        }),
        1 => (number.clone(), number).prop_map(|(a, b)| Field {
            text: format!("{}-{}", a.min(b), a.max(b)),
            wanted: (a.min(b)..=a.max(b)).collect(),
        }),
    ]
}

/// The two fields of days, and what the walk asks of a day.
#[derive(Clone, Debug)]
enum Days {
    Month(Field),
    Week(Field),
    Last,
    Nearest(u32),
    LastOf(u32),
    Nth(u32, u32),
}

fn days() -> impl Strategy<Value = Days> {
    prop_oneof![
        3 => field(1, 31).prop_map(Days::Month),
        2 => field(1, 7).prop_map(Days::Week),
        1 => Just(Days::Last),
        2 => (1u32..=31).prop_map(Days::Nearest),
        1 => (1u32..=7).prop_map(Days::LastOf),
        1 => (1u32..=7, 1u32..=5).prop_map(|(day, nth)| Days::Nth(day, nth)),
    ]
}

impl Days {
    fn texts(&self) -> (String, String) {
        let both = |month: &str, week: &str| (month.to_owned(), week.to_owned());
        match self {
            Self::Month(field) => both(&field.text, "?"),
            Self::Week(field) => both("?", &field.text),
            Self::Last => both("L", "?"),
            Self::Nearest(day) => both(&format!("{day}W"), "?"),
            Self::LastOf(day) => both("?", &format!("{day}L")),
            Self::Nth(day, nth) => both("?", &format!("{day}#{nth}")),
        }
    }

    fn has(&self, at: DateTime) -> bool {
        let (day, length) = (at.day() as u32, at.days_in_month() as u32);
        let of_week = |at: DateTime| match at.weekday() {
            Weekday::Sunday => 1,
            other => other.to_monday_one_offset() as u32 + 1,
        };
        match self {
            Self::Month(field) => field.wanted.contains(&day),
            Self::Week(field) => field.wanted.contains(&of_week(at)),
            Self::Last => day == length,
            Self::LastOf(wanted) => of_week(at) == *wanted && day > length - 7,
            Self::Nth(wanted, nth) => of_week(at) == *wanted && (day - 1) / 7 + 1 == *nth,
            Self::Nearest(wanted) if *wanted > length => false,
            // Of the working days of the month, the one at the least distance.
            Self::Nearest(wanted) => {
                let working = (1..=length).filter(|day| {
                    let at = at.with().day(*day as i8).build().unwrap();
                    !matches!(at.weekday(), Weekday::Saturday | Weekday::Sunday)
                });
                working.min_by_key(|day| day.abs_diff(*wanted)) == Some(day)
            }
        }
    }
}

/// The walk: the first minute after `after` that the fields name, within `DAYS`.
fn walked(zone: &TimeZone, after: Time, fits: impl Fn(DateTime) -> bool) -> Option<Time> {
    let first = (after.0 / MINUTE + 1) * MINUTE;
    let mut minutes = (first..first + DAYS * 24 * 60 * MINUTE).step_by(MINUTE as usize);
    minutes.find_map(|millis| {
        let at = Timestamp::from_millisecond(millis as i64).unwrap();
        let local = zone.to_datetime(at);
        // Of a time that the clocks show twice the first counts.
        let once = zone.to_ambiguous_timestamp(local).earlier().unwrap() == at;
        (once && fits(local)).then_some(Time(millis))
    })
}

fn moment() -> impl Strategy<Value = Time> {
    // 2020 to 2040.
    (1_577_836_800_000u64..2_208_988_800_000).prop_map(Time)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn the_next_time_is_what_a_walk_over_all_minutes_finds(
        minutes in field(0, 59),
        hours in field(0, 23),
        months in prop_oneof![3 => Just(Field { text: "*".into(), wanted: (1..=12).collect() }), 1 => field(1, 12)],
        days in days(),
        zone in 0..ZONES.len(),
        after in moment(),
    ) {
        let (of_month, of_week) = days.texts();
        let text = format!("cron({} {} {of_month} {} {of_week} *)", minutes.text, hours.text, months.text);
        let calendar = Calendar::parse(&text, ZONES[zone]).unwrap();
        let next = calendar.next(after);
        if let Some(next) = next {
            prop_assert!(next > after, "{text}");
            prop_assert_eq!(calendar.first(next), Some(next));
        }
        let zone = TimeZoneDatabase::bundled().get(ZONES[zone]).unwrap();
        let found = walked(&zone, after, |at| {
            minutes.wanted.contains(&(at.minute() as u32))
                && hours.wanted.contains(&(at.hour() as u32))
                && months.wanted.contains(&(at.month() as u32))
                && days.has(at)
        });
        match found {
            Some(_) => prop_assert_eq!(next, found, "{}", text),
            None => prop_assert!(next.is_none_or(|next| next.since(after) >= Millis(DAYS * 24 * 60 * MINUTE)), "{text}"),
        }
    }

    #[test]
    fn what_passed_ends_at_the_last_due_time(
        minutes in field(0, 59), hours in field(0, 23), after in moment(), hours_late in 0u64..48,
    ) {
        let calendar =
            Calendar::parse(&format!("cron({} {} * * ? *)", minutes.text, hours.text), "").unwrap();
        let due = calendar.first(after).unwrap();
        let now = due + Millis(hours_late * 60 * MINUTE);
        let passed = calendar.passed(due, now);
        prop_assert!(due <= passed.latest && passed.latest <= now);
        prop_assert!(passed.next.is_none_or(|next| next > now));
        prop_assert_eq!(passed.before == 0, passed.latest == due);
    }

    #[test]
    fn no_text_panics(text in "(rate|cron|at)?[(]?[-0-9a-zA-Z*?#/,: ä)]{0,40}[)]?", zone in "[A-Za-z/_]{0,20}") {
        let _ = Calendar::parse(&text, "");
        let _ = Calendar::parse(&text, &zone);
    }
}
