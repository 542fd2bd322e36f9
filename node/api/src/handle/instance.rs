//! Container instances: describe, list, drain and activate, deregister.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::write::{Draft, Fresh, Token, Written, unexpected};
use crate::{read, resolve};
use muster_model::{Command, Error, InstanceStatus, Kind, Response, State};
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
            let state = call.seeing(self.replica.state());
            let cluster = arn::cluster(&state, &request.cluster)?;
            let arn = read::arn_or(&state, "container-instance", cluster, text);
            answer.failures.push(pb::Failure { arn, reason: reason.into(), detail: String::new() });
        }
        Ok(answer)
    }

    /// A simulated instance, ACTIVE and connected when the call returns. A machine joins instead.
    pub async fn register_container_instance(
        &self,
        call: &Call,
        request: pb::RegisterContainerInstanceRequest,
    ) -> Result<pb::RegisterContainerInstanceResponse, Error> {
        let Some(simulator) = &self.simulator else {
            return Err(Error::Unsupported {
                feature: "RegisterContainerInstance of a real machine".into(),
                instead: "join it with `muster join --role worker`, which gives it a certificate"
                    .into(),
            });
        };
        let state = self.view(call, false).await?;
        let cluster = arn::cluster(&state, &request.cluster)?.clone();
        let tags = convert::instance::tags_of(&request)?;
        let id = match request.container_instance_arn.as_str() {
            "" => {
                let spec = convert::instance::simulated(&request)?;
                simulator.register(&cluster.name, spec).await?
            }
            again if request.total_resources.is_empty() => {
                resolve::instance(&state, &cluster, again)?.id
            }
            _ => {
                let allowed = "none with containerInstanceArn: an instance that pretends keeps what \
                               it was registered with";
                return Err(Error::invalid("totalResources", "a list", allowed));
            }
        };
        let there = |state: &State| state.instance(id).is_some_and(|row| row.ready());
        self.simulated(call, state, there).await;
        if !tags.is_empty() {
            let set = |_: &mut Draft<'_>| {
                let resource = muster_model::command::Resource::Instance(id);
                Ok(Command::TagResource { resource, set: tags.clone(), remove: Vec::new() })
            };
            self.write(call, "", Fresh::IfMissing, set).await?;
        }
        let state = self.view(call, false).await?;
        let row = state.instance(id).ok_or(Error::not_found(Kind::ContainerInstance, id))?;
        let container_instance = Some(view::instance(&state, row));
        Ok(pb::RegisterContainerInstanceResponse { container_instance })
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
        if let Some(simulator) = &self.simulator {
            simulator.follow(&written.state).await;
        }
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
