//! The deployment circuit breaker: how many failed tasks in a row end a deployment.
//!
//! It decides whether a deployment has failed, for the leader, which proposes so, and for `apply`,
//! which looks again. It does not know which tasks failed, nor what happens then: `apply/report`
//! counts, `apply/deployment` ends the deployment. Invariant: a threshold is never 0.

use crate::ids::DeploymentId;
use crate::limits;
use crate::service::{Deployment, Service};
use crate::state::State;
use serde::{Deserialize, Serialize};

/// ECS `deploymentCircuitBreaker`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CircuitBreaker {
    pub enable: bool,
    /// Back to the newest deployment that completed, if there is one.
    pub rollback: bool,
    /// A task that has become healthy forgives the failures before it.
    pub reset_on_healthy_task: bool,
    pub threshold: Threshold,
}

impl Default for CircuitBreaker {
    /// ECS's defaults: off.
    fn default() -> Self {
        let threshold = Threshold::default();
        Self { enable: false, rollback: false, reset_on_healthy_task: true, threshold }
    }
}

impl CircuitBreaker {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// ECS `thresholdConfiguration`: failures in a row, by themselves or in percent of the desired
/// count, rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Threshold {
    Count(u32),
    /// Never less than `limits::BREAKER_MIN`, never more than `limits::BREAKER_MAX`.
    BoundedPercent(u32),
    UnboundedPercent(u32),
}

impl Default for Threshold {
    fn default() -> Self {
        Self::BoundedPercent(50)
    }
}

impl Threshold {
    /// Failures in a row that end a deployment of a service with this many tasks.
    pub fn failures(self, desired: u32) -> u32 {
        // Counts are at most 10,000 and percents at most as much (checked at the edge).
        let share = |percent: u32| {
            let part = (u64::from(desired) * u64::from(percent)).div_ceil(100);
            u32::try_from(part).unwrap_or(u32::MAX)
        };
        match self {
            Self::Count(count) => count.max(1),
            Self::BoundedPercent(percent) => {
                share(percent).clamp(limits::BREAKER_MIN, limits::BREAKER_MAX)
            }
            Self::UnboundedPercent(percent) => share(percent).max(1),
        }
    }
}

impl State {
    /// What the service's breaker goes back to: as it is set, but always where traffic shifts.
    pub fn breaker_target(&self, service: &Service) -> Option<DeploymentId> {
        let rolls_back = service.spec.circuit_breaker.rollback || self.shift(service.id).is_some();
        service.rollback_target().filter(|_| rolls_back)
    }

    /// The newest deployment of a service, if its breaker ends it now. One that is rolled back to
    /// is not judged: there is nothing better to go to.
    pub fn failed_deployment<'s>(&self, service: &'s Service) -> Option<&'s Deployment> {
        let breaker = service.spec.circuit_breaker;
        let least = breaker.threshold.failures(self.desired_count(service));
        let fails = |row: &&Deployment| row.is_open() && row.failed_tasks >= least;
        service.primary().filter(|_| breaker.enable).filter(fails)
    }
}

#[cfg(test)]
mod tests {
    use super::Threshold::{BoundedPercent, Count, UnboundedPercent};

    #[test]
    fn the_threshold_is_half_of_the_tasks_between_3_and_200() {
        let half = |desired| BoundedPercent(50).failures(desired);
        assert_eq!([0, 1, 5, 6, 7, 25].map(half), [3, 3, 3, 3, 4, 13]);
        assert_eq!([399, 400, 401, 10_000].map(half), [200, 200, 200, 200]);
    }

    #[test]
    fn a_tuned_threshold_is_what_it_says_and_never_0() {
        assert_eq!([0, 1, 3, 1000].map(|d| UnboundedPercent(50).failures(d)), [1, 1, 2, 500]);
        assert_eq!([0, 1, 1000].map(|d| Count(7).failures(d)), [7, 7, 7]);
        assert_eq!(Count(0).failures(10), 1);
        assert_eq!(UnboundedPercent(u32::MAX).failures(u32::MAX), u32::MAX);
    }
}
