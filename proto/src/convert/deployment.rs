//! Requests about deployments: the circuit breaker that a service has; stopping, pausing and
//! continuing one.

use super::{At, hook, number, one_of};
use crate::arn::{self, Arns};
use crate::{pb, spelled};
use muster_model::command::StopType;
use muster_model::limits::BREAKER_VALUE_MAX;
use muster_model::{
    CircuitBreaker, Command, DeploymentId, Error, HookAction, ServiceId, State, Threshold,
};

/// `None`: the request says nothing of it. What it leaves out is ECS's default.
pub(super) fn breaker(
    wire: Option<&pb::DeploymentConfiguration>,
) -> Result<Option<CircuitBreaker>, Error> {
    let Some(wire) = wire.and_then(|wire| wire.deployment_circuit_breaker.as_ref()) else {
        return Ok(None);
    };
    let usual = CircuitBreaker::default();
    let threshold = match &wire.threshold_configuration {
        Some(wire) => threshold(wire)?,
        None => usual.threshold,
    };
    Ok(Some(CircuitBreaker {
        enable: wire.enable,
        rollback: wire.rollback,
        reset_on_healthy_task: wire.reset_on_healthy_task.unwrap_or(usual.reset_on_healthy_task),
        threshold,
    }))
}

fn threshold(wire: &pb::ThresholdConfiguration) -> Result<Threshold, Error> {
    let at = At::Field("deploymentConfiguration");
    let breaker = at.field("deploymentCircuitBreaker");
    let at = breaker.field("thresholdConfiguration");
    let value = number(&at.field("value"), wire.value, 1..=BREAKER_VALUE_MAX)?;
    match wire.r#type.as_str() {
        "COUNT" => Ok(Threshold::Count(value)),
        "BOUNDED_PERCENT" => Ok(Threshold::BoundedPercent(value)),
        "UNBOUNDED_PERCENT" => Ok(Threshold::UnboundedPercent(value)),
        other => {
            let allowed = one_of(spelled::THRESHOLD_TYPE);
            Err(at.field("type").invalid(other, allowed))
        }
    }
}

/// StopServiceDeployment; without a type it rolls back, as in ECS.
pub fn stop(state: &State, wire: &pb::StopServiceDeploymentRequest) -> Result<Command, Error> {
    let stop = match wire.stop_type.as_str() {
        "" | "ROLLBACK" => StopType::Rollback,
        "ABORT" => StopType::Abort,
        other => {
            return Err(At::Field("stopType")
                .invalid(other, one_of(spelled::STOP_SERVICE_DEPLOYMENT_STOP_TYPE)));
        }
    };
    let (service, deployment) = named(state, &wire.service_deployment_arn)?;
    Ok(Command::StopServiceDeployment { service, deployment, stop })
}

/// PauseServiceDeployment.
pub fn pause(state: &State, wire: &pb::PauseServiceDeploymentRequest) -> Result<Command, Error> {
    let (service, deployment) = named(state, &wire.service_deployment_arn)?;
    Ok(Command::PauseServiceDeployment { service, deployment })
}

/// ContinueServiceDeployment; without an action it goes on, as in ECS.
pub fn resume(
    state: &State,
    wire: &pb::ContinueServiceDeploymentRequest,
) -> Result<Command, Error> {
    let action = match wire.action.as_str() {
        "" => HookAction::Continue,
        text => hook::action(&At::Field("action"), text)?,
    };
    let hook = (!wire.hook_id.is_empty()).then(|| wire.hook_id.as_str().into());
    let (service, deployment) = named(state, &wire.service_deployment_arn)?;
    Ok(Command::ContinueServiceDeployment { service, deployment, hook, action })
}

fn named(state: &State, text: &str) -> Result<(ServiceId, DeploymentId), Error> {
    let arns = Arns::of(state);
    let written = |cluster: &str, service: &str, id| arns.service_deployment(cluster, service, id);
    let (row, deployment) = arn::part_of_service(state, "service-deployment", text, written)?;
    Ok((row.id, deployment.id))
}
