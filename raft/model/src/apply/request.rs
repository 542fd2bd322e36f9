//! At most once: what a request was answered, for its repeats.
//!
//! Only successes are remembered. A refused request changed nothing, so a repeat of it is judged
//! anew and may succeed once its cause is gone, as with ECS's client tokens. Plans, reports,
//! takeovers and levels are not remembered: epochs, phases and comparison make their repeats
//! harmless, and there are too many of them.
//!
//! A request is the same if its command is, apart from the ids that a proposer minted for it: a
//! client that repeats its call through another manager gets other ids into the entry. What was
//! sealed never looks the same twice, so it is left out as well.

use crate::access_key::{AccessKeyId, SealedSecret};
use crate::capacity::{CapacityCommand, ClusterProviders};
use crate::command::{
    Command, CreateCluster, CreateService, Entry, RegisterInstance, Response, RunTask, StartTask,
    UpdateService,
};
use crate::error::Error;
use crate::hash;
use crate::ids::{
    ClusterId, DeploymentId, InstanceId, JobId, RequestId, ScheduleId, ServiceId, TaskId,
};
use crate::job::JobCommand;
use crate::limits;
use crate::schedule::ScheduleCommand;
use crate::secret::SecretCommand;
use crate::state::{RequestRow, State};
use crate::task_set::{NewTaskSet, TaskSetCommand};
use crate::time::Time;
use std::sync::Arc;

fn remembered(command: &Command) -> bool {
    !matches!(
        command,
        Command::Plan { .. }
            | Command::Report { .. }
            | Command::Takeover { .. }
            | Command::RaiseLevel { .. }
    )
}

/// The first answer to this request, if it came before.
pub(super) fn recall(state: &State, entry: &Entry) -> Result<Option<Response>, Error> {
    if !remembered(&entry.command) {
        return Ok(None);
    }
    let Some(row) = state.request(entry.request).filter(|row| !expired(state, row.at)) else {
        return Ok(None);
    };
    if row.hash != fingerprint(&entry.command) {
        let resources = row.answer.as_ref().map_or_else(|_| Vec::new(), |r| named(state, r));
        return Err(Error::TokenReused { resources });
    }
    row.answer.clone().map(Some)
}

pub(super) fn remember(state: &mut State, entry: &Entry, response: &Response) {
    if !remembered(&entry.command) {
        return;
    }
    let hash = fingerprint(&entry.command);
    let (id, index, at) = (entry.request, state.applied(), state.now());
    state.put_request(Arc::new(RequestRow { id, hash, index, at, answer: Ok(response.clone()) }));
    if state.requests.len() > limits::REQUESTS_MAX
        && let Some((id, _)) = oldest(state)
    {
        state.remove_request(id);
    }
}

/// A few at a time: an entry adds at most one, so the memory stays bounded, and no entry after a
/// quiet day pays for the whole day.
pub(super) fn forget_old(state: &mut State) {
    for _ in 0..limits::REQUESTS_FORGOTTEN_PER_ENTRY {
        match oldest(state) {
            Some((id, at)) if expired(state, at) => state.remove_request(id),
            _ => return,
        }
    }
}

fn oldest(state: &State) -> Option<(RequestId, Time)> {
    let (_, row) = state.requests.get_min()?;
    Some((row.id, row.at))
}

fn expired(state: &State, at: Time) -> bool {
    state.now().since(at) > limits::REQUEST_KEPT
}

/// What the first response is about, for the error that names it.
fn named(state: &State, response: &Response) -> Vec<String> {
    match response {
        Response::Done | Response::Plan { .. } | Response::Reports { .. } => Vec::new(),
        Response::Cluster(id) => {
            vec![state.cluster(*id).map_or_else(|| id.to_string(), |row| row.name.to_string())]
        }
        Response::Definition(id) => match state.definition(*id) {
            Some(row) => vec![format!("{}:{}", row.family, row.revision)],
            None => vec![id.to_string()],
        },
        Response::Service(id) => {
            vec![state.service(*id).map_or_else(|| id.to_string(), |row| row.spec.name.clone())]
        }
        Response::Tasks(ids) | Response::Started { tasks: ids, .. } => {
            ids.iter().map(ToString::to_string).collect()
        }
        Response::Instance(id) => vec![id.to_string()],
        Response::Manager(id) => vec![id.to_string()],
        Response::AccessKey(id) => vec![id.to_string()],
        Response::CapacityProvider(name) => vec![name.to_string()],
        Response::Schedule(id) => {
            vec![state.schedule(*id).map_or_else(|| id.to_string(), |row| row.spec.name.clone())]
        }
        Response::Secret { name, .. } => vec![name.to_string()],
        Response::TaskSet { set, .. } => vec![set.shown()],
        Response::Job(id) => {
            vec![state.job(*id).map_or_else(|| id.to_string(), |row| row.spec.name.clone())]
        }
    }
}

/// Without its minted id and what came next when it was made: that depends on the time.
fn unscheduled(command: &ScheduleCommand) -> ScheduleCommand {
    let mut plain = command.clone();
    match &mut plain {
        ScheduleCommand::Create { id, next_due, .. } => {
            (*id, *next_due) = (ScheduleId::from_bits(0), None);
        }
        ScheduleCommand::Update { next_due, .. } => *next_due = None,
        ScheduleCommand::Delete { .. } => {}
    }
    plain
}

/// A hash of the command without the ids minted for it.
fn fingerprint(command: &Command) -> u64 {
    match command {
        Command::CreateCluster(c) => {
            let plain = CreateCluster { id: ClusterId::from_bits(0), ..c.clone() };
            hash::of(&Command::CreateCluster(plain))
        }
        Command::Capacity(CapacityCommand::CreateCluster { create, providers }) => {
            let cluster = ClusterId::from_bits(0);
            let create = CreateCluster { id: cluster, ..create.clone() };
            let providers = ClusterProviders { cluster, ..providers.clone() };
            hash::of(&Command::Capacity(CapacityCommand::CreateCluster { create, providers }))
        }
        Command::CreateService(c) => {
            let id = ServiceId::from_bits(0);
            let deployment = DeploymentId::from_bits(0);
            hash::of(&Command::CreateService(CreateService { id, deployment, ..c.clone() }))
        }
        Command::UpdateService(c) => {
            let deployment = DeploymentId::from_bits(0);
            hash::of(&Command::UpdateService(UpdateService { deployment, ..c.clone() }))
        }
        Command::RunTask(c) => {
            let tasks = vec![TaskId::from_bits(0); c.tasks.len()];
            hash::of(&Command::RunTask(RunTask { tasks, ..c.clone() }))
        }
        Command::StartTask(c) => {
            let tasks = vec![TaskId::from_bits(0); c.run.tasks.len()];
            let run = RunTask { tasks, ..c.run.clone() };
            hash::of(&Command::StartTask(StartTask { run, on: c.on.clone() }))
        }
        Command::RegisterInstance(c) => {
            let plain = RegisterInstance { id: InstanceId::from_bits(0), ..c.clone() };
            hash::of(&Command::RegisterInstance(plain))
        }
        Command::CreateAccessKey { user, .. } => {
            let (id, secret) = (AccessKeyId::from_bits(0), SealedSecret::default());
            hash::of(&Command::CreateAccessKey { id, user: user.clone(), secret })
        }
        Command::Schedule(command) => hash::of(&Command::Schedule(unscheduled(command))),
        Command::Secret(SecretCommand::Create { name, .. }) => {
            let (name, value) = (name.clone(), SealedSecret::default());
            hash::of(&Command::Secret(SecretCommand::Create { name, value }))
        }
        Command::Secret(SecretCommand::PutValue { name, .. }) => {
            let (name, value) = (name.clone(), SealedSecret::default());
            hash::of(&Command::Secret(SecretCommand::PutValue { name, value }))
        }
        Command::TaskSet(TaskSetCommand::CreateService { cluster, spec, tags, .. }) => {
            let (id, cluster) = (ServiceId::from_bits(0), *cluster);
            let (spec, tags) = (spec.clone(), tags.clone());
            hash::of(&Command::TaskSet(TaskSetCommand::CreateService { id, cluster, spec, tags }))
        }
        Command::TaskSet(TaskSetCommand::Create(new)) => {
            let id = DeploymentId::from_bits(0);
            let plain = NewTaskSet { id, ..new.clone() };
            hash::of(&Command::TaskSet(TaskSetCommand::Create(plain)))
        }
        Command::Job(JobCommand::Run { cluster, definition, spec, .. }) => {
            let (id, cluster, definition) = (JobId::from_bits(0), *cluster, *definition);
            let spec = spec.clone();
            hash::of(&Command::Job(JobCommand::Run { id, cluster, definition, spec }))
        }
        other => hash::of(other),
    }
}
