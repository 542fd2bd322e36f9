//! Capacity providers, as ECS's users describe where capacity comes from; kept and shown.
//!
//! It does not start instances and places no task: who asks for a task by a provider is refused
//! where the request enters. Invariant: a provider that a cluster has is ACTIVE or ECS's own.

use crate::command::CreateCluster;
use crate::ids::ClusterId;
use crate::limits;
use crate::spec::Tags;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// ECS's own, which every account has and nobody changes.
pub const RESERVED: [&str; 2] = ["FARGATE", "FARGATE_SPOT"];

/// A capacity provider of the account; its name is unique.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapacityProvider {
    pub name: Arc<str>,
    #[serde(with = "crate::stored::named")]
    pub group: Arc<AutoScalingGroup>,
    pub tags: Arc<Tags>,
    /// When UpdateCapacityProvider last changed it.
    pub updated_at: Option<Time>,
    /// INACTIVE since then: it is shown if it is named, and its name is free.
    pub deleted_at: Option<Time>,
}

/// What is asked of capacity providers in the log. Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CapacityCommand {
    Create {
        name: Arc<str>,
        #[serde(with = "crate::stored::named")]
        group: Arc<AutoScalingGroup>,
        tags: Tags,
    },
    Update {
        name: Arc<str>,
        #[serde(with = "crate::stored::named")]
        change: Arc<AutoScalingGroupChange>,
    },
    Delete {
        name: Arc<str>,
    },
    /// Replaces the providers of a cluster and its default strategy.
    Put(ClusterProviders),
    /// A cluster that is created with providers; theirs is the id of `create`.
    CreateCluster {
        create: CreateCluster,
        providers: ClusterProviders,
    },
}

/// ECS `autoScalingGroupProvider`; stored by name because it keeps gaining fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AutoScalingGroup {
    /// Or its name.
    pub arn: String,
    pub scaling: ManagedScaling,
    pub termination_protection: bool,
    pub draining: bool,
}

impl Default for AutoScalingGroup {
    /// ECS's, where nothing is said: instances are drained, not protected.
    fn default() -> Self {
        let scaling = ManagedScaling::default();
        Self { arn: String::new(), scaling, termination_protection: false, draining: true }
    }
}

/// ECS `managedScaling`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ManagedScaling {
    pub enabled: bool,
    /// Percent.
    pub target_capacity: u32,
    /// Instances that are started at once.
    pub minimum_step: u32,
    pub maximum_step: u32,
    pub warmup_secs: u32,
}

impl Default for ManagedScaling {
    /// ECS's, where `managedScaling` is left out.
    fn default() -> Self {
        Self {
            enabled: false,
            target_capacity: 100,
            minimum_step: 1,
            maximum_step: limits::SCALING_STEP_MAX,
            warmup_secs: 300,
        }
    }
}

/// Fields that are `None` stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AutoScalingGroupChange {
    pub scaling: ManagedScalingChange,
    pub termination_protection: Option<bool>,
    pub draining: Option<bool>,
}

/// Fields that are `None` stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ManagedScalingChange {
    pub enabled: Option<bool>,
    pub target_capacity: Option<u32>,
    pub minimum_step: Option<u32>,
    pub maximum_step: Option<u32>,
    pub warmup_secs: Option<u32>,
}

impl ManagedScaling {
    #[must_use]
    fn changed(self, change: &ManagedScalingChange) -> Self {
        Self {
            enabled: change.enabled.unwrap_or(self.enabled),
            target_capacity: change.target_capacity.unwrap_or(self.target_capacity),
            minimum_step: change.minimum_step.unwrap_or(self.minimum_step),
            maximum_step: change.maximum_step.unwrap_or(self.maximum_step),
            warmup_secs: change.warmup_secs.unwrap_or(self.warmup_secs),
        }
    }
}

impl AutoScalingGroup {
    #[must_use]
    pub fn changed(&self, change: &AutoScalingGroupChange) -> Self {
        Self {
            arn: self.arn.clone(),
            scaling: self.scaling.changed(&change.scaling),
            termination_protection: change
                .termination_protection
                .unwrap_or(self.termination_protection),
            draining: change.draining.unwrap_or(self.draining),
        }
    }
}

/// The providers of a cluster and its `defaultCapacityProviderStrategy`. A cluster that never had
/// any has no such row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterProviders {
    pub cluster: ClusterId,
    pub names: Vec<Arc<str>>,
    pub strategy: Vec<StrategyItem>,
}

/// ECS `CapacityProviderStrategyItem`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrategyItem {
    pub provider: Arc<str>,
    /// Share of the tasks beyond the base.
    pub weight: u32,
    /// Tasks that come first.
    pub base: u32,
}
