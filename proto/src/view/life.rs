//! How a task definition says that containers wait, are watched and are started again, with ECS's
//! defaults filled in.

use super::int;
use crate::pb;
use muster_model::life::{Dependency, HealthCheck, RestartPolicy};

pub(super) fn dependency(row: &Dependency) -> pb::ContainerDependency {
    pb::ContainerDependency {
        container_name: row.container.clone(),
        condition: row.condition.name().into(),
    }
}

pub(super) fn health_check(row: &HealthCheck) -> pb::HealthCheck {
    pb::HealthCheck {
        command: row.command.clone(),
        interval: Some(int(row.interval_secs)),
        timeout: Some(int(row.timeout_secs)),
        retries: Some(int(row.retries)),
        // ECS: off unless given.
        start_period: (row.start_period_secs > 0).then(|| int(row.start_period_secs)),
    }
}

pub(super) fn restart_policy(row: &RestartPolicy) -> pb::ContainerRestartPolicy {
    pb::ContainerRestartPolicy {
        enabled: row.enabled,
        ignored_exit_codes: row.ignored_exit_codes.clone(),
        restart_attempt_period: Some(int(row.attempt_period_secs)),
    }
}
