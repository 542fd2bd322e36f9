//! How a service's deployments take each other's place, as a request writes it: `strategy`, bake
//! time and steps of `deploymentConfiguration`; its lifecycle hooks are `hook`'s.
//!
//! It does not know what a deployment does with them. Percents are read in tenths: no floats decide
//! anything further in.

use super::hook::hooks;
use super::{At, number, one_of};
use crate::{pb, spelled};
use muster_model::limits::{BAKE_MINUTES_MAX, CANARY_PERMILLE_MIN, STEP_PERMILLE_MIN};
use muster_model::{DeploymentStrategy, Error, Pace, StepSize, Weight};

/// What the request makes of `now`; `None`: it says nothing of it. With `strategy` it says
/// everything: what it leaves out is ECS's default. Without, it changes what it names.
pub(super) fn strategy(
    now: &DeploymentStrategy,
    wire: Option<&pb::DeploymentConfiguration>,
) -> Result<Option<DeploymentStrategy>, Error> {
    let Some(wire) = wire.filter(|wire| speaks_of_it(wire)) else { return Ok(None) };
    let at = At::Field("deploymentConfiguration");
    let fresh = DeploymentStrategy::default();
    let old = if wire.strategy.is_empty() { now } else { &fresh };
    let pace = pace(&at, old.pace, wire)?;
    let bake_minutes = match wire.bake_time_in_minutes {
        Some(minutes) => number(&at.field("bakeTimeInMinutes"), minutes, 0..=BAKE_MINUTES_MAX)?,
        None if pace == Pace::BlueGreen && old.pace != Pace::BlueGreen => {
            let allowed = format!("0 to {BAKE_MINUTES_MAX}: BLUE_GREEN has to say it");
            return Err(at.field("bakeTimeInMinutes").invalid("", &allowed));
        }
        None => old.bake_minutes,
    };
    let hooks = match wire.lifecycle_hooks.is_empty() {
        true => old.hooks.clone(),
        false => hooks(&at.field("lifecycleHooks"), &wire.lifecycle_hooks)?,
    };
    let new = DeploymentStrategy { pace, bake_minutes, hooks };
    if new.pace == Pace::Rolling && new != fresh {
        let allowed = "BLUE_GREEN, LINEAR or CANARY with bakeTimeInMinutes or lifecycleHooks";
        return Err(at.field("strategy").invalid("ROLLING", allowed));
    }
    Ok(Some(new))
}

fn speaks_of_it(wire: &pb::DeploymentConfiguration) -> bool {
    !wire.strategy.is_empty()
        || wire.bake_time_in_minutes.is_some()
        || !wire.lifecycle_hooks.is_empty()
        || wire.linear_configuration.is_some()
        || wire.canary_configuration.is_some()
}

fn pace(at: &At, old: Pace, wire: &pb::DeploymentConfiguration) -> Result<Pace, Error> {
    let name = match wire.strategy.as_str() {
        "" => old.shown(),
        name => name,
    };
    let strange = |field: &'static str, goes_with: &str| {
        let allowed = format!("only with strategy {goes_with}");
        Err(at.field(field).invalid(name, &allowed))
    };
    match wire {
        pb::DeploymentConfiguration { linear_configuration: Some(_), .. } if name != "LINEAR" => {
            return strange("linearConfiguration", "LINEAR");
        }
        pb::DeploymentConfiguration { canary_configuration: Some(_), .. } if name != "CANARY" => {
            return strange("canaryConfiguration", "CANARY");
        }
        _ => {}
    }
    match (name, old) {
        ("ROLLING", _) => Ok(Pace::Rolling),
        ("BLUE_GREEN", _) => Ok(Pace::BlueGreen),
        ("LINEAR", Pace::Linear(step)) => linear(at, step, wire),
        ("LINEAR", _) => linear(at, StepSize::LINEAR, wire),
        ("CANARY", Pace::Canary(step)) => canary(at, step, wire),
        ("CANARY", _) => canary(at, StepSize::CANARY, wire),
        (other, _) => {
            Err(at.field("strategy").invalid(other, one_of(spelled::DEPLOYMENT_STRATEGY)))
        }
    }
}

fn linear(at: &At, old: StepSize, wire: &pb::DeploymentConfiguration) -> Result<Pace, Error> {
    let Some(wire) = &wire.linear_configuration else { return Ok(Pace::Linear(old)) };
    let at = at.field("linearConfiguration");
    let percent = wire.step_percent.map(|p| weight(&at.field("stepPercent"), p, STEP_PERMILLE_MIN));
    let minutes = wire.step_bake_time_in_minutes;
    let minutes =
        minutes.map(|m| number(&at.field("stepBakeTimeInMinutes"), m, 0..=BAKE_MINUTES_MAX));
    Ok(Pace::Linear(StepSize {
        weight: percent.transpose()?.unwrap_or(old.weight),
        bake_minutes: minutes.transpose()?.unwrap_or(old.bake_minutes),
    }))
}

fn canary(at: &At, old: StepSize, wire: &pb::DeploymentConfiguration) -> Result<Pace, Error> {
    let Some(wire) = &wire.canary_configuration else { return Ok(Pace::Canary(old)) };
    let at = at.field("canaryConfiguration");
    let percent = wire.canary_percent;
    let percent = percent.map(|p| weight(&at.field("canaryPercent"), p, CANARY_PERMILLE_MIN));
    let minutes = wire.canary_bake_time_in_minutes;
    let minutes =
        minutes.map(|m| number(&at.field("canaryBakeTimeInMinutes"), m, 0..=BAKE_MINUTES_MAX));
    Ok(Pace::Canary(StepSize {
        weight: percent.transpose()?.unwrap_or(old.weight),
        bake_minutes: minutes.transpose()?.unwrap_or(old.bake_minutes),
    }))
}

/// ECS: a multiple of 0.1 percent.
fn weight(at: &At, percent: f64, least: u16) -> Result<Weight, Error> {
    let all = Weight::ALL.permille();
    let found = (least..=all).find(|permille| (f64::from(*permille) - percent * 10.0).abs() < 1e-6);
    found.and_then(Weight::of_permille).ok_or_else(|| {
        let least = f64::from(least) / 10.0;
        at.invalid(percent, format!("{least} to 100 in steps of 0.1"))
    })
}
