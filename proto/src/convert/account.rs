//! Account settings: the names ECS knows, and what each may be set to.
//!
//! They are kept and shown because tools set them; nothing depends on one: ARNs are always long.

use super::At;
use crate::pb;
use muster_model::mark::SettingKey;
use muster_model::{Command, Error, Principal, State};
use std::sync::Arc;

/// What an account setting may be, and what it is where nobody has set it.
#[derive(Debug)]
pub struct Known {
    pub name: &'static str,
    pub values: &'static [&'static str],
    pub default: &'static str,
}

const SWITCH: &[&str] = &["enabled", "disabled"];
const ON: &[&str] = &["on", "off"];

const fn known(
    name: &'static str,
    values: &'static [&'static str],
    default: &'static str,
) -> Known {
    Known { name, values, default }
}

/// In order of name.
pub const KNOWN: [Known; 12] = [
    known("awsvpcTrunking", SWITCH, "disabled"),
    known("containerInsights", &["enabled", "disabled", "enhanced"], "disabled"),
    known("containerInstanceLongArnFormat", SWITCH, "enabled"),
    known("defaultLogDriverMode", &["blocking", "non-blocking"], "blocking"),
    known("dualStackIPv6", SWITCH, "disabled"),
    known("fargateEventWindows", SWITCH, "disabled"),
    known("fargateFIPSMode", SWITCH, "disabled"),
    known("fargateTaskRetirementWaitPeriod", &["0", "7", "14"], "7"),
    known("guardDutyActivate", ON, "off"),
    known("serviceLongArnFormat", SWITCH, "enabled"),
    known("tagResourceAuthorization", ON, "off"),
    known("taskLongArnFormat", SWITCH, "enabled"),
];

/// What an error repeats of a name that is none: the longest of ECS's is half as long.
const NAME_CHARS_SHOWN: usize = 80;
/// ECS: characters of a principal's ARN.
const PRINCIPAL_CHARS_MAX: usize = 2048;

/// The setting of this name.
pub fn named(name: &str) -> Result<&'static Known, Error> {
    KNOWN.iter().find(|known| known.name == name).ok_or_else(|| {
        let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
        // ECS's sentence, which begins with what was asked.
        let asked: String = name.chars().take(NAME_CHARS_SHOWN).collect();
        let allowed = format!("{asked} should be one of [{}] (Names are ECS's.)", names.join(","));
        Error::invalid("name", name, allowed)
    })
}

/// The ARN of a principal: the given one, or the caller's.
pub fn principal(state: &State, by: &Principal, given: &str) -> Result<Arc<str>, Error> {
    let at = At::Field("principalArn");
    super::text(&at, given, 0..=PRINCIPAL_CHARS_MAX)?;
    if given.is_empty() {
        let account = &state.meta().account;
        let path = match by {
            Principal::User(name) => format!("user/{name}"),
            Principal::AssumedRole { role, .. } => format!("role/{role}"),
            other => other.to_string(),
        };
        return Ok(Arc::from(format!("arn:aws:iam::{account}:{path}")));
    }
    match given.starts_with("arn:aws:iam::") {
        true => Ok(Arc::from(given)),
        false => Err(at.invalid(given, "an ARN that begins arn:aws:iam::")),
    }
}

/// PutAccountSetting.
pub fn put(
    state: &State,
    by: &Principal,
    wire: &pb::PutAccountSettingRequest,
) -> Result<Command, Error> {
    let principal = Some(principal(state, by, &wire.principal_arn)?);
    set(principal, &wire.name, &wire.value)
}

/// PutAccountSettingDefault: for all who have none of their own.
pub fn put_default(wire: &pb::PutAccountSettingDefaultRequest) -> Result<Command, Error> {
    set(None, &wire.name, &wire.value)
}

fn set(principal: Option<Arc<str>>, name: &str, value: &str) -> Result<Command, Error> {
    let known = named(name)?;
    // ECS takes both spellings of a switch.
    let spelled = match (known.values == SWITCH, value) {
        (true, "on") => "enabled",
        (true, "off") => "disabled",
        _ => value,
    };
    if !known.values.contains(&spelled) {
        return Err(Error::invalid("value", value, known.values.join(", ")));
    }
    let key = SettingKey { principal, name: Arc::from(known.name) };
    Ok(Command::SetAccountSetting { key, value: Some(Arc::from(spelled)) })
}

/// DeleteAccountSetting.
pub fn delete(
    state: &State,
    by: &Principal,
    wire: &pb::DeleteAccountSettingRequest,
) -> Result<Command, Error> {
    let name = Arc::from(named(&wire.name)?.name);
    let principal = Some(principal(state, by, &wire.principal_arn)?);
    Ok(Command::SetAccountSetting { key: SettingKey { principal, name }, value: None })
}
