//! I1: whether what clients saw of one row could have happened one call after the other.
//!
//! A register is a tag: written and read. A compare-and-set row is a service: written with the
//! version it is expected to have. The search is `todc-utils`' (Wing and Gong, with Lowe's memory);
//! here are the two objects, and what a call without an answer means to it.

use super::record::Micros;
use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

/// One call of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<O> {
    pub begun: Micros,
    /// `None`: nobody knows whether it was done; it may be done at any time after it was begun.
    pub ended: Option<Micros>,
    pub what: O,
}

/// On a register that begins empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnRegister {
    Write(u64),
    Read(Option<u64>),
}

/// On a row with a version: (version, value). It begins at version 1 with value 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnRow {
    /// The write was done: the row had the expected version.
    Set {
        expected: u64,
        value: u64,
    },
    /// The write was refused: the row had another version, this one.
    Refused {
        expected: u64,
        found: u64,
    },
    /// Nobody knows.
    MaybeSet {
        expected: u64,
        value: u64,
    },
    Read {
        version: u64,
        value: u64,
    },
}

struct Register;

impl Specification for Register {
    type State = Option<u64>;
    type Operation = OnRegister;

    fn init() -> Self::State {
        None
    }

    fn apply(operation: &OnRegister, state: &Self::State) -> (bool, Self::State) {
        match operation {
            OnRegister::Write(value) => (true, Some(*value)),
            OnRegister::Read(seen) => (seen == state, *state),
        }
    }
}

struct Row;

impl Specification for Row {
    type State = (u64, u64);
    type Operation = OnRow;

    fn init() -> Self::State {
        (1, 0)
    }

    fn apply(operation: &OnRow, state: &Self::State) -> (bool, Self::State) {
        let (version, value) = *state;
        match *operation {
            OnRow::Set { expected, value } => (expected == version, (version + 1, value)),
            OnRow::Refused { expected, found } => {
                (found == version && expected != version, (version, value))
            }
            OnRow::MaybeSet { expected, value: wanted } if expected == version => {
                (true, (version + 1, wanted))
            }
            // Too late to have an effect.
            OnRow::MaybeSet { .. } => (true, (version, value)),
            OnRow::Read { version: seen, value: read } => {
                ((seen, read) == (version, value), (version, value))
            }
        }
    }
}

pub fn register_is_linear(calls: &[Call<OnRegister>]) -> bool {
    calls.is_empty() || WGLChecker::<Register>::is_linearizable(history(calls))
}

pub fn row_is_linear(calls: &[Call<OnRow>]) -> bool {
    calls.is_empty() || WGLChecker::<Row>::is_linearizable(history(calls))
}

/// Each call is a process of its own: the times alone say what was before what. A call without an
/// answer ends after all others, where it may as well never have been done.
fn history<O: Clone>(calls: &[Call<O>]) -> History<O> {
    let mut actions = Vec::with_capacity(2 * calls.len());
    for (process, call) in calls.iter().enumerate() {
        // At one microsecond, calls begin before others end: they count as overlapping.
        actions.push(((call.begun, 0), process, Action::Call(call.what.clone())));
        let ended = call.ended.unwrap_or(u64::MAX);
        actions.push(((ended, 1), process, Action::Response(call.what.clone())));
    }
    actions.sort_by_key(|(at, process, _)| (*at, *process));
    History::from_actions(actions.into_iter().map(|(_, process, what)| (process, what)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call<O>(begun: Micros, ended: Micros, what: O) -> Call<O> {
        Call { begun, ended: Some(ended), what }
    }

    #[test]
    fn a_read_after_an_acknowledged_write_sees_it() {
        let write = call(0, 10, OnRegister::Write(1));
        assert!(register_is_linear(&[write.clone(), call(11, 12, OnRegister::Read(Some(1)))]));
        assert!(!register_is_linear(&[write.clone(), call(11, 12, OnRegister::Read(None))]));
        assert!(register_is_linear(&[write, call(5, 12, OnRegister::Read(None))]), "they overlap");
    }

    #[test]
    fn a_write_without_an_answer_may_be_done_late_or_never_but_not_undone() {
        let lost = Call { begun: 0, ended: None, what: OnRegister::Write(1) };
        let read = |at, seen| call(at, at + 1, OnRegister::Read(seen));
        assert!(register_is_linear(&[lost.clone(), read(10, None)]));
        assert!(register_is_linear(&[lost.clone(), read(10, None), read(20, Some(1))]));
        assert!(!register_is_linear(&[lost, read(10, Some(1)), read(20, None)]));
    }

    #[test]
    fn of_two_writes_that_expect_one_version_one_is_done() {
        let set = |value| call(0, 10, OnRow::Set { expected: 1, value });
        let refused = call(0, 10, OnRow::Refused { expected: 1, found: 2 });
        assert!(row_is_linear(&[set(5), refused.clone()]));
        assert!(!row_is_linear(&[set(5), set(6)]), "an expected version was ignored");
        assert!(!row_is_linear(&[refused]), "it was refused for what nobody had written");
    }

    #[test]
    fn a_row_is_read_as_it_was_set() {
        let set = call(0, 10, OnRow::Set { expected: 1, value: 5 });
        let read = |version, value| call(20, 21, OnRow::Read { version, value });
        assert!(row_is_linear(&[set.clone(), read(2, 5)]));
        assert!(!row_is_linear(&[set.clone(), read(2, 6)]));
        assert!(!row_is_linear(&[set, read(1, 0)]));
        let maybe = Call { begun: 0, ended: None, what: OnRow::MaybeSet { expected: 1, value: 5 } };
        assert!(row_is_linear(&[maybe.clone(), read(1, 0)]));
        assert!(row_is_linear(&[maybe, read(2, 5)]));
    }
}
