//! Alarms: their states as monitoring writes them, and what a service says of them.

use super::{At, one_of};
use crate::pb;
use muster_model::alarm::check_name;
use muster_model::limits::DEPLOYMENT_ALARMS_MAX;
use muster_model::{AlarmCommand, AlarmState, Command, DeploymentAlarms, Error};
use std::collections::BTreeSet;

/// CloudWatch's words for them.
const STATES: [(&str, AlarmState); 3] = [
    ("OK", AlarmState::Ok),
    ("ALARM", AlarmState::Alarm),
    ("INSUFFICIENT_DATA", AlarmState::InsufficientData),
];

pub(crate) fn state_name(state: AlarmState) -> &'static str {
    STATES.iter().find(|(_, of)| *of == state).map_or("", |(name, _)| name)
}

/// The state of this name.
///
/// # Errors
/// Lists the names.
pub fn state(text: &str) -> Result<AlarmState, Error> {
    let found = STATES.iter().find(|(name, _)| *name == text).map(|(_, state)| *state);
    let allowed = || one_of(&STATES.map(|(name, _)| name));
    found.ok_or_else(|| Error::invalid("stateValue", text, allowed()))
}

/// SetAlarmState. A reason is cut like a task's.
///
/// # Errors
/// Says which field is not what it may be.
pub fn set(wire: &pb::SetAlarmStateRequest) -> Result<Command, Error> {
    check_name("alarmName", &wire.alarm_name)?;
    let (name, reason) = (wire.alarm_name.as_str().into(), wire.state_reason.as_str().into());
    Ok(Command::Alarm(AlarmCommand::Set { name, state: state(&wire.state_value)?, reason }))
}

/// DeleteAlarm.
///
/// # Errors
/// For a name that no alarm can have.
pub fn delete(wire: &pb::DeleteAlarmRequest) -> Result<Command, Error> {
    check_name("alarmName", &wire.alarm_name)?;
    Ok(Command::Alarm(AlarmCommand::Delete { name: wire.alarm_name.as_str().into() }))
}

/// `None`: the request says nothing of them.
pub(super) fn of_deployments(
    wire: Option<&pb::DeploymentConfiguration>,
) -> Result<Option<DeploymentAlarms>, Error> {
    let Some(wire) = wire.and_then(|wire| wire.alarms.as_ref()) else { return Ok(None) };
    let at = At::Field("deploymentConfiguration");
    let at = at.field("alarms");
    let at = at.field("alarmNames");
    let names = &wire.alarm_names;
    if names.len() > DEPLOYMENT_ALARMS_MAX || (wire.enable && names.is_empty()) {
        let allowed = format!("1 to {DEPLOYMENT_ALARMS_MAX} names while they are enabled");
        return Err(at.invalid(format!("{} of them", names.len()), allowed));
    }
    let mut seen = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let at = at.index(index);
        check_name(&at.to_string(), name)?;
        if !seen.insert(name) {
            return Err(at.invalid(name, "each name once"));
        }
    }
    let (enable, rollback) = (wire.enable, wire.rollback);
    Ok(Some(DeploymentAlarms { names: names.clone(), enable, rollback }))
}
