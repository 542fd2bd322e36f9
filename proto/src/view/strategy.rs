//! How deployments of a service shift traffic, and how far one has come: configuration, stage,
//! and what it waits for.

use super::{int, timestamp};
use crate::pb;
use muster_model::service::Deployment;
use muster_model::{
    DeploymentStrategy, Endpoint, HookAction, HookTarget, LifecycleHook, Pace, Pause, Service,
    Stage, State,
};

/// The part of ECS's `deploymentConfiguration` that is about it; the rest is left out.
pub(super) fn strategy(row: &DeploymentStrategy) -> pb::DeploymentConfiguration {
    let (linear_configuration, canary_configuration) = match row.pace {
        Pace::Rolling | Pace::BlueGreen => (None, None),
        Pace::Linear(step) => {
            let step = pb::LinearConfiguration {
                step_percent: Some(step.weight.percent()),
                step_bake_time_in_minutes: Some(int(step.bake_minutes)),
            };
            (Some(step), None)
        }
        Pace::Canary(step) => {
            let step = pb::CanaryConfiguration {
                canary_percent: Some(step.weight.percent()),
                canary_bake_time_in_minutes: Some(int(step.bake_minutes)),
            };
            (None, Some(step))
        }
    };
    pb::DeploymentConfiguration {
        strategy: row.pace.shown().into(),
        bake_time_in_minutes: Some(int(row.bake_minutes)),
        lifecycle_hooks: row.hooks.iter().map(hook).collect(),
        linear_configuration,
        canary_configuration,
        ..Default::default()
    }
}

const PAUSE: &str = "PAUSE";
const HTTP: &str = "HTTP";

fn hook(row: &LifecycleHook) -> pb::DeploymentLifecycleHook {
    let (target_type, hook_target_arn, hook_details) = match &row.target {
        HookTarget::Pause => (PAUSE, String::new(), Default::default()),
        HookTarget::Http(Endpoint { url, details }) => (HTTP, url.clone(), details.clone()),
    };
    pb::DeploymentLifecycleHook {
        target_type: target_type.into(),
        hook_target_arn,
        hook_details: hook_details.into_iter().collect(),
        lifecycle_stages: row.stages.iter().map(|stage| stage.shown().into()).collect(),
        timeout_configuration: Some(pb::DeploymentLifecycleHookTimeoutConfiguration {
            timeout_in_minutes: Some(int(row.timeout_minutes)),
            action: action(row.on_timeout).into(),
        }),
    }
}

fn action(row: HookAction) -> &'static str {
    match row {
        HookAction::Continue => "CONTINUE",
        HookAction::Rollback => "ROLLBACK",
    }
}

/// ECS's `lifecycleStage`; empty if the deployment shifts no traffic. ECS has no stage of its own
/// for what comes before a step of production traffic.
pub(super) fn stage(state: &State, row: &Service, deployment: &Deployment) -> &'static str {
    let shift = state.shift(row.id).filter(|shift| shift.green == deployment.id);
    match shift.map(|shift| shift.stage) {
        None => "",
        Some(Stage::PreProductionTrafficShift) => Stage::ProductionTrafficShift.shown(),
        Some(stage) => stage.shown(),
    }
}

/// What ContinueServiceDeployment would release, each by its `hookId`.
pub(super) fn waiting(
    state: &State,
    row: &Service,
    deployment: &Deployment,
) -> Vec<pb::DeploymentLifecycleHookDetail> {
    let awaiting = |hook_id: &str| pb::DeploymentLifecycleHookDetail {
        hook_id: hook_id.into(),
        target_type: PAUSE.into(),
        status: "AWAITING_ACTION".into(),
        ..Default::default()
    };
    let paused = state.pause(row.id).filter(|pause| pause.deployment == deployment.id);
    let shift = state.shift(row.id).filter(|shift| shift.green == deployment.id);
    let hook = shift.and_then(|shift| Some((shift.hook_id()?, shift.hook?)));
    let endpoint = shift.and_then(|shift| shift.endpoint());
    let hook = hook.map(|(id, hook)| pb::DeploymentLifecycleHookDetail {
        // While it is paused the time does not run.
        expires_at: paused.is_none().then(|| timestamp(hook.expires_at)),
        timeout_action: action(hook.on_timeout).into(),
        ..match endpoint {
            None => awaiting(&id),
            Some(Endpoint { url, .. }) => pb::DeploymentLifecycleHookDetail {
                hook_id: id,
                target_type: HTTP.into(),
                status: "IN_PROGRESS".into(),
                target_arn: url.clone(),
                ..Default::default()
            },
        }
    });
    paused.map(|_| awaiting(Pause::HOOK_ID)).into_iter().chain(hook).collect()
}
