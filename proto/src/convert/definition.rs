//! Task definitions: what holds for the task as a whole. One container is `container.rs`.

mod container;
mod fargate;
mod life;
mod linux;
mod logs;
mod platform;
mod ports;
mod secrets;
mod sharing;
mod size;
mod volumes;

pub(crate) use volumes::LOCAL;

pub(crate) use container::{environment, more_than_the_task, words};
pub(crate) use secrets::environment_files;
pub(crate) use size::{cpu, memory, requirements};

use super::{At, given, name, one_of, placement, tags};
use crate::{arn, pb, spelled};
use muster_model::limits::{CONTAINERS_PER_DEFINITION_MAX, DEFINITION_BYTES_MAX};
use muster_model::spec::{ContainerDefinition, NetworkMode, Resources, Volume};
use muster_model::{Command, DefinitionId, Error, State, TaskDefinition, task_role_name};
use prost::Message as _;
use std::collections::BTreeSet;
use std::sync::Arc;

const ROLE_CHARS_MAX: usize = 2048;

/// RegisterTaskDefinition.
pub fn register(wire: &pb::RegisterTaskDefinitionRequest) -> Result<Command, Error> {
    checked(wire).map(|spec| Command::RegisterTaskDefinition(Arc::new(spec)))
}

/// The definition itself, for callers that only check a file.
pub fn checked(wire: &pb::RegisterTaskDefinitionRequest) -> Result<TaskDefinition, Error> {
    let bytes = wire.encoded_len();
    if bytes > DEFINITION_BYTES_MAX {
        let allowed = format!("at most {DEFINITION_BYTES_MAX} bytes");
        return Err(Error::invalid("containerDefinitions", format!("{bytes} bytes"), allowed));
    }
    name(&At::Field("family"), &wire.family)?;
    compatibilities(&wire.requires_compatibilities)?;
    let network_mode = network_mode(&wire.network_mode)?;
    let volumes = volumes::volumes(&wire.volumes)?;
    let task = Resources {
        cpu: cpu(&At::Field("cpu"), &wire.cpu)?.unwrap_or(0),
        memory_mib: memory(&At::Field("memory"), &wire.memory)?.unwrap_or(0),
    };
    if wire.requires_compatibilities.iter().any(|name| name == fargate::FARGATE) {
        fargate::check(task)?;
    }
    let limit = Limit { cpu: some(task.cpu), memory_mib: some(task.memory_mib) };
    let containers = containers(&wire.container_definitions, network_mode, &volumes, &limit)?;
    let spec = TaskDefinition {
        family: wire.family.clone(),
        containers,
        network_mode,
        cpu: limit.cpu,
        memory_mib: limit.memory_mib,
        volumes,
        placement_constraints: placement::of_definition(&wire.placement_constraints)?,
        requires_compatibilities: wire.requires_compatibilities.clone(),
        task_role_arn: task_role(&At::Field("taskRoleArn"), &wire.task_role_arn)?,
        execution_role_arn: role(&At::Field("executionRoleArn"), &wire.execution_role_arn)?,
        tags: tags(&At::Field("tags"), &wire.tags)?,
        runtime_platform: wire.runtime_platform.as_ref().map(platform::checked).transpose()?,
        pid_mode: sharing::pid_mode(&wire.pid_mode)?,
        ipc_mode: sharing::ipc_mode(&wire.ipc_mode)?,
    };
    sharing::check_ipc(&At::Field("containerDefinitions"), &spec)?;
    Ok(spec)
}

/// The size of the whole task, as far as it names one.
pub(super) struct Limit {
    pub cpu: Option<u32>,
    pub memory_mib: Option<u32>,
}

fn some(number: u32) -> Option<u32> {
    (number > 0).then_some(number)
}

fn containers(
    wire: &[pb::ContainerDefinition],
    network: NetworkMode,
    volumes: &[Volume],
    limit: &Limit,
) -> Result<Vec<ContainerDefinition>, Error> {
    let list = At::Field("containerDefinitions");
    if wire.is_empty() {
        let allowed = format!("1 to {CONTAINERS_PER_DEFINITION_MAX} containers");
        return Err(list.invalid("0 containers", allowed));
    }
    if wire.len() > CONTAINERS_PER_DEFINITION_MAX {
        let why = format!("Too many containers. (At most {CONTAINERS_PER_DEFINITION_MAX}.)");
        return Err(list.invalid(format!("{} containers", wire.len()), why));
    }
    let mut names = BTreeSet::new();
    let mut containers = Vec::with_capacity(wire.len());
    for (index, wire) in wire.iter().enumerate() {
        let at = list.index(index);
        let container = container::checked(&at, wire, volumes, limit.memory_mib)?;
        if !names.insert(container.name.clone()) {
            let why = "Container names must be unique within a Task Definition.";
            return Err(at.field("name").invalid(&container.name, why));
        }
        containers.push(container);
    }
    if !containers.iter().any(|container| container.essential) {
        let why = "Task definition doesn't have any essential container. (Containers are essential \
                   unless they say essential: false.)";
        return Err(list.invalid("", why));
    }
    life::check(&list, &containers)?;
    sharing::check(&list, &containers, network)?;
    ports::check(&list, &containers, network)?;
    within(&list, &containers, limit)?;
    Ok(containers)
}

/// What the containers reserve together must fit into the task.
pub(super) fn within(
    list: &At<'_>,
    containers: &[ContainerDefinition],
    limit: &Limit,
) -> Result<(), Error> {
    let sum = containers.iter().fold(Resources::default(), |sum, c| sum.plus(c.reservation()));
    if let Some(cpu) = limit.cpu.filter(|cpu| sum.cpu > *cpu) {
        let allowed = format!("together at most the task's cpu, {cpu}");
        return Err(list.invalid(format!("{} cpu units", sum.cpu), allowed));
    }
    if let Some(memory) = limit.memory_mib.filter(|memory| sum.memory_mib > *memory) {
        let why = format!(
            "The sum of all container 'memoryReservation' values cannot be greater than the value \
             of the task 'memory'. (It is {memory} MiB.)"
        );
        return Err(list.invalid(format!("{} MiB reserved", sum.memory_mib), why));
    }
    Ok(())
}

fn network_mode(text: &str) -> Result<NetworkMode, Error> {
    let at = At::Field("networkMode");
    match text {
        "" | "bridge" => Ok(NetworkMode::Bridge),
        "host" => Ok(NetworkMode::Host),
        "none" => Ok(NetworkMode::None),
        "awsvpc" => {
            let instead = "a network interface per task is not built; use bridge, host or none";
            Err(at.unsupported(text, instead))
        }
        other => Err(at.invalid(other, "bridge, host or none")),
    }
}

/// Kept and shown: a definition that was written for Fargate runs on instances as well, here as in
/// ECS. What it may be launched as, RunTask and CreateService decide.
fn compatibilities(wire: &[String]) -> Result<(), Error> {
    let list = At::Field("requiresCompatibilities");
    for (index, text) in wire.iter().enumerate() {
        let at = list.index(index);
        if !spelled::COMPATIBILITY.contains(&text.as_str()) {
            return Err(at.invalid(text, one_of(spelled::COMPATIBILITY)));
        }
        if wire.iter().take(index).any(|before| before == text) {
            return Err(at.invalid(text, "each of them once"));
        }
    }
    Ok(())
}

/// The role that a task acts as: docs/decisions/0019.
pub(super) fn task_role(at: &At<'_>, wire: &str) -> Result<Option<String>, Error> {
    let role = role(at, wire)?;
    if let Some(role) = &role {
        task_role_name(&at.to_string(), role)?;
    }
    Ok(role)
}

/// The execution role is kept and shown: an agent pulls images as itself, and is told the secrets
/// of its tasks by the managers.
pub(super) fn role(at: &At<'_>, wire: &str) -> Result<Option<String>, Error> {
    super::text(at, wire, 0..=ROLE_CHARS_MAX)?;
    Ok(given(wire))
}

/// DeleteTaskDefinitions, one of them: needs the revision.
pub fn delete(state: &State, text: &str) -> Result<Command, Error> {
    let definition = revision(state, text)?;
    Ok(Command::DeleteTaskDefinition { definition })
}

/// DeregisterTaskDefinition: needs the revision.
pub fn deregister(
    state: &State,
    wire: &pb::DeregisterTaskDefinitionRequest,
) -> Result<Command, Error> {
    let definition = revision(state, &wire.task_definition)?;
    Ok(Command::DeregisterTaskDefinition { definition })
}

/// Refuses what does not name one revision, whether or not there is such a one.
pub fn one_revision(state: &State, text: &str) -> Result<(), Error> {
    match arn::family(state, text)? {
        (_, Some(_)) => Ok(()),
        (_, None) => Err(Error::invalid(
            "taskDefinition",
            text,
            "Revision is missing. (Write family:revision.)",
        )),
    }
}

fn revision(state: &State, text: &str) -> Result<DefinitionId, Error> {
    one_revision(state, text)?;
    Ok(arn::definition(state, text)?.id)
}
