//! How many steps the next plan may hold.
//!
//! An entry of the log waits for the plan before it, so that a plan is no longer than it must be:
//! usually as long as places no slower, short while somebody waits for a task that is run, and long
//! while what lost instances ran is replaced, as that is bounded by the number of plans. Invariant:
//! nobody but this file chooses.

use super::draft::Draft;
use muster_model::{Time, limits};

#[derive(Debug, Default)]
pub(super) struct Pace {
    short_until: Option<Time>,
    long_until: Option<Time>,
}

impl Pace {
    /// Steps of a plan that is made now.
    pub fn steps(&self, now: Time) -> usize {
        let before = |until: Option<Time>| until.is_some_and(|until| now < until);
        match (before(self.short_until), before(self.long_until)) {
            (true, _) => limits::PLAN_STEPS_SHORT,
            (false, true) => limits::PLAN_STEPS_MAX,
            (false, false) => limits::PLAN_STEPS_USUAL,
        }
    }

    /// What this plan says about those to come.
    pub fn learn(&mut self, now: Time, plan: &Draft) {
        if plan.hurry {
            self.short_until = Some(now + limits::HURRY);
        }
        if plan.loses() {
            self.long_until = Some(now + limits::RECOVERY);
        }
    }
}
