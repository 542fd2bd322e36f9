//! Managers, the epoch, join tokens and users: who may act and who may ask.

use super::{access_key, find, policy};
use crate::cluster::{Manager, User, UserRole};
use crate::command::{Response, TokenRole};
use crate::error::{Error, Kind};
use crate::ids::{Epoch, Index, RaftId};
use crate::limits;
use crate::state::State;
use std::sync::Arc;

/// From here on only plans of this epoch are obeyed. Its number is the entry's own index, so it
/// only grows. Before `Bootstrap` nobody is known yet, and the first leader may be early.
pub(super) fn takeover(
    state: &mut State,
    index: Index,
    manager: RaftId,
) -> Result<Response, Error> {
    if state.bootstrapped() {
        known(state, manager)?;
    }
    let meta = state.meta_mut();
    meta.epoch = Epoch(index.0.max(meta.epoch.0));
    meta.leader = manager;
    Ok(Response::Done)
}

/// Never down, and never above what a member can apply.
pub(super) fn raise_level(state: &mut State, level: u32) -> Result<Response, Error> {
    let laggard =
        state.managers().filter(|row| row.removed_at.is_none()).find(|row| row.level < level);
    if let Some(row) = laggard {
        let what = format!("manager {} applies commands up to level {}", row.name, row.level);
        return Err(Error::UpgradeRequired { what });
    }
    if level > state.meta().level {
        state.meta_mut().level = level;
    }
    Ok(Response::Done)
}

fn known(state: &State, id: RaftId) -> Result<Arc<Manager>, Error> {
    let row = state.manager(id).ok_or_else(|| Error::not_found(Kind::Manager, id))?;
    match row.removed_at {
        None => Ok(row.clone()),
        Some(_) => Err(find::not_active(Kind::Manager, id)),
    }
}

fn members(state: &State) -> usize {
    state.managers().filter(|row| row.removed_at.is_none()).count()
}

/// A member that is older than the commands in use could not apply them.
fn applies_ours(state: &State, name: &str, level: u32) -> Result<(), Error> {
    let used = state.meta().level;
    if level >= used {
        return Ok(());
    }
    let what = format!("manager {name} applies commands up to level {level}; {used} is in use");
    Err(Error::UpgradeRequired { what })
}

/// Always a new id: a machine that lost its disk is another member, whatever its name.
pub(super) fn add(
    state: &mut State,
    name: &Arc<str>,
    zone: &Arc<str>,
    address: &Arc<str>,
    level: u32,
) -> Result<Response, Error> {
    find::at_most("managers", members(state) + 1, limits::MANAGERS_MAX)?;
    applies_ours(state, name, level)?;
    let id = RaftId(state.meta().next_manager);
    state.meta_mut().next_manager = id.0.saturating_add(1);
    state.put_manager(Arc::new(Manager {
        id,
        name: name.clone(),
        zone: zone.clone(),
        address: address.clone(),
        level,
        joined_at: state.now(),
        removed_at: None,
    }));
    Ok(Response::Manager(id))
}

pub(super) fn update(
    state: &mut State,
    id: RaftId,
    address: &Arc<str>,
    level: u32,
) -> Result<Response, Error> {
    let old = known(state, id)?;
    applies_ours(state, &old.name, level)?;
    let mut new = Manager::clone(&old);
    new.address = address.clone();
    new.level = level;
    if new != *old {
        state.put_manager(Arc::new(new));
    }
    Ok(Response::Manager(id))
}

/// The row stays, so that the id is refused for good. Removing twice is not an error.
pub(super) fn remove(state: &mut State, id: RaftId) -> Result<Response, Error> {
    let old = state.manager(id).ok_or_else(|| Error::not_found(Kind::Manager, id))?.clone();
    if old.removed_at.is_some() {
        return Ok(Response::Manager(id));
    }
    if members(state) == 1 {
        let what = "it is the last manager".to_string();
        return Err(Error::InUse { kind: Kind::Manager, name: id.to_string(), what });
    }
    let mut new = Manager::clone(&old);
    new.removed_at = Some(state.now());
    state.put_manager(Arc::new(new));
    Ok(Response::Manager(id))
}

pub(super) fn rotate_token(
    state: &mut State,
    role: TokenRole,
    hash: &Arc<str>,
) -> Result<Response, Error> {
    let authority = Arc::make_mut(&mut state.meta_mut().authority);
    match role {
        TokenRole::Manager => authority.manager_token_hash = hash.clone(),
        TokenRole::Worker => authority.worker_token_hash = hash.clone(),
    }
    Ok(Response::Done)
}

fn is_last_admin(state: &State, user: &User) -> bool {
    let admin = |user: &User| user.role == UserRole::Admin && user.removed_at.is_none();
    admin(user) && state.users().filter(|row| admin(row)).count() == 1
}

/// Adds a certificate; a user who was removed starts anew, without the old certificates.
pub(super) fn create_user(
    state: &mut State,
    name: &Arc<str>,
    role: UserRole,
    serial: &Arc<str>,
) -> Result<Response, Error> {
    if name.is_empty() {
        return Err(Error::invalid("name", "", "1 to 255 characters"));
    }
    let old = state.user(name).filter(|row| row.removed_at.is_none()).cloned();
    let mut user = match &old {
        Some(row) if role != UserRole::Admin && is_last_admin(state, row) => {
            let what = "it is the last admin; make another one first".to_string();
            return Err(Error::InUse { kind: Kind::User, name: name.to_string(), what });
        }
        Some(row) => User::clone(row),
        None => {
            find::at_most("users", state.users.len() + 1, limits::USERS_MAX)?;
            let (name, created_at) = (name.clone(), state.now());
            User { name, role, created_at, serials: Vec::new(), removed_at: None }
        }
    };
    user.role = role;
    if !user.serials.contains(serial) {
        user.serials.push(serial.clone());
    }
    // The oldest certificates go first: they are the nearest to their end anyway.
    let excess = user.serials.len().saturating_sub(limits::USER_CERTIFICATES_MAX);
    user.serials.drain(..excess);
    state.put_user(Arc::new(user));
    Ok(Response::Done)
}

/// Its certificates and access keys are refused from here on, and its policies go. Removing twice
/// is not an error.
pub(super) fn remove_user(state: &mut State, name: &Arc<str>) -> Result<Response, Error> {
    let old = state.user(name).ok_or_else(|| Error::not_found(Kind::User, name))?.clone();
    if old.removed_at.is_some() {
        return Ok(Response::Done);
    }
    if is_last_admin(state, &old) {
        let what = "it is the last admin; make another one first".to_string();
        return Err(Error::InUse { kind: Kind::User, name: name.to_string(), what });
    }
    let mut new = User::clone(&old);
    new.serials.clear();
    new.removed_at = Some(state.now());
    access_key::delete_all_of(state, name);
    state.put_user(Arc::new(new));
    policy::delete_of_user(state, name);
    Ok(Response::Done)
}
