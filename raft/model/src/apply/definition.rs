//! Task definitions: a family's revisions count from 1 and are never changed or reused.

use super::{author, find};
use crate::command::Response;
use crate::error::{Error, Kind};
use crate::ids::{DefinitionId, Principal, Revision};
use crate::limits;
use crate::mark::Deletion;
use crate::placement::Placement;
use crate::spec::TaskDefinition;
use crate::state::{DefinitionRow, State};
use std::sync::Arc;

pub(super) fn register(
    state: &mut State,
    by: &Principal,
    spec: &Arc<TaskDefinition>,
) -> Result<Response, Error> {
    if spec.family.is_empty() {
        return Err(Error::invalid("family", "", "1 to 255 characters"));
    }
    if spec.containers.is_empty() {
        return Err(Error::invalid("containerDefinitions", "[]", "1 to 10 containers"));
    }
    find::at_most("task definitions", state.definitions.len() + 1, limits::DEFINITIONS_MAX)?;
    let newest = state.revisions(&spec.family).next_back().map_or(0, |row| row.revision.0);
    find::at_most("revisions of a family", newest as usize + 1, limits::REVISIONS_PER_FAMILY_MAX)?;
    let id = DefinitionId(state.meta().next_definition);
    state.meta_mut().next_definition = id.0.saturating_add(1);
    state.put_definition(Arc::new(DefinitionRow {
        id,
        family: Arc::from(spec.family.as_str()),
        revision: Revision(newest + 1),
        spec: spec.clone(),
        registered_at: state.now(),
        registered_by: author(by),
        deregistered_at: None,
    }));
    Ok(Response::Definition(id))
}

/// INACTIVE definitions start nothing new. Deregistering twice is not an error.
pub(super) fn deregister(state: &mut State, id: DefinitionId) -> Result<Response, Error> {
    let row = find::definition(state, id)?;
    if row.deregistered_at.is_none() {
        let mut row = DefinitionRow::clone(&row);
        row.deregistered_at = Some(state.now());
        state.put_definition(Arc::new(row));
    }
    Ok(Response::Definition(id))
}

/// To DELETE_IN_PROGRESS; what runs it goes on. Doing it twice is not an error.
pub(super) fn delete(state: &mut State, id: DefinitionId) -> Result<Response, Error> {
    let row = find::definition(state, id)?;
    if row.deregistered_at.is_none() {
        let name = format!("{}:{}", row.family, row.revision);
        let what = "it is ACTIVE; deregister it first".into();
        return Err(Error::InUse { kind: Kind::TaskDefinition, name, what });
    }
    if state.deleted_since(id).is_none() {
        let at = state.now();
        state.put_deletion(Arc::new(Deletion { definition: id, at }));
    }
    Ok(Response::Definition(id))
}

/// ECS: what a service or a run wants of instances counts together with what its definition wants.
pub(super) fn takes_constraints(
    definition: &DefinitionRow,
    placement: &Placement,
) -> Result<(), Error> {
    let (own, its) = (placement.constraints.len(), definition.spec.placement_constraints.len());
    if own + its <= limits::PLACEMENT_CONSTRAINTS_MAX {
        return Ok(());
    }
    let allowed = format!("together at most {}", limits::PLACEMENT_CONSTRAINTS_MAX);
    let found = format!("{own} constraints, and {its} of the task definition");
    Err(Error::invalid("placementConstraints", found, allowed))
}
