//! Task definitions: register, describe, list, deregister.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::read;
use crate::write::{Draft, Fresh, Written, unexpected};
use muster_model::{DefinitionRow, Error, Kind, Response};
use muster_proto::{convert, pb, view};
use std::sync::Arc;

impl Dispatcher {
    pub async fn register_task_definition(
        &self,
        call: &Call,
        request: pb::RegisterTaskDefinitionRequest,
    ) -> Result<pb::RegisterTaskDefinitionResponse, Error> {
        let make = |_: &mut Draft<'_>| convert::definition::register(&request);
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        let row = row(&written)?;
        Ok(pb::RegisterTaskDefinitionResponse {
            task_definition: Some(view::definition(&written.state, row)),
            tags: view::tags(&row.spec.tags),
        })
    }

    pub async fn describe_task_definition(
        &self,
        call: &Call,
        request: pb::DescribeTaskDefinitionRequest,
    ) -> Result<pb::DescribeTaskDefinitionResponse, Error> {
        read::definition::describe(&*self.view(call, request.stale).await?, &request)
    }

    pub async fn list_task_definitions(
        &self,
        call: &Call,
        request: pb::ListTaskDefinitionsRequest,
    ) -> Result<pb::ListTaskDefinitionsResponse, Error> {
        read::definition::list(&*self.view(call, request.stale).await?, &request)
    }

    pub async fn list_task_definition_families(
        &self,
        call: &Call,
        request: pb::ListTaskDefinitionFamiliesRequest,
    ) -> Result<pb::ListTaskDefinitionFamiliesResponse, Error> {
        read::definition::families(&*self.view(call, request.stale).await?, &request)
    }

    /// ECS: the revision must be named.
    pub async fn deregister_task_definition(
        &self,
        call: &Call,
        request: pb::DeregisterTaskDefinitionRequest,
    ) -> Result<pb::DeregisterTaskDefinitionResponse, Error> {
        let make = |draft: &mut Draft<'_>| convert::definition::deregister(draft.state, &request);
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        let task_definition = Some(view::definition(&written.state, row(&written)?));
        Ok(pb::DeregisterTaskDefinitionResponse { task_definition })
    }
}

fn row(written: &Written) -> Result<&Arc<DefinitionRow>, Error> {
    match &written.response {
        Response::Definition(id) => {
            written.state.definition(*id).ok_or_else(|| Error::not_found(Kind::TaskDefinition, id))
        }
        other => Err(unexpected(other)),
    }
}
