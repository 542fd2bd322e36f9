//! At the same index every manager has the same state and gave the same answer. Without it two
//! managers show a user two different clusters, and a failover silently changes what runs.

use crate::sim::log::Log;
use crate::sim::manager::Manager;
use muster_model::{Index, State};

/// Every so many entries everything is compared, not only what the entry changed.
const FULL: u64 = 256;

pub(super) fn check(
    log: &Log,
    before: &State,
    after: &State,
    index: Index,
    same_answer: bool,
) -> Result<(), String> {
    let earlier = Index(index.0.saturating_sub(1));
    let (Some(was), Some(is)) = (log.state_at(earlier), log.state_at(index)) else {
        return Err(format!("#{index} is not in the log"));
    };
    if !same_answer {
        return Err(format!("another answer than the others gave to #{index}"));
    }
    if index.0.is_multiple_of(FULL) && *after != **is {
        return Err(format!("another state than the others after #{index}"));
    }
    let (mine, theirs) = (State::diff(before, after), State::diff(was, is));
    let changed = |a: &muster_model::Changes, b: &muster_model::Changes| {
        a.rows().map(|row| format!("{row:?}")).eq(b.rows().map(|row| format!("{row:?}")))
    };
    if after.meta() != is.meta() || !changed(&mine, &theirs) {
        return Err(format!("another change than the others by #{index}"));
    }
    Ok(())
}

pub(super) fn check_end(log: &Log, managers: &[Manager]) -> Result<(), String> {
    for manager in managers.iter().filter(|m| m.alive) {
        let index = manager.state.applied();
        if log.state_at(index).is_none_or(|truth| **truth != *manager.state) {
            return Err(format!("m{} ends with another state at #{index}", manager.id));
        }
        if log.committed().0 > index.0 + 20 {
            return Err(format!("m{} is at #{index} of #{}", manager.id, log.committed()));
        }
    }
    Ok(())
}
