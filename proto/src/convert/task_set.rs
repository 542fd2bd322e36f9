//! Requests about task sets.

use super::{At, capacity, one_of, placement, tags};
use crate::{arn, pb, spelled};
use muster_model::limits::EXTERNAL_ID_CHARS_MAX;
use muster_model::{
    Command, DeploymentId, Error, IdSource, NewTaskSet, Scale, ServiceId, State, TaskSetCommand,
};

/// CreateTaskSet. Without a scale it is to have as many tasks as its service.
pub fn create(
    state: &State,
    ids: &mut IdSource,
    wire: &pb::CreateTaskSetRequest,
) -> Result<Command, Error> {
    let cluster = arn::cluster(state, &wire.cluster)?;
    let service = arn::service_to_change(state, cluster, &wire.service)?;
    capacity::no_strategy(&wire.launch_type, &wire.capacity_provider_strategy)?;
    placement::launch_type(&wire.launch_type)?;
    if wire.task_definition.is_empty() {
        let allowed = "family, family:revision or an ARN";
        return Err(Error::invalid("taskDefinition", "", allowed));
    }
    Ok(Command::TaskSet(TaskSetCommand::Create(NewTaskSet {
        service: service.id,
        id: ids.deployment(),
        definition: arn::definition(state, &wire.task_definition)?.id,
        external_id: external_id(&wire.external_id)?,
        scale: match &wire.scale {
            Some(wire) => scale(wire)?,
            None => Scale::WHOLE,
        },
        tags: tags(&At::Field("tags"), &wire.tags)?,
    })))
}

/// UpdateTaskSet.
pub fn update(state: &State, wire: &pb::UpdateTaskSetRequest) -> Result<Command, Error> {
    let missing = || Error::invalid("scale", "", "a value from 0 to 100 and the unit PERCENT");
    let scale = scale(wire.scale.as_ref().ok_or_else(missing)?)?;
    let (service, set) = named(state, &wire.cluster, &wire.service, "taskSet", &wire.task_set)?;
    Ok(Command::TaskSet(TaskSetCommand::Scale { service, set, scale }))
}

/// UpdateServicePrimaryTaskSet.
pub fn set_primary(
    state: &State,
    wire: &pb::UpdateServicePrimaryTaskSetRequest,
) -> Result<Command, Error> {
    let (of, text) = (&wire.service, &wire.primary_task_set);
    let (service, set) = named(state, &wire.cluster, of, "primaryTaskSet", text)?;
    Ok(Command::TaskSet(TaskSetCommand::SetPrimary { service, set }))
}

/// DeleteTaskSet.
pub fn delete(state: &State, wire: &pb::DeleteTaskSetRequest) -> Result<Command, Error> {
    let (service, set) = named(state, &wire.cluster, &wire.service, "taskSet", &wire.task_set)?;
    Ok(Command::TaskSet(TaskSetCommand::Delete { service, set, force: wire.force }))
}

fn named(
    state: &State,
    cluster: &str,
    service: &str,
    field: &str,
    text: &str,
) -> Result<(ServiceId, DeploymentId), Error> {
    let cluster = arn::cluster(state, cluster)?;
    let service = arn::service_to_change(state, cluster, service)?;
    if text.is_empty() {
        return Err(Error::invalid(field, "", "the id, ecs-svc/NUMBER, or the ARN of a task set"));
    }
    Ok((service.id, arn::task_set(state, cluster, service, text)?))
}

fn external_id(text: &str) -> Result<Option<std::sync::Arc<str>>, Error> {
    let fits = text.chars().count() <= EXTERNAL_ID_CHARS_MAX && !text.chars().any(char::is_control);
    if !fits {
        let allowed = format!("at most {EXTERNAL_ID_CHARS_MAX} characters, no control characters");
        return Err(Error::invalid("externalId", text, allowed));
    }
    Ok((!text.is_empty()).then(|| text.into()))
}

/// ECS takes any number from 0 to 100; we keep hundredths of a percent.
fn scale(wire: &pb::Scale) -> Result<Scale, Error> {
    let at = At::Field("scale");
    if !matches!(wire.unit.as_str(), "" | "PERCENT") {
        return Err(at.field("unit").invalid(&wire.unit, one_of(spelled::SCALE_UNIT)));
    }
    let hundredths = (wire.value * 100.0).round();
    let exact = (hundredths - wire.value * 100.0).abs() < 1e-6;
    let found = (exact && (0.0..=10_000.0).contains(&hundredths))
        .then(|| Scale::hundredths(hundredths as u32))
        .flatten();
    found.ok_or_else(|| {
        let allowed = "0 to 100, with at most two digits behind the point";
        at.field("value").invalid(wire.value, allowed)
    })
}
