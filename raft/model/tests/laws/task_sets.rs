//! Task sets at random: made, scaled, made primary, deleted and forgotten while their tasks come to
//! any end.

use super::{
    PRIMARY, cluster, definition, deployment, deployment_of_service, service, service_spec,
};
use muster_model::*;
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most specs are of services that Muster deploys; some of those are refused here.
pub fn commands() -> impl Strategy<Value = Command> {
    let scale = || (0u32..=10_000).prop_map(|n| Scale::hundredths(n).unwrap_or(Scale::NONE));
    let create = (service(), cluster(), service_spec()).prop_map(|(id, cluster, spec)| {
        let spec = ServiceSpec { controller: DeploymentController::External, ..(*spec).clone() };
        TaskSetCommand::CreateService { id, cluster, spec: Arc::new(spec), tags: [].into() }
    });
    let external = option::of("[ab]".prop_map(Arc::from));
    let new = (service(), deployment(), definition(), external, scale()).prop_map(
        |(service, id, definition, external_id, scale)| {
            let tags = Default::default();
            TaskSetCommand::Create(NewTaskSet { service, id, definition, external_id, scale, tags })
        },
    );
    let set = || (service(), deployment_of_service());
    prop_oneof![
        4 => create,
        4 => new,
        2 => (set(), scale())
            .prop_map(|((service, set), scale)| TaskSetCommand::Scale { service, set, scale }),
        2 => set().prop_map(|(service, set)| TaskSetCommand::SetPrimary { service, set }),
        2 => (set(), any::<bool>())
            .prop_map(|((service, set), force)| TaskSetCommand::Delete { service, set, force }),
    ]
    .prop_map(Command::TaskSet)
}

pub fn steps() -> impl Strategy<Value = Step> {
    (service(), deployment_of_service())
        .prop_map(|(service, set)| Step::RetireTaskSet { service, set })
}

/// The mark for "the newest" becomes the newest.
pub fn aim(state: &State, command: &mut TaskSetCommand) {
    if let TaskSetCommand::Scale { service, set, .. }
    | TaskSetCommand::SetPrimary { service, set }
    | TaskSetCommand::Delete { service, set, .. } = command
        && *set == PRIMARY
    {
        let newest = state.service(*service).and_then(|row| row.primary());
        *set = newest.map_or(PRIMARY, |newest| newest.id);
    }
}

/// The sets of a service are its deployments, the primary one is among those that stay, and what is
/// forgotten had no task left.
pub fn add_up(before: &State, state: &State) {
    let active = |row: &&Arc<Service>| row.status == ServiceStatus::Active;
    for row in state.services().filter(active).filter(|row| row.spec.is_external()) {
        let sets = state.task_sets(row.id).expect("an external service has a row of sets");
        let deployments: BTreeSet<DeploymentId> = row.deployments.iter().map(|d| d.id).collect();
        assert_eq!(sets.sets.keys().copied().collect::<BTreeSet<_>>(), deployments);
        assert!(sets.primary.is_none_or(|id| !sets.sets[&id].draining), "{sets:?}");
        assert!(sets.sets.len() <= limits::TASK_SETS_MAX);
        for task in state.tasks_of(row.id).filter(|task| task.ended_at().is_none()) {
            let known = task.deployment().is_some_and(|id| deployments.contains(&id));
            assert!(known, "task {} is of no set", task.id);
        }
        for (id, set) in &sets.sets {
            let desired = state.desired_on(row, Side::Set(*id));
            assert!(desired <= row.spec.desired_count && (!set.draining || desired == 0));
        }
    }
    for change in State::diff(before, state).task_sets {
        let service = change.latest().and_then(|row| state.service(row.service));
        let there = service.is_some_and(|row| row.status != ServiceStatus::Inactive);
        assert!(change.after.is_none() || there, "{change:?} of a service that is gone");
    }
}
