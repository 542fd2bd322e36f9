//! What ECS's own agent calls. Agents of Muster join and keep a session instead, so nothing that is
//! said here changes a row, and nothing is acknowledged that was not taken down
//! (docs/decisions/0012 and 0014).

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::resolve;
use muster_model::{Error, Kind};
use muster_proto::{arn, pb};

/// What an agent is told that reports through the API.
fn joins(what: &str) -> Error {
    Error::Unsupported {
        feature: format!("reporting {what} through the API"),
        instead:
            "agents that speak ECS's own protocol are not served, and tasks have one reporter, \
                  the agent of their container instance, on its own session; join the machine \
                  with `muster join --role worker`"
                .into(),
    }
}

impl Dispatcher {
    /// Nothing here answers `Poll`, so no endpoint is named for it.
    pub async fn discover_poll_endpoint(
        &self,
        call: &Call,
        request: pb::DiscoverPollEndpointRequest,
    ) -> Result<pb::DiscoverPollEndpointResponse, Error> {
        let state = self.view(call, request.stale).await?;
        let cluster = arn::cluster(&state, &request.cluster)?;
        if !request.container_instance.is_empty() {
            resolve::instance(&state, cluster, &request.container_instance)?;
        }
        Err(Error::Unsupported {
            feature: "an endpoint to poll".into(),
            instead: "agents that speak ECS's own protocol are not served; join the machine with \
                      `muster join --role worker`"
                .into(),
        })
    }

    pub async fn submit_task_state_change(
        &self,
        call: &Call,
        request: pb::SubmitTaskStateChangeRequest,
    ) -> Result<pb::SubmitTaskStateChangeResponse, Error> {
        self.known_task(call, &request.cluster, &request.task).await?;
        Err(joins("state changes of tasks"))
    }

    pub async fn submit_container_state_change(
        &self,
        call: &Call,
        request: pb::SubmitContainerStateChangeRequest,
    ) -> Result<pb::SubmitContainerStateChangeResponse, Error> {
        self.known_task(call, &request.cluster, &request.task).await?;
        Err(joins("state changes of containers"))
    }

    /// There are no attachments: tasks have no network interface of their own.
    pub async fn submit_attachment_state_changes(
        &self,
        call: &Call,
        request: pb::SubmitAttachmentStateChangesRequest,
    ) -> Result<pb::SubmitAttachmentStateChangesResponse, Error> {
        arn::cluster(&*self.view(call, false).await?, &request.cluster)?;
        Err(joins("state changes of attachments"))
    }

    /// Agents are updated with their machine's packages; there is never one to give them.
    pub async fn update_container_agent(
        &self,
        call: &Call,
        request: pb::UpdateContainerAgentRequest,
    ) -> Result<pb::UpdateContainerAgentResponse, Error> {
        let state = self.view(call, false).await?;
        let cluster = arn::cluster(&state, &request.cluster)?;
        let row = resolve::instance(&state, cluster, &request.container_instance)?;
        Err(Error::not_found(Kind::AgentUpdate, row.id))
    }

    async fn known_task(&self, call: &Call, cluster: &str, task: &str) -> Result<(), Error> {
        let state = self.view(call, false).await?;
        let cluster = arn::cluster(&state, cluster)?;
        match task.is_empty() {
            true => Ok(()),
            false => resolve::task(&state, cluster, task).map(drop),
        }
    }
}
