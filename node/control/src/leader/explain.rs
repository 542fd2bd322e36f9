//! What users read in a service's history: ECS's wording, said once per cause.
//!
//! It decides texts and repetition, nothing else. Invariant: an event that only repeats what the
//! history says already is not written again before `limits::EVENT_REPEAT`.

use super::draft::Draft;
use super::rebalance::Crowds;
use muster_model::service::{Backoff, HaltCause};
use muster_model::task::{Blocker, Waiting, reason};
use muster_model::{
    DeploymentId, Endpoint, InstanceId, Service, ServiceId, Shift, State, Step, Task, TaskId, Time,
    limits,
};
use std::fmt::Write;
use std::sync::Arc;

/// Why a task on a draining instance is stopped.
pub(super) const DRAINING: &str = "Task was replaced because its container instance is draining";
/// Why a task of the newest deployment is replaced by one of the same.
pub(super) const STRAY: &str =
    "Task was replaced because it ran another image digest than its deployment";
/// Why a DAEMON service's task there is, last of all.
pub(super) const DRAINED: &str = "Task was stopped because its container instance is draining";
/// Why a DAEMON service's task is stopped on an instance that changed.
pub(super) const MISPLACED: &str =
    "Task was stopped because its container instance no longer satisfies a placement constraint";
/// Tasks named in one event; ECS starts services in steps of about this many.
const TASKS_NAMED_MAX: usize = 10;
/// Failed starts in a row from which a service counts as unable to start.
const THROTTLE_SHOWN_FROM: u32 = 3;

const STEADY: &str = "has reached a steady state.";
const STARTED: &str = "has started ";
const UNPLACED: &str = "was unable to place a task because no container instance met all of its \
                        requirements.";
const THROTTLED: &str = "is unable to consistently start tasks successfully.";
const HELD: &str = "of several zones that fell silent together; none is replaced before a second \
                    lease has passed.";
const STOPPED: &str = "when it has stopped by itself: the service is strict.";
const BALANCED: &str = " AZ balanced with ";
const NO_ROOM: &str = "is unable to place a task in ";
const STUCK: &str = "was unable to stop or start tasks during a deployment because of the service \
                     deployment configuration. Update the minimumHealthyPercent or maximumPercent \
                     value and try again.";

/// ECS's reason for tasks that scaling or a deployment gives up.
pub(super) fn scaling(deployment: Option<DeploymentId>) -> Arc<str> {
    match deployment {
        Some(id) => Arc::from(format!("Scaling activity initiated by (deployment {})", id.shown())),
        None => Arc::from("Scaling activity initiated by the service scheduler"),
    }
}

/// The same for what is in excess of a task set's share.
pub(super) fn scaling_set(set: DeploymentId) -> Arc<str> {
    Arc::from(format!("Scaling activity initiated by (taskSet {})", set.shown()))
}

pub(super) fn started(draft: &mut Draft, service: ServiceId, tasks: &[TaskId]) {
    if !tasks.is_empty() {
        push(draft, service, &format!("{STARTED}{} tasks: {}.", tasks.len(), named(tasks)));
    }
}

pub(super) fn stopped(draft: &mut Draft, service: ServiceId, tasks: &[TaskId]) {
    if !tasks.is_empty() {
        let text = format!("has stopped {} running tasks: {}.", tasks.len(), named(tasks));
        push(draft, service, &text);
    }
}

/// ECS's words for a deployment that goes no further, and for where its service goes then. Said
/// once per deployment, by whoever leads when it is seen.
pub(super) fn halted(draft: &mut Draft, now: Time, service: &Service) {
    for row in &service.deployments {
        let Some(halt) = row.halt.filter(|halt| now.since(halt.at) < limits::EVENT_REPEAT) else {
            continue;
        };
        let id = row.id.shown();
        let text = match halt.cause {
            HaltCause::TasksFailed => {
                format!("(deployment {id}) deployment failed: tasks failed to start.")
            }
            HaltCause::User => format!("(deployment {id}) deployment stopped by user."),
            HaltCause::HookTimedOut => {
                format!("(deployment {id}) deployment failed: a lifecycle hook timed out.")
            }
            HaltCause::HookFailed => {
                format!("(deployment {id}) deployment failed: a lifecycle hook failed.")
            }
            HaltCause::Alarm => format!("(deployment {id}) deployment failed: alarm detected."),
        };
        let said = draft.state().events(service.id).any(|(_, event)| event.text.ends_with(&text));
        if said {
            continue;
        }
        push(draft, service.id, &text);
        if let Some(target) = halt.back_to {
            let target = target.shown();
            push(draft, service.id, &format!("rolling back to (deployment {target})."));
        }
    }
}

pub(super) fn failed_checks(draft: &mut Draft, service: ServiceId, tasks: &[TaskId]) {
    for task in tasks {
        push(draft, service, &format!("(task {task}) failed container health checks."));
    }
}

pub(super) fn completed(draft: &mut Draft, service: ServiceId, deployment: DeploymentId) {
    push(draft, service, &format!("(deployment {}) deployment completed.", deployment.shown()));
}

pub(super) fn steady(draft: &mut Draft, now: Time, service: ServiceId) {
    let said = {
        let mut history = draft.state().events(service).rev();
        let newest = history.find(|(_, event)| !is_aside(&event.text));
        newest.is_some_and(|(_, event)| {
            event.text.ends_with(STEADY) && now.since(event.at) < limits::EVENT_REPEAT
        })
    };
    if !said {
        push(draft, service, STEADY);
    }
}

/// A loss that waits changes nothing yet, nor does a word on how even the zones are.
fn is_aside(text: &str) -> bool {
    text.ends_with(HELD)
        || text.ends_with(STOPPED)
        || text.contains(BALANCED)
        || text.contains(NO_ROOM)
}

/// Tasks start to move to poorer zones. Said once until the zones are even.
pub(super) fn unbalanced(draft: &mut Draft, service: ServiceId, crowds: &Crowds) {
    if !is_unbalanced(draft, service) {
        let zones = named_zones(crowds);
        let text = format!("is not{BALANCED}{zones}. AZ Rebalancing in progress.");
        push(draft, service, &text);
    }
}

/// The zones are even: worth a word only if they were not.
pub(super) fn balanced(draft: &mut Draft, service: ServiceId, crowds: &Crowds) {
    if is_unbalanced(draft, service) {
        push(draft, service, &format!("is{BALANCED}{}.", named_zones(crowds)));
    }
}

fn is_unbalanced(draft: &Draft, service: ServiceId) -> bool {
    let mut said = draft.state().events(service).rev().map(|(_, event)| &*event.text);
    said.find(|text| text.contains(BALANCED)).is_some_and(|text| text.contains(" is not"))
}

pub(super) fn started_in(draft: &mut Draft, service: ServiceId, zone: &str, tasks: &[TaskId]) {
    let (number, tasks) = (tasks.len(), named(tasks));
    push(draft, service, &format!("{STARTED}{number} tasks in {zone} to AZ Rebalance: {tasks}."));
}

/// Tasks would move to a zone that has no room for them.
pub(super) fn no_room(draft: &mut Draft, now: Time, service: ServiceId, zone: &str) {
    let why = "because no container instance met all of its requirements.";
    let text = format!("{NO_ROOM}{zone} {why}");
    let said = {
        let mut history = draft.state().events(service).rev();
        let last = history.find(|(_, event)| event.text.contains(NO_ROOM));
        last.is_some_and(|(_, event)| {
            event.text.ends_with(&text) && now.since(event.at) < limits::EVENT_REPEAT
        })
    };
    if !said {
        push(draft, service, &text);
    }
}

/// As ECS puts it: `6 tasks in az-a, 6 tasks in az-b, and 0 tasks in az-c`.
fn named_zones(crowds: &Crowds) -> String {
    let zones: Vec<String> =
        crowds.iter().map(|(zone, tasks)| format!("{tasks} tasks in {zone}")).collect();
    match zones.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{}, and {last}", others.join(", ")),
        _ => zones.concat(),
    }
}

pub(super) fn throttled(draft: &mut Draft, now: Time, service: ServiceId, backoff: Backoff) {
    if backoff.failures >= THROTTLE_SHOWN_FROM {
        once(draft, now, service, THROTTLED, "");
    }
}

/// A deployment that shifts traffic has taken a turn from there; the end of one that failed is told
/// by `halted`.
pub(super) fn turned(draft: &mut Draft, service: ServiceId, deployment: DeploymentId, was: &Shift) {
    let Some(is) = draft.state().shift(service).cloned() else { return };
    let (id, stage) = (deployment.shown(), is.stage.shown());
    let mut text = format!("(deployment {id}) deployment reached lifecycle stage {stage}.");
    let shares = [("production", was.production, is.production), ("test", was.test, is.test)];
    for (name, was, is) in shares {
        if was != is {
            let percent = is.percent();
            let _ = write!(text, " {percent}% of {name} traffic shifts to it.");
        }
    }
    if let Some(hook) = is.hook_id() {
        let whom = is.endpoint().map_or("ContinueServiceDeployment", Endpoint::shown);
        let _ = write!(text, " It waits for {whom} (hook {hook}).");
    }
    push(draft, service, &text);
}

pub(super) fn stuck(draft: &mut Draft, now: Time, service: &Service) {
    once(draft, now, service.id, STUCK, "");
}

/// What the history says of a service that can get no further, if it is so.
pub(super) fn stuck_as_said(state: &State, service: ServiceId) -> Option<Arc<str>> {
    let said = state.events(service).rev().find(|(_, event)| event.text.ends_with(STUCK));
    said.map(|(_, event)| event.text.clone())
}

/// A mass loss is not acted on yet.
pub(super) fn held_back(draft: &mut Draft, service: ServiceId, silent: usize) {
    let text = format!("has tasks on {silent} container instances {HELD}");
    push(draft, service, &text);
}

/// Why a strict task of a lost instance is not replaced yet. Said once per task.
pub(super) fn out_of_reach(draft: &mut Draft, now: Time, task: &Task, at: Time) {
    let Some(service) = task.service() else { return };
    let secs = at.since(now).0.div_ceil(1000);
    let text = format!("(task {}) is out of reach; it is replaced in {secs} s, {STOPPED}", task.id);
    once(draft, now, service, &text, STOPPED);
}

/// Why nothing fits; `closest` is the instance that passed most filters, and what stopped it.
pub(super) fn unplaced(
    draft: &mut Draft,
    now: Time,
    service: ServiceId,
    task: TaskId,
    closest: Option<(InstanceId, Blocker)>,
) {
    let Some((instance, blocker)) = closest.filter(|(_, b)| *b != Blocker::Inactive) else {
        let why = " Reason: No Container Instances were found in your cluster.";
        return once(draft, now, service, &format!("{UNPLACED}{why}"), why);
    };
    let why: String = match blocker {
        Blocker::Inactive | Blocker::Agent => " encountered error \"AGENT\".".into(),
        Blocker::Cpu => " has insufficient CPU units available.".into(),
        Blocker::Memory => " has insufficient memory available.".into(),
        Blocker::Ports => " is already using a port required by your task.".into(),
        Blocker::Constraint => " runs a task of the same group (distinctInstance).".into(),
        Blocker::MemberOf(number) => {
            let query = member(draft.state(), task, number);
            format!(" encountered error \"MemberOf placement constraint unsatisfied.\": {query}.")
        }
        Blocker::Resource(number) => {
            format!(" has insufficient {} available.", resource(draft.state(), task, number))
        }
        Blocker::Skew => " is where one more task would exceed the maxSkew of your spread.".into(),
        Blocker::Reserve => " is in a zone whose reserve is kept free of growth.".into(),
    };
    let why: &str = &why;
    let text = format!("{UNPLACED} The closest matching (container-instance {instance}){why}");
    once(draft, now, service, &text, why);
}

/// The name of a named resource that the task wants.
fn resource(state: &State, task: TaskId, number: u8) -> String {
    let spec = state.task(task).and_then(|task| state.spec_of(task)).unwrap_or_default();
    let name = spec.named_reservation().into_keys().nth(usize::from(number));
    name.unwrap_or_else(|| "of a resource".into())
}

/// The expression of a `memberOf` constraint of the task.
fn member(state: &State, task: TaskId, number: u8) -> String {
    let task = state.task(task);
    let query = task.and_then(|task| state.members_of(task).nth(usize::from(number)));
    query.map_or_else(|| "of your task".into(), |query| format!("\"{query}\""))
}

/// Why a task of RunTask was refused: ECS's `failures[].reason` first, then how many instances each
/// reason removed.
pub(super) fn refusal(state: &State, task: TaskId, waiting: &Waiting) -> Arc<str> {
    // The later the filter, the closer the instance was.
    let blockers = waiting.removed.iter().map(|(blocker, _)| *blocker);
    let Some(closest) = blockers.max_by_key(|blocker| blocker.depth()) else {
        return Arc::from("No Container Instances were found in your cluster.");
    };
    let row = state.task(task).map(|task| &**task);
    let code = |blocker: Blocker| row.map(|row| state.code(row, blocker)).unwrap_or_default();
    let named = |blocker: Blocker| match blocker {
        Blocker::MemberOf(number) => {
            format!("{} memberOf {}", code(blocker), member(state, task, number))
        }
        Blocker::Constraint => format!("{} distinctInstance", code(blocker)),
        Blocker::Skew => format!("{} maxSkew", code(blocker)),
        _ => code(blocker),
    };
    let counts: Vec<String> = waiting
        .removed
        .iter()
        .map(|(blocker, count)| format!("{} {count}", named(*blocker)))
        .collect();
    let all = waiting.instances;
    reason(&format!("{} (of {all} container instances: {})", code(closest), counts.join(", ")))
}

/// Written unless the history has said the same since the service last got further. Texts with the
/// same beginning up to the subject and the same `ending` are the same cause.
fn once(draft: &mut Draft, now: Time, service: ServiceId, text: &str, ending: &str) {
    let head: String = text.chars().take(40).collect();
    let mut said = false;
    for (_, event) in draft.state().events(service).rev() {
        if event.text.ends_with(STEADY) || event.text.contains(STARTED) {
            break;
        }
        if event.text.contains(&head) && event.text.ends_with(ending) {
            said = now.since(event.at) < limits::EVENT_REPEAT;
            break;
        }
    }
    if !said {
        push(draft, service, text);
    }
}

fn push(draft: &mut Draft, service: ServiceId, text: &str) {
    let Some(row) = draft.state().service(service) else { return };
    let text = Arc::from(format!("(service {}) {text}", row.spec.name));
    draft.push(Step::Event { service, text });
}

fn named(tasks: &[TaskId]) -> String {
    let mut text = String::new();
    for task in tasks.iter().take(TASKS_NAMED_MAX) {
        let _ = write!(text, "{}(task {task})", if text.is_empty() { "" } else { " " });
    }
    if let Some(more) = tasks.len().checked_sub(TASKS_NAMED_MAX).filter(|more| *more > 0) {
        let _ = write!(text, " and {more} more");
    }
    text
}
