//! The scratch copy that a plan is made on: every step is applied to it the moment it is pushed,
//! by the same rules that will judge it for good.
//!
//! Invariant: `state` is the base with exactly `steps` applied.

use muster_model::{Health, Scratch, ServiceId, Side, State, Step, Time, limits};
use std::collections::{BTreeMap, BTreeSet};

/// What `rollout` allows a side of a service in this round; `replicas` chooses slots and tasks for
/// it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Targets {
    /// Tasks of the side's deployment to create.
    pub start: usize,
    /// Tasks of the side's deployment beyond the desired count.
    pub excess: usize,
    /// Tasks of other deployments that are to go now.
    pub old: usize,
    /// Tasks on draining instances that are to go now.
    pub draining: usize,
    /// Tasks of a DAEMON service on instances that are to have none.
    pub away: usize,
    /// Tasks whose health checks fail that are to go now.
    pub failing: usize,
}

pub(super) struct Draft {
    scratch: Scratch,
    /// Steps that it may hold.
    size: usize,
    steps: Vec<Step>,
    bytes: usize,
    /// Tasks that were made and not placed since.
    made: usize,
    pub targets: BTreeMap<(ServiceId, Side), Targets>,
    /// A task that is run waits among many others: the plans to come should be short.
    pub hurry: bool,
    /// Services at rest among those that were looked at.
    pub settled: BTreeSet<ServiceId>,
    /// Steps refused: nothing but a mistake of a stage can do that on an unchanged state.
    pub misjudged: u64,
}

impl Draft {
    /// Holds as many steps as are said.
    pub fn new(base: &State, now: Time, size: usize) -> Self {
        Self {
            scratch: Scratch::new(base, now),
            size,
            steps: Vec::new(),
            bytes: 0,
            made: 0,
            targets: BTreeMap::new(),
            hurry: false,
            settled: BTreeSet::new(),
            misjudged: 0,
        }
    }

    /// Whether it gives up an instance or what one ran.
    pub fn loses(&self) -> bool {
        let lost = |step: &Step| match step {
            Step::SetHealth { health, .. } => matches!(health, Health::Down { .. }),
            step => matches!(step, Step::Abandon { .. }),
        };
        self.steps.iter().any(lost)
    }

    pub fn state(&self) -> &State {
        self.scratch.state()
    }

    /// Applies the step to the scratch copy and keeps it. `false`: refused, and dropped.
    pub fn push(&mut self, step: Step) -> bool {
        let accepted = self.scratch.push(&step).is_ok();
        if accepted {
            self.bytes += size(&step);
            match &step {
                Step::CreateTasks { tasks, .. } => self.made += tasks.len(),
                Step::StartAttempts { tasks, .. } => self.made += tasks.len(),
                Step::Place { .. } => self.made = self.made.saturating_sub(1),
                _ => {}
            }
            self.steps.push(step);
        } else {
            self.misjudged += 1;
        }
        accepted
    }

    /// No stage may push more; a step beyond it would delay other entries' commit.
    pub fn full(&self) -> bool {
        self.room() == 0
    }

    /// Steps that still fit, each taken for a placement.
    pub fn room(&self) -> usize {
        let steps = self.size.saturating_sub(self.steps.len());
        let bytes = limits::PLAN_BYTES_MAX.saturating_sub(self.bytes);
        steps.min(bytes / PLACE_BYTES)
    }

    /// Tasks that may still be made: as many as can be placed in the same plan. Were it filled with
    /// new tasks, those that wait already would not be placed before the last one is made.
    pub fn room_to_make(&self) -> usize {
        let steps = self.size.saturating_sub(self.steps.len() + self.made);
        let used = self.bytes + self.made * PLACE_BYTES;
        steps.min(limits::PLAN_BYTES_MAX.saturating_sub(used) / (MAKE_BYTES + PLACE_BYTES))
    }

    pub fn into_steps(self) -> Vec<Step> {
        self.steps
    }
}

/// Two ids and a tag.
const PLACE_BYTES: usize = 36;
/// An id and a slot.
const MAKE_BYTES: usize = 20;

/// Bytes of a step in the log, roughly.
fn size(step: &Step) -> usize {
    match step {
        Step::CreateTasks { tasks, .. } => 40 + tasks.len() * MAKE_BYTES,
        Step::StartAttempts { tasks, .. } => 20 + tasks.len() * MAKE_BYTES,
        Step::Place { ports, .. } => PLACE_BYTES + ports.len() * 3,
        Step::Stop { reason, .. } => 20 + reason.len(),
        Step::Event { text, .. } => 20 + text.len(),
        Step::AnswerHook { hook, .. } => PLACE_BYTES + hook.len(),
        Step::Explain { waiting, .. } => 60 + waiting.removed.len() * 6,
        Step::Forget { tasks } => 4 + tasks.len() * 16,
        Step::RemoveDefinitions { definitions } => 4 + definitions.len() * 8,
        Step::Purge { services, instances } => 8 + (services.len() + instances.len()) * 16,
        Step::Abandon { .. }
        | Step::SetHealth { .. }
        | Step::Advance { .. }
        | Step::FailDeployment { .. }
        | Step::Turn { .. }
        | Step::Fire { .. }
        | Step::TimeOutJob { .. }
        | Step::RetireTaskSet { .. }
        | Step::Retire { .. } => PLACE_BYTES,
    }
}
