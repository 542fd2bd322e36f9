//! A machine without containers: every action succeeds, after the time it was told, and containers
//! end when signalled or when their time is over.
//!
//! For simulate mode, load tests and tests: thousands of agents fit one process. It keeps what it
//! "runs" for as long as it lives, so an agent on top of it may restart and find it again.

use crate::config::SimulateConfig;
use crate::drive::engine::{Engine, Events, ExecAsk, Input, Lines, LogsAsk, Output, Samples};
use futures::StreamExt;
use muster_control::io::{ContainerEvent, Found, FoundContainer, Signal};
use muster_model::dispatch::Assignment;
use muster_model::life::HealthCheck;
use muster_model::task::{ContainerStatus, NetworkBinding};
use muster_model::{Error, Phase, TaskId, Time};
use muster_process::clock::Clock;
use muster_proto::dispatch as pb;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a container ends with when it is told to stop: 128 + SIGTERM or SIGKILL, as under runc.
const STOPPED: i32 = 143;
const KILLED: i32 = 137;

/// The pretended machine.
pub struct Hollow {
    clock: Clock,
    start: Duration,
    exit: Option<Duration>,
    inner: Mutex<Inner>,
    /// Owns the containers' own ends.
    timers: TaskTracker,
    closing: Mutex<CancellationToken>,
}

#[derive(Default)]
struct Inner {
    events: Option<Events>,
    tasks: BTreeMap<TaskId, Hold>,
    next_pid: u32,
}

/// One task as a journal and a kernel would hold it.
struct Hold {
    assignment: Arc<Assignment>,
    stopping: bool,
    containers: BTreeMap<Arc<str>, Container>,
}

struct Container {
    status: ContainerStatus,
    started_at: Option<Time>,
    ended: Option<(i32, Time)>,
}

impl Hollow {
    pub fn new(clock: Clock, config: SimulateConfig) -> Arc<Self> {
        Arc::new(Self {
            clock,
            start: Duration::from_millis(config.start_ms),
            exit: config.exit_ms.map(Duration::from_millis),
            inner: Mutex::default(),
            timers: TaskTracker::new(),
            closing: Mutex::default(),
        })
    }

    /// Tasks that have a container running: what a test compares with the cluster's word.
    pub fn running(&self) -> Vec<TaskId> {
        let inner = self.inner();
        let runs = |hold: &Hold| {
            hold.containers.values().any(|c| c.started_at.is_some() && c.ended.is_none())
        };
        inner.tasks.iter().filter(|(_, hold)| runs(hold)).map(|(task, _)| *task).collect()
    }

    /// First processes of running containers, to see that a restart changed none.
    pub fn pids(&self) -> Vec<u32> {
        let inner = self.inner();
        let containers = inner.tasks.values().flat_map(|hold| hold.containers.values());
        containers.filter(|c| c.ended.is_none()).filter_map(|c| c.status.pid).collect()
    }

    /// A container of this task ends by itself with this code.
    pub async fn end(&self, task: TaskId, exit_code: i32) {
        let names: Vec<Arc<str>> = match self.inner().tasks.get(&task) {
            Some(hold) => hold.containers.keys().cloned().collect(),
            None => Vec::new(),
        };
        for name in names {
            self.exited(task, name, exit_code).await;
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn tell(&self, task: TaskId, event: ContainerEvent) {
        let events = self.inner().events.clone();
        if let Some(events) = events {
            // Without an agent nobody listens; the next one finds what there is.
            let _ = events.send((task, event)).await;
        }
    }

    async fn exited(&self, task: TaskId, container: Arc<str>, exit_code: i32) {
        let at = (self.clock)();
        {
            let mut inner = self.inner();
            let hold = inner.tasks.get_mut(&task);
            let Some(found) = hold.and_then(|hold| hold.containers.get_mut(&container)) else {
                return;
            };
            if found.started_at.is_none() || found.ended.is_some() {
                return;
            }
            found.ended = Some((exit_code, at));
        }
        let exit_code = Some(exit_code);
        let event = ContainerEvent::Exited { container, exit_code, oom_killed: false, at };
        self.tell(task, event).await;
    }
}

/// A container's own end, if it has one.
fn end_in_time(hollow: &Arc<Hollow>, task: TaskId, container: &Arc<str>) {
    let Some(exit) = hollow.exit else { return };
    let closing = hollow.closing.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (ends, name) = (hollow.clone(), container.clone());
    hollow.timers.spawn(async move {
        if closing.run_until_cancelled(tokio::time::sleep(exit)).await.is_some() {
            ends.exited(task, name, 0).await;
        }
    });
}

/// What runc and the network would have said of a new container.
fn created(assignment: &Assignment, container: &Arc<str>, pid: u32) -> ContainerStatus {
    let mappings = assignment.spec.port_mappings().zip(&assignment.ports);
    let bindings = mappings
        .filter(|((definition, _), _)| *definition.name == **container)
        .map(|((_, mapping), host_port)| NetworkBinding {
            container_port: mapping.container_port,
            host_port: *host_port,
            protocol: mapping.protocol,
        })
        .collect();
    ContainerStatus {
        name: container.clone(),
        phase: Phase::Activating,
        runtime_id: Some(format!("hollow-{}-{container}", assignment.task).into()),
        bindings,
        pid: Some(pid),
        ..ContainerStatus::default()
    }
}

/// The engine is a handle, because containers end by themselves.
#[tonic::async_trait]
impl Engine for Arc<Hollow> {
    async fn boot(&self, events: Events) -> Result<Vec<Found>, Error> {
        *self.closing.lock().unwrap_or_else(PoisonError::into_inner) = CancellationToken::new();
        let mut inner = self.inner();
        inner.events = Some(events);
        Ok(inner.tasks.values().map(found).collect())
    }

    async fn pull(&self, assignment: Arc<Assignment>) {
        let task = assignment.task;
        let hold = Hold { assignment, stopping: false, containers: BTreeMap::new() };
        self.inner().tasks.entry(task).or_insert(hold);
        self.tell(task, ContainerEvent::PullStarted).await;
        self.tell(task, ContainerEvent::Pulled).await;
    }

    async fn create(&self, assignment: Arc<Assignment>, container: Arc<str>) {
        let task = assignment.task;
        let status = {
            let mut inner = self.inner();
            inner.next_pid += 1;
            let status = created(&assignment, &container, inner.next_pid);
            let hold = inner.tasks.entry(task).or_insert_with(|| Hold {
                assignment,
                stopping: false,
                containers: BTreeMap::new(),
            });
            let new = Container { status: status.clone(), started_at: None, ended: None };
            hold.containers.insert(container.clone(), new);
            status
        };
        self.tell(task, ContainerEvent::Created { container, status }).await;
    }

    async fn start(&self, task: TaskId, container: Arc<str>) {
        tokio::time::sleep(self.start).await;
        let at = (self.clock)();
        if let Some(hold) = self.inner().tasks.get_mut(&task)
            && let Some(found) = hold.containers.get_mut(&container)
        {
            found.started_at = Some(at);
            found.status.phase = Phase::Running;
        }
        end_in_time(self, task, &container);
        self.tell(task, ContainerEvent::Started { container, at }).await;
    }

    async fn restart(&self, task: TaskId, container: Arc<str>) {
        tokio::time::sleep(self.start).await;
        let at = (self.clock)();
        let pid = {
            let mut inner = self.inner();
            inner.next_pid += 1;
            let pid = Some(inner.next_pid);
            let hold = inner.tasks.get_mut(&task);
            if let Some(found) = hold.and_then(|hold| hold.containers.get_mut(&container)) {
                (found.started_at, found.ended, found.status.pid) = (Some(at), None, pid);
                found.status.restarts += 1;
            }
            pid
        };
        end_in_time(self, task, &container);
        self.tell(task, ContainerEvent::Restarted { container, pid, at }).await;
    }

    /// What pretends to run pretends to be well.
    async fn check(&self, task: TaskId, container: Arc<str>, number: u32, _: Arc<HealthCheck>) {
        let outcome = Ok(());
        self.tell(task, ContainerEvent::Checked { container, number, outcome }).await;
    }

    async fn stopping(&self, task: TaskId) {
        if let Some(hold) = self.inner().tasks.get_mut(&task) {
            hold.stopping = true;
        }
    }

    async fn signal(&self, task: TaskId, container: Arc<str>, signal: Signal) {
        let code = match signal {
            Signal::Stop => STOPPED,
            Signal::Kill => KILLED,
        };
        self.exited(task, container, code).await;
    }

    async fn delete(&self, task: TaskId) {
        self.inner().tasks.remove(&task);
        self.tell(task, ContainerEvent::Deleted).await;
    }

    async fn logs(&self, task: TaskId, ask: LogsAsk) -> Result<Lines, Error> {
        let inner = self.inner();
        let Some(hold) = inner.tasks.get(&task) else {
            return Err(Error::refused(format!("task {task} is not on this instance")));
        };
        let wanted = |name: &&Arc<str>| ask.container.is_empty() || ***name == *ask.container;
        let lines: Vec<Result<pb::LogLine, Error>> = hold
            .containers
            .iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, container)| {
                Ok(pb::LogLine {
                    container: name.to_string(),
                    stderr: false,
                    at_ms: container.started_at.unwrap_or_default().0,
                    line: format!("{name} pretends to run").into_bytes().into(),
                    partial: false,
                })
            })
            .collect();
        Ok(futures::stream::iter(lines).boxed())
    }

    async fn stats(&self, _task: TaskId, _follow: bool) -> Result<Samples, Error> {
        Err(Error::Unsupported {
            feature: "stats in simulate mode".to_owned(),
            instead: "nothing runs here".to_owned(),
        })
    }

    async fn exec(&self, _task: TaskId, _ask: ExecAsk, _input: Input) -> Result<Output, Error> {
        Err(Error::Unsupported {
            feature: "exec in simulate mode".to_owned(),
            instead: "nothing runs here".to_owned(),
        })
    }

    async fn close(&self) {
        self.inner().events = None;
        self.closing.lock().unwrap_or_else(PoisonError::into_inner).cancel();
    }
}

fn found(hold: &Hold) -> Found {
    let container = |container: &Container| {
        let status = container.status.clone();
        match (container.started_at, container.ended) {
            (Some(started_at), None) => FoundContainer::Running { status, started_at },
            (started_at, Some((exit_code, finished_at))) => {
                let status = ContainerStatus { exit_code: Some(exit_code), ..status };
                FoundContainer::Exited { status, started_at, finished_at }
            }
            (None, None) => FoundContainer::Missing,
        }
    };
    let names = hold.assignment.spec.containers.iter().map(|c| Arc::<str>::from(&*c.name));
    let containers = names.map(|name| {
        let found = hold.containers.get(&name).map_or(FoundContainer::Missing, container);
        (name, found)
    });
    Found {
        assignment: Assignment::clone(&hold.assignment),
        stopping: hold.stopping,
        containers: containers.collect(),
    }
}
