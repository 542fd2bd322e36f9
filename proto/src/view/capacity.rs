//! Capacity providers as ECS's clients see them, ECS's own among them.

use super::{int, tags};
use crate::arn::Arns;
use crate::pb;
use muster_model::capacity::{RESERVED, StrategyItem};
use muster_model::{CapacityProvider, State};

/// One of the account's.
pub fn capacity_provider(state: &State, row: &CapacityProvider) -> pb::CapacityProvider {
    let switch = |on: bool| if on { "ENABLED" } else { "DISABLED" }.to_owned();
    let scaling = &row.group.scaling;
    let (status, update) = match (row.deleted_at, row.updated_at) {
        (Some(_), _) => ("INACTIVE", "DELETE_COMPLETE"),
        (None, Some(_)) => ("ACTIVE", "UPDATE_COMPLETE"),
        (None, None) => ("ACTIVE", ""),
    };
    pb::CapacityProvider {
        capacity_provider_arn: Arns::of(state).capacity_provider(&row.name),
        name: row.name.to_string(),
        status: status.into(),
        auto_scaling_group_provider: Some(pb::AutoScalingGroupProvider {
            auto_scaling_group_arn: row.group.arn.clone(),
            managed_scaling: Some(pb::ManagedScaling {
                status: switch(scaling.enabled),
                target_capacity: Some(int(scaling.target_capacity)),
                minimum_scaling_step_size: Some(int(scaling.minimum_step)),
                maximum_scaling_step_size: Some(int(scaling.maximum_step)),
                instance_warmup_period: Some(int(scaling.warmup_secs)),
            }),
            managed_termination_protection: switch(row.group.termination_protection),
            managed_draining: switch(row.group.draining),
        }),
        update_status: update.into(),
        tags: tags(&row.tags),
        r#type: "EC2_AUTOSCALING".into(),
        ..pb::CapacityProvider::default()
    }
}

/// FARGATE and FARGATE_SPOT, which ECS lists in every account; `None` for another name.
pub fn reserved_provider(state: &State, name: &str) -> Option<pb::CapacityProvider> {
    let name = RESERVED.iter().find(|reserved| **reserved == name)?;
    Some(pb::CapacityProvider {
        capacity_provider_arn: Arns::of(state).capacity_provider(name),
        name: (*name).into(),
        status: "ACTIVE".into(),
        r#type: (*name).into(),
        ..pb::CapacityProvider::default()
    })
}

pub(super) fn strategy(items: &[StrategyItem]) -> Vec<pb::CapacityProviderStrategyItem> {
    let item = |item: &StrategyItem| pb::CapacityProviderStrategyItem {
        capacity_provider: item.provider.to_string(),
        weight: int(item.weight),
        base: int(item.base),
    };
    items.iter().map(item).collect()
}
