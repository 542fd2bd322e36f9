//! Alarms: set and deleted. What becomes of deployments follows from the rows.

use super::find;
use crate::alarm::{Alarm, AlarmCommand, AlarmState};
use crate::command::Response;
use crate::error::{Error, Kind};
use crate::limits;
use crate::state::State;
use crate::task::reason;
use std::sync::Arc;

pub(super) fn decide(state: &mut State, command: &AlarmCommand) -> Result<Response, Error> {
    match command {
        AlarmCommand::Set { name, state: to, reason } => set(state, name, *to, reason),
        AlarmCommand::Delete { name } => delete(state, name),
    }
}

/// Saying the same again changes at most the reason: monitoring repeats itself.
fn set(
    state: &mut State,
    name: &Arc<str>,
    to: AlarmState,
    why: &Arc<str>,
) -> Result<Response, Error> {
    let old = state.alarm(name).cloned();
    if old.is_none() {
        find::at_most("alarms", state.alarms().count() + 1, limits::ALARMS_MAX)?;
    }
    let since = match old {
        Some(old) if old.state == to => old.since,
        _ => state.now(),
    };
    state.put_alarm(Arc::new(Alarm { name: name.clone(), state: to, reason: reason(why), since }));
    Ok(Response::Done)
}

/// Services that name it go on without it, as with an alarm that was never set.
fn delete(state: &mut State, name: &Arc<str>) -> Result<Response, Error> {
    state.alarm(name).ok_or_else(|| Error::not_found(Kind::Alarm, name))?;
    state.remove_alarm(name);
    Ok(Response::Done)
}
