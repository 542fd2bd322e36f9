//! What a deployment's tags came to: settled by the first task that says so, forgotten with the
//! deployment.
//!
//! It decides whose word counts. It does not know who needs it. Invariants: those of `pin.rs`.

use crate::ids::{DeploymentId, ServiceId};
use crate::pin::{Pin, Pins};
use crate::service::Service;
use crate::state::State;
use crate::task::Task;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A report has made of a task what it is now.
pub(super) fn heard(state: &mut State, old: &Task, new: &Task) {
    let Some((service, deployment)) = new.service().zip(new.deployment()) else { return };
    let fresh = fresh(state, service, deployment, old, new);
    if fresh.is_empty() {
        return;
    }
    let none = || Pins { service, deployments: BTreeMap::new() };
    let mut row = state.pins(service).map_or_else(none, |row| Pins::clone(row));
    let at = state.now();
    let pins = fresh.into_iter().map(|(container, digest)| (container, Pin { digest, at }));
    row.deployments.entry(deployment).or_default().extend(pins);
    state.put_pins(Arc::new(row));
}

/// The containers that it is the first to speak of, with their digests.
fn fresh(
    state: &State,
    service: ServiceId,
    deployment: DeploymentId,
    old: &Task,
    new: &Task,
) -> Vec<(Arc<str>, Arc<str>)> {
    let pins = state.pins(service);
    let known = |name: &str| pins.is_some_and(|row| row.pin(deployment, name).is_some());
    let said = |name: &str| {
        let before = old.observed.containers.iter().find(|c| *c.name == *name);
        before.and_then(|container| container.image_digest.as_ref())
    };
    let mut fresh = Vec::new();
    for container in &new.observed.containers {
        let Some(digest) = container.image_digest.as_ref() else { continue };
        if said(&container.name) != Some(digest) && is_digest(digest) && !known(&container.name) {
            fresh.push((container.name.clone(), digest.clone()));
        }
    }
    // What follows is read for the first tasks of a deployment only.
    if fresh.is_empty() {
        return fresh;
    }
    let remembered = |row: &Arc<Service>| row.all_deployments().any(|row| row.id == deployment);
    let definition = state.definition(new.definition);
    let Some(definition) = definition.filter(|_| state.service(service).is_some_and(remembered))
    else {
        return Vec::new();
    };
    let pinned = |name: &str| {
        let container = definition.spec.containers.iter().find(|c| c.name == name);
        container.is_some_and(|container| container.is_pinned())
    };
    fresh.retain(|(name, _)| pinned(name));
    fresh
}

/// An agent's word becomes an order to others: nothing but a digest does.
fn is_digest(text: &str) -> bool {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(lower))
}

/// What the service has forgotten of its deployments is forgotten here.
pub(super) fn prune(state: &mut State, service: &Service) {
    let Some(row) = state.pins(service.id) else { return };
    let remembered: BTreeSet<DeploymentId> = service.all_deployments().map(|row| row.id).collect();
    if row.deployments.keys().all(|id| remembered.contains(id)) {
        return;
    }
    let mut row = Pins::clone(row);
    row.deployments.retain(|id, _| remembered.contains(id));
    match row.deployments.is_empty() {
        true => state.remove_pins(service.id),
        false => state.put_pins(Arc::new(row)),
    }
}
