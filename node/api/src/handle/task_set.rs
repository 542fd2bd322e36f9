//! Task sets: create, scale, make primary, delete, describe.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::write::{Draft, Fresh, Written, fresh_for, unexpected};
use crate::{make, read};
use muster_model::{Error, Kind, Response};
use muster_proto::convert::task_set as convert;
use muster_proto::{pb, view};

impl Dispatcher {
    pub async fn create_task_set(
        &self,
        call: &Call,
        request: pb::CreateTaskSetRequest,
    ) -> Result<pb::CreateTaskSetResponse, Error> {
        let fresh = fresh_for(&request.task_definition);
        let make = |draft: &mut Draft<'_>| make::create_task_set(draft, &request);
        let written = self.write(call, &request.client_token, fresh, make).await?;
        Ok(pb::CreateTaskSetResponse { task_set: Some(shown(&written)?) })
    }

    pub async fn update_task_set(
        &self,
        call: &Call,
        request: pb::UpdateTaskSetRequest,
    ) -> Result<pb::UpdateTaskSetResponse, Error> {
        let make = |draft: &mut Draft<'_>| convert::update(draft.state, &request);
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        Ok(pb::UpdateTaskSetResponse { task_set: Some(shown(&written)?) })
    }

    pub async fn update_service_primary_task_set(
        &self,
        call: &Call,
        request: pb::UpdateServicePrimaryTaskSetRequest,
    ) -> Result<pb::UpdateServicePrimaryTaskSetResponse, Error> {
        let make = |draft: &mut Draft<'_>| convert::set_primary(draft.state, &request);
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        Ok(pb::UpdateServicePrimaryTaskSetResponse { task_set: Some(shown(&written)?) })
    }

    /// DRAINING until its tasks have stopped, then gone.
    pub async fn delete_task_set(
        &self,
        call: &Call,
        request: pb::DeleteTaskSetRequest,
    ) -> Result<pb::DeleteTaskSetResponse, Error> {
        let make = |draft: &mut Draft<'_>| convert::delete(draft.state, &request);
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        Ok(pb::DeleteTaskSetResponse { task_set: Some(shown(&written)?) })
    }

    pub async fn describe_task_sets(
        &self,
        call: &Call,
        request: pb::DescribeTaskSetsRequest,
    ) -> Result<pb::DescribeTaskSetsResponse, Error> {
        read::task_set::describe(&*self.view(call, request.stale).await?, &request)
    }
}

fn shown(written: &Written) -> Result<pb::TaskSet, Error> {
    let (service, set) = match &written.response {
        Response::TaskSet { service, set } => (*service, *set),
        other => return Err(unexpected(other)),
    };
    let state = &written.state;
    let row = state.service(service).ok_or_else(|| Error::not_found(Kind::Service, service))?;
    let mut sets = view::task_sets(state, row).into_iter();
    let missing = || Error::not_found(Kind::TaskSet, set.shown());
    sets.find(|shown| shown.id == set.shown()).ok_or_else(missing)
}
