//! Tasks: stop, describe, list. Running them is in `run`.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::write::{Draft, Fresh};
use crate::{read, resolve};
use muster_model::{Error, Phase, State};
use muster_proto::{arn, convert, pb, view};

impl Dispatcher {
    /// `desiredStatus` is STOPPED at once; the agent follows.
    pub async fn stop_task(
        &self,
        call: &Call,
        request: pb::StopTaskRequest,
    ) -> Result<pb::StopTaskResponse, Error> {
        let make = |draft: &mut Draft<'_>| {
            let cluster = arn::cluster(draft.state, &request.cluster)?;
            let task = resolve::task(draft.state, cluster, &request.task)?.id.to_string();
            convert::task::stop(draft.state, &pb::StopTaskRequest { task, ..request.clone() })
        };
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        let state = &written.state;
        let row = resolve::task(state, arn::cluster(state, &request.cluster)?, &request.task)?;
        let id = row.id;
        let stopped =
            |state: &State| state.task(id).is_none_or(|task| task.last_status() == Phase::Stopped);
        let now = self.simulated(call, written.state.clone(), stopped).await;
        // Forgotten in between: as it was.
        let (state, row) = now.task(id).map_or((state, row), |row| (&now, row));
        Ok(pb::StopTaskResponse { task: Some(view::task(state, row)) })
    }

    pub async fn describe_tasks(
        &self,
        call: &Call,
        request: pb::DescribeTasksRequest,
    ) -> Result<pb::DescribeTasksResponse, Error> {
        read::task::describe(&*self.view(call, request.stale).await?, &request)
    }

    pub async fn list_tasks(
        &self,
        call: &Call,
        request: pb::ListTasksRequest,
    ) -> Result<pb::ListTasksResponse, Error> {
        read::task::list(&*self.view(call, request.stale).await?, &request)
    }
}
