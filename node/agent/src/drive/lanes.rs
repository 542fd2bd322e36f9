//! In which order actions are carried out: those of one container one after the other, different
//! containers and tasks beside each other.
//!
//! A hung pull or container holds up only what must come after it. Journalling that a task stops
//! comes before its signals; deleting a task comes after everything of it, and gives up its pull.
//! Invariant: an action runs once, and is owned here until it has ended.

use crate::drive::engine::Engine;
use crate::spans;
use futures::future::{BoxFuture, FutureExt, Shared, join_all};
use muster_control::io::Signal;
use muster_model::dispatch::Assignment;
use muster_model::life::HealthCheck;
use muster_model::{TaskId, TaskReport, TraceId};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// How long a stopping agent waits for actions under way: a `runc start` is over in a fraction.
const FINISH_WAIT: Duration = Duration::from_secs(5);

/// Resolves when an action has ended, whichever way.
type Done = Shared<BoxFuture<'static, ()>>;

/// Actions under way and waiting.
pub struct Lanes {
    engine: Arc<dyn Engine>,
    /// Places for actions that start processes.
    starts: Arc<Semaphore>,
    /// Places for pulls.
    pulls: Arc<Semaphore>,
    /// Ends health checks under way.
    checks: CancellationToken,
    running: JoinSet<()>,
    /// Whose action each running one is.
    owners: HashMap<Id, TaskId>,
    lanes: HashMap<TaskId, Lane>,
    /// Whose journey a task's actions belong to, until it is deleted.
    traces: HashMap<TaskId, TraceId>,
}

/// What is under way for one task.
#[derive(Default)]
struct Lane {
    /// The newest action of each container; `None`: of the task's journal.
    last: HashMap<Option<Arc<str>>, Done>,
    pull: CancellationToken,
    pulling: Option<Done>,
    /// Actions that have not ended.
    open: usize,
}

impl Lanes {
    pub fn new(engine: Arc<dyn Engine>, starts_max: usize, pulls_max: usize) -> Self {
        Self {
            engine,
            starts: Arc::new(Semaphore::new(starts_max.max(1))),
            pulls: Arc::new(Semaphore::new(pulls_max.max(1))),
            checks: CancellationToken::new(),
            running: JoinSet::new(),
            owners: HashMap::new(),
            lanes: HashMap::new(),
            traces: HashMap::new(),
        }
    }

    /// The brain's own picture of some tasks.
    pub fn learn(&self, reports: &[TaskReport]) {
        self.engine.learn(reports);
    }

    /// Resolves when an action has ended; never while there is none.
    pub async fn moved(&mut self) {
        let id = match self.running.join_next_with_id().await {
            None => return std::future::pending().await,
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => {
                tracing::error!(%error, "a container action's task failed");
                error.id()
            }
        };
        let Some(task) = self.owners.remove(&id) else { return };
        if let Some(lane) = self.lanes.get_mut(&task) {
            lane.open -= 1;
            if lane.open == 0 {
                self.lanes.remove(&task);
            }
        }
    }

    pub fn pull(&mut self, assignment: Arc<Assignment>) {
        let (engine, pulls, task) = (self.engine.clone(), self.pulls.clone(), assignment.task);
        self.learn_trace(&assignment);
        let span = self.linked(task, tracing::info_span!("container.pull", %task));
        let given_up = self.lane(task).pull.clone();
        let action = async move {
            let pull = async {
                let _place = pulls.acquire_owned().await;
                engine.pull(assignment).await;
            };
            // A task that is deleted while it is pulled needs no image any more.
            let _ = given_up.run_until_cancelled(pull).await;
        };
        let done = self.spawn(task, Vec::new(), action.instrument(span).boxed());
        self.lane(task).pulling = Some(done);
    }

    pub fn create(&mut self, assignment: Arc<Assignment>, container: Arc<str>) {
        let (engine, starts, task) = (self.engine.clone(), self.starts.clone(), assignment.task);
        self.learn_trace(&assignment);
        let span = self.linked(task, tracing::info_span!("container.create", %task, %container));
        let after = self.after(task, &[Some(container.clone())]);
        let name = container.clone();
        let action = async move {
            let _place = starts.acquire_owned().await;
            engine.create(assignment, name).await;
        };
        self.push(task, Some(container), after, action.instrument(span).boxed());
    }

    pub fn start(&mut self, task: TaskId, container: Arc<str>) {
        let (engine, starts) = (self.engine.clone(), self.starts.clone());
        let span = self.linked(task, tracing::info_span!("container.start", %task, %container));
        let after = self.after(task, &[Some(container.clone())]);
        let name = container.clone();
        let action = async move {
            let _place = starts.acquire_owned().await;
            engine.start(task, name).await;
        };
        self.push(task, Some(container), after, action.instrument(span).boxed());
    }

    pub fn restart(&mut self, task: TaskId, container: Arc<str>) {
        let (engine, starts) = (self.engine.clone(), self.starts.clone());
        let span = self.linked(task, tracing::info_span!("container.restart", %task, %container));
        let after = self.after(task, &[Some(container.clone())]);
        let name = container.clone();
        let action = async move {
            let _place = starts.acquire_owned().await;
            engine.restart(task, name).await;
        };
        self.push(task, Some(container), after, action.instrument(span).boxed());
    }

    /// Beside everything else: a check that hangs holds up no signal. There are as many at once as
    /// containers here, one of each.
    pub fn check(
        &mut self,
        task: TaskId,
        container: Arc<str>,
        number: u32,
        check: Arc<HealthCheck>,
    ) {
        let (engine, given_up) = (self.engine.clone(), self.checks.clone());
        let action = async move {
            let check = engine.check(task, container, number, check);
            // An agent that stops needs no outcome, and the next one checks anew.
            let _ = given_up.run_until_cancelled(check).await;
        };
        // Nothing comes after it.
        drop(self.spawn(task, Vec::new(), action.boxed()));
    }

    pub fn stopping(&mut self, task: TaskId) {
        let engine = self.engine.clone();
        let after = self.after(task, &[None]);
        let action = async move { engine.stopping(task).await };
        self.push(task, None, after, action.boxed());
    }

    pub fn signal(&mut self, task: TaskId, container: Arc<str>, signal: Signal) {
        let engine = self.engine.clone();
        let after = self.after(task, &[Some(container.clone()), None]);
        let name = container.clone();
        let action = async move { engine.signal(task, name, signal).await };
        self.push(task, Some(container), after, action.boxed());
    }

    pub fn delete(&mut self, task: TaskId) {
        let engine = self.engine.clone();
        let lane = self.lane(task);
        lane.pull.cancel();
        // A later pull of the same task, should there be one, is not given up.
        lane.pull = CancellationToken::new();
        let after = lane.last.values().chain(&lane.pulling).cloned().collect();
        let span = self.linked(task, tracing::info_span!("container.delete", %task));
        self.traces.remove(&task);
        let action = async move { engine.delete(task).await };
        self.push(task, None, after, action.instrument(span).boxed());
    }

    /// Lets actions under way end, for a while, then gives them up.
    pub async fn finish(mut self) {
        self.checks.cancel();
        for lane in self.lanes.values() {
            lane.pull.cancel();
        }
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(FINISH_WAIT, all).await.is_err() {
            tracing::warn!(actions = self.running.len(), "given up; found again at the next start");
        }
        self.running.shutdown().await;
    }

    fn learn_trace(&mut self, assignment: &Assignment) {
        if let Some(trace) = assignment.trace {
            self.traces.insert(assignment.task, trace);
        }
    }

    fn linked(&self, task: TaskId, span: tracing::Span) -> tracing::Span {
        spans::linked(span, self.traces.get(&task).copied())
    }

    fn lane(&mut self, task: TaskId) -> &mut Lane {
        self.lanes.entry(task).or_default()
    }

    fn after(&mut self, task: TaskId, keys: &[Option<Arc<str>>]) -> Vec<Done> {
        let lane = self.lane(task);
        keys.iter().filter_map(|key| lane.last.get(key).cloned()).collect()
    }

    /// Queues an action behind `after`, as the newest of `key`.
    fn push(
        &mut self,
        task: TaskId,
        key: Option<Arc<str>>,
        after: Vec<Done>,
        action: BoxFuture<'static, ()>,
    ) {
        let done = self.spawn(task, after, action);
        self.lane(task).last.insert(key, done);
    }

    fn spawn(&mut self, task: TaskId, after: Vec<Done>, action: BoxFuture<'static, ()>) -> Done {
        let (ended, end) = oneshot::channel::<()>();
        let handle = self.running.spawn(async move {
            join_all(after).await;
            action.await;
            // Dropped with this task also when it panics: waiting never lasts for ever.
            drop(ended);
        });
        self.owners.insert(handle.id(), task);
        self.lane(task).open += 1;
        end.map(drop).boxed().shared()
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
