//! A machine that pretends to run containers, and the journal on its disk.
//!
//! It keeps what a kernel and a disk would keep: an agent that starts again finds it. It decides
//! nothing. Invariant: a container is created, started and ended at most once each.

use super::world::short;
use muster_control::io::{ContainerEvent, Found, FoundContainer, Signal};
use muster_model::dispatch::Assignment;
use muster_model::task::ContainerStatus;
use muster_model::{Millis, Phase, Resources, TaskId, Time};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Shorter than most deployments take, longer than most of their tasks need to start.
const PUSHED_EVERY: Millis = Millis(5000);

/// What a worker asks of its machine.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Pull { task: TaskId, fails: bool },
    Create { assignment: Arc<Assignment>, container: Arc<str> },
    Start { task: TaskId, container: Arc<str>, fails: bool },
    Signal { task: TaskId, container: Arc<str>, signal: Signal },
    Delete { task: TaskId },
    Check { task: TaskId, container: Arc<str>, number: u32, fails: bool },
}

impl Act {
    pub fn shown(&self) -> String {
        match self {
            Self::Pull { task, fails } => format!("{} pulled, fails {fails}", short(task)),
            Self::Create { assignment, container } => {
                format!("{} {container} created", short(assignment.task))
            }
            Self::Start { task, container, fails } => {
                format!("{} {container} started, fails {fails}", short(task))
            }
            Self::Signal { task, container, signal } => {
                format!("{} {container} gets {signal:?}", short(task))
            }
            Self::Delete { task } => format!("{} deleted", short(task)),
            Self::Check { task, container, number, fails } => {
                format!("{} {container} checked #{number}, fails {fails}", short(task))
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Machine {
    pub total: Resources,
    pub tasks: BTreeMap<TaskId, Hold>,
}

/// One task as journal and kernel hold it.
#[derive(Debug)]
pub(super) struct Hold {
    pub assignment: Arc<Assignment>,
    stopping: bool,
    containers: BTreeMap<Arc<str>, Container>,
}

#[derive(Debug)]
struct Container {
    status: ContainerStatus,
    started_at: Option<Time>,
    ended: Option<(Option<i32>, Time)>,
    /// Create or start failed.
    failed: bool,
}

impl Hold {
    /// Has a container that was started and has not ended. One that was made and is not to start
    /// any more takes nothing, and the agent has let go of it before it is gone.
    pub fn alive(&self) -> bool {
        self.containers.values().any(|c| c.started_at.is_some() && c.ended.is_none())
    }

    /// An essential container of it came to its end, whichever way.
    pub fn ended_itself(&self) -> bool {
        let essential = |name: &str| {
            self.assignment.spec.containers.iter().any(|c| c.essential && c.name == name)
        };
        self.containers.iter().any(|(name, c)| essential(name) && c.ended.is_some())
    }
}

impl Machine {
    pub fn new(total: Resources) -> Self {
        Self { total, tasks: BTreeMap::new() }
    }

    pub fn journal(&mut self, assignment: &Arc<Assignment>) {
        self.tasks.entry(assignment.task).or_insert_with(|| Hold {
            assignment: assignment.clone(),
            stopping: false,
            containers: BTreeMap::new(),
        });
    }

    pub fn stopping(&mut self, task: TaskId) {
        if let Some(hold) = self.tasks.get_mut(&task) {
            hold.stopping = true;
        }
    }

    pub fn family(&self, task: TaskId) -> String {
        self.tasks.get(&task).map(|hold| hold.assignment.family.to_string()).unwrap_or_default()
    }

    /// What an agent finds when it starts; what was made and never ran it clears first.
    pub fn found(&mut self) -> Vec<Found> {
        for hold in self.tasks.values_mut() {
            hold.containers.retain(|_, c| c.started_at.is_some() || c.ended.is_some());
        }
        self.tasks.values().map(found).collect()
    }

    /// Containers that ran have ended and left no exit code; those that never started are gone.
    pub fn lose_power(&mut self, now: Time) {
        for hold in self.tasks.values_mut() {
            hold.containers.retain(|_, c| c.started_at.is_some() || c.ended.is_some());
            for container in hold.containers.values_mut() {
                container.ended.get_or_insert((None, now));
            }
        }
    }

    pub fn act(&mut self, now: Time, act: Act) -> Vec<(TaskId, ContainerEvent)> {
        match act {
            Act::Pull { task, fails: false } => vec![(task, ContainerEvent::Pulled)],
            Act::Pull { task, fails: true } => {
                let reason = Arc::from("CannotPullContainerError: the registry is away");
                vec![(task, ContainerEvent::PullFailed { container: None, reason })]
            }
            Act::Create { assignment, container } => {
                self.journal(&assignment);
                let settled = assignment.digests.get(&container).cloned();
                let status = ContainerStatus {
                    name: container.clone(),
                    image_digest: Some(settled.unwrap_or_else(|| digest_at(now))),
                    runtime_id: Some(format!("{}-{container}", short(assignment.task)).into()),
                    ..ContainerStatus::default()
                };
                let new = Container {
                    status: status.clone(),
                    started_at: None,
                    ended: None,
                    failed: false,
                };
                let task = assignment.task;
                if let Some(hold) = self.tasks.get_mut(&task) {
                    hold.containers.insert(container.clone(), new);
                }
                vec![(task, ContainerEvent::Created { container, status })]
            }
            Act::Start { task, container, fails } => self.start(now, task, container, fails),
            Act::Signal { task, container, signal: _ } => {
                // What never started ends with the signal; what runs ends in its own time.
                let created = self.container(task, &container).filter(|c| c.started_at.is_none());
                if let Some(created) = created {
                    created.ended.get_or_insert((None, now));
                }
                Vec::new()
            }
            Act::Delete { task } => {
                self.tasks.remove(&task);
                vec![(task, ContainerEvent::Deleted)]
            }
            Act::Check { task, container, number, fails } => {
                let runs = self.container(task, &container).is_some_and(|c| c.ended.is_none());
                let outcome = if fails || !runs { Err(Arc::from("exit code 1")) } else { Ok(()) };
                vec![(task, ContainerEvent::Checked { container, number, outcome })]
            }
        }
    }

    fn start(
        &mut self,
        now: Time,
        task: TaskId,
        container: Arc<str>,
        fails: bool,
    ) -> Vec<(TaskId, ContainerEvent)> {
        let Some(found) = self.container(task, &container).filter(|c| c.ended.is_none()) else {
            return Vec::new();
        };
        if fails {
            found.ended = Some((None, now));
            found.failed = true;
            let reason: Arc<str> = Arc::from("CannotStartContainerError: no such file");
            found.status.reason = Some(reason.clone());
            return vec![(task, ContainerEvent::Failed { container, reason })];
        }
        found.started_at = Some(now);
        found.status.phase = Phase::Running;
        vec![(task, ContainerEvent::Started { container, at: now })]
    }

    /// Ends what runs of the task: which containers did.
    pub fn kill(&mut self, task: TaskId, code: i32, now: Time) -> Vec<Arc<str>> {
        let names = self.tasks.get(&task).map(|hold| hold.containers.keys().cloned().collect());
        let names: Vec<Arc<str>> = names.unwrap_or_default();
        names.into_iter().filter(|name| self.end(task, name, Some(code), now)).collect()
    }

    /// Whether it ran until now.
    pub fn end(
        &mut self,
        task: TaskId,
        container: &Arc<str>,
        code: Option<i32>,
        now: Time,
    ) -> bool {
        match self.container(task, container) {
            Some(found) if found.started_at.is_some() && found.ended.is_none() => {
                found.ended = Some((code, now));
                true
            }
            _ => false,
        }
    }

    fn container(&mut self, task: TaskId, container: &Arc<str>) -> Option<&mut Container> {
        self.tasks.get_mut(&task)?.containers.get_mut(container)
    }
}

/// What every tag means: somebody pushes every few seconds.
fn digest_at(now: Time) -> Arc<str> {
    format!("sha256:{:064x}", now.0 / PUSHED_EVERY.0).into()
}

fn found(hold: &Hold) -> Found {
    let container = |c: &Container| {
        let status = c.status.clone();
        match (c.started_at, c.ended) {
            (Some(started_at), None) => FoundContainer::Running { status, started_at },
            (started_at, Some((exit_code, finished_at))) => {
                let status = ContainerStatus { exit_code, ..status };
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
