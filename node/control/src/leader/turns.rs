//! Who goes first when a plan cannot hold all that waits: whoever wants little.
//!
//! A service of ten thousand tasks fills plan after plan. A RunTask call, or the replacement of a
//! task that died, must not wait for the last of them: it goes into the next plan, and that one is
//! over soon, because plans are short while such calls come. Where a plan holds everything the
//! order stays as it is, so that little room is still given by age alone.
//! Invariant: those who want little take at most a quarter of a plan; the others always go on.

use muster_model::limits;

/// Tasks of one owner that are little: what one RunTask call may ask for.
const LITTLE_MAX: usize = limits::RUN_TASK_COUNT_MAX as usize;
/// Of what a plan holds, this part is theirs before the others'.
const FIRST_SHARE: usize = 4;

/// Puts those first that want little, each given with the tasks it wants, if the plan has not room
/// for all.
pub(super) fn little_first<T>(room: usize, waiting: Vec<(T, usize)>) -> Vec<T> {
    let all: usize = waiting.iter().map(|(_, tasks)| tasks).sum();
    let mut left = if all > room { room / FIRST_SHARE } else { 0 };
    let is_first = |(_, tasks): &(T, usize)| {
        let fits = *tasks <= LITTLE_MAX.min(left);
        left -= if fits { *tasks } else { 0 };
        fits
    };
    let (first, then): (Vec<_>, Vec<_>) = waiting.into_iter().partition(is_first);
    first.into_iter().chain(then).map(|(one, _)| one).collect()
}

/// Whether plans should be short for a while: of `all` tasks that wait a few are run, by RunTask or
/// a job, and the others fill plans. Where many are run, long plans serve them sooner.
pub(super) fn hurry(run: usize, all: usize) -> bool {
    (1..=limits::PLAN_STEPS_SHORT / FIRST_SHARE).contains(&run)
        && all > limits::PLAN_STEPS_SHORT / 2
}
