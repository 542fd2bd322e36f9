//! Protection of tasks, and account settings.

use super::find;
use crate::command::Response;
use crate::error::{Error, Kind};
use crate::ids::TaskId;
use crate::limits;
use crate::mark::{AccountSetting, Protection, SettingKey};
use crate::state::State;
use crate::time::Millis;
use std::sync::Arc;

/// Only a wanted task of a service: nothing else is ever stopped by scale-in or a deployment.
pub(super) fn protect(
    state: &mut State,
    id: TaskId,
    span: Option<Millis>,
) -> Result<Response, Error> {
    let task = find::task(state, id)?;
    if task.service().is_none() || !task.wanted() {
        return Err(find::not_active(Kind::Task, id));
    }
    match span {
        None => state.remove_protection(id),
        Some(span) => {
            let until = state.now() + span;
            state.put_protection(Arc::new(Protection { task: id, until }));
        }
    }
    Ok(Response::Done)
}

pub(super) fn set(
    state: &mut State,
    key: &SettingKey,
    value: Option<&Arc<str>>,
) -> Result<Response, Error> {
    let Some(value) = value else {
        if state.setting(key).is_none() {
            return Err(Error::not_found(Kind::AccountSetting, &key.name));
        }
        state.remove_setting(key);
        return Ok(Response::Done);
    };
    if state.setting(key).is_none() {
        let count = state.settings.len() + 1;
        find::at_most("account settings", count, limits::ACCOUNT_SETTINGS_MAX)?;
    }
    let row = AccountSetting { key: key.clone(), value: value.clone() };
    state.put_setting(Arc::new(row));
    Ok(Response::Done)
}
