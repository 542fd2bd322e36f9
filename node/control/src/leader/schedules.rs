//! Schedules that are due: fires each, and says what it waits for next.
//!
//! What becomes of a run is `apply`'s: it knows which tasks go on. Here the expression is read, and
//! the times that passed while nobody led are counted. It keeps nothing: what is due stands in the
//! rows, so that a new leader fires what the old one did not, and no more.

use super::draft::Draft;
use super::view::View;
use muster_calendar::Calendar;
use muster_model::{Schedule, Step, Time};
use std::sync::Arc;

pub(super) fn stage(draft: &mut Draft, view: &mut View) {
    if !view.dirty.schedules && !view.dirty.all {
        return;
    }
    let now = view.now;
    let due: Vec<(Time, Arc<Schedule>)> = draft
        .state()
        .due_schedules()
        .take_while(|(due, _)| *due <= now)
        .map(|(due, row)| (due, row.clone()))
        .collect();
    for (due, row) in due {
        if draft.full() {
            view.dirty.defer_schedules();
            break;
        }
        let Some(step) = fired(&row, due, now) else { continue };
        view.dirty.waiting |= draft.push(step);
    }
    let later = draft.state().due_schedules().find(|(due, _)| *due > now);
    view.wakes.schedules_at(later.map(|(due, _)| due));
}

/// Nothing is due after its end. `None`: its time zone is one that only newer managers know; it
/// stays due until one of them leads.
fn fired(row: &Schedule, due: Time, now: Time) -> Option<Step> {
    let (schedule, spec) = (row.id, &row.spec);
    let calendar = Calendar::parse(&spec.expression, &spec.timezone).ok()?;
    let until = spec.end.map_or(now, |end| end.min(now)).max(due);
    let passed = calendar.passed(due, until);
    let next = passed.next.filter(|next| spec.end.is_none_or(|end| *next <= end));
    Some(Step::Fire { schedule, due, latest: passed.latest, missed: passed.before, next })
}
