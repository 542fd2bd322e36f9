//! The runtime in the words of the worker's brain: each order is carried out, and what came of it
//! is told as an event.

use super::exec;
use super::{Ended, Managers, Runtime, RuntimeConfig};
use crate::collector::killed_for_memory;
use crate::drive::engine::{
    Engine, Events, ExecAsk, ExecInput, ExecOutput, Input, Lines, LogsAsk, Output, Samples,
};
use crate::error::PullFailed;
use crate::journal::ContainerKey;
use crate::logs;
use futures::{StreamExt, stream};
use muster_control::io::{ContainerEvent, Found, Signal};
use muster_model::dispatch::Assignment;
use muster_model::life::HealthCheck;
use muster_model::task::ContainerStatus;
use muster_model::{Error, Phase, TaskId, TaskReport, Time};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// Ends of containers on their way to the brain.
const ENDED_MAX: usize = 1024;
/// Tries to delete a task that resists, and the pause between them.
const DELETE_TRIES_MAX: u32 = 5;
const DELETE_PAUSE: Duration = Duration::from_secs(1);
/// Pause between two looks whether the disk is filling.
const DISK_EVERY: Duration = Duration::from_secs(60);
/// Looks after which it is cleaned up whether it is filling or not: every ten minutes.
const CLEAN_UP_LOOKS: usize = 10;

/// Containers that are being started, and the end of each that came before the word of its start:
/// what is short ends while the runtime's program is still at it.
#[derive(Clone, Default)]
struct Starting(Arc<Mutex<HashMap<ContainerKey, Option<ContainerEvent>>>>);

impl Starting {
    fn all(&self) -> MutexGuard<'_, HashMap<ContainerKey, Option<ContainerEvent>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, key: &ContainerKey) {
        self.all().insert(key.clone(), None);
    }

    /// The end that is to be told now, after its start.
    fn finish(&self, key: &ContainerKey) -> Option<ContainerEvent> {
        self.all().remove(key).flatten()
    }

    /// The end, if it may be told at once.
    fn ended(&self, key: &ContainerKey, end: ContainerEvent) -> Option<ContainerEvent> {
        match self.all().get_mut(key) {
            Some(waits) => {
                *waits = Some(end);
                None
            }
            None => Some(end),
        }
    }
}

/// Real containers on this machine.
pub struct RuncEngine {
    runtime: Runtime,
    ended: Mutex<Option<mpsc::Receiver<Ended>>>,
    events: OnceLock<Events>,
    starting: Starting,
    tasks: TaskTracker,
    stop: tokio_util::sync::CancellationToken,
}

impl RuncEngine {
    /// Opens the machine. Needs a tokio runtime.
    ///
    /// # Errors
    /// A directory, a cgroup tree or a setting cannot be used; the text says which.
    pub fn open(
        config: RuntimeConfig,
        managers: Arc<dyn Managers>,
    ) -> crate::error::Result<Arc<Self>> {
        let (sender, ended) = mpsc::channel(ENDED_MAX);
        Ok(Arc::new(Self {
            runtime: Runtime::open(config, managers, sender)?,
            ended: Mutex::new(Some(ended)),
            events: OnceLock::new(),
            starting: Starting::default(),
            tasks: TaskTracker::new(),
            stop: tokio_util::sync::CancellationToken::new(),
        }))
    }

    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    async fn tell(&self, task: TaskId, event: ContainerEvent) {
        if let Some(events) = self.events.get() {
            // Nobody listens any more when the agent ends; the next one finds what happened.
            let _ = events.send((task, event)).await;
        }
    }

    /// What came of a start, and then its end if that came first.
    async fn tell_start(&self, key: &ContainerKey, event: ContainerEvent) {
        self.tell(key.task, event).await;
        if let Some(end) = self.starting.finish(key) {
            self.tell(key.task, end).await;
        }
    }

    fn forward_ends(&self, events: Events) {
        let taken = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut ended) = taken else { return };
        let (stop, runtime) = (self.stop.clone(), self.runtime.clone());
        let starting = self.starting.clone();
        self.tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Some(Ended { key, exit }) = ended.recv().await {
                let end = ContainerEvent::Exited {
                    container: key.name.clone(),
                    exit_code: exit.exit_code,
                    oom_killed: killed_for_memory(&exit),
                    at: Time(exit.finished_at),
                };
                let Some(end) = starting.ended(&key, end) else { continue };
                if events.send((key.task, end)).await.is_err() {
                    return;
                }
            }
        }));
        self.tasks.spawn(stop.run_until_cancelled_owned(async move {
            for look in (0..CLEAN_UP_LOOKS).cycle() {
                let runtime = runtime.clone();
                let work = move || {
                    if look == 0 || runtime.disk_fills() {
                        runtime.clean_up();
                    }
                };
                let _ = tokio::task::spawn_blocking(work).await;
                tokio::time::sleep(DISK_EVERY).await;
            }
        }));
    }

    async fn pull_all(&self, assignment: &Assignment) -> Result<(), PullFailed> {
        self.runtime.begin(assignment).await?;
        self.runtime.pull(assignment).await
    }

    fn key(&self, task: TaskId, container: &str) -> Result<ContainerKey, Error> {
        let keys = self.runtime.logged(task);
        keys.into_iter().find(|key| &*key.name == container).ok_or_else(|| {
            Error::refused(format!(
                "container {container:?} of task {task} is not on this instance"
            ))
        })
    }
}

#[tonic::async_trait]
impl Engine for RuncEngine {
    async fn boot(&self, events: Events) -> Result<Vec<Found>, Error> {
        let _ = self.events.set(events.clone());
        let booted = self.runtime.boot().await.map_err(|e| Error::refused(e.to_string()))?;
        for note in &booted.notes {
            tracing::info!(note, "cleared at start");
        }
        self.forward_ends(events);
        Ok(booted.tasks)
    }

    async fn pull(&self, assignment: Arc<Assignment>) {
        let task = assignment.task;
        self.tell(task, ContainerEvent::PullStarted).await;
        let event = match self.pull_all(&assignment).await {
            Ok(()) => ContainerEvent::Pulled,
            Err(PullFailed { container, error }) => {
                ContainerEvent::PullFailed { container, reason: error.to_string().into() }
            }
        };
        self.tell(task, event).await;
    }

    async fn create(&self, assignment: Arc<Assignment>, container: Arc<str>) {
        let event = match self.runtime.create(&assignment, &container).await {
            Ok(created) => ContainerEvent::Created {
                status: ContainerStatus {
                    name: container.clone(),
                    phase: Phase::Activating,
                    exit_code: None,
                    reason: None,
                    runtime_id: Some(created.id.into()),
                    image_digest: Some(created.image_digest.into()),
                    bindings: created.bindings,
                    address: created.address.map(|a| a.to_string().into()),
                    pid: u32::try_from(created.pid).ok(),
                    ..ContainerStatus::default()
                },
                container,
            },
            Err(e) => ContainerEvent::Failed { container, reason: e.to_string().into() },
        };
        self.tell(assignment.task, event).await;
    }

    async fn start(&self, task: TaskId, container: Arc<str>) {
        let key = ContainerKey::new(task, &container);
        self.starting.begin(&key);
        let event = match self.runtime.start(&key).await {
            Ok(at) => ContainerEvent::Started { container, at: Time(at) },
            Err(e) => ContainerEvent::Failed { container, reason: e.to_string().into() },
        };
        self.tell_start(&key, event).await;
    }

    async fn restart(&self, task: TaskId, container: Arc<str>) {
        let key = ContainerKey::new(task, &container);
        self.starting.begin(&key);
        let event = match self.runtime.restart(&key).await {
            Ok(restarted) => ContainerEvent::Restarted {
                container,
                pid: u32::try_from(restarted.pid).ok(),
                at: Time(restarted.at),
            },
            Err(e) => ContainerEvent::Failed { container, reason: e.to_string().into() },
        };
        self.tell_start(&key, event).await;
    }

    async fn check(&self, task: TaskId, container: Arc<str>, number: u32, check: Arc<HealthCheck>) {
        let key = ContainerKey::new(task, &container);
        let outcome = self.runtime.check(&key, &check).await.map_err(Arc::from);
        self.tell(task, ContainerEvent::Checked { container, number, outcome }).await;
    }

    async fn stopping(&self, task: TaskId) {
        if let Err(e) = self.runtime.stopping(task) {
            tracing::error!(%task, error = %e, "cannot journal that the task is to stop");
        }
    }

    async fn signal(&self, task: TaskId, container: Arc<str>, signal: Signal) {
        let key = ContainerKey::new(task, &container);
        match signal {
            Signal::Kill => self.runtime.kill(&key),
            Signal::Stop => {
                if let Err(e) = self.runtime.stop(&key) {
                    tracing::warn!(%task, %container, error = %e, "cannot stop; will be killed");
                }
            }
        }
    }

    async fn delete(&self, task: TaskId) {
        for attempt in 1..=DELETE_TRIES_MAX {
            match self.runtime.delete(task).await {
                Ok(()) => break,
                Err(e) => {
                    tracing::warn!(%task, attempt, error = %e, "cannot delete all of the task");
                    tokio::time::sleep(DELETE_PAUSE).await;
                }
            }
        }
        // What resists is found and tried again at the next start; the task itself is over.
        self.tell(task, ContainerEvent::Deleted).await;
    }

    fn learn(&self, reports: &[TaskReport]) {
        self.runtime.metadata().learn(reports);
    }

    async fn logs(&self, task: TaskId, ask: LogsAsk) -> Result<Lines, Error> {
        let query = logs::Query {
            tail: ask.tail.map(|n| n as usize),
            since: ask.since.map(|at| at.0),
            until: ask.until.map(|at| at.0),
            follow: ask.follow,
        };
        match ask.container.as_str() {
            "" => self.runtime.task_logs(task, query),
            name => Ok(self.runtime.container_logs(&self.key(task, name)?, query)),
        }
    }

    async fn stats(&self, task: TaskId, follow: bool) -> Result<Samples, Error> {
        self.runtime.task_stats(task, follow)
    }

    async fn exec(&self, task: TaskId, ask: ExecAsk, input: Input) -> Result<Output, Error> {
        let key = self.key(task, &ask.container)?;
        let started = self.runtime.exec(&key, &ask.command, ask.terminal);
        let mut execution = started.map_err(|e| Error::refused(e.to_string()))?;
        let to = execution.input.clone();
        let feed = input.map(Ok).forward(futures::sink::unfold(to, |to, input| async move {
            let input = match input {
                ExecInput::Stdin(bytes) => exec::Input::Bytes(bytes),
                ExecInput::StdinClosed => exec::Input::Closed,
                ExecInput::Resize { rows, columns } => exec::Input::Resize { rows, columns },
            };
            to.send(input).await.map(|()| to).map_err(drop)
        }));
        let feed = async move {
            let _ = feed.await;
        };
        // The input is carried while the output is read, and both end together.
        let mut feed = Some(Box::pin(feed));
        let output = stream::poll_fn(move |context| {
            // The whole of it moves in here: what is left outside would be dropped at once, and
            // dropping its guard kills the command.
            let execution = &mut execution;
            if let Some(carrying) = &mut feed
                && carrying.as_mut().poll(context).is_ready()
            {
                feed = None;
            }
            execution.output.poll_recv(context)
        });
        Ok(Box::pin(output.map(|piece| match piece {
            Ok(exec::Output::Stdout(bytes)) => Ok(ExecOutput::Stdout(bytes)),
            Ok(exec::Output::Stderr(bytes)) => Ok(ExecOutput::Stderr(bytes)),
            Ok(exec::Output::Exited(code)) => Ok(ExecOutput::Exited(code)),
            Err(e) => Err(Error::refused(format!("exec: {e}"))),
        })))
    }

    async fn close(&self) {
        self.stop.cancel();
        self.runtime.close().await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::{ContainerEvent, ContainerKey, Starting};
    use muster_model::{TaskId, Time};
    use std::sync::Arc;

    #[test]
    fn an_end_that_comes_before_the_word_of_its_start_waits_for_it() {
        let key = |name: &str| ContainerKey::new(TaskId::from_bits(1), &Arc::from(name));
        let end = |at| ContainerEvent::Exited {
            container: "short".into(),
            exit_code: Some(0),
            oom_killed: false,
            at: Time(at),
        };
        let starting = Starting::default();
        starting.begin(&key("short"));
        assert_eq!(starting.ended(&key("short"), end(1)), None);
        assert_eq!(starting.ended(&key("other"), end(2)), Some(end(2)));
        assert_eq!(starting.finish(&key("short")), Some(end(1)));
        assert_eq!(starting.finish(&key("short")), None, "told once");
        assert_eq!(starting.ended(&key("short"), end(3)), Some(end(3)), "of a later start");
    }
}
