//! Tables: expressions with the times that they name, and what is refused and where.
//! `UPDATE=1 cargo test -p muster-calendar` records them anew.

// A test may panic, and its knobs come from the environment.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods)]

use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;
use muster_calendar::Calendar;
use muster_model::Time;
use std::fmt::Write;
use std::path::Path;

fn time(text: &str) -> Time {
    let at: Timestamp = text.parse().unwrap_or_else(|why| panic!("{text}: {why}"));
    Time(at.as_millisecond().try_into().expect("before 1970"))
}

fn shown(at: Time, zone: &str) -> String {
    let at = Timestamp::from_millisecond(at.0.try_into().unwrap()).unwrap();
    let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
    let local = zone.to_datetime(at);
    let day = format!("{:?}", local.weekday());
    format!("{at} = {} {local}", &day[..3])
}

/// `EXPRESSION | ZONE | FROM | N`: the first N from then on.
fn due(line: &str) -> String {
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    let [expression, zone, from, count] = fields[..] else { panic!("{line}: four fields") };
    let calendar = Calendar::parse(expression, zone).unwrap_or_else(|why| panic!("{line}: {why}"));
    let mut out = String::new();
    let mut next = calendar.first(time(from));
    for _ in 0..count.parse().unwrap() {
        match next {
            Some(at) => {
                let _ = writeln!(out, "{}", shown(at, zone));
                next = calendar.next(at);
            }
            None => {
                out.push_str("never again\n");
                break;
            }
        }
    }
    out
}

/// `EXPRESSION | ZONE`: what is wrong with it.
fn refused(line: &str) -> String {
    let (expression, zone) = line.split_once('|').unwrap_or((line, ""));
    match Calendar::parse(expression.trim(), zone.trim()) {
        Ok(_) => "fine\n".into(),
        Err(why) => format!("{why}\n"),
    }
}

/// `EXPRESSION | DUE | NOW`: what passed.
fn passed(line: &str) -> String {
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    let [expression, due, now] = fields[..] else { panic!("{line}: three fields") };
    let calendar = Calendar::parse(expression, "").unwrap_or_else(|why| panic!("{line}: {why}"));
    let passed = calendar.passed(time(due), time(now));
    let next = passed.next.map_or("never again".into(), |at| shown(at, "UTC"));
    format!("{} after {}, then {next}\n", shown(passed.latest, "UTC"), passed.before)
}

/// Blocks of one line, `----` and the answer, parted by empty lines.
fn check(name: &str, answer: fn(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let recorded = std::fs::read_to_string(&path).expect("unreadable table");
    let mut now = String::new();
    for block in recorded.trim_end().split("\n\n") {
        let asked = block.split("\n----").next().unwrap();
        let line = asked.lines().find(|line| !line.starts_with('#')).unwrap();
        let _ = write!(now, "{asked}\n----\n{}\n", answer(line));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &now).expect("unwritable table");
    } else {
        assert_eq!(now, recorded, "{}: UPDATE=1 records it anew", path.display());
    }
}

#[test]
fn expressions_name_these_times() {
    check("due.txt", due);
}

#[test]
fn errors_say_where_and_what_is_allowed() {
    check("refused.txt", refused);
}

#[test]
fn what_was_not_fired_is_counted_once() {
    check("passed.txt", passed);
}
