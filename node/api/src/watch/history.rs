//! The newest states, so that a watch can resume where its reader was cut off.
//!
//! States are clones of a few pointers; keeping one costs what it alone still refers to.
//! A state arrives here whenever this manager publishes one, so several entries may lie between two
//! kept ones. Invariant: indexes grow strictly, at most `WATCH_HISTORY_MAX` states are kept, and
//! the oldest is at most `WATCH_HISTORY_ROWS` rows of tasks behind the newest.

use crate::limits::{WATCH_GAP_MS_MAX, WATCH_HISTORY_AGE, WATCH_HISTORY_ROWS};
use muster_model::limits::WATCH_HISTORY_MAX;
use muster_model::{Error, Index, State};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The states kept, oldest first.
pub struct History {
    states: Mutex<VecDeque<Arc<State>>>,
    rows_max: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { states: Mutex::default(), rows_max: WATCH_HISTORY_ROWS }
    }
}

impl History {
    /// Keeps a state; one that is not newer than the newest is no news.
    pub fn keep(&self, state: Arc<State>) {
        let mut states = self.locked();
        if states.back().is_some_and(|newest| newest.applied() >= state.applied()) {
            return;
        }
        let (now, written) = (state.meta().now, state.written());
        states.push_back(state);
        // One from a snapshot may count fewer: it shares nothing with those before it.
        let old = |first: &Arc<State>| {
            now.since(first.meta().now) > WATCH_HISTORY_AGE
                || written.wrapping_sub(first.written()) > self.rows_max
        };
        while states.len() > WATCH_HISTORY_MAX || states.front().is_some_and(old) {
            states.pop_front();
        }
    }

    /// The state to continue from for a reader that has seen everything up to `index`.
    ///
    /// That is the one at `index` or, where this manager published several entries at once, the one
    /// before: its reader then sees some changes a second time, and misses none as long as no row
    /// was both made and forgotten between two kept states (`WATCH_GAP_MS_MAX`).
    ///
    /// # Errors
    /// `Compacted` when it is no longer kept: the reader starts over with the present rows.
    pub fn since(&self, index: Index) -> Result<Arc<State>, Error> {
        let states = self.locked();
        let oldest = states.front().map_or(0, |state| state.applied().0);
        let compacted = Error::Compacted { since: index.0, oldest };
        let next = states.partition_point(|state| state.applied() <= index);
        let Some(before) = next.checked_sub(1).and_then(|at| states.get(at)) else {
            return Err(compacted);
        };
        if before.applied() == index {
            return Ok(before.clone());
        }
        let Some(after) = states.get(next) else { return Err(compacted) };
        let gap = after.meta().now.since(before.meta().now);
        match gap.0 <= WATCH_GAP_MS_MAX {
            true => Ok(before.clone()),
            false => Err(compacted),
        }
    }

    fn locked(&self) -> MutexGuard<'_, VecDeque<Arc<State>>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(index: u64) -> Arc<State> {
        let mut state = State::default();
        state.skip(Index(index));
        Arc::new(state)
    }

    fn since(history: &History, index: u64) -> Result<u64, Error> {
        history.since(Index(index)).map(|state| state.applied().0)
    }

    #[test]
    fn a_reader_continues_at_its_index_or_just_before() {
        let history = History::default();
        for index in [5, 6, 9, 9, 7] {
            history.keep(at(index));
        }
        assert_eq!(since(&history, 5), Ok(5));
        assert_eq!(since(&history, 8), Ok(6));
        assert_eq!(since(&history, 9), Ok(9));
        assert_eq!(since(&history, 4), Err(Error::Compacted { since: 4, oldest: 5 }));
        assert!(since(&history, 10).is_err());
    }

    #[test]
    fn old_ones_go_although_there_is_room() {
        use muster_model::{Command, Entry, Principal, RaftId, RequestId};
        let later = |index: u64, at: u64| {
            let mut state = State::default();
            let entry = Entry {
                request: RequestId::from_bits(1),
                at: muster_model::Time(at),
                by: Principal::Manager(RaftId(1)),
                trace: None,
                command: Command::Takeover { manager: RaftId(1) },
            };
            muster_model::apply(&mut state, Index(index), &entry).unwrap();
            Arc::new(state)
        };
        let history = History::default();
        history.keep(later(5, 1_000));
        history.keep(later(6, 2_000));
        assert_eq!(since(&history, 5), Ok(5));
        history.keep(later(7, 1_500 + WATCH_HISTORY_AGE.0));
        assert!(since(&history, 5).is_err());
        assert_eq!(since(&history, 6), Ok(6));
    }

    #[test]
    fn a_flood_of_rows_leaves_few_versions() {
        use muster_model::fixture::World;
        let mut world = World::from_text("definition web cpu=1 mem=1");
        let history = History { rows_max: 2, ..History::default() };
        let mut keep = |line: &str| {
            world.run(line);
            history.keep(Arc::new(world.state.clone()));
            world.state.applied().0
        };
        let versions = ["run t1", "run t2", "run t3", "run t4"];
        let at = versions.map(|run| keep(&format!("{run} definition=web")));
        assert!(since(&history, at[0]).is_err());
        assert_eq!(since(&history, at[1]), Ok(at[1]));
        // Read from disk, it has counted less than those before it.
        let mut read = State::default();
        read.skip(Index(at[3] + 1));
        history.keep(Arc::new(read));
        assert!(since(&history, at[3]).is_err());
        assert_eq!(since(&history, at[3] + 1), Ok(at[3] + 1));
    }

    #[test]
    fn the_oldest_go_first() {
        let history = History::default();
        let last = WATCH_HISTORY_MAX as u64 + 10;
        for index in 1..=last {
            history.keep(at(index));
        }
        assert_eq!(since(&history, 10), Err(Error::Compacted { since: 10, oldest: 11 }));
        assert_eq!(since(&history, 11), Ok(11));
    }
}
