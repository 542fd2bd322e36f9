//! The deployment circuit breaker: how many failed tasks in a row end a deployment; and the verdict
//! on a deployment, which its alarms may bring about as well.
//!
//! It decides whether a deployment has failed, for the leader, which proposes so, and for `apply`,
//! which looks again. It does not know which tasks failed, nor what happens then: `apply/report`
//! counts, `alarm.rs` says what an alarm means, `apply/deployment` ends the deployment. Invariant:
//! a threshold is never 0.

use crate::ids::DeploymentId;
use crate::limits;
use crate::service::{HaltCause, Service};
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

/// What ends a deployment that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub deployment: DeploymentId,
    pub cause: HaltCause,
    /// Where the service goes back to: as its breaker or its alarms are set, but always where
    /// traffic shifts.
    pub back_to: Option<DeploymentId>,
}

impl State {
    /// The verdict on the newest deployment of a service, if its breaker or an alarm ends it now.
    /// One that is rolled back to is not judged: there is nothing better to go to.
    pub fn verdict(&self, service: &Service) -> Option<Verdict> {
        let newest = service.primary().filter(|row| row.is_open())?;
        let (breaker, alarms) = (service.spec.circuit_breaker, &service.spec.alarms);
        let least = breaker.threshold.failures(self.desired_count(service));
        let (cause, rolls_back) = if breaker.enable && newest.failed_tasks >= least {
            (HaltCause::TasksFailed, breaker.rollback)
        } else if self.alarm_against(service, newest).is_some() {
            (HaltCause::Alarm, alarms.rollback)
        } else {
            return None;
        };
        let rolls_back = rolls_back || self.shift(service.id).is_some();
        let back_to = service.rollback_target().filter(|_| rolls_back);
        Some(Verdict { deployment: newest.id, cause, back_to })
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
