//! What the next turn of a shift is: a pure function of the state, for the leader, which proposes
//! it, and for `apply`, which takes no other.
//!
//! It does not know who asks. Invariants: green gets more traffic only while it is whole; no stage
//! with a hook is left before the hook is released or times out; blue's tasks go only when green
//! has all of the traffic, is whole, and the bake time is over; while paused there is no turn.

use crate::service::Service;
use crate::shift::{Shift, Stage};
use crate::state::State;
use crate::strategy::{HookAction, Weight};
use crate::time::{Millis, Time};
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Turn {
    Enter {
        stage: Stage,
        /// Green's.
        production: Weight,
        test: Weight,
    },
    /// A hook timed out whose action is ROLLBACK.
    RollBack,
}

impl fmt::Display for Turn {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Enter { stage, production, test } => {
                let (stage, production, test) =
                    (stage.shown(), production.percent(), test.percent());
                write!(out, "{stage} with {production}% of production and {test}% of test traffic")
            }
            Self::RollBack => out.write_str("back, as a hook timed out"),
        }
    }
}

/// Why there is no turn yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing shifts.
    Nothing,
    Paused,
    Hook {
        stage: Stage,
        until: Time,
    },
    Bake {
        until: Time,
    },
    /// Tasks of other revisions than these two have not ended.
    Others,
    /// Green's healthy tasks are fewer than the service should have.
    Green {
        healthy: usize,
        desired: u32,
    },
    /// The last stage ends when the deployment completes.
    CleanUp,
}

impl Wait {
    /// When time alone ends it.
    pub fn until(self) -> Option<Time> {
        match self {
            Self::Hook { until, .. } | Self::Bake { until } => Some(until),
            _ => None,
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Nothing => out.write_str("the deployment shifts no traffic"),
            Self::Paused => out.write_str("the deployment is paused"),
            Self::Hook { stage, .. } => write!(out, "the hook at {} waits", stage.shown()),
            Self::Bake { .. } => out.write_str("the bake time is not over"),
            Self::Others => out.write_str("tasks of other revisions have not ended"),
            Self::Green { healthy, desired } => {
                write!(out, "{healthy} of {desired} tasks of the new revision are healthy")
            }
            Self::CleanUp => out.write_str("what is left is to complete"),
        }
    }
}

impl State {
    /// What a service's shift does next, as of now.
    ///
    /// # Errors
    /// What it waits for.
    pub fn next_turn(&self, service: &Service) -> Result<Turn, Wait> {
        let shift = self.shift(service.id).ok_or(Wait::Nothing)?;
        if self.pause(service.id).is_some() {
            return Err(Wait::Paused);
        }
        match shift.hook {
            Some(hook) if hook.expires_at > self.now() => {
                return Err(Wait::Hook { stage: shift.stage, until: hook.expires_at });
            }
            Some(hook) if hook.on_timeout == HookAction::Rollback => return Ok(Turn::RollBack),
            _ => {}
        }
        let enter = |stage| Turn::Enter { stage, production: shift.production, test: shift.test };
        match shift.stage {
            Stage::ReconcileService => {
                self.only_blue(service, shift)?;
                Ok(enter(Stage::PreScaleUp))
            }
            Stage::PreScaleUp => Ok(enter(Stage::ScaleUp)),
            Stage::ScaleUp => self.green_whole(service, shift).map(|()| enter(Stage::PostScaleUp)),
            Stage::PostScaleUp => {
                self.green_whole(service, shift)?;
                let (stage, test) = (Stage::TestTrafficShift, Weight::ALL);
                Ok(Turn::Enter { stage, production: shift.production, test })
            }
            Stage::TestTrafficShift => Ok(enter(Stage::PostTestTrafficShift)),
            Stage::PostTestTrafficShift => Ok(enter(Stage::PreProductionTrafficShift)),
            Stage::PreProductionTrafficShift => {
                self.green_whole(service, shift)?;
                let production = shift.strategy.pace.after(shift.production);
                let stage = Stage::ProductionTrafficShift;
                Ok(Turn::Enter { stage, production, test: shift.test })
            }
            Stage::ProductionTrafficShift if shift.production == Weight::ALL => {
                Ok(enter(Stage::PostProductionTrafficShift))
            }
            Stage::ProductionTrafficShift => {
                self.baked(shift, shift.strategy.pace.step_bake_minutes())?;
                Ok(enter(Stage::PreProductionTrafficShift))
            }
            Stage::PostProductionTrafficShift => Ok(enter(Stage::BakeTime)),
            Stage::BakeTime => {
                self.baked(shift, shift.strategy.bake_minutes)?;
                self.green_whole(service, shift)?;
                Ok(enter(Stage::CleanUp))
            }
            Stage::CleanUp => Err(Wait::CleanUp),
        }
    }

    fn baked(&self, shift: &Shift, minutes: u32) -> Result<(), Wait> {
        let until = shift.entered_at + Millis::from_secs(u64::from(minutes) * 60);
        if self.now() < until { Err(Wait::Bake { until }) } else { Ok(()) }
    }

    fn only_blue(&self, service: &Service, shift: &Shift) -> Result<(), Wait> {
        let other = |deployment| ![Some(shift.blue), Some(shift.green)].contains(&deployment);
        let mut tasks = self.tasks_of(service.id);
        match tasks.any(|task| other(task.deployment()) && task.ended_at().is_none()) {
            true => Err(Wait::Others),
            false => Ok(()),
        }
    }

    fn green_whole(&self, service: &Service, shift: &Shift) -> Result<(), Wait> {
        let own = self.tasks_of(service.id).filter(|t| t.deployment() == Some(shift.green));
        let own = own.filter(|task| !self.is_stray(service, task));
        let healthy = own.filter(|task| self.is_healthy(task)).count();
        let desired = self.desired_count(service);
        if healthy < desired as usize {
            return Err(Wait::Green { healthy, desired });
        }
        Ok(())
    }
}
