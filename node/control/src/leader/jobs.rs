//! Jobs that have not ended: starts their attempts, and ends those that take too long.
//!
//! What an attempt came to is counted by `apply`, and so is the end of a job by it. Here is only
//! what time alone brings about. It keeps nothing: how far a job is, and when its next attempt may
//! start, stands in its row, so that a new leader goes on where the old one left off.

use super::draft::Draft;
use super::turns;
use super::view::View;
use muster_model::task::{StopCode, reason};
use muster_model::{Job, JobId, Step, TaskId, Time};
use std::sync::Arc;

pub(super) fn stage(draft: &mut Draft, view: &mut View) {
    let room = draft.room_to_make();
    for id in turns::little_first(room, wanted(draft, view)) {
        let Some(row) = draft.state().job(id).filter(|row| row.end.is_none()).cloned() else {
            continue;
        };
        if draft.full() {
            view.dirty.defer_job(id);
            continue;
        }
        tend(draft, view, &row);
    }
}

/// Each job to look at, with the tasks it has room for.
fn wanted(draft: &Draft, view: &View) -> Vec<(JobId, usize)> {
    let state = draft.state();
    let room = |row: &Arc<Job>| (row.id, row.room() as usize);
    match view.dirty.all {
        true => state.jobs().filter(|row| row.end.is_none()).map(room).collect(),
        false => view.dirty.jobs.iter().filter_map(|id| state.job(*id)).map(room).collect(),
    }
}

fn tend(draft: &mut Draft, view: &mut View, row: &Job) {
    let (job, now) = (row.id, draft.state().now());
    match row.deadline() {
        Some(deadline) if deadline <= now => {
            view.dirty.waiting |= draft.push(Step::TimeOutJob { job });
            return;
        }
        Some(deadline) => view.wakes.job_at(deadline, job),
        None => {}
    }
    stop_overdue(draft, view, row, now);
    let room = row.room() as usize;
    if room == 0 {
        return;
    }
    if row.backoff.until > now {
        view.wakes.job_at(row.backoff.until, job);
        return;
    }
    let number = room.min(draft.room_to_make());
    if number < room {
        view.dirty.defer_job(job);
    }
    if number > 0 {
        let tasks = (0..number).map(|_| view.ids.task(view.now)).collect();
        view.dirty.waiting |= draft.push(Step::StartAttempts { job, tasks });
    }
}

/// Attempts that run for longer than they may. One that has been told to stop is not told again.
fn stop_overdue(draft: &mut Draft, view: &mut View, row: &Job, now: Time) {
    let Some(secs) = row.spec.attempt_timeout_secs else { return };
    let running = draft.state().tasks_of_job(row.id).filter(|task| task.wanted());
    let deadlines = running.filter_map(|task| Some((row.attempt_deadline(task)?, task.id)));
    let (due, later): (Vec<(Time, TaskId)>, Vec<_>) = deadlines.partition(|(at, _)| *at <= now);
    if let Some((next, _)) = later.into_iter().min() {
        view.wakes.job_at(next, row.id);
    }
    let code = StopCode::ServiceSchedulerInitiated;
    let reason = reason(&format!("Job attempt timed out: it ran longer than {secs} s"));
    for (_, task) in due {
        if draft.full() {
            view.dirty.defer_job(row.id);
            return;
        }
        draft.push(Step::Stop { task, code, reason: reason.clone() });
    }
}
