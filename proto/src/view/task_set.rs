//! Task sets of services that somebody else deploys.

use super::service::{Counts, count, definition};
use super::{int, tags, timestamp};
use crate::arn::{Arns, name_of};
use crate::pb;
use muster_model::{Deployment, InstanceStatus, Service, Side, State, Task, TaskSet};

/// Newest first.
pub fn task_sets(state: &State, row: &Service) -> Vec<pb::TaskSet> {
    let counts = count(state, row);
    let show = |of: &Deployment| {
        let set = state.task_set(row.id, of.id)?;
        Some(task_set(state, row, of, set, counts.get(&of.id).copied().unwrap_or_default()))
    };
    row.deployments.iter().filter_map(show).collect()
}

fn task_set(
    state: &State,
    row: &Service,
    of: &Deployment,
    set: &TaskSet,
    counts: Counts,
) -> pb::TaskSet {
    let (arns, cluster) = (Arns::of(state), name_of(state, row.cluster));
    let primary = state.task_sets(row.id).and_then(|sets| sets.primary);
    let status = match (set.draining, primary == Some(of.id)) {
        (true, _) => "DRAINING",
        (_, true) => "PRIMARY",
        _ => "ACTIVE",
    };
    let desired = state.desired_on(row, Side::Set(of.id));
    let stable = settled(state, row, of, desired, counts);
    pb::TaskSet {
        id: of.id.shown(),
        task_set_arn: arns.task_set(&cluster, &row.spec.name, &of.id.shown()),
        service_arn: arns.service(&cluster, &row.spec.name),
        cluster_arn: arns.cluster(&cluster),
        started_by: of.id.shown(),
        external_id: set.external_id.as_deref().unwrap_or_default().to_owned(),
        status: status.into(),
        task_definition: definition(state, of.definition),
        computed_desired_count: int(desired),
        pending_count: int(counts.pending),
        running_count: int(counts.running),
        created_at: Some(timestamp(of.created_at)),
        updated_at: Some(timestamp(of.updated_at)),
        launch_type: "EC2".into(),
        capacity_provider_strategy: Vec::new(),
        load_balancers: Vec::new(),
        service_registries: Vec::new(),
        stability_status: if stable.is_some() { "STEADY_STATE" } else { "STABILIZING" }.into(),
        stability_status_at: Some(timestamp(stable.unwrap_or(of.updated_at))),
        tags: tags(&set.tags),
        scale: Some(pb::Scale { value: set.scale.percent(), unit: "PERCENT".into() }),
    }
}

/// ECS's four conditions of STEADY_STATE: as many run as should, none is pending, none is on a
/// draining instance, all are healthy. Since when: the last of its tasks became healthy or ended.
fn settled(
    state: &State,
    row: &Service,
    of: &Deployment,
    desired: u32,
    counts: Counts,
) -> Option<muster_model::Time> {
    let own = || state.tasks_of(row.id).filter(|task| task.deployment() == Some(of.id));
    let stays = |task: &Task| {
        let on = task.instance.and_then(|id| state.instance(id));
        on.is_some_and(|on| on.status != InstanceStatus::Draining)
    };
    let well = |task: &std::sync::Arc<Task>| state.is_healthy(task) && stays(task);
    let steady = counts.running == desired
        && counts.pending == 0
        && own().all(|task| task.ended_at().is_some() || (task.wanted() && well(task)));
    let after = state.healthy_after(row.cluster);
    let moments = own().filter_map(|task| task.ended_at().or_else(|| task.healthy_at(after)));
    steady.then(|| moments.fold(of.updated_at, muster_model::Time::max))
}
