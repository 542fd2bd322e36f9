//! Clusters with their counts.

use super::{capacity, int, pending, tags};
use crate::arn::Arns;
use crate::pb;
use muster_model::{
    Cluster, ClusterId, ClusterStatus, InstanceStatus, Phase, ServiceStatus, State,
};
use std::collections::BTreeMap;

#[derive(Default)]
struct Counts {
    instances: usize,
    running: usize,
    pending: usize,
    services: usize,
    draining: usize,
}

/// One cluster. Costs a pass over all tasks; for many take `clusters`.
pub fn cluster(state: &State, row: &Cluster) -> pb::Cluster {
    let mut counts = count(state);
    show(state, row, &counts.remove(&row.id).unwrap_or_default())
}

/// Several clusters in one pass over tasks, services and instances.
pub fn clusters<'a>(
    state: &State,
    rows: impl IntoIterator<Item = &'a Cluster>,
) -> Vec<pb::Cluster> {
    let counts = count(state);
    let none = Counts::default();
    rows.into_iter().map(|row| show(state, row, counts.get(&row.id).unwrap_or(&none))).collect()
}

fn count(state: &State) -> BTreeMap<ClusterId, Counts> {
    let mut counts: BTreeMap<ClusterId, Counts> = BTreeMap::new();
    for instance in state.instances().filter(|i| i.status != InstanceStatus::Inactive) {
        counts.entry(instance.cluster).or_default().instances += 1;
    }
    for service in state.services() {
        let counts = counts.entry(service.cluster).or_default();
        match service.status {
            ServiceStatus::Active => counts.services += 1,
            ServiceStatus::Draining => counts.draining += 1,
            ServiceStatus::Inactive => {}
        }
    }
    for task in state.tasks() {
        match task.last_status() {
            Phase::Running => counts.entry(task.cluster).or_default().running += 1,
            phase if pending(phase) => counts.entry(task.cluster).or_default().pending += 1,
            _ => {}
        }
    }
    counts
}

fn show(state: &State, row: &Cluster, counts: &Counts) -> pb::Cluster {
    let setting = |(name, value): (&String, &String)| pb::Setting {
        name: name.clone(),
        value: value.clone(),
    };
    let status = match row.status {
        ClusterStatus::Active => "ACTIVE",
        ClusterStatus::Inactive => "INACTIVE",
    };
    let providers = state.providers_of(row.id);
    pb::Cluster {
        cluster_arn: Arns::of(state).cluster(&row.name),
        cluster_name: row.name.to_string(),
        status: status.into(),
        registered_container_instances_count: int(counts.instances),
        running_tasks_count: int(counts.running),
        pending_tasks_count: int(counts.pending),
        active_services_count: int(counts.services),
        settings: row.settings.iter().map(setting).collect(),
        tags: tags(&row.tags),
        statistics: statistics(counts),
        capacity_providers: providers
            .map_or_else(Vec::new, |row| row.names.iter().map(ToString::to_string).collect()),
        default_capacity_provider_strategy: providers
            .map_or_else(Vec::new, |row| capacity::strategy(&row.strategy)),
    }
}

/// ECS's counts per launch type; there is EC2 only, and clients look for the others too.
fn statistics(counts: &Counts) -> Vec<pb::KeyValuePair> {
    let counted = [
        ("runningEC2TasksCount", counts.running),
        ("runningFargateTasksCount", 0),
        ("pendingEC2TasksCount", counts.pending),
        ("pendingFargateTasksCount", 0),
        ("activeEC2ServiceCount", counts.services),
        ("activeFargateServiceCount", 0),
        ("drainingEC2ServiceCount", counts.draining),
        ("drainingFargateServiceCount", 0),
        ("runningExternalTasksCount", 0),
        ("pendingExternalTasksCount", 0),
        ("activeExternalServiceCount", 0),
        ("drainingExternalServiceCount", 0),
    ];
    let pair = |(name, value): (&str, usize)| pb::KeyValuePair {
        name: name.into(),
        value: value.to_string(),
    };
    counted.map(pair).into()
}
