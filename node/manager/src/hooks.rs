//! Lifecycle hooks whose targets are endpoints: the leader calls each that a deployment waits for,
//! and proposes what it answered.
//!
//! Who is to be called is in the state, when it was last called is not: a new leader calls at once,
//! so that an endpoint hears of a hook at least once, perhaps again, with the same `executionId`.
//! It does not know what a deployment does next. Invariants: one call per hook at a time, and at
//! most `HOOK_CALLS_MAX`; what is proposed carries this reign's epoch.

use crate::endpoints::Called;
use crate::hub::Hub;
use crate::limits::{HOOK_CALLS_MAX, HOOK_RETRY_FIRST, HOOK_RETRY_MAX, PROPOSE_WAIT, RETRY_PAUSE};
use muster_model::{
    Command, DeploymentId, Entry, Epoch, Error, HookAction, Principal, ServiceId, Shift, State,
    Step,
};
use muster_proto::convert::hook::HookStatus;
use muster_proto::view;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// One hook of one deployment: its `executionId` in parts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hook {
    service: ServiceId,
    deployment: DeploymentId,
    id: Arc<str>,
}

/// What this leader remembers of a hook that waits.
struct Waiting {
    due: Instant,
    /// Calls in a row that came to nothing.
    failures: u32,
    under_way: bool,
}

struct Caller<'a> {
    hub: &'a Arc<Hub>,
    epoch: Epoch,
    states: watch::Receiver<Arc<State>>,
    waiting: BTreeMap<Hook, Waiting>,
    calls: JoinSet<(Hook, Called)>,
}

enum Event {
    State,
    Due,
    Called(Result<(Hook, Called), JoinError>),
}

/// Runs until `ended`.
pub async fn keep(hub: &Arc<Hub>, epoch: Epoch, ended: &CancellationToken) {
    let states = hub.replica.watch();
    let (waiting, calls) = (BTreeMap::new(), JoinSet::new());
    let mut caller = Caller { hub, epoch, states, waiting, calls };
    // What is cut off here the next leader does again.
    ended.run_until_cancelled(caller.run()).await;
    caller.calls.shutdown().await;
}

impl Caller<'_> {
    async fn run(&mut self) {
        loop {
            let state = self.look();
            self.start(&state);
            match self.select().await {
                Event::State | Event::Due => {}
                Event::Called(Ok((hook, called))) => self.hear(hook, called).await,
                // Its hook is lost with it: all are called again.
                Event::Called(Err(error)) => {
                    tracing::error!(%error, "the call of a lifecycle hook failed");
                    self.calls.shutdown().await;
                    self.waiting.clear();
                }
            }
        }
    }

    async fn select(&mut self) -> Event {
        let room = self.calls.len() < HOOK_CALLS_MAX;
        let idle = self.waiting.values().filter(|hook| room && !hook.under_way);
        let due = idle.map(|hook| hook.due).min();
        let due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Ok(()) = self.states.changed() => Event::State,
            Some(called) = self.calls.join_next() => Event::Called(called),
            () = due => Event::Due,
        }
    }

    /// Forgets what waits no longer, once its call has ended, and learns what does since.
    fn look(&mut self) -> Arc<State> {
        let state = self.states.borrow_and_update().clone();
        let now = Instant::now();
        let mut known = std::mem::take(&mut self.waiting);
        for shift in state.awaiting_endpoints() {
            let Some(hook) = Hook::of(shift) else { continue };
            let fresh = Waiting { due: now, failures: 0, under_way: false };
            let row = known.remove(&hook).unwrap_or(fresh);
            self.waiting.insert(hook, row);
        }
        self.waiting.extend(known.into_iter().filter(|(_, row)| row.under_way));
        state
    }

    /// Calls what is due, the longest due first.
    fn start(&mut self, state: &State) {
        let now = Instant::now();
        let due = self.waiting.iter().filter(|(_, row)| !row.under_way && row.due <= now);
        let mut due: Vec<(Instant, Hook)> =
            due.map(|(hook, row)| (row.due, hook.clone())).collect();
        due.sort();
        due.truncate(HOOK_CALLS_MAX.saturating_sub(self.calls.len()));
        for (_, hook) in due {
            let Some(row) = self.waiting.get_mut(&hook) else { continue };
            row.due = now + HOOK_RETRY_FIRST;
            let call = hook.waits_in(state).and_then(|shift| {
                Some((shift.endpoint()?.url.clone(), view::hook_call(state, shift)?))
            });
            let Some((url, body)) = call else { continue };
            row.under_way = true;
            let span = tracing::info_span!("hook.call", execution = %body["executionId"]);
            let endpoints = self.hub.endpoints.clone();
            let call = async move { (hook, endpoints.call(&url, &body).await) };
            self.calls.spawn(call.instrument(span));
        }
    }

    async fn hear(&mut self, hook: Hook, called: Called) {
        let outcome = match &called {
            Called::Answered(HookStatus::Succeeded) => "succeeded",
            Called::Answered(HookStatus::Failed) | Called::Wrong(_) => "failed",
            Called::Answered(HookStatus::InProgress(_)) => "in_progress",
            Called::Failed(_) => "error",
        };
        metrics::counter!("muster_leader_hook_calls_total", "outcome" => outcome).increment(1);
        let now = Instant::now();
        let Some(row) = self.waiting.get_mut(&hook) else { return };
        row.under_way = false;
        let (answer, why) = match called {
            Called::Answered(HookStatus::InProgress(delay)) => {
                (row.due, row.failures) = (now + delay, 0);
                return;
            }
            Called::Failed(why) => {
                row.due = now + pause_after(row.failures);
                row.failures = row.failures.saturating_add(1);
                let first = row.failures == 1;
                let why = format!("{why}; it is called again until the hook times out");
                if first {
                    self.say(&hook, None, &why).await;
                }
                return;
            }
            Called::Answered(HookStatus::Succeeded) => {
                (HookAction::Continue, "answered SUCCEEDED".to_owned())
            }
            Called::Answered(HookStatus::Failed) => {
                (HookAction::Rollback, "answered FAILED".to_owned())
            }
            Called::Wrong(why) => (HookAction::Rollback, why),
        };
        // If the answer is not taken, because somebody paused the deployment, it is asked again.
        row.due = now + HOOK_RETRY_FIRST;
        self.say(&hook, Some(answer), &why).await;
    }

    /// Proposes what an endpoint said, and the line of the service's history that tells of it.
    async fn say(&self, hook: &Hook, answer: Option<HookAction>, why: &str) {
        let state = self.hub.replica.state();
        let Some(shift) = hook.waits_in(&state) else { return };
        let Some(row) = state.service(hook.service) else { return };
        let Some(endpoint) = shift.endpoint() else { return };
        let (service, deployment, id) = (hook.service, hook.deployment, hook.id.clone());
        let mut steps = Vec::new();
        if let Some(answer) = answer {
            steps.push(Step::AnswerHook { service, deployment, hook: id.clone(), answer });
        }
        let (name, endpoint) = (&row.spec.name, endpoint.shown());
        let text = format!(
            "(service {name}) (deployment {}) hook {id}: {endpoint} {why}.",
            deployment.shown()
        );
        steps.push(Step::Event { service, text: text.into() });
        self.propose(Command::Plan { epoch: self.epoch, steps }).await;
    }

    /// Until it is known whether it was applied, or the reign is over.
    async fn propose(&self, command: Command) {
        let entry = Entry {
            request: self.hub.ids().request(),
            at: self.hub.now(),
            by: Principal::Manager(self.hub.me),
            trace: None,
            command,
        };
        loop {
            let deadline = muster_replica::Instant::now() + PROPOSE_WAIT;
            let applied = match self.hub.replica.propose(entry.clone(), deadline).await {
                Ok(applied) => self.hub.replica.applied(applied.index, deadline).await,
                Err(error) => Err(error),
            };
            match applied {
                Ok(_) => return,
                Err(error @ (Error::Unavailable { .. } | Error::UnknownOutcome { .. })) => {
                    tracing::debug!(%error, "a lifecycle hook's answer is proposed again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "a lifecycle hook's answer was refused");
                    return;
                }
            }
        }
    }
}

impl Hook {
    /// The hook that the shift waits for.
    fn of(shift: &Shift) -> Option<Self> {
        let id = shift.hook_id()?.into();
        Some(Self { service: shift.service, deployment: shift.green, id })
    }

    /// The shift, if it still waits for this very hook.
    fn waits_in<'s>(&self, state: &'s State) -> Option<&'s Arc<Shift>> {
        state.shift(self.service).filter(|shift| Self::of(shift).as_ref() == Some(self))
    }
}

/// Doubles from the first to the longest.
fn pause_after(failures: u32) -> Duration {
    HOOK_RETRY_FIRST.saturating_mul(2_u32.saturating_pow(failures)).min(HOOK_RETRY_MAX)
}
