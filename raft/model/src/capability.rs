//! What a definition asks of an agent beyond room, by ECS's names: a definition's
//! `requiresAttributes` are attributes that the agents register.
//!
//! Placement asks for none of them: every agent of this release has all. They are for those who
//! compare the two, as schedulers of people's own do. ECS has more: versions of Docker's API, and
//! its own registry's and execution roles' capabilities, none of which means anything here.
//! Invariant: what `required` says of any definition that the edge lets pass is in `all`.

use crate::log_driver::LOG_DRIVERS;
use crate::spec::{ContainerDefinition, NetworkMode, TaskDefinition};
use std::collections::BTreeSet;

/// Begins the name of the capability of taking a log driver.
const LOG_DRIVER: &str = "com.amazonaws.ecs.capability.logging-driver.";
/// Begins the ARNs of Secrets Manager, after the partition and before the region.
const SECRETS_MANAGER: &str = ":secretsmanager:";

type Asks = fn(&TaskDefinition) -> bool;

/// Each name, and which definitions ask for it.
const CAPABILITIES: [(&str, Asks); 12] = [
    ("com.amazonaws.ecs.capability.privileged-container", |task| any(task, |c| c.privileged)),
    ("com.amazonaws.ecs.capability.task-iam-role", |task| task.task_role_arn.is_some()),
    ("com.amazonaws.ecs.capability.task-iam-role-network-host", |task| {
        task.task_role_arn.is_some() && task.network_mode == NetworkMode::Host
    }),
    ("ecs.capability.container-health-check", |task| any(task, |c| c.health_check.is_some())),
    ("ecs.capability.container-ordering", |task| any(task, is_ordered)),
    ("ecs.capability.docker-plugin.local", |task| task.volumes.iter().any(|v| v.docker.is_some())),
    ("ecs.capability.efs", |task| task.volumes.iter().any(|v| v.efs.is_some())),
    ("ecs.capability.env-files.s3", |task| any(task, |c| !c.environment_files.is_empty())),
    ("ecs.capability.pid-ipc-namespace-sharing", |task| {
        task.pid_mode.is_some() || task.ipc_mode.is_some()
    }),
    ("ecs.capability.private-registry-authentication.secretsmanager", |task| {
        any(task, |c| c.repository_credentials.is_some())
    }),
    ("ecs.capability.secrets.asm.environment-variables", |task| {
        any(task, |c| c.secrets.values().any(|from| from.contains(SECRETS_MANAGER)))
    }),
    ("ecs.capability.secrets.ssm.environment-variables", |task| {
        any(task, |c| c.secrets.values().any(|from| !from.contains(SECRETS_MANAGER)))
    }),
];

fn any(task: &TaskDefinition, asks: impl Fn(&ContainerDefinition) -> bool) -> bool {
    task.containers.iter().any(asks)
}

/// ECS counts both timeouts with what they wait for.
fn is_ordered(container: &ContainerDefinition) -> bool {
    !container.depends_on.is_empty()
        || container.start_timeout_secs.is_some()
        || container.stop_timeout_secs.is_some()
}

/// What an agent registers.
pub fn all() -> impl Iterator<Item = String> {
    let drivers = LOG_DRIVERS.map(|driver| format!("{LOG_DRIVER}{driver}"));
    CAPABILITIES.into_iter().map(|(name, _)| name.to_owned()).chain(drivers)
}

/// What a definition asks for (ECS `requiresAttributes`), in order.
pub fn required(task: &TaskDefinition) -> BTreeSet<String> {
    let asked = CAPABILITIES.into_iter().filter(|(_, asks)| asks(task));
    let logs = task.containers.iter().filter_map(|c| c.log_configuration.as_ref());
    let drivers = logs.map(|logs| format!("{LOG_DRIVER}{}", logs.driver));
    asked.map(|(name, _)| name.to_owned()).chain(drivers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::life::HealthCheck;
    use crate::spec::{IpcMode, LogConfiguration, Volume};
    use crate::volume::{DockerVolume, EfsVolume};

    /// A definition of one container that asks for everything.
    fn greedy() -> TaskDefinition {
        let from = |text: &str| text.to_owned();
        let main = ContainerDefinition {
            privileged: true,
            health_check: Some(HealthCheck::default()),
            stop_timeout_secs: Some(2),
            repository_credentials: Some(from("registry")),
            environment_files: vec![from("config:app.env")],
            secrets: [
                (from("A"), from("arn:aws:secretsmanager:eu-west-1:1:secret:a-AbCdEf")),
                (from("B"), from("arn:aws:ssm:eu-west-1:1:parameter/b")),
            ]
            .into(),
            ..ContainerDefinition::default()
        };
        let logs = |driver: &str| ContainerDefinition {
            log_configuration: Some(LogConfiguration {
                driver: driver.into(),
                options: Default::default(),
            }),
            ..ContainerDefinition::default()
        };
        let efs = EfsVolume { file_system_id: from("fs-1"), root_directory: from("/") };
        TaskDefinition {
            containers: [main].into_iter().chain(LOG_DRIVERS.map(logs)).collect(),
            network_mode: NetworkMode::Host,
            task_role_arn: Some(from("arn:aws:iam::1:role/a")),
            ipc_mode: Some(IpcMode::Task),
            volumes: vec![
                Volume { docker: Some(DockerVolume::default()), ..Volume::default() },
                Volume { efs: Some(efs), ..Volume::default() },
            ],
            ..TaskDefinition::default()
        }
    }

    #[test]
    fn agents_have_what_any_definition_asks_for_and_the_smallest_asks_for_nothing() {
        assert_eq!(required(&greedy()), all().collect());
        assert_eq!(required(&TaskDefinition::default()), BTreeSet::new());
    }

    #[test]
    fn a_secret_is_asked_for_where_it_is_kept() {
        let of = |from: &str| {
            let secrets = [("A".to_owned(), from.to_owned())].into();
            let containers = vec![ContainerDefinition { secrets, ..Default::default() }];
            required(&TaskDefinition { containers, ..Default::default() })
        };
        let asm = "arn:aws-cn:secretsmanager:cn-north-1:1:secret:a-AbCdEf:key::";
        assert!(of(asm).iter().eq(["ecs.capability.secrets.asm.environment-variables"]));
        assert!(of("/prod/db").iter().eq(["ecs.capability.secrets.ssm.environment-variables"]));
    }
}
