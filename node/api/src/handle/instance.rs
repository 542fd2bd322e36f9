//! Container instances: describe, list, drain and activate, deregister.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::write::{Draft, Fresh, Token, Written, unexpected};
use crate::{read, resolve};
use muster_model::{Command, Error, InstanceStatus, Kind, Response};
use muster_proto::convert::instance::UPDATE_INSTANCES_MAX;
use muster_proto::{arn, convert, pb, view};

impl Dispatcher {
    pub async fn describe_container_instances(
        &self,
        call: &Call,
        request: pb::DescribeContainerInstancesRequest,
    ) -> Result<pb::DescribeContainerInstancesResponse, Error> {
        read::instance::describe(&*self.view(call, request.stale).await?, &request)
    }

    pub async fn list_container_instances(
        &self,
        call: &Call,
        request: pb::ListContainerInstancesRequest,
    ) -> Result<pb::ListContainerInstancesResponse, Error> {
        read::instance::list(&*self.view(call, request.stale).await?, &request)
    }

    /// One entry of the log per instance: some may change while others fail, as in ECS.
    pub async fn update_container_instances_state(
        &self,
        call: &Call,
        request: pb::UpdateContainerInstancesStateRequest,
    ) -> Result<pb::UpdateContainerInstancesStateResponse, Error> {
        let status = match request.status.as_str() {
            "ACTIVE" => InstanceStatus::Active,
            "DRAINING" => InstanceStatus::Draining,
            other => return Err(Error::invalid("status", other, "ACTIVE, DRAINING")),
        };
        let texts = &request.container_instances;
        convert::some_names("containerInstances", texts, UPDATE_INSTANCES_MAX)?;
        let mut answer = pb::UpdateContainerInstancesStateResponse::default();
        for text in texts {
            let token = Token { client: &request.client_token, part: text };
            let make = |draft: &mut Draft<'_>| {
                let cluster = arn::cluster(draft.state, &request.cluster)?;
                let instance = resolve::instance(draft.state, cluster, text)?.id;
                Ok(Command::UpdateInstanceStatus { instance, status })
            };
            let reason = match self.write(call, token, Fresh::IfMissing, make).await {
                Ok(written) => {
                    answer.container_instances.push(shown(&written)?);
                    continue;
                }
                Err(Error::NotFound { kind: Kind::ContainerInstance, .. }) => "MISSING",
                Err(Error::NotActive { kind: Kind::ContainerInstance, .. }) => "INACTIVE",
                Err(error) => return Err(error),
            };
            let state = self.replica.state();
            let cluster = arn::cluster(&state, &request.cluster)?;
            let arn = read::arn_or(&state, "container-instance", cluster, text);
            answer.failures.push(pb::Failure { arn, reason: reason.into(), detail: String::new() });
        }
        Ok(answer)
    }

    /// Its certificate is refused from here on.
    pub async fn deregister_container_instance(
        &self,
        call: &Call,
        request: pb::DeregisterContainerInstanceRequest,
    ) -> Result<pb::DeregisterContainerInstanceResponse, Error> {
        let make = |draft: &mut Draft<'_>| {
            let cluster = arn::cluster(draft.state, &request.cluster)?;
            let instance = resolve::instance(draft.state, cluster, &request.container_instance)?.id;
            Ok(Command::DeregisterInstance { instance, force: request.force })
        };
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        let container_instance = Some(shown(&written)?);
        Ok(pb::DeregisterContainerInstanceResponse { container_instance })
    }
}

fn shown(written: &Written) -> Result<pb::ContainerInstance, Error> {
    let id = match &written.response {
        Response::Instance(id) => *id,
        other => return Err(unexpected(other)),
    };
    let not_found = || Error::not_found(Kind::ContainerInstance, id);
    let row = written.state.instance(id).ok_or_else(not_found)?;
    Ok(view::instance(&written.state, row))
}
