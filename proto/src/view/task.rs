//! Tasks: what is wanted, what was seen, and why one waits or has stopped.

use super::definition::{environment, environment_files, protocol, requirements};
use super::{int, tags, timestamp, waiting};
use crate::arn::{Arns, name_of};
use crate::pb;
use muster_model::spec::{ContainerDefinition, ContainerOverride, Overrides};
use muster_model::task::{ContainerStatus, NetworkBinding};
use muster_model::{Desired, HealthStatus, Instance, Owner, Phase, State, StopCode, Task, limits};

const ARCHITECTURE: &str = "ecs.cpu-architecture";

pub fn task(state: &State, row: &Task) -> pb::Task {
    let arns = Arns::of(state);
    let cluster = name_of(state, row.cluster);
    let instance = row.instance.and_then(|id| state.instance(id));
    let task_arn = arns.task(&cluster, row.id);
    let (stop_code, stopped_reason) = stopped(row);
    let reservation = state.reservation(row);
    let observed = &row.observed;
    let time = |time: Option<muster_model::Time>| time.map(timestamp);
    let lost_at = match row.desired {
        Desired::Abandoned { at } => Some(at),
        _ => None,
    };
    pb::Task {
        containers: containers(state, row, &arns, &cluster, &task_arn),
        task_arn,
        cluster_arn: arns.cluster(&cluster),
        task_definition_arn: super::service::definition(state, row.definition),
        container_instance_arn: row
            .instance
            .map(|id| arns.instance(&cluster, id))
            .unwrap_or_default(),
        last_status: status(row.last_status()).into(),
        // ECS: a task that ended by itself is not wanted any more, it is replaced by another.
        desired_status: if row.wanted() { "RUNNING" } else { "STOPPED" }.into(),
        group: state.group_of(row).to_string(),
        started_by: started_by(row),
        cpu: reservation.cpu.to_string(),
        memory: reservation.memory_mib.to_string(),
        availability_zone: instance.map(|i| i.spec.zone.clone()).unwrap_or_default(),
        connectivity: instance.map(|i| connectivity(i)).unwrap_or_default().into(),
        stop_code: stop_code.map(stop_code_name).unwrap_or_default().into(),
        stopped_reason,
        created_at: Some(timestamp(row.created_at)),
        pull_started_at: time(observed.pull_started_at),
        pull_stopped_at: time(observed.pull_stopped_at),
        started_at: time(observed.started_at),
        stopping_at: time(observed.stopping_at),
        stopped_at: time(observed.stopped_at.or(lost_at)),
        version: i64::try_from(row.version).unwrap_or(i64::MAX),
        overrides: Some(overrides(state, row)),
        tags: tags(&row.tags),
        launch_type: "EC2".into(),
        waiting_reason: row
            .waiting
            .as_deref()
            .filter(|_| row.instance.is_none() && row.wanted())
            .map(|why| waiting(state, row, why))
            .unwrap_or_default(),
        instance_name: instance.map(|i| i.spec.hostname.clone()).unwrap_or_default(),
        attachments: Vec::new(),
        attributes: instance.map(|i| architecture(i)).unwrap_or_default(),
        enable_execute_command: may_execute(row),
        health_status: health(state, row).name().into(),
    }
}

/// What has ended is as healthy as what was never checked.
fn health(state: &State, row: &Task) -> HealthStatus {
    match (row.last_status(), state.spec_of(row)) {
        (Phase::Stopped, _) | (_, None) => HealthStatus::Unknown,
        (_, Some(spec)) => row.health_status(&spec),
    }
}

/// Whether scale-in and deployments leave the task be, and until when.
pub fn protection(state: &State, row: &Task) -> pb::ProtectedTask {
    let until = state.protected_until(row.id);
    pb::ProtectedTask {
        task_arn: Arns::of(state).task(&name_of(state, row.cluster), row.id),
        protection_enabled: until.is_some(),
        expiration_date: until.map(timestamp),
    }
}

fn status(phase: Phase) -> &'static str {
    match phase {
        Phase::Provisioning => "PROVISIONING",
        Phase::Pending => "PENDING",
        Phase::Activating => "ACTIVATING",
        Phase::Running => "RUNNING",
        Phase::Deactivating => "DEACTIVATING",
        Phase::Stopping => "STOPPING",
        Phase::Deprovisioning => "DEPROVISIONING",
        Phase::Stopped => "STOPPED",
    }
}

fn connectivity(instance: &Instance) -> &'static str {
    if instance.ready() { "CONNECTED" } else { "DISCONNECTED" }
}

fn stop_code_name(code: StopCode) -> &'static str {
    match code {
        StopCode::TaskFailedToStart => "TaskFailedToStart",
        StopCode::EssentialContainerExited => "EssentialContainerExited",
        StopCode::UserInitiated => "UserInitiated",
        StopCode::ServiceSchedulerInitiated => "ServiceSchedulerInitiated",
        StopCode::TerminationNotice => "TerminationNotice",
    }
}

/// Who decided first: a stop that was ordered explains the end, else what the agent saw does.
fn stopped(row: &Task) -> (Option<StopCode>, String) {
    let seen = row.observed.reason.as_deref().unwrap_or_default();
    match &row.desired {
        Desired::Stopped { code, reason } => (Some(*code), reason.to_string()),
        Desired::Abandoned { .. } => {
            let lost = format!(
                "Container instance lost: its agent was not heard for {} seconds.",
                limits::LEASE.0 / 1000
            );
            (Some(StopCode::TerminationNotice), lost)
        }
        Desired::Running => (row.observed.stop_code, seen.to_owned()),
    }
}

fn started_by(row: &Task) -> String {
    match &row.owner {
        Owner::Service { deployment, .. } => deployment.shown(),
        Owner::Run { started_by, .. } => started_by.as_deref().unwrap_or_default().to_owned(),
        Owner::Job { started_by, .. } => started_by.to_string(),
    }
}

/// Every container of the definition, also those the agent has not spoken of yet.
fn containers(
    state: &State,
    row: &Task,
    arns: &Arns<'_>,
    cluster: &str,
    task_arn: &str,
) -> Vec<pb::Container> {
    let seen = |name: &str| row.observed.containers.iter().find(|c| &*c.name == name);
    let Some(spec) = state.spec_of(row) else {
        return row
            .observed
            .containers
            .iter()
            .map(|c| container(row, task_arn, c, None, arns.container(cluster, row.id, &c.name)))
            .collect();
    };
    let show = |definition: &ContainerDefinition| {
        let arn = arns.container(cluster, row.id, &definition.name);
        let status = seen(&definition.name).cloned().unwrap_or_else(|| ContainerStatus {
            name: definition.name.as_str().into(),
            ..ContainerStatus::default()
        });
        container(row, task_arn, &status, Some(definition), arn)
    };
    spec.containers.iter().map(show).collect()
}

fn container(
    row: &Task,
    task_arn: &str,
    seen: &ContainerStatus,
    definition: Option<&ContainerDefinition>,
    container_arn: String,
) -> pb::Container {
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
    // A container of a task that has ended has ended, whatever was last heard of it.
    let phase = match row.last_status() {
        Phase::Stopped => Phase::Stopped,
        _ => seen.phase.max(Phase::Pending),
    };
    let health = if phase == Phase::Running { seen.health } else { HealthStatus::Unknown };
    let mib = |mib: Option<u32>| mib.map(|mib| mib.to_string()).unwrap_or_default();
    pb::Container {
        container_arn,
        name: seen.name.to_string(),
        image: definition.map(|d| d.image.clone()).unwrap_or_default(),
        image_digest: text(&seen.image_digest),
        runtime_id: text(&seen.runtime_id),
        last_status: status(phase).into(),
        exit_code: seen.exit_code,
        reason: text(&seen.reason),
        network_bindings: seen.bindings.iter().map(binding).collect(),
        cpu: definition.map_or(0, |d| d.cpu).to_string(),
        memory: mib(definition.and_then(|d| d.memory_mib)),
        memory_reservation: mib(definition.and_then(|d| d.memory_reservation_mib)),
        address: text(&seen.address),
        pid: seen.pid.map(int),
        task_arn: task_arn.to_owned(),
        health_status: health.name().into(),
        restart_count: definition
            .is_some_and(|d| d.restart_policy.is_some())
            .then(|| int(seen.restarts)),
        network_interfaces: Vec::new(),
    }
}

/// What ECS tells of the machine under a task, where its agent says it.
fn architecture(instance: &Instance) -> Vec<pb::Attribute> {
    let said = instance.spec.attribute(ARCHITECTURE);
    said.map(|value| super::instance::attribute(ARCHITECTURE, value)).into_iter().collect()
}

/// As the service or the run asked for when the task began; `muster exec` asks nobody.
fn may_execute(row: &Task) -> bool {
    row.overrides.as_ref().is_some_and(|run| run.enable_execute_command)
}

fn binding(row: &NetworkBinding) -> pb::NetworkBinding {
    pb::NetworkBinding {
        bind_ip: "0.0.0.0".into(),
        container_port: row.container_port.into(),
        host_port: row.host_port.into(),
        protocol: protocol(row.protocol).into(),
    }
}

/// ECS lists every container of the task, with nothing but its name if nothing was overridden.
fn overrides(state: &State, task: &Task) -> pb::TaskOverride {
    let none = Overrides::default();
    let row = task.overrides.as_deref().unwrap_or(&none);
    let of = |name: &String| match row.containers.iter().find(|over| over.name == *name) {
        Some(over) => container_override(over),
        None => pb::ContainerOverride { name: name.clone(), ..pb::ContainerOverride::default() },
    };
    let definition = state.definition(task.definition);
    let names = definition.iter().flat_map(|row| &row.spec.containers).map(|c| &c.name);
    pb::TaskOverride {
        container_overrides: names.map(of).collect(),
        cpu: task_size(row.cpu),
        memory: task_size(row.memory_mib),
        inference_accelerator_overrides: Vec::new(),
        task_role_arn: row.task_role_arn.clone().unwrap_or_default(),
        execution_role_arn: row.execution_role_arn.clone().unwrap_or_default(),
    }
}

pub(super) fn container_override(row: &ContainerOverride) -> pb::ContainerOverride {
    pb::ContainerOverride {
        name: row.name.clone(),
        command: row.command.clone().unwrap_or_default(),
        environment: environment(&row.environment),
        cpu: row.cpu.map(int),
        memory: row.memory_mib.map(int),
        memory_reservation: row.memory_reservation_mib.map(int),
        resource_requirements: requirements(&row.resource_requirements),
        environment_files: environment_files(&row.environment_files),
    }
}

/// ECS writes the size of a whole task as text.
pub(super) fn task_size(number: Option<u32>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}
