//! Requests about container instances.

use super::At;
use crate::{arn, pb};
use muster_model::{Command, Error, InstanceStatus, State};

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
