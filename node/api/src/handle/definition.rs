//! Task definitions: register, describe, list, deregister, delete.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::read;
use crate::write::{Draft, Fresh, Token, Written, unexpected};
use muster_model::{DefinitionRow, Error, Kind, Response, State};
use muster_proto::arn::{self, Arns};
use muster_proto::{convert, pb, view};
use std::sync::Arc;

/// ECS: definitions in one DeleteTaskDefinitions call.
const DELETE_DEFINITIONS_MAX: usize = 10;
/// ECS's reasons for a definition that is not deleted.
const ABSENT: &str = "The specified task definition does not exist. Specify a valid account, \
                      family, revision and try again.";
const STILL_ACTIVE: &str = "The specified task definition is still in ACTIVE status. Please \
                            deregister the target and try again.";

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

    /// One entry of the log each: some may go while others fail, as in ECS.
    pub async fn delete_task_definitions(
        &self,
        call: &Call,
        request: pb::DeleteTaskDefinitionsRequest,
    ) -> Result<pb::DeleteTaskDefinitionsResponse, Error> {
        let texts = &request.task_definitions;
        convert::some_names("taskDefinitions", texts, DELETE_DEFINITIONS_MAX)?;
        // A name that is none refuses the call before anything is deleted.
        let state = call.seeing(self.replica.state());
        texts.iter().try_for_each(|text| convert::definition::one_revision(&state, text))?;
        let mut answer = pb::DeleteTaskDefinitionsResponse::default();
        for text in texts {
            let token = Token { client: &request.client_token, part: text };
            let make = |draft: &mut Draft<'_>| convert::definition::delete(draft.state, text);
            let reason = match self.write(call, token, Fresh::IfMissing, make).await {
                Ok(written) => {
                    let shown = view::definition(&written.state, row(&written)?);
                    answer.task_definitions.push(shown);
                    continue;
                }
                Err(Error::NotFound { kind: Kind::TaskDefinition, .. }) => ABSENT,
                Err(Error::InUse { kind: Kind::TaskDefinition, .. }) => STILL_ACTIVE,
                Err(error) => return Err(error),
            };
            let arn = definition_arn(&call.seeing(self.replica.state()), text);
            answer.failures.push(pb::Failure { arn, reason: reason.into(), detail: String::new() });
        }
        Ok(answer)
    }
}

/// The ARN that a definition of this name would have.
fn definition_arn(state: &State, text: &str) -> String {
    match arn::family(state, text) {
        Ok((family, Some(revision))) => Arns::of(state).definition(family, revision),
        _ => text.to_owned(),
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
