//! Requests about tasks.

use super::definition::{
    Limit, environment, environment_files, more_than_the_task, requirements, within, words,
};
use super::{
    At, amount, at_most, capacity, definition, given, mib, number, placement, service, tags, text,
};
use crate::{arn, pb};
use muster_model::command::{RunTask, StartTask};
use muster_model::limits::{
    CPU_UNITS_MAX, NAME_CHARS_MAX, OVERRIDES_BYTES_MAX, PROTECTION_MINUTES_DEFAULT,
    PROTECTION_MINUTES_MAX, RUN_TASK_COUNT_MAX, STARTED_BY_CHARS_MAX,
};
use muster_model::spec::{ContainerOverride, Named, Overrides};
use muster_model::{
    Command, Error, IdSource, InstanceId, Millis, PropagateTags, State, TaskDefinition, task,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// ECS's reason for a task that is stopped without one.
const STOPPED_BY_USER: &str = "Task stopped by user";
/// Groups of this form belong to services.
const SERVICE_GROUP: &str = "service:";

/// RunTask: one new id per task.
pub fn run(state: &State, ids: &mut IdSource, wire: &pb::RunTaskRequest) -> Result<Command, Error> {
    capacity::no_strategy(&wire.launch_type, &wire.capacity_provider_strategy)?;
    placement::launch_type(&wire.launch_type)?;
    let count = match wire.count {
        0 => 1,
        count => number(&At::Field("count"), count, 1..=RUN_TASK_COUNT_MAX)?,
    };
    let placement = placement::placement(&wire.placement_constraints, &wire.placement_strategy)?;
    let group = At::Field("group");
    text(&group, &wire.group, 0..=NAME_CHARS_MAX)?;
    if wire.group.starts_with(SERVICE_GROUP) {
        return Err(group.invalid(&wire.group, "a group that does not begin with service:"));
    }
    started_by(&At::Field("startedBy"), &wire.started_by)?;
    let tags = tags(&At::Field("tags"), &wire.tags)?;
    let cluster = arn::cluster(state, &wire.cluster)?;
    capacity::no_default(state, cluster, &wire.launch_type)?;
    let row = arn::definition(state, &wire.task_definition)?;
    let mut overrides = match &wire.overrides {
        Some(wire) => overrides(wire, &row.spec)?,
        None => Overrides::default(),
    };
    overrides.enable_execute_command = wire.enable_execute_command;
    overrides.placement = placement;
    overrides.propagate_tags = propagate(&wire.propagate_tags)?;
    overrides.managed_tags = wire.enable_ecs_managed_tags;
    let group = given(&wire.group).unwrap_or_else(|| format!("family:{}", row.family));
    Ok(Command::RunTask(RunTask {
        cluster: cluster.id,
        definition: row.id,
        tasks: (0..count).map(|_| ids.task(state.now())).collect(),
        group: Arc::from(group),
        started_by: given(&wire.started_by).map(Arc::from),
        overrides: Arc::new(overrides),
        tags,
    }))
}

/// The RunTask that a schedule or a job of this cluster asks for, again and again; who may not ask
/// for it by itself may not ask for it there either.
pub fn nested_run(
    cluster: &str,
    run: Option<&pb::RunTaskRequest>,
) -> Result<pb::RunTaskRequest, Error> {
    let at = At::Field("runTask");
    let Some(run) = run else {
        return Err(at.invalid("", "what RunTask would be asked for"));
    };
    if !run.cluster.is_empty() && run.cluster != cluster {
        return Err(at.field("cluster").invalid(&run.cluster, "the one around it, or none"));
    }
    if !run.client_token.is_empty() {
        return Err(at
            .field("clientToken")
            .invalid(&run.client_token, "none: each run has its own"));
    }
    Ok(pb::RunTaskRequest { cluster: cluster.into(), ..run.clone() })
}

/// StartTask: a new id per instance, in their order.
pub fn start(
    state: &State,
    ids: &mut IdSource,
    wire: &pb::StartTaskRequest,
    on: Vec<InstanceId>,
) -> Result<Command, Error> {
    let count = i32::try_from(on.len()).unwrap_or(i32::MAX);
    let run = pb::RunTaskRequest {
        cluster: wire.cluster.clone(),
        task_definition: wire.task_definition.clone(),
        count,
        // Whoever names the instances asks no provider.
        launch_type: placement::EC2.into(),
        group: wire.group.clone(),
        started_by: wire.started_by.clone(),
        overrides: wire.overrides.clone(),
        enable_execute_command: wire.enable_execute_command,
        tags: wire.tags.clone(),
        propagate_tags: wire.propagate_tags.clone(),
        enable_ecs_managed_tags: wire.enable_ecs_managed_tags,
        ..pb::RunTaskRequest::default()
    };
    match self::run(state, ids, &run)? {
        Command::RunTask(run) => Ok(Command::StartTask(StartTask { run, on })),
        other => Ok(other),
    }
}

/// UpdateTaskProtection, one task of it.
pub fn protect(
    state: &State,
    wire: &pb::UpdateTaskProtectionRequest,
    task: &str,
) -> Result<Command, Error> {
    let minutes = match wire.expires_in_minutes {
        None => PROTECTION_MINUTES_DEFAULT,
        Some(minutes) => {
            number(&At::Field("expiresInMinutes"), minutes, 1..=PROTECTION_MINUTES_MAX)?
        }
    };
    let span = Millis::from_secs(u64::from(minutes) * 60);
    let task = arn::task(state, arn::cluster(state, &wire.cluster)?, task)?.id;
    Ok(Command::ProtectTask { task, span: wire.protection_enabled.then_some(span) })
}

/// ECS: a run has no service.
fn propagate(text: &str) -> Result<PropagateTags, Error> {
    match service::propagate(text)?.unwrap_or_default() {
        PropagateTags::Service => {
            let allowed = "NONE or TASK_DEFINITION: a task of a run has no service";
            Err(At::Field("propagateTags").invalid(text, allowed))
        }
        tags => Ok(tags),
    }
}

fn started_by(at: &At<'_>, wire: &str) -> Result<(), Error> {
    let charset = |b: u8| b.is_ascii_alphanumeric() || b"-_/.:@".contains(&b);
    if wire.len() <= STARTED_BY_CHARS_MAX && wire.bytes().all(charset) {
        return Ok(());
    }
    Err(at.invalid(wire, format!("up to {STARTED_BY_CHARS_MAX} letters, digits and -_/.:@")))
}

/// The named resources that a task of this StartTask takes.
pub fn wanted(state: &State, wire: &pb::StartTaskRequest) -> Result<Named, Error> {
    let row = arn::definition(state, &wire.task_definition)?;
    let changed = match &wire.overrides {
        Some(wire) => overrides(wire, &row.spec)?,
        None => Overrides::default(),
    };
    Ok(changed.applied_to(&row.spec).named_reservation())
}

fn overrides(wire: &pb::TaskOverride, spec: &Arc<TaskDefinition>) -> Result<Overrides, Error> {
    let at = At::Field("overrides");
    // ECS counts the characters of the JSON.
    let chars = crate::json::to_value(wire).to_string().len();
    if chars > OVERRIDES_BYTES_MAX {
        let allowed = format!("at most {OVERRIDES_BYTES_MAX} characters");
        return Err(at.invalid(format!("{chars} characters"), allowed));
    }
    if let Some(first) = wire.inference_accelerator_overrides.first() {
        let at = at.field("inferenceAcceleratorOverrides");
        return Err(at.unsupported(&first.device_name, "accelerators are not built; leave it out"));
    }
    let list = at.field("containerOverrides");
    at_most(&list, wire.container_overrides.len(), spec.containers.len(), "overrides")?;
    let mut names = BTreeSet::new();
    let mut containers = Vec::with_capacity(wire.container_overrides.len());
    for (index, wire) in wire.container_overrides.iter().enumerate() {
        let at = list.index(index);
        if !names.insert(wire.name.as_str()) {
            return Err(at.field("name").invalid(&wire.name, "each container once"));
        }
        containers.push(container(&at, wire, spec)?);
    }
    let overrides = Overrides {
        containers,
        cpu: definition::cpu(&at.field("cpu"), &wire.cpu)?,
        memory_mib: definition::memory(&at.field("memory"), &wire.memory)?,
        task_role_arn: definition::task_role(&at.field("taskRoleArn"), &wire.task_role_arn)?,
        execution_role_arn: definition::role(
            &at.field("executionRoleArn"),
            &wire.execution_role_arn,
        )?,
        ..Overrides::default()
    };
    sizes(&list, &overrides.applied_to(spec))?;
    Ok(overrides)
}

/// What no definition may say of its sizes, no run may make of them.
fn sizes(list: &At<'_>, run: &TaskDefinition) -> Result<(), Error> {
    for container in &run.containers {
        let (hard, soft) = (container.memory_mib, container.memory_reservation_mib);
        if let Some((hard, soft)) = hard.zip(soft).filter(|(hard, soft)| soft > hard) {
            let allowed = format!("at most the memory of container {}, {hard} MiB", container.name);
            return Err(list.field("memoryReservation").invalid(soft, allowed));
        }
        if let Some((hard, task)) = hard.zip(run.memory_mib).filter(|(hard, task)| hard > task) {
            let why = more_than_the_task(&container.name, task);
            return Err(list.field("memory").invalid(hard, why));
        }
    }
    let limit = Limit { cpu: run.cpu, memory_mib: run.memory_mib };
    within(list, &run.containers, &limit)
}

fn container(
    at: &At<'_>,
    wire: &pb::ContainerOverride,
    spec: &TaskDefinition,
) -> Result<ContainerOverride, Error> {
    if !spec.containers.iter().any(|container| container.name == wire.name) {
        let known: Vec<&str> = spec.containers.iter().map(|c| c.name.as_str()).collect();
        let allowed = format!("a container of {}: {}", spec.family, known.join(", "));
        return Err(at.field("name").invalid(&wire.name, allowed));
    }
    let memory =
        |field, wire: Option<i32>| wire.map(|wire| mib(&at.field(field), wire)).transpose();
    let cpu = |wire| amount(&at.field("cpu"), wire, 0..=CPU_UNITS_MAX, "units (1024 = one core)");
    let command = words(&at.field("command"), &wire.command)?;
    Ok(ContainerOverride {
        name: wire.name.clone(),
        command: (!command.is_empty()).then_some(command),
        environment: environment(&at.field("environment"), &wire.environment)?,
        cpu: wire.cpu.map(cpu).transpose()?,
        memory_mib: memory("memory", wire.memory)?,
        memory_reservation_mib: memory("memoryReservation", wire.memory_reservation)?,
        resource_requirements: requirements(
            &at.field("resourceRequirements"),
            &wire.resource_requirements,
        )?,
        environment_files: environment_files(at, &wire.environment_files)?,
    })
}

/// StopTask; stopping a stopped task is not an error.
pub fn stop(state: &State, wire: &pb::StopTaskRequest) -> Result<Command, Error> {
    let cluster = arn::cluster(state, &wire.cluster)?;
    let row = arn::task(state, cluster, &wire.task)?;
    text(&At::Field("reason"), &wire.reason, 0..=muster_model::limits::REASON_CHARS_MAX)?;
    let reason = if wire.reason.is_empty() { STOPPED_BY_USER } else { &wire.reason };
    Ok(Command::StopTask { task: row.id, reason: task::reason(reason) })
}
