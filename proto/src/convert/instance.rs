//! Requests about container instances.

use super::dispatch::{instance_spec_from_wire, instance_spec_to_wire, resource_name};
use super::{At, amount};
use crate::{arn, pb};
use muster_model::instance::SIMULATED_ATTRIBUTE;
use muster_model::limits::{CPU_UNITS_MAX, MEMORY_MIB_MAX, NAMED_AMOUNT_MAX};
use muster_model::spec::Tags;
use muster_model::{Command, Error, InstanceSpec, InstanceStatus, Resources, State};
use serde::Deserialize;

/// ECS: instances in one UpdateContainerInstancesState call.
pub const UPDATE_INSTANCES_MAX: usize = 10;

/// UpdateContainerInstancesState: the status, and per name the command or why there is none.
pub fn update_status(
    state: &State,
    wire: &pb::UpdateContainerInstancesStateRequest,
) -> Result<Vec<Result<Command, Error>>, Error> {
    super::some_names("containerInstances", &wire.container_instances, UPDATE_INSTANCES_MAX)?;
    let status = match wire.status.as_str() {
        "ACTIVE" => InstanceStatus::Active,
        "DRAINING" => InstanceStatus::Draining,
        other => return Err(At::Field("status").invalid(other, "ACTIVE or DRAINING")),
    };
    let cluster = arn::cluster(state, &wire.cluster)?;
    let command = |name: &String| {
        let instance = arn::instance(state, cluster, name)?.id;
        Ok(Command::UpdateInstanceStatus { instance, status })
    };
    Ok(wire.container_instances.iter().map(command).collect())
}

/// DeregisterContainerInstance.
pub fn deregister(
    state: &State,
    wire: &pb::DeregisterContainerInstanceRequest,
) -> Result<Command, Error> {
    let cluster = arn::cluster(state, &wire.cluster)?;
    let instance = arn::instance(state, cluster, &wire.container_instance)?.id;
    Ok(Command::DeregisterInstance { instance, force: wire.force })
}

/// What of EC2's identity document an instance is known by.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct IdentityDocument {
    instance_id: String,
    instance_type: String,
    image_id: String,
    availability_zone: String,
}

/// An instance that says nothing of its size: what an m5.large is to ECS.
const SIMULATED_CPU: u32 = 4096;
const SIMULATED_MEMORY_MIB: u32 = 7482;
/// ECS's own agent takes these: ssh, Docker's and its own; 51680 only where it publishes metrics.
const AGENT_PORTS: [u16; 5] = [22, 2375, 2376, 51678, 51679];
/// Where an instance without a zone lies.
const SIMULATED_ZONE: &str = "local-a";

/// RegisterContainerInstance of a simulated instance.
///
/// # Errors
/// A document that is no JSON object, and amounts, names and ports that are not allowed.
pub fn simulated(wire: &pb::RegisterContainerInstanceRequest) -> Result<InstanceSpec, Error> {
    const DOCUMENT: &str = "instanceIdentityDocument";
    let document: IdentityDocument = match wire.instance_identity_document.as_str() {
        "" => IdentityDocument::default(),
        text => serde_json::from_str(text)
            .map_err(|error| Error::invalid(DOCUMENT, error.to_string(), "a JSON object"))?,
    };
    let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
    let built_in = [
        ("ecs.instance-type", document.instance_type),
        ("ecs.ami-id", document.image_id),
        ("ecs.os-type", "linux".to_owned()),
        (SIMULATED_ATTRIBUTE, "true".to_owned()),
    ];
    let built_in = built_in.into_iter().filter(|(_, value)| !value.is_empty());
    let given = wire.attributes.iter().map(|given| (given.name.clone(), given.value.clone()));
    let mut spec = InstanceSpec {
        hostname: or(document.instance_id, "simulated"),
        zone: or(document.availability_zone, SIMULATED_ZONE),
        address: "127.0.0.1".into(),
        total: Resources { cpu: SIMULATED_CPU, memory_mib: SIMULATED_MEMORY_MIB },
        resources: Default::default(),
        reserved_ports: AGENT_PORTS.into(),
        attributes: given
            .chain(built_in.map(|(name, value)| (name.to_owned(), Some(value))))
            .collect(),
        agent_version: wire.version_info.clone().unwrap_or_default().agent_version,
        versions: Default::default(),
        custom: Default::default(),
    };
    for (index, resource) in wire.total_resources.iter().enumerate() {
        total(&mut spec, &At::Field("totalResources").index(index), resource)?;
    }
    // Checked as what a machine says of itself.
    instance_spec_from_wire(&instance_spec_to_wire(&spec))
}

/// Its tags.
///
/// # Errors
/// Keys and values that are not allowed.
pub fn tags_of(wire: &pb::RegisterContainerInstanceRequest) -> Result<Tags, Error> {
    super::tags(&At::Field("tags"), &wire.tags)
}

fn total(
    spec: &mut InstanceSpec,
    at: &At<'_>,
    resource: &pb::InstanceResource,
) -> Result<(), Error> {
    let value =
        |max, unit| amount(&at.field("integerValue"), resource.integer_value, 1..=max, unit);
    match resource.name.as_str() {
        "CPU" => spec.total.cpu = value(CPU_UNITS_MAX, "units")?,
        "MEMORY" => spec.total.memory_mib = value(MEMORY_MIB_MAX, "MiB")?,
        "PORTS" => {
            let port = |text: &String| {
                text.parse()
                    .map_err(|_| at.field("stringSetValue").invalid(text, "ports, 0 to 65535"))
            };
            spec.reserved_ports =
                resource.string_set_value.iter().map(port).collect::<Result<_, _>>()?;
        }
        "PORTS_UDP" if resource.string_set_value.is_empty() => {}
        "PORTS_UDP" => {
            let given = resource.string_set_value.join(", ");
            let allowed = "none: an instance keeps TCP ports for itself, which PORTS lists";
            return Err(at.field("stringSetValue").invalid(given, allowed));
        }
        // ECS lists GPUs by their ids; they are only counted here.
        name => {
            resource_name(&at.field("name"), name)?;
            let listed = u32::try_from(resource.string_set_value.len()).unwrap_or(u32::MAX);
            let units = match listed {
                0 => value(NAMED_AMOUNT_MAX, "units")?,
                listed => listed,
            };
            spec.resources.insert(name.to_owned(), units);
        }
    }
    Ok(())
}
