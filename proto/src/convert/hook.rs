//! Lifecycle hooks of a service's deployments, as a request writes them, and what an endpoint
//! answers that a hook has called.
//!
//! It does not know when a hook waits, nor how an endpoint is called. Invariant: a URL that passed
//! is one that the caller's own parser takes, and does not lead to a machine's own metadata by its
//! letters alone.

use super::{At, number, one_of};
use crate::{json, pb, spelled};
use muster_model::limits::{
    HOOK_DETAILS_BYTES_MAX, HOOK_TIMEOUT_MINUTES_MAX, HOOK_URL_BYTES_MAX, HOOKS_MAX,
};
use muster_model::{Endpoint, Error, HookAction, HookTarget, LifecycleHook, Stage};
use std::net::IpAddr;
use std::time::Duration;
use url::{Host, Url};

/// ECS: how long until a hook that said IN_PROGRESS is called again, unless it says.
const CALL_BACK_DELAY: Duration = Duration::from_secs(30);
/// What it may say: less would be a loop, more would outlast most timeouts unheard.
const CALL_BACK_DELAY_SECS_MAX: u64 = 3600;

/// ECS `hookStatus`, as the endpoint of a hook answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookStatus {
    Succeeded,
    Failed,
    /// To be called again after `callBackDelay`.
    InProgress(Duration),
}

/// The body of an endpoint's answer: `{"hookStatus": "IN_PROGRESS", "callBackDelay": 60}`, in
/// seconds from 1 to 3600 (less or more counts as that), 30 if left out. Other names are not
/// looked at.
///
/// # Errors
/// It is no JSON, or a value is not what it may be.
pub fn answer(body: &[u8]) -> Result<HookStatus, Error> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Error::invalid("answer", "bytes", "JSON in UTF-8"))?;
    let answer = json::any(text)?;
    let at = At::Field("hookStatus");
    let allowed = "SUCCEEDED, FAILED or IN_PROGRESS";
    let status = answer.get("hookStatus").and_then(|status| status.as_str());
    match status.ok_or_else(|| at.invalid("", allowed))? {
        "SUCCEEDED" => Ok(HookStatus::Succeeded),
        "FAILED" => Ok(HookStatus::Failed),
        "IN_PROGRESS" => {
            let Some(delay) = answer.get("callBackDelay") else {
                return Ok(HookStatus::InProgress(CALL_BACK_DELAY));
            };
            let allowed = "a whole number of seconds";
            let delay =
                delay.as_u64().ok_or_else(|| At::Field("callBackDelay").invalid(delay, allowed));
            let delay = delay?.clamp(1, CALL_BACK_DELAY_SECS_MAX);
            Ok(HookStatus::InProgress(Duration::from_secs(delay)))
        }
        other => Err(at.invalid(other, allowed)),
    }
}

pub(super) fn hooks(
    at: &At,
    wire: &[pb::DeploymentLifecycleHook],
) -> Result<Vec<LifecycleHook>, Error> {
    if wire.len() > HOOKS_MAX {
        let allowed = format!("at most {HOOKS_MAX}");
        return Err(at.invalid(format!("{} of them", wire.len()), &allowed));
    }
    let mut hooks: Vec<LifecycleHook> = Vec::with_capacity(wire.len());
    for (index, wire) in wire.iter().enumerate() {
        let at = at.index(index);
        let hook = hook(&at, wire)?;
        for stage in &hook.stages {
            if hooks.iter().any(|other| other.stages.contains(stage)) {
                let allowed = "each stage in one hook only";
                return Err(at.field("lifecycleStages").invalid(stage.shown(), allowed));
            }
        }
        hooks.push(hook);
    }
    Ok(hooks)
}

fn hook(at: &At, wire: &pb::DeploymentLifecycleHook) -> Result<LifecycleHook, Error> {
    let target = target(at, wire)?;
    let standing: &[Stage] = match target {
        HookTarget::Pause => &Stage::PAUSABLE,
        HookTarget::Http(_) => &Stage::CALLABLE,
    };
    let mut stages = Vec::with_capacity(wire.lifecycle_stages.len());
    let names = || standing.iter().map(|stage| stage.shown()).collect::<Vec<_>>().join(", ");
    for text in &wire.lifecycle_stages {
        let stage = Stage::named(text).filter(|stage| standing.contains(stage));
        let Some(stage) = stage.filter(|stage| !stages.contains(stage)) else {
            let allowed = format!("each once, of {}", names());
            return Err(at.field("lifecycleStages").invalid(text, &allowed));
        };
        stages.push(stage);
    }
    if stages.is_empty() {
        return Err(at.field("lifecycleStages").invalid("", format!("some of {}", names())));
    }
    let usual = LifecycleHook { stages, target, ..LifecycleHook::default() };
    let Some(timeout) = &wire.timeout_configuration else { return Ok(usual) };
    let at = at.field("timeoutConfiguration");
    let minutes = timeout.timeout_in_minutes.map(|minutes| {
        number(&at.field("timeoutInMinutes"), minutes, 1..=HOOK_TIMEOUT_MINUTES_MAX)
    });
    Ok(LifecycleHook {
        timeout_minutes: minutes.transpose()?.unwrap_or(usual.timeout_minutes),
        on_timeout: match timeout.action.as_str() {
            "" => usual.on_timeout,
            text => action(&at.field("action"), text)?,
        },
        ..usual
    })
}

fn target(at: &At, wire: &pb::DeploymentLifecycleHook) -> Result<HookTarget, Error> {
    match wire.target_type.as_str() {
        "HTTP" => endpoint(at, wire).map(HookTarget::Http),
        "PAUSE" if !wire.hook_target_arn.is_empty() => {
            Err(at.field("hookTargetArn").invalid(&wire.hook_target_arn, "only with HTTP"))
        }
        "PAUSE" if !wire.hook_details.is_empty() => {
            let given = format!("{} of them", wire.hook_details.len());
            Err(at.field("hookDetails").invalid(given, "only with HTTP"))
        }
        "PAUSE" => Ok(HookTarget::Pause),
        // What ECS means by nothing.
        "" | "AWS_LAMBDA" => {
            let why = "there are no Lambda functions; use HTTP with a URL as hookTargetArn, or \
                       PAUSE, released by ContinueServiceDeployment";
            Err(at.field("targetType").unsupported("AWS_LAMBDA", why))
        }
        other => Err(at.field("targetType").invalid(other, "PAUSE or HTTP")),
    }
}

fn endpoint(at: &At, wire: &pb::DeploymentLifecycleHook) -> Result<Endpoint, Error> {
    let (at_url, text) = (at.field("hookTargetArn"), wire.hook_target_arn.as_str());
    let allowed = format!(
        "http:// or https:// with a host, without a user's name or a fragment, at most \
         {HOOK_URL_BYTES_MAX} bytes"
    );
    if text.len() > HOOK_URL_BYTES_MAX {
        return Err(at_url.invalid(format!("{} bytes", text.len()), allowed));
    }
    let url = Url::parse(text).ok().filter(|url| {
        let bare = url.username().is_empty() && url.password().is_none();
        ["http", "https"].contains(&url.scheme()) && bare && url.fragment().is_none()
    });
    let Some(url) = url else { return Err(at_url.invalid(text, allowed)) };
    let address = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::from(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::from(address)),
        _ => None,
    };
    if address.is_some_and(is_link_local) {
        return Err(at_url.invalid(text, "an address that is not link-local"));
    }
    let details = &wire.hook_details;
    let bytes: usize = details.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > HOOK_DETAILS_BYTES_MAX {
        let allowed =
            format!("names and values of at most {HOOK_DETAILS_BYTES_MAX} bytes together");
        return Err(at.field("hookDetails").invalid(format!("{bytes} bytes"), allowed));
    }
    let details = details.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    Ok(Endpoint { url: text.to_owned(), details })
}

/// Where clouds tell a machine its own secrets; nobody may have a manager ask there.
pub fn is_link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

pub(super) fn action(at: &At, text: &str) -> Result<HookAction, Error> {
    match text {
        "CONTINUE" => Ok(HookAction::Continue),
        "ROLLBACK" => Ok(HookAction::Rollback),
        other => Err(at.invalid(other, one_of(spelled::DEPLOYMENT_LIFECYCLE_HOOK_ACTION))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(body: &str) -> Result<HookStatus, String> {
        answer(body.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_answer_is_one_of_three_and_a_delay_is_bounded() {
        assert_eq!(
            told(r#"{"hookStatus": "SUCCEEDED", "hookDetails": {}}"#),
            Ok(HookStatus::Succeeded)
        );
        assert_eq!(told(r#"{"hookStatus": "FAILED"}"#), Ok(HookStatus::Failed));
        let later = |delay: &str| {
            told(&format!(r#"{{"hookStatus": "IN_PROGRESS"{delay}}}"#)).map(|status| match status {
                HookStatus::InProgress(delay) => delay.as_secs(),
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(later(""), Ok(30));
        for (said, is) in [(0, 1), (60, 60), (4000, 3600)] {
            assert_eq!(later(&format!(r#", "callBackDelay": {said}"#)), Ok(is));
        }
        let refused = later(r#", "callBackDelay": -1"#).unwrap_err();
        assert_eq!(
            refused,
            "callBackDelay: \"-1\" is not allowed; allowed: a whole number of seconds"
        );
        let bad = ["", "[]", "7", "{}", r#"{"hookStatus": "DONE"}"#, r#"{"hookStatus": 1}"#];
        assert!(bad.into_iter().all(|body| told(body).is_err()));
        assert!(answer(&[b'{', 0xff]).is_err(), "no UTF-8");
    }

    #[test]
    fn no_spelling_of_a_link_local_address_is_one_that_may_be_called() {
        let hook = |url: &str| pb::DeploymentLifecycleHook {
            target_type: "HTTP".into(),
            hook_target_arn: url.into(),
            ..Default::default()
        };
        let try_ =
            |url: &str| endpoint(&At::Field("hook"), &hook(url)).map(|endpoint| endpoint.url);
        for url in [
            "http://169.254.169.254/latest",
            "http://0xA9FEA9FE/",
            "http://2852039166/",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.1.1]/",
        ] {
            let refused = try_(url).unwrap_err().to_string();
            assert!(refused.contains("not link-local"), "{refused}");
        }
        for url in ["http://10.0.0.1:8080/a?b=c", "https://[2001:db8::1]/", "https://ci.example"] {
            assert_eq!(try_(url), Ok(url.to_owned()));
        }
    }
}
