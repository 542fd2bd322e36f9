//! Who goes first when a plan cannot hold all that waits: whoever wants little.
//!
//! A service of ten thousand tasks fills plan after plan. A RunTask call, or the replacement of a
//! task that died, must not wait for the last of them: it goes into the next plan. Where a plan
//! holds everything the order stays as it is, so that little room is still given by age alone.
//! Invariant: those who want little take at most a quarter of a plan; the others always go on.

use muster_model::limits;

/// Tasks of one owner that are little: what one RunTask call may ask for.
const LITTLE_MAX: usize = limits::RUN_TASK_COUNT_MAX as usize;
/// Tasks of theirs that go first.
const FIRST_MAX: usize = limits::PLAN_STEPS_MAX / 4;

/// Puts those first that want little, each given with the tasks it wants, if the plan has not room
/// for all.
pub(super) fn little_first<T>(room: usize, waiting: Vec<(T, usize)>) -> Vec<T> {
    let all: usize = waiting.iter().map(|(_, tasks)| tasks).sum();
    let mut left = if all > room { FIRST_MAX } else { 0 };
    let is_first = |(_, tasks): &(T, usize)| {
        let fits = *tasks <= LITTLE_MAX.min(left);
        left -= if fits { *tasks } else { 0 };
        fits
    };
    let (first, then): (Vec<_>, Vec<_>) = waiting.into_iter().partition(is_first);
    first.into_iter().chain(then).map(|(one, _)| one).collect()
}
