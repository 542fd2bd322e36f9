//! Requests about capacity providers, and the strategies that name them.
//!
//! Whether a provider is there, and goes with what a cluster has, is `apply`'s.

use super::{At, amount, at_most, number, one_of, tags, text};
use crate::{arn, pb, spelled};
use muster_model::capacity::{
    AutoScalingGroup, AutoScalingGroupChange, CapacityCommand, ClusterProviders,
    ManagedScalingChange, StrategyItem,
};
use muster_model::limits::{
    CLUSTER_PROVIDERS_MAX, INSTANCE_WARMUP_SECS_MAX, NAME_CHARS_MAX, SCALING_STEP_MAX,
    STRATEGY_BASE_MAX, STRATEGY_ITEMS_MAX, STRATEGY_WEIGHT_MAX,
};
use muster_model::{Cluster, ClusterId, Command, Error, State};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a name must not begin with, however it is written.
const PREFIXES: [&str; 3] = ["aws", "ecs", "fargate"];
/// EC2: characters of an Auto Scaling group's ARN.
const GROUP_ARN_CHARS_MAX: usize = 1600;

/// CreateCapacityProvider.
pub fn create(wire: &pb::CreateCapacityProviderRequest) -> Result<Command, Error> {
    no_cluster(&wire.cluster)?;
    let name = new_name(&wire.name)?;
    let at = At::Field("autoScalingGroupProvider");
    let Some(group) = &wire.auto_scaling_group_provider else {
        return Err(at.invalid("", "the Auto Scaling group of the provider"));
    };
    text(&at.field("autoScalingGroupArn"), &group.auto_scaling_group_arn, 1..=GROUP_ARN_CHARS_MAX)?;
    let said = change(
        &at,
        group.managed_scaling.as_ref(),
        &group.managed_termination_protection,
        &group.managed_draining,
    )?;
    let arn = group.auto_scaling_group_arn.clone();
    let group = AutoScalingGroup { arn, ..AutoScalingGroup::default() }.changed(&said);
    let tags = tags(&At::Field("tags"), &wire.tags)?;
    Ok(Command::Capacity(CapacityCommand::Create { name, group: Arc::new(group), tags }))
}

/// UpdateCapacityProvider: what is not said stays as it is when it is applied.
pub fn update(state: &State, wire: &pb::UpdateCapacityProviderRequest) -> Result<Command, Error> {
    no_cluster(&wire.cluster)?;
    let name = arn::capacity_provider("name", state, &wire.name)?;
    let at = At::Field("autoScalingGroupProvider");
    let Some(group) = &wire.auto_scaling_group_provider else {
        return Err(at.invalid("", "what is to be changed of the provider"));
    };
    let change = change(
        &at,
        group.managed_scaling.as_ref(),
        &group.managed_termination_protection,
        &group.managed_draining,
    )?;
    let (name, change) = (Arc::from(name), Arc::new(change));
    Ok(Command::Capacity(CapacityCommand::Update { name, change }))
}

/// DeleteCapacityProvider.
pub fn delete(state: &State, wire: &pb::DeleteCapacityProviderRequest) -> Result<Command, Error> {
    no_cluster(&wire.cluster)?;
    let name = arn::capacity_provider("capacityProvider", state, &wire.capacity_provider)?;
    Ok(Command::Capacity(CapacityCommand::Delete { name: Arc::from(name) }))
}

/// What a cluster is to have: names or ARNs of providers, and its default strategy.
pub(super) fn of_cluster(
    state: &State,
    cluster: ClusterId,
    names: &[String],
    strategy: &[pb::CapacityProviderStrategyItem],
) -> Result<ClusterProviders, Error> {
    let at = At::Field("capacityProviders");
    at_most(&at, names.len(), CLUSTER_PROVIDERS_MAX, "capacity providers")?;
    let mut seen = BTreeSet::new();
    let mut named = Vec::with_capacity(names.len());
    for (index, text) in names.iter().enumerate() {
        let at = at.index(index);
        let name = arn::capacity_provider(&at.to_string(), state, text)?;
        if !seen.insert(name) {
            return Err(at.invalid(name, "each provider once"));
        }
        named.push(Arc::from(name));
    }
    let strategy = self::strategy(state, strategy)?;
    Ok(ClusterProviders { cluster, names: named, strategy })
}

/// ECS: one item has a base, and not all weigh nothing.
fn strategy(
    state: &State,
    wire: &[pb::CapacityProviderStrategyItem],
) -> Result<Vec<StrategyItem>, Error> {
    let list = At::Field("defaultCapacityProviderStrategy");
    at_most(&list, wire.len(), STRATEGY_ITEMS_MAX, "items")?;
    let mut items: Vec<StrategyItem> = Vec::with_capacity(wire.len());
    for (index, item) in wire.iter().enumerate() {
        let at = list.index(index);
        let field = at.field("capacityProvider");
        let name = arn::capacity_provider(&field.to_string(), state, &item.capacity_provider)?;
        if items.iter().any(|item| *item.provider == *name) {
            return Err(field.invalid(name, "each provider once"));
        }
        let base = number(&at.field("base"), item.base, 0..=STRATEGY_BASE_MAX)?;
        if base > 0 && items.iter().any(|item| item.base > 0) {
            return Err(at.field("base").invalid(base, "a base for one of the items"));
        }
        let weight = number(&at.field("weight"), item.weight, 0..=STRATEGY_WEIGHT_MAX)?;
        items.push(StrategyItem { provider: Arc::from(name), weight, base });
    }
    if items.len() > 1 && items.iter().all(|item| item.weight == 0) {
        return Err(list.invalid("weights of 0", "a weight above 0 for at least one item"));
    }
    Ok(items)
}

/// What a request hears that is to be placed by providers.
const NOT_PLACED: &str = "placing tasks by capacity providers is not built";

/// Tasks that are to be placed by providers.
///
/// # Errors
/// ECS's for a launch type beside a strategy; else `Unsupported`.
pub fn no_strategy(
    launch_type: &str,
    strategy: &[pb::CapacityProviderStrategyItem],
) -> Result<(), Error> {
    match (strategy.first(), launch_type) {
        (None, _) => Ok(()),
        (Some(first), "") => {
            let instead = format!(
                "{NOT_PLACED}; leave it out and say launchType EC2: the cluster's container \
                 instances"
            );
            let at = At::Field("capacityProviderStrategy");
            Err(at.unsupported(&first.capacity_provider, instead))
        }
        (Some(_), given) => {
            let allowed = "Specifying both a launch type and capacity provider strategy is not \
                           supported. Remove one and try again.";
            Err(At::Field("launchType").invalid(given, allowed))
        }
    }
}

/// As in ECS, a cluster's default strategy places what names neither a launch type nor a strategy.
///
/// # Errors
/// `Unsupported` where the cluster has one.
pub(super) fn no_default(state: &State, of: &Cluster, launch_type: &str) -> Result<(), Error> {
    let default = state.providers_of(of.id).and_then(|row| row.strategy.first());
    match default.filter(|_| launch_type.is_empty()) {
        None => Ok(()),
        Some(first) => {
            let instead = format!(
                "{NOT_PLACED}, and cluster {} has it by default; say launchType EC2, or put an \
                 empty default strategy on the cluster",
                of.name
            );
            Err(At::Field("capacityProviderStrategy").unsupported(&first.provider, instead))
        }
    }
}

fn change(
    at: &At<'_>,
    scaling: Option<&pb::ManagedScaling>,
    protection: &str,
    draining: &str,
) -> Result<AutoScalingGroupChange, Error> {
    Ok(AutoScalingGroupChange {
        scaling: match scaling {
            Some(wire) => self::scaling(&at.field("managedScaling"), wire)?,
            None => ManagedScalingChange::default(),
        },
        termination_protection: switch(&at.field("managedTerminationProtection"), protection)?,
        draining: switch(&at.field("managedDraining"), draining)?,
    })
}

fn scaling(at: &At<'_>, wire: &pb::ManagedScaling) -> Result<ManagedScalingChange, Error> {
    let within = |field, wire: Option<i32>, allowed, unit| {
        wire.map(|wire| amount(&at.field(field), wire, allowed, unit)).transpose()
    };
    let step = |field, wire: Option<i32>| within(field, wire, 1..=SCALING_STEP_MAX, "instances");
    let warmup = wire.instance_warmup_period;
    Ok(ManagedScalingChange {
        enabled: switch(&at.field("status"), &wire.status)?,
        target_capacity: within("targetCapacity", wire.target_capacity, 1..=100, "percent")?,
        minimum_step: step("minimumScalingStepSize", wire.minimum_scaling_step_size)?,
        maximum_step: step("maximumScalingStepSize", wire.maximum_scaling_step_size)?,
        warmup_secs: within(
            "instanceWarmupPeriod",
            warmup,
            0..=INSTANCE_WARMUP_SECS_MAX,
            "seconds",
        )?,
    })
}

fn switch(at: &At<'_>, text: &str) -> Result<Option<bool>, Error> {
    match text {
        "" => Ok(None),
        "ENABLED" => Ok(Some(true)),
        "DISABLED" => Ok(Some(false)),
        other => Err(at.invalid(other, one_of(spelled::MANAGED_SCALING_STATUS))),
    }
}

/// ECS: those of its Managed Instances belong to one cluster, others to the account.
fn no_cluster(name: &str) -> Result<(), Error> {
    match name {
        "" => Ok(()),
        name => Err(At::Field("cluster").unsupported(
            name,
            "only providers of ECS Managed Instances, which are AWS's, belong to one cluster; \
             leave it out, and put the provider on the cluster",
        )),
    }
}

fn new_name(text: &str) -> Result<Arc<str>, Error> {
    let charset = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let begins = |prefix: &str| {
        text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let fits = !text.is_empty() && text.len() <= NAME_CHARS_MAX && text.bytes().all(charset);
    match fits && !PREFIXES.iter().any(|prefix| begins(prefix)) {
        true => Ok(Arc::from(text)),
        false => Err(At::Field("name").invalid(
            text,
            "The specified capacity provider name is invalid. Up to 255 characters are allowed, \
             including letters (upper and lowercase), numbers, underscores (_), and hyphens (-). \
             The name cannot be prefixed with \"aws\", \"ecs\", or \"fargate\". Specify a valid \
             name and try again.",
        )),
    }
}
