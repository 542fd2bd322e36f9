//! Where deployments stand when somebody takes over: which of their phases a dying leader met.
//!
//! Invariant: it only counts.

use muster_model::service::RolloutState;
use muster_model::{Deployment, Service, ServiceStatus, Stage, State};
use std::fmt;

/// The stages of a shift, and then what else a deployment may be at.
const PHASES: usize = Stage::ALL.len() + 4;
const ROLLING: usize = Stage::ALL.len();
const ROLLING_BACK: usize = ROLLING + 1;
const PAUSED: usize = ROLLING + 2;
/// Whole, and watched by its alarms.
const WATCHED: usize = ROLLING + 3;

/// Deployments that a takeover met, by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases([u64; PHASES]);

impl Phases {
    /// What is under way in a state in which somebody has taken over.
    pub fn meet(&mut self, state: &State) {
        for service in state.services().filter(|row| row.status == ServiceStatus::Active) {
            if let Some(phase) = phase(state, service) {
                self.0[phase] += 1;
            }
            self.0[PAUSED] += u64::from(state.pause(service.id).is_some());
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }

    /// Phases that no takeover has met.
    pub fn unmet(&self) -> Vec<&'static str> {
        let unmet = (0..PHASES).filter(|phase| self.0[*phase] == 0);
        unmet.map(name).collect()
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (phase, met) in self.0.iter().enumerate() {
            let before = if phase == 0 { "" } else { ", " };
            write!(f, "{before}{} {met}", name(phase))?;
        }
        Ok(())
    }
}

fn name(phase: usize) -> &'static str {
    match phase {
        ROLLING => "ROLLING",
        ROLLING_BACK => "ROLLING_BACK",
        PAUSED => "PAUSED",
        WATCHED => "WATCHED",
        stage => Stage::ALL[stage].shown(),
    }
}

/// The phase of the newest deployment, if it is not over.
fn phase(state: &State, service: &Service) -> Option<usize> {
    if let Some(shift) = state.shift(service.id) {
        return Stage::ALL.iter().position(|stage| *stage == shift.stage);
    }
    let newest = service.primary()?;
    match service.rolled_back_to(newest.id) {
        Some(_) => Some(ROLLING_BACK),
        None if is_watched(state, service, newest) => Some(WATCHED),
        None => (newest.rollout == RolloutState::InProgress).then_some(ROLLING),
    }
}

fn is_watched(state: &State, service: &Service, newest: &Deployment) -> bool {
    let mut tasks = state.tasks_of(service.id).filter(|task| task.ended_at().is_none());
    let whole = tasks.all(|task| task.deployment() == Some(newest.id) && state.is_healthy(task));
    whole && state.is_watched(service, newest)
}
