//! Secrets: made, given another value, deleted.
//!
//! Values are sealed before they come here. Invariant: a secret that a service would start tasks
//! with stays.

use super::find;
use crate::access_key::SealedSecret;
use crate::command::Response;
use crate::error::{Error, Kind};
use crate::limits;
use crate::secret::{Secret, SecretCommand, SecretReference, SecretVersion};
use crate::service::ServiceStatus;
use crate::state::State;
use std::sync::Arc;

pub(super) fn decide(state: &mut State, command: &SecretCommand) -> Result<Response, Error> {
    match command {
        SecretCommand::Create { name, value } => create(state, name, value),
        SecretCommand::PutValue { name, value } => put_value(state, name, value),
        SecretCommand::Delete { name } => delete(state, name),
    }
}

fn create(state: &mut State, name: &Arc<str>, value: &SealedSecret) -> Result<Response, Error> {
    if state.secret(name).is_some() {
        return Err(Error::Exists { kind: Kind::Secret, name: name.to_string() });
    }
    find::at_most("secrets", state.secrets().count() + 1, limits::SECRETS_MAX)?;
    let created_at = state.now();
    let version = SecretVersion { number: 1, value: value.clone(), created_at };
    keep(state, Secret { name: name.clone(), created_at, versions: vec![version] })
}

/// Beyond what is kept, the oldest version goes.
fn put_value(state: &mut State, name: &Arc<str>, value: &SealedSecret) -> Result<Response, Error> {
    let old = state.secret(name).ok_or_else(|| Error::not_found(Kind::Secret, name))?;
    let mut row = Secret::clone(old);
    let number = row.versions.last().map_or(0, |version| version.number) + 1;
    let excess = (row.versions.len() + 1).saturating_sub(limits::SECRET_VERSIONS_MAX);
    row.versions.drain(..excess);
    row.versions.push(SecretVersion { number, value: value.clone(), created_at: state.now() });
    keep(state, row)
}

fn keep(state: &mut State, row: Secret) -> Result<Response, Error> {
    let newest = row.versions.last();
    let (number, bytes) = newest.map_or((0, 0), |newest| (newest.number, newest.value.0.len()));
    find::at_most("bytes of a sealed secret", bytes, limits::SEALED_VALUE_BYTES_MAX)?;
    let others = state.secrets().filter(|other| other.name != row.name);
    let all = others.map(|other| other.sealed_bytes()).sum::<usize>() + row.sealed_bytes();
    find::at_most("bytes of all sealed secrets", all, limits::SEALED_VALUES_BYTES_MAX)?;
    let name = row.name.clone();
    state.put_secret(Arc::new(row));
    Ok(Response::Secret { name, version: number })
}

fn delete(state: &mut State, name: &Arc<str>) -> Result<Response, Error> {
    let row = state.secret(name).ok_or_else(|| Error::not_found(Kind::Secret, name))?;
    if let Some(service) = used_by(state, row) {
        let what = format!("service {service} starts tasks with it; update or delete it first");
        return Err(Error::InUse { kind: Kind::Secret, name: name.to_string(), what });
    }
    state.remove_secret(name);
    Ok(Response::Done)
}

/// The name of a service with a deployment whose tasks are given the secret, if there is one.
fn used_by(state: &State, secret: &Arc<Secret>) -> Option<String> {
    let means = |reference: Result<SecretReference, Error>| {
        let row = reference.and_then(|reference| reference.find(|name| state.secret(name)));
        row.is_ok_and(|row| row.name == secret.name)
    };
    let mut services = state.services().filter(|row| row.status == ServiceStatus::Active);
    let user = services.find(|service| {
        let definitions = service.deployments.iter().map(|d| state.definition(d.definition));
        definitions.flatten().any(|row| row.spec.secret_references().any(means))
    });
    user.map(|service| service.spec.name.clone())
}
