//! The sets of tasks that a service's percentages hold for: all of them together, or, while traffic
//! shifts, blue and green each by itself; or each task set, where somebody else deploys.
//!
//! It does not know the percentages. Invariant: every task of a service that has not ended is on
//! exactly one of its sides. What is neither blue nor green is on blue's: blue takes its place.

use super::State;
use crate::ids::DeploymentId;
use crate::service::Service;
use crate::shift::{Shift, Stage};
use crate::task::Task;
use std::borrow::Cow;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Whole,
    Blue,
    Green,
    /// The task set that is this deployment (`task_set.rs`).
    Set(DeploymentId),
}

impl State {
    /// The shift that keeps both sides apart: in its last stage there is one again.
    fn divided(&self, service: &Service) -> Option<&Arc<Shift>> {
        self.shift(service.id).filter(|shift| shift.stage < Stage::CleanUp)
    }

    pub fn sides(&self, service: &Service) -> Cow<'static, [Side]> {
        match self.divided(service) {
            _ if service.spec.is_external() => {
                service.deployments.iter().map(|row| Side::Set(row.id)).collect()
            }
            Some(_) => Cow::Borrowed(&[Side::Blue, Side::Green]),
            None => Cow::Borrowed(&[Side::Whole]),
        }
    }

    pub fn side_of(&self, service: &Service, task: &Task) -> Side {
        let set = task.deployment().filter(|_| service.spec.is_external());
        if let Some(set) = set {
            return Side::Set(set);
        }
        match self.divided(service) {
            None => Side::Whole,
            Some(shift) if task.deployment() == Some(shift.green) => Side::Green,
            Some(_) => Side::Blue,
        }
    }

    /// The deployment whose tasks the side is to consist of.
    pub fn deployment_on(&self, service: &Service, side: Side) -> Option<DeploymentId> {
        match (side, self.divided(service)) {
            (Side::Blue, Some(shift)) => Some(shift.blue),
            (Side::Green, Some(shift)) => Some(shift.green),
            (Side::Set(set), _) => Some(set),
            _ => service.primary().map(|newest| newest.id),
        }
    }

    /// How many tasks the side should have; green none before SCALE_UP, a task set its share.
    pub fn desired_on(&self, service: &Service, side: Side) -> u32 {
        let early = |shift: &Arc<Shift>| !shift.is_scaled_up();
        match side {
            Side::Green if self.divided(service).is_some_and(early) => 0,
            Side::Set(set) => match self.task_set(service.id, set) {
                Some(row) if !row.draining => row.scale.of(self.desired_count(service)),
                _ => 0,
            },
            _ => self.desired_count(service),
        }
    }

    /// The side that new tasks of the deployment would be on. While traffic shifts only blue and
    /// green get some.
    pub fn side_growing_by(&self, service: &Service, deployment: DeploymentId) -> Option<Side> {
        match self.divided(service) {
            None if !service.spec.is_external() => Some(Side::Whole),
            None => self.side_made_of(service, deployment),
            Some(_) => self.side_made_of(service, deployment),
        }
    }

    /// The side that the deployment makes up.
    pub fn side_made_of(&self, service: &Service, deployment: DeploymentId) -> Option<Side> {
        let sides = self.sides(service);
        let mut sides = sides.iter().copied();
        sides.find(|side| self.deployment_on(service, *side) == Some(deployment))
    }
}
