//! Alarms, and what deployments make of them.

use super::timestamp;
use crate::convert::alarm::state_name;
use crate::pb;
use muster_model::service::{Deployment, HaltCause};
use muster_model::{Alarm, AlarmState, DeploymentAlarms, Service, State};

pub fn alarm(row: &Alarm) -> pb::MetricAlarm {
    pb::MetricAlarm {
        alarm_name: row.name.to_string(),
        state_value: state_name(row.state).into(),
        state_reason: row.reason.to_string(),
        state_transitioned_timestamp: Some(timestamp(row.since)),
    }
}

/// Shown once it was ever said, as in ECS.
pub(super) fn of_deployments(row: &DeploymentAlarms) -> Option<pb::DeploymentAlarms> {
    (*row != DeploymentAlarms::default()).then(|| pb::DeploymentAlarms {
        alarm_names: row.names.clone(),
        enable: row.enable,
        rollback: row.rollback,
    })
}

pub(super) fn of_deployment(
    state: &State,
    row: &Service,
    deployment: &Deployment,
) -> Option<pb::ServiceDeploymentAlarms> {
    let alarms = &row.spec.alarms;
    if *alarms == DeploymentAlarms::default() {
        return None;
    }
    let triggered = deployment.halt.is_some_and(|halt| halt.cause == HaltCause::Alarm);
    let status = super::deployment::monitor(triggered, alarms.enable, deployment);
    let rings = |name: &&String| {
        let row = state.alarm(name);
        row.is_some_and(|row| row.state == AlarmState::Alarm && row.since >= deployment.created_at)
    };
    Some(pb::ServiceDeploymentAlarms {
        status: status.into(),
        alarm_names: alarms.names.clone(),
        triggered_alarm_names: alarms.names.iter().filter(rings).cloned().collect(),
    })
}
