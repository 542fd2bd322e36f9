//! The turns of deployments that shift traffic: proposes the next as soon as the state has one.
//!
//! What it is says the model (`State::next_turn`), from rows alone: a new leader goes on where the
//! rows say the old one stood. It does not know how tasks start or stop. Invariant: one turn per
//! plan and service, so that every stage is seen by whoever watches.

use super::draft::Draft;
use super::explain;
use super::view::View;
use muster_model::{Service, Step};
use std::sync::Arc;

pub(super) fn stage(draft: &mut Draft, view: &mut View, service: Arc<Service>) -> Arc<Service> {
    let Some(shift) = draft.state().shift(service.id).cloned() else { return service };
    let turn = match draft.state().next_turn(&service) {
        Ok(turn) => turn,
        Err(wait) => {
            if let Some(at) = wait.until() {
                view.wakes.service_at(at, service.id);
            }
            return service;
        }
    };
    if draft.full() {
        view.dirty.defer(service.id);
        return service;
    }
    let (id, deployment) = (service.id, shift.green);
    if draft.push(Step::Turn { service: id, deployment, turn }) {
        explain::turned(draft, id, deployment, &shift);
    }
    draft.state().service(id).cloned().unwrap_or(service)
}
