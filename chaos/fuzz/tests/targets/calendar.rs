//! Expressions of schedules, with their time zones: `EXPRESSION|ZONE`.
//!
//! What is read names times that grow; what is refused is refused at a column the text has.

use super::{text, texts};
use muster_calendar::{Calendar, EXPRESSION_CHARS_MAX};
use muster_model::{Error, Millis, Time};

fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "rate(5 minutes)|UTC",
        "rate(3650 days)|",
        "cron(0/15 8-17 ? JAN-MAR,DEC MON-FRI 2026-2199)|Europe/Berlin",
        "cron(0 2 L 2 ? */4)|America/New_York",
        "cron(30 1 31W * ? *)|Australia/Lord_Howe",
        "cron(5,10 * ? * 3#2 *)|Africa/Casablanca",
        "cron(0 0 ? * friL 2027)|Antarctica/Casey",
        "at(2026-03-29T02:30:00)|Europe/Berlin",
    ])
}

#[test]
fn schedule_expression() {
    muster_fuzz::target("schedule_expression", seeds, |input| {
        let Some(text) = text(input) else { return };
        let (expression, zone) = text.split_once('|').unwrap_or((text, ""));
        let calendar = match Calendar::parse(expression, zone) {
            Ok(calendar) => calendar,
            Err(Error::Invalid { field, allowed, .. }) => {
                let column = allowed.strip_prefix("at column ").and_then(|at| at.split_once(':'));
                let column = column.and_then(|(column, _)| column.parse::<usize>().ok());
                let most = expression.chars().count().min(EXPRESSION_CHARS_MAX) + 1;
                let within = column.is_some_and(|column| (1..=most).contains(&column));
                assert!(field == "scheduleExpressionTimezone" || within, "{allowed}");
                return;
            }
            Err(other) => panic!("{other}"),
        };
        // 2026-11-20.
        let from = Time(1_795_132_800_000);
        let Some(first) = calendar.first(from) else { return };
        assert!(first >= from);
        let mut last = first;
        for next in std::iter::successors(calendar.next(first), |due| calendar.next(*due)).take(8) {
            assert!(next > last, "{last:?} {next:?}");
            last = next;
        }
        let passed = calendar.passed(first, last + Millis(1));
        assert_eq!(passed.latest, last);
        assert_eq!(passed.next, calendar.next(last));
    });
}
