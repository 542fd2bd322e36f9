//! Requests to commands. `muster_proto::convert` checks and resolves; here stands only what a
//! repeat of a request needs: names that meant a row the first time mean the same row again.

use crate::write::Draft;
use muster_model::{Command, DefinitionId, Error, InstanceId, Response, State, TaskSetCommand};
use muster_proto::{arn, convert, pb};

pub fn create_cluster(
    draft: &mut Draft<'_>,
    wire: &pb::CreateClusterRequest,
) -> Result<Command, Error> {
    convert::cluster::create(draft.state, &mut draft.ids, wire)
}

/// A repeat deletes the cluster it deleted, not a new one of the same name.
pub fn delete_cluster(
    draft: &mut Draft<'_>,
    wire: &pb::DeleteClusterRequest,
) -> Result<Command, Error> {
    match draft.earlier {
        Some(Response::Cluster(id)) => Ok(Command::DeleteCluster { cluster: *id }),
        _ => convert::cluster::delete(draft.state, wire),
    }
}

pub fn create_service(
    draft: &mut Draft<'_>,
    wire: &pb::CreateServiceRequest,
) -> Result<Command, Error> {
    let mut command = convert::service::create(draft.state, &mut draft.ids, wire)?;
    if let Command::CreateService(create) = &mut command {
        as_before(draft, &wire.task_definition, &mut create.definition);
    }
    Ok(command)
}

pub fn update_service(
    draft: &mut Draft<'_>,
    wire: &pb::UpdateServiceRequest,
) -> Result<Command, Error> {
    let mut command = convert::service::update(draft.state, &mut draft.ids, wire)?;
    if let Command::UpdateService(update) = &mut command
        && let Some(definition) = &mut update.definition
    {
        as_before(draft, &wire.task_definition, definition);
    }
    Ok(command)
}

/// A repeat deletes the service it deleted, not a new one of the same name.
pub fn delete_service(
    draft: &mut Draft<'_>,
    wire: &pb::DeleteServiceRequest,
) -> Result<Command, Error> {
    match draft.earlier {
        Some(Response::Service(id)) => {
            Ok(Command::DeleteService { service: *id, force: wire.force })
        }
        _ => convert::service::delete(draft.state, wire),
    }
}

pub fn create_task_set(
    draft: &mut Draft<'_>,
    wire: &pb::CreateTaskSetRequest,
) -> Result<Command, Error> {
    let mut command = convert::task_set::create(draft.state, &mut draft.ids, wire)?;
    if let Command::TaskSet(TaskSetCommand::Create(new)) = &mut command {
        as_before(draft, &wire.task_definition, &mut new.definition);
    }
    Ok(command)
}

pub fn run_task(draft: &mut Draft<'_>, wire: &pb::RunTaskRequest) -> Result<Command, Error> {
    let mut command = convert::task::run(draft.state, &mut draft.ids, wire)?;
    if let Command::RunTask(run) = &mut command {
        as_before(draft, &wire.task_definition, &mut run.definition);
    }
    Ok(command)
}

pub fn start_task(
    draft: &mut Draft<'_>,
    wire: &pb::StartTaskRequest,
    on: Vec<InstanceId>,
) -> Result<Command, Error> {
    let mut command = convert::task::start(draft.state, &mut draft.ids, wire, on)?;
    if let Command::StartTask(start) = &mut command {
        as_before(draft, &wire.task_definition, &mut start.run.definition);
    }
    Ok(command)
}

/// "The newest revision" of a repeat is what it was the first time, though there are newer ones.
fn as_before(draft: &Draft<'_>, text: &str, definition: &mut DefinitionId) {
    let state = draft.state;
    let named = matches!(arn::family(state, text), Ok((_, Some(_))));
    let Some(first) = draft.earlier.and_then(|response| definition_of(state, response)) else {
        return;
    };
    let family = |id| state.definition(id).map(|row| row.family.clone());
    if !named && family(first) == family(*definition) {
        *definition = first;
    }
}

/// What the rows that a response names run.
fn definition_of(state: &State, response: &Response) -> Option<DefinitionId> {
    match response {
        Response::Tasks(ids) | Response::Started { tasks: ids, .. } => {
            ids.iter().find_map(|id| state.task(*id)).map(|row| row.definition)
        }
        Response::TaskSet { service, set } => {
            let row = state.service(*service)?;
            row.deployments.iter().find(|row| row.id == *set).map(|row| row.definition)
        }
        // The newest deployment; if the service has moved on since, the repeat is an old one.
        Response::Service(id) => state.service(*id)?.primary().map(|row| row.definition),
        _ => None,
    }
}
