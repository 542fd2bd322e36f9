//! What may be deleted from the machine, and when a task leaves the agent's memory.
//!
//! Invariant: nothing is deleted that a manager has not said to forget, and nothing that lives.

use super::task::Work;
use crate::io::WorkerOutput;
use muster_model::Time;

/// A manager has recorded its end, or never knew it. What still runs is stopped first.
pub(super) fn forget(work: Option<&mut Work>, now: Time) {
    if let Some(work) = work {
        work.forget = true;
        work.order_stop(now);
    }
}

/// Orders the deletion of what is forgotten and has ended, once.
pub(super) fn delete_if_done(work: &mut Work, out: &mut Vec<WorkerOutput>) {
    if work.forget && work.ended() && !work.deleting && work.assignment().is_some() {
        work.deleting = true;
        out.push(WorkerOutput::Delete { task: work.id });
    }
}

/// Its deletion was ordered and is done.
pub(super) fn may_drop(work: &Work) -> bool {
    work.deleting
}
