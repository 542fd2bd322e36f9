//! The one function that changes the state. Dispatch only: the rules stand in `apply/`, one file
//! per noun, and each checks everything before it writes anything, so a refusal leaves no trace.
//!
//! It runs on every manager in log order and must come to the same bytes everywhere. It does not
//! know that it is replicated, who leads, or what a wire looks like.

use crate::command::{Command, Entry, Response};
use crate::error::Error;
use crate::ids::{Index, Principal};
use crate::state::State;
use crate::time::Time;

mod access_key;
mod alarm;
mod bounds;
mod capacity;
mod cluster;
mod definition;
mod deployment;
mod find;
mod instance;
mod job;
mod manager;
mod mark;
mod pin;
mod plan;
mod policy;
mod privilege;
mod report;
mod request;
mod reserve;
mod reset;
mod schedule;
mod scratch;
mod secret;
mod service;
mod shift;
mod signing_key;
mod tags;
mod task;
mod task_set;

pub use scratch::Scratch;

/// Applies the log's entry at `index`.
///
/// On an error nothing has changed but the applied index and `Meta::now`. A request that was
/// answered before is answered the same way again and changes nothing (`apply/request.rs`).
pub fn apply(state: &mut State, index: Index, entry: &Entry) -> Result<Response, Error> {
    state.advance(index, entry.at);
    request::forget_old(state);
    if let Some(answer) = request::recall(state, entry)? {
        return Ok(answer);
    }
    if !state.bootstrapped() && !may_come_first(&entry.command) {
        return Err(Error::Unavailable { why: "no cluster yet: run `muster init`".into() });
    }
    let response = decide(state, index, entry)?;
    request::remember(state, entry, &response);
    Ok(response)
}

fn decide(state: &mut State, index: Index, entry: &Entry) -> Result<Response, Error> {
    match &entry.command {
        Command::Bootstrap(first) => cluster::bootstrap(state, first),
        Command::Takeover { manager } => manager::takeover(state, index, *manager),
        Command::RaiseLevel { level } => manager::raise_level(state, *level),
        Command::CreateCluster(command) => cluster::create(state, command),
        Command::DeleteCluster { cluster } => cluster::delete(state, *cluster),
        Command::RegisterTaskDefinition(spec) => definition::register(state, &entry.by, spec),
        Command::DeregisterTaskDefinition { definition: id } => definition::deregister(state, *id),
        Command::CreateService(command) => service::create(state, &entry.by, command),
        Command::UpdateService(command) => service::update(state, command),
        Command::DeleteService { service, force } => service::delete(state, *service, *force),
        Command::RunTask(command) => task::run(state, command, entry.trace),
        Command::StopTask { task, reason } => task::stop_by_user(state, *task, reason),
        Command::TagResource { resource, set, remove } => {
            cluster::tag(state, resource, set, remove)
        }
        Command::RegisterInstance(command) => instance::register(state, &entry.by, command),
        Command::UpdateInstanceStatus { instance, status } => {
            instance::set_status(state, *instance, *status)
        }
        Command::DeregisterInstance { instance, force } => {
            instance::deregister(state, *instance, *force)
        }
        Command::Report { reports } => Ok(report::all(state, reports)),
        Command::Plan { epoch, steps } => plan::apply(state, *epoch, steps),
        Command::AddManager { name, zone, address, level } => {
            manager::add(state, name, zone, address, *level)
        }
        Command::UpdateManager { manager, address, level } => {
            manager::update(state, *manager, address, *level)
        }
        Command::RemoveManager { manager } => manager::remove(state, *manager),
        Command::RotateToken { role, hash } => manager::rotate_token(state, *role, hash),
        Command::CreateUser { name, role, serial } => {
            manager::create_user(state, name, *role, serial)
        }
        Command::RemoveUser { name } => manager::remove_user(state, name),
        Command::StartTask(command) => task::start(state, command, entry.trace),
        Command::ChangeAttributes { set, remove } => instance::change(state, set, remove),
        Command::UpdateCluster { cluster, settings } => cluster::update(state, *cluster, settings),
        Command::DeleteTaskDefinition { definition } => definition::delete(state, *definition),
        Command::ProtectTask { task, span } => mark::protect(state, *task, *span),
        Command::SetAccountSetting { key, value } => mark::set(state, key, value.as_ref()),
        Command::Reset => reset::all(state),
        Command::CreateAccessKey { id, user, secret } => {
            access_key::create(state, *id, user, secret)
        }
        Command::SetAccessKeyStatus { id, status } => access_key::set_status(state, *id, *status),
        Command::DeleteAccessKey { id } => access_key::delete(state, *id),
        Command::PutPolicy { holder, name, document } => policy::put(state, holder, name, document),
        Command::DeletePolicy { holder, name } => policy::delete(state, holder, name),
        Command::StopServiceDeployment { service, deployment, stop } => {
            deployment::stop(state, *service, *deployment, *stop)
        }
        Command::Capacity(command) => capacity::decide(state, command),
        Command::PauseServiceDeployment { service, deployment } => {
            shift::pause(state, *service, *deployment)
        }
        Command::ContinueServiceDeployment { service, deployment, hook, action } => {
            shift::resume(state, &entry.by, *service, *deployment, hook.as_deref(), *action)
        }
        Command::Schedule(command) => schedule::decide(state, command),
        Command::Secret(command) => secret::decide(state, command),
        Command::CreateSigningKey { public, private } => {
            signing_key::create(state, public, private)
        }
        Command::Job(command) => job::decide(state, command),
        Command::Alarm(command) => alarm::decide(state, command),
        Command::TaskSet(command) => task_set::decide(state, &entry.by, command),
    }
}

fn may_come_first(command: &Command) -> bool {
    matches!(command, Command::Bootstrap(_) | Command::Takeover { .. } | Command::RaiseLevel { .. })
}

impl State {
    /// Counts an entry that carries no command (a blank one, a membership change).
    pub fn skip(&mut self, index: Index) {
        self.advance(index, Time(0));
    }
}

/// Whom a row names as its author.
fn author(by: &Principal) -> std::sync::Arc<str> {
    std::sync::Arc::from(by.to_string())
}
