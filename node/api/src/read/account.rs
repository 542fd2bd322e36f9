//! Account settings as callers see them.

use crate::page::Page;
use muster_model::mark::SettingKey;
use muster_model::{Error, Principal, State};
use muster_proto::convert::PageSizes;
use muster_proto::convert::account::{KNOWN, Known, named, principal};
use muster_proto::pb;
use std::sync::Arc;

/// What holds for a principal: its own setting, else the account's, else ECS's.
///
/// # Errors
/// `Invalid` for a name that ECS does not know.
pub fn one(
    state: &State,
    principal: Option<Arc<str>>,
    name: &str,
) -> Result<pb::AccountSetting, Error> {
    Ok(effective(state, principal, named(name)?))
}

fn effective(state: &State, principal: Option<Arc<str>>, known: &Known) -> pb::AccountSetting {
    let key = |principal| SettingKey { principal, name: Arc::from(known.name) };
    let own = principal.clone().and_then(|of| state.setting(&key(Some(of))));
    let row = own.or_else(|| state.setting(&key(None)));
    let root = || Arc::from(format!("arn:aws:iam::{}:root", state.meta().account));
    pb::AccountSetting {
        name: known.name.into(),
        value: row.map_or(known.default, |row| &row.value).into(),
        principal_arn: principal.unwrap_or_else(root).to_string(),
        r#type: "user".into(),
    }
}

/// By name: those that were set for the principal, or, with `effectiveSettings`, all as they are.
///
/// # Errors
/// `Invalid` for an unknown name, a principal that is none, or a bad page.
pub fn list(
    state: &State,
    by: &Principal,
    request: &pb::ListAccountSettingsRequest,
) -> Result<pb::ListAccountSettingsResponse, Error> {
    if !request.name.is_empty() {
        named(&request.name)?;
    }
    let of = principal(state, by, &request.principal_arn)?;
    let (name, value, all) = (&request.name, &request.value, request.effective_settings);
    let kind = format!("settings {of} {name} {value} {all}");
    let sizes = PageSizes::SHORT;
    let page = Page::sized(kind, &request.next_token, request.max_results, sizes)?;
    let key =
        |known: &Known| SettingKey { principal: Some(of.clone()), name: Arc::from(known.name) };
    let items = KNOWN
        .iter()
        .filter(|known| all || state.setting(&key(known)).is_some())
        .filter(|known| name.is_empty() || known.name == name)
        .filter(|known| page.after().is_none_or(|last| known.name > last))
        .map(|known| (known.name.to_owned(), effective(state, Some(of.clone()), known)))
        .filter(|(_, setting)| value.is_empty() || setting.value == *value);
    let (settings, next_token) = page.take(items);
    Ok(pb::ListAccountSettingsResponse { settings, next_token })
}
