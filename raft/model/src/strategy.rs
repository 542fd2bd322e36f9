//! How a new deployment of a service takes the place of the one before it, as its user writes it.
//!
//! It decides what the fields mean and how production traffic grows from step to step. It does not
//! know how far a deployment has come (`shift.rs`), nor what its turn waits for (`turn.rs`).
//! Invariant: a weight is at most all of the traffic.

use crate::limits;
use crate::shift::Stage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A share of the traffic in tenths of a percent, as finely as ECS shifts it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Weight(u16);

impl Weight {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(1000);

    /// Tenths of a percent; `None` above all of it.
    pub const fn of_permille(permille: u16) -> Option<Self> {
        if permille <= Self::ALL.0 { Some(Self(permille)) } else { None }
    }

    pub const fn permille(self) -> u16 {
        self.0
    }

    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10.0
    }

    /// What is left for the other side.
    pub fn rest(self) -> Self {
        Self(Self::ALL.0.saturating_sub(self.0))
    }

    fn plus(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0).min(Self::ALL.0))
    }
}

/// ECS `deploymentConfiguration.strategy` with what belongs to it: `bakeTimeInMinutes` and
/// `lifecycleHooks`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeploymentStrategy {
    pub pace: Pace,
    /// How long both revisions run once all production traffic has shifted.
    pub bake_minutes: u32,
    pub hooks: Vec<LifecycleHook>,
}

impl DeploymentStrategy {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub fn shifts_traffic(&self) -> bool {
        self.pace != Pace::Rolling
    }

    pub fn hook_at(&self, stage: Stage) -> Option<&LifecycleHook> {
        self.hooks.iter().find(|hook| hook.stages.contains(&stage))
    }
}

/// In what steps production traffic moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pace {
    /// None does: tasks take each other's places.
    #[default]
    Rolling,
    /// ECS `BLUE_GREEN`: all at once.
    BlueGreen,
    /// ECS `LINEAR`: in equal steps.
    Linear(StepSize),
    /// ECS `CANARY`: one small step, then the rest.
    Canary(StepSize),
}

/// ECS `linearConfiguration`, `canaryConfiguration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSize {
    pub weight: Weight,
    /// Between this step and the next; none follows the last.
    pub bake_minutes: u32,
}

impl StepSize {
    /// ECS's defaults.
    pub const LINEAR: Self = Self { weight: Weight(100), bake_minutes: 6 };
    pub const CANARY: Self = Self { weight: Weight(50), bake_minutes: 10 };
}

impl Pace {
    /// ECS `strategy`.
    pub fn shown(self) -> &'static str {
        match self {
            Self::Rolling => "ROLLING",
            Self::BlueGreen => "BLUE_GREEN",
            Self::Linear(_) => "LINEAR",
            Self::Canary(_) => "CANARY",
        }
    }

    /// The production weight after the next step.
    pub fn after(self, production: Weight) -> Weight {
        match self {
            Self::Rolling | Self::BlueGreen => Weight::ALL,
            Self::Linear(step) => production.plus(step.weight),
            Self::Canary(step) if production < step.weight => step.weight,
            Self::Canary(_) => Weight::ALL,
        }
    }

    /// How long a step that leaves some traffic behind is watched.
    pub fn step_bake_minutes(self) -> u32 {
        match self {
            Self::Rolling | Self::BlueGreen => 0,
            Self::Linear(step) | Self::Canary(step) => step.bake_minutes,
        }
    }
}

/// An ECS lifecycle hook: at each of these stages the deployment waits for its target's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecycleHook {
    pub stages: Vec<Stage>,
    pub timeout_minutes: u32,
    pub on_timeout: HookAction,
    #[serde(default, skip_serializing_if = "HookTarget::is_pause")]
    pub target: HookTarget,
}

impl Default for LifecycleHook {
    /// ECS's defaults.
    fn default() -> Self {
        Self {
            stages: Vec::new(),
            timeout_minutes: limits::HOOK_TIMEOUT_MINUTES_DEFAULT,
            on_timeout: HookAction::Rollback,
            target: HookTarget::Pause,
        }
    }
}

/// ECS `targetType`: who says that the deployment may go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookTarget {
    /// PAUSE: whoever says ContinueServiceDeployment.
    #[default]
    Pause,
    /// HTTP, in the place of ECS's AWS_LAMBDA: an endpoint that the leader calls.
    Http(Endpoint),
}

impl HookTarget {
    fn is_pause(&self) -> bool {
        *self == Self::Pause
    }
}

/// What is called, and what it is told besides what every hook is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub url: String,
    /// ECS `hookDetails`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

impl Endpoint {
    /// The URL as histories show it: a query may hold what only the endpoint should know.
    pub fn shown(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }
}

/// ECS `DeploymentLifecycleHookAction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookAction {
    Continue,
    Rollback,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(pace: Pace) -> Vec<u16> {
        let mut now = Weight::NONE;
        let mut seen = Vec::new();
        while now < Weight::ALL {
            now = pace.after(now);
            seen.push(now.permille());
        }
        seen
    }

    #[test]
    fn each_step_shifts_more_until_all_has_shifted() {
        let step = |permille, bake_minutes| StepSize {
            weight: Weight::of_permille(permille).unwrap(),
            bake_minutes,
        };
        assert_eq!(steps(Pace::BlueGreen), [1000]);
        assert_eq!(steps(Pace::Linear(step(333, 1))), [333, 666, 999, 1000]);
        assert_eq!(steps(Pace::Linear(step(1000, 1))), [1000]);
        assert_eq!(steps(Pace::Canary(step(1, 1))), [1, 1000]);
        assert_eq!(steps(Pace::Canary(step(1000, 1))), [1000]);
    }

    #[test]
    fn both_sides_together_have_all_of_the_traffic() {
        for permille in 0..=1000 {
            let weight = Weight::of_permille(permille).unwrap();
            assert_eq!(weight.permille() + weight.rest().permille(), 1000);
        }
        assert_eq!(Weight::of_permille(1001), None);
    }
}
