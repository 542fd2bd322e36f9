//! Deployments that shift traffic: how one begins, takes its turns and ends; pausing and continuing
//! any deployment.
//!
//! It decides what the rows say then. What the next turn is says `turn.rs`; no other is taken, so a
//! plan that was overtaken, by a crash of a new task or by a user, shifts nothing.
//! Invariant: a shift's green is its service's newest deployment, and a paused one is.

use super::{deployment, find, plan};
use crate::command::{Response, StopType};
use crate::error::{Error, Kind};
use crate::ids::{DeploymentId, Principal, ServiceId};
use crate::service::{Deployment, End, HaltCause, Outcome, Service};
use crate::shift::{Hook, Pause, Shift, Stage};
use crate::state::State;
use crate::strategy::{HookAction, Weight};
use crate::task::Task;
use crate::time::{Millis, Time};
use crate::turn::Turn;
use std::sync::Arc;

/// The service's newest deployment has begun: it shifts if its strategy says so and one before it
/// has completed. The first has nothing to take over from, and comes as a rolling one does.
pub(super) fn begin(state: &mut State, service: &Service) {
    end(state, service.id);
    let Some(newest) = service.primary() else { return };
    let Some(blue) = service.rollback_target() else { return };
    if !service.spec.strategy.shifts_traffic() {
        return;
    }
    let other = |task: &Arc<Task>| task.deployment() != Some(blue) && task.ended_at().is_none();
    let stage = match state.tasks_of(service.id).any(other) {
        true => Stage::ReconcileService,
        false => Stage::PreScaleUp,
    };
    let shift = Shift {
        service: service.id,
        green: newest.id,
        blue,
        strategy: Arc::new(service.spec.strategy.clone()),
        stage,
        entered_at: state.now(),
        turns: 0,
        production: Weight::NONE,
        test: Weight::NONE,
        hook: None,
    };
    enter(state, shift);
}

fn enter(state: &mut State, shift: Shift) {
    let now = state.now();
    let hook = shift.strategy.hook_at(shift.stage).map(|hook| Hook {
        expires_at: now + Millis::from_secs(u64::from(hook.timeout_minutes) * 60),
        on_timeout: hook.on_timeout,
    });
    let turns = shift.turns.saturating_add(1);
    state.put_shift(Arc::new(Shift { entered_at: now, turns, hook, ..shift }));
}

/// Nothing shifts any more, and nothing is paused: the newest deployment has all of the traffic.
pub(super) fn end(state: &mut State, service: ServiceId) {
    state.remove_shift(service);
    state.remove_pause(service);
}

/// `Step::Turn`.
pub(super) fn turn(
    state: &mut State,
    service: ServiceId,
    deployment: DeploymentId,
    turn: Turn,
) -> Result<(), Error> {
    let row = find::active_service(state, service)?;
    let shift = state.shift(service).filter(|shift| shift.green == deployment).cloned();
    let Some(shift) = shift else {
        return Err(Error::refused(format!("deployment {deployment} shifts no traffic")));
    };
    let next = state.next_turn(&row).map_err(|wait| Error::refused(wait.to_string()))?;
    if next != turn {
        return Err(Error::refused(format!("the next turn is {next}, not {turn}")));
    }
    let Turn::Enter { stage, production, test } = turn else {
        let (cause, back_to) = (HaltCause::HookTimedOut, Some(shift.blue));
        return deployment::halt(state, service, deployment, cause, back_to);
    };
    enter(state, Shift { stage, production, test, ..Shift::clone(&shift) });
    touch(state, &row, |newest, now| {
        if stage == Stage::CleanUp {
            // It has proved itself: from here on it is what a newer one is rolled back to.
            newest.end = Some(End { outcome: Outcome::Successful, at: now });
        }
    });
    Ok(())
}

/// `Step::AnswerHook`: the word of the endpoint that the deployment waits for. It comes too late if
/// somebody released the hook or paused the deployment meanwhile.
pub(super) fn answer(
    state: &mut State,
    service: ServiceId,
    deployment: DeploymentId,
    hook: &str,
    answer: HookAction,
) -> Result<(), Error> {
    let row = find::active_service(state, service)?;
    let asked = |shift: &&Arc<Shift>| {
        let waits = shift.green == deployment && shift.endpoint().is_some();
        waits && shift.hook_id().is_some_and(|id| id == hook) && state.pause(service).is_none()
    };
    let Some(shift) = state.shift(service).filter(asked).cloned() else {
        let why = format!("deployment {deployment} waits for no answer of hook {hook}");
        return Err(Error::refused(why));
    };
    match answer {
        HookAction::Rollback => {
            let (cause, back_to) = (HaltCause::HookFailed, Some(shift.blue));
            deployment::halt(state, service, deployment, cause, back_to)
        }
        HookAction::Continue => {
            release(state, &shift);
            touch(state, &row, |_, _| {});
            Ok(())
        }
    }
}

fn release(state: &mut State, shift: &Shift) {
    state.put_shift(Arc::new(Shift { hook: None, ..shift.clone() }));
}

/// What is shown of the service's newest deployment has changed.
fn touch(state: &mut State, row: &Service, change: impl FnOnce(&mut Deployment, Time)) {
    let now = state.now();
    let mut new = row.clone();
    if let Some(newest) = new.deployments.first_mut() {
        newest.updated_at = now;
        change(newest, now);
    }
    new.version += 1;
    state.put_service(Arc::new(new));
}

/// The service, if this is its newest deployment and goes on for the first time.
fn open(
    state: &State,
    service: ServiceId,
    deployment: DeploymentId,
) -> Result<Arc<Service>, Error> {
    let row = find::active_service(state, service)?;
    let Some(found) = row.all_deployments().find(|d| d.id == deployment) else {
        return Err(Error::not_found(Kind::Deployment, deployment.shown()));
    };
    let newest = row.primary().is_some_and(|newest| newest.id == deployment);
    if !newest || !found.is_open() {
        let name = &row.spec.name;
        let allowed =
            format!("the deployment that is IN_PROGRESS: see `muster service deployments {name}`");
        return Err(Error::invalid("serviceDeploymentArn", deployment.shown(), allowed));
    }
    Ok(row)
}

/// PauseServiceDeployment. Pausing again changes nothing.
pub(super) fn pause(
    state: &mut State,
    service: ServiceId,
    deployment: DeploymentId,
) -> Result<Response, Error> {
    let row = open(state, service, deployment)?;
    if state.pause(service).is_none() {
        let since = state.now();
        state.put_pause(Arc::new(Pause { service, deployment, since }));
        touch(state, &row, |_, _| {});
    }
    Ok(Response::Service(service))
}

/// ContinueServiceDeployment. `hook` as `Shift::hook_id` and `Pause::HOOK_ID` say it; without one,
/// whatever the deployment waits for is released. The service's history says who did it.
pub(super) fn resume(
    state: &mut State,
    by: &Principal,
    service: ServiceId,
    deployment: DeploymentId,
    hook: Option<&str>,
    action: HookAction,
) -> Result<Response, Error> {
    let row = open(state, service, deployment)?;
    let waits = |id: &str| hook.is_none_or(|hook| hook == id);
    let ids: Vec<String> = waiting(state, service).filter(|id| waits(id)).collect();
    if ids.is_empty() {
        let waiting: Vec<String> = waiting(state, service).collect();
        let allowed = match waiting.is_empty() {
            true => "nothing now: the deployment waits at no hook and is not paused".into(),
            false => waiting.join(", "),
        };
        return Err(Error::invalid("hookId", hook.unwrap_or_default(), allowed));
    }
    let said = |what: &str| {
        let (name, id) = (&row.spec.name, deployment.shown());
        let text = format!("(service {name}) (deployment {id}) {by} {what} {}.", ids.join(" and "));
        Arc::from(text)
    };
    if action == HookAction::Rollback {
        let answer = deployment::stop(state, service, deployment, StopType::Rollback)?;
        plan::event(state, service, &said("rolled it back at hook"))?;
        return Ok(answer);
    }
    let released = |shift: &&Arc<Shift>| shift.hook_id().is_some_and(|id| waits(&id));
    if let Some(shift) = state.shift(service).filter(released).cloned() {
        release(state, &shift);
    }
    if let Some(pause) = state.pause(service).filter(|_| waits(Pause::HOOK_ID)).cloned() {
        let paused = state.now().since(pause.since);
        state.remove_pause(service);
        if let Some(shift) = state.shift(service).cloned() {
            state.put_shift(Arc::new(shift.delayed(paused)));
        }
    }
    touch(state, &row, |_, _| {});
    plan::event(state, service, &said("released hook"))?;
    Ok(Response::Service(service))
}

/// The ids of everything that the service's deployment waits for somebody to say.
fn waiting(state: &State, service: ServiceId) -> impl Iterator<Item = String> {
    let pause = state.pause(service).map(|_| Pause::HOOK_ID.to_owned());
    let hook = state.shift(service).and_then(|shift| shift.hook_id());
    pause.into_iter().chain(hook)
}
