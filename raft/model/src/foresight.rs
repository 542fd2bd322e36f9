//! What a request would do, told before it is made: plain values between those who foresee it and
//! those who show it.
//!
//! Nothing here is stored or sent between managers. Rows are named by their ids; the state that
//! would be at the end has them all.

use crate::ids::{InstanceId, TaskId};
use crate::placement::BinpackField;
use crate::state::State;
use crate::task::Waiting;
use crate::time::Millis;
use std::sync::Arc;

/// What would come of one request if nothing else happened.
#[derive(Clone, Debug)]
pub struct Foresight {
    /// The state at the end.
    pub end: State,
    pub rounds: Vec<Round>,
    /// Tasks that should run now and still would at the end.
    pub kept: u32,
    /// Of the tasks that are replaced, those whose place is taken on another instance.
    pub moved: u32,
    /// Tasks that should run at the end and have no place, the oldest first.
    pub unplaced: Vec<TaskId>,
    /// Tasks of an older deployment that would still run at the end.
    pub left: u32,
    /// Why the service would get no further, in its history's words.
    pub stuck: Option<Arc<str>>,
    /// Further rounds would follow: only so many are looked at.
    pub cut: bool,
}

/// One plan of the leader, as far as it is about the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// At the earliest this long after the request: what starts is taken to run at once.
    pub after: Millis,
    pub started: Vec<Start>,
    pub stopped: Vec<Stop>,
    /// Tasks that have no place after it.
    pub waiting: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub task: TaskId,
    pub on: InstanceId,
    /// `None` beyond `limits::FORESEE_REASONS_MAX`.
    pub why: Option<Choice>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    pub task: TaskId,
    /// `None`: it waited for a place.
    pub on: Option<InstanceId>,
}

/// Why a task goes to one instance and to no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The instances that could not take it, as for a task that waits.
    pub removed: Waiting,
    /// The others.
    pub candidates: u32,
    /// The strategies, left to right, as far as they told candidates apart; then the load. Each
    /// looks at those that the ones before it left level.
    pub weighed: Vec<Weighed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighed {
    pub by: Measure,
    /// At the chosen instance, and the least and the most over all that were compared.
    pub value: u64,
    pub least: u64,
    pub most: u64,
    /// Candidates that were compared, and how many of them stay level with the chosen one.
    pub compared: u32,
    pub level: u32,
}

/// What a strategy compares; of each the least is the best but of `Prefer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Tasks of the same service or group where the attribute has this value; `None`: where there
    /// is no such attribute.
    Spread { attribute: String, value: Option<String> },
    /// Tasks of the same service or group on the instance.
    SpreadInstances,
    /// What is free on the instance.
    Binpack(BinpackField),
    /// Drawn from the task's id.
    Random,
    /// The sum of the weights that hold there, above `PREFER_ZERO`.
    Prefer,
    /// Share of cpu plus share of memory that is taken, in 1/65,536.
    Load,
}

/// Where `Measure::Prefer` has 0: weights may be negative.
pub const PREFER_ZERO: u64 = 1 << 32;
