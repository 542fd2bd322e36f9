//! Policies of users, roles and task roles: put, replaced, deleted.
//!
//! It does not read documents. Invariant: a user's policies go with the user.

use super::find;
use crate::command::Response;
use crate::error::{Error, Kind};
use crate::limits;
use crate::policy::{Holder, Policy};
use crate::state::State;
use std::sync::Arc;

/// Attaches a policy, or replaces the document of the one that has the name.
pub(super) fn put(
    state: &mut State,
    holder: &Holder,
    name: &Arc<str>,
    document: &Arc<str>,
) -> Result<Response, Error> {
    present(state, holder)?;
    let now = state.now();
    let old = state.policy(holder, name).cloned();
    if old.as_ref().is_some_and(|row| row.document == *document) {
        return Ok(Response::Done);
    }
    let created_at = match old {
        Some(row) => row.created_at,
        None => {
            let held = state.policies_of(holder).count();
            find::at_most("policies of one holder", held + 1, limits::POLICIES_PER_HOLDER_MAX)?;
            find::at_most("policies", state.policies.len() + 1, limits::POLICIES_MAX)?;
            now
        }
    };
    state.put_policy(Arc::new(Policy {
        holder: holder.clone(),
        name: name.clone(),
        document: document.clone(),
        created_at,
        updated_at: now,
    }));
    Ok(Response::Done)
}

pub(super) fn delete(
    state: &mut State,
    holder: &Holder,
    name: &Arc<str>,
) -> Result<Response, Error> {
    if state.policy(holder, name).is_none() {
        return Err(Error::not_found(Kind::Policy, name));
    }
    state.remove_policy(holder, name);
    Ok(Response::Done)
}

/// A user of the same name who comes later starts without them.
pub(super) fn delete_of_user(state: &mut State, user: &Arc<str>) {
    let holder = Holder::User(user.clone());
    let names: Vec<Arc<str>> = state.policies_of(&holder).map(|row| row.name.clone()).collect();
    for name in names {
        state.remove_policy(&holder, &name);
    }
}

fn present(state: &State, holder: &Holder) -> Result<(), Error> {
    match holder {
        // A task role is there once anything names it.
        Holder::Role(_) | Holder::TaskRole(_) => Ok(()),
        Holder::User(name) => match state.user(name) {
            Some(row) if row.removed_at.is_none() => Ok(()),
            _ => Err(Error::not_found(Kind::User, name)),
        },
    }
}
