//! Access keys: made for a user, switched on and off, deleted, and gone with their user.

use super::find;
use crate::access_key::{AccessKey, AccessKeyId, AccessKeyStatus, SealedSecret};
use crate::command::Response;
use crate::error::{Error, Kind};
use crate::limits;
use crate::state::State;
use std::sync::Arc;

fn find_key(state: &State, id: AccessKeyId) -> Result<Arc<AccessKey>, Error> {
    state.access_key(id).cloned().ok_or_else(|| Error::not_found(Kind::AccessKey, id))
}

pub(super) fn create(
    state: &mut State,
    id: AccessKeyId,
    user: &Arc<str>,
    secret: &SealedSecret,
) -> Result<Response, Error> {
    let row = state.user(user).ok_or_else(|| Error::not_found(Kind::User, user))?;
    if row.removed_at.is_some() {
        return Err(find::not_active(Kind::User, user));
    }
    if state.access_key(id).is_some() {
        return Err(Error::Exists { kind: Kind::AccessKey, name: id.to_string() });
    }
    let bytes = secret.0.len();
    find::at_most("bytes of a sealed secret", bytes, limits::SEALED_SECRET_BYTES_MAX)?;
    let keys = state.access_keys_of(user).count();
    let what = format!("access keys of user {user}");
    find::at_most(&what, keys + 1, limits::ACCESS_KEYS_PER_USER_MAX)?;
    let (user, secret, created_at) = (user.clone(), secret.clone(), state.now());
    let status = AccessKeyStatus::Active;
    state.put_access_key(Arc::new(AccessKey { id, user, secret, status, created_at }));
    Ok(Response::AccessKey(id))
}

pub(super) fn set_status(
    state: &mut State,
    id: AccessKeyId,
    status: AccessKeyStatus,
) -> Result<Response, Error> {
    let old = find_key(state, id)?;
    if old.status != status {
        state.put_access_key(Arc::new(AccessKey { status, ..AccessKey::clone(&old) }));
    }
    Ok(Response::AccessKey(id))
}

/// The row goes: an id of 80 random bits does not come again, so none needs to stay refused.
pub(super) fn delete(state: &mut State, id: AccessKeyId) -> Result<Response, Error> {
    find_key(state, id)?;
    state.remove_access_key(id);
    Ok(Response::AccessKey(id))
}

/// A user who is made again under the same name starts without them.
pub(super) fn delete_all_of(state: &mut State, user: &str) {
    let ids: Vec<AccessKeyId> = state.access_keys_of(user).map(|row| row.id).collect();
    for id in ids {
        state.remove_access_key(id);
    }
}
