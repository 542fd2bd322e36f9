//! What a hollow agent holds and has not been thanked for.
//!
//! Invariant: a change is due until a report that shows it was acknowledged in the session it was
//! sent in.

use muster_model::task::{ContainerStatus, Observed};
use muster_model::{InstanceId, Phase, TaskId, TaskReport, Time};
use muster_proto::convert::dispatch as convert;
use muster_proto::dispatch as pb;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, UNIX_EPOCH};

/// As the agent's: see `node/control/src/worker/report.rs`.
const REPORTS_PER_MESSAGE_MAX: usize = 500;
const MESSAGES_IN_FLIGHT_MAX: usize = 4;
/// What a container ends with when it is told to stop.
const STOPPED: i32 = 143;

/// What one agent holds.
pub struct Reports {
    instance: InstanceId,
    /// Each task with how far it is and when it came here.
    held: BTreeMap<TaskId, (Phase, Time)>,
    due: BTreeSet<TaskId>,
    in_flight: VecDeque<(u64, Vec<TaskId>)>,
    sequence: u64,
}

impl Reports {
    pub fn new(instance: InstanceId) -> Self {
        let (held, due, in_flight) = Default::default();
        Self { instance, held, due, in_flight, sequence: 0 }
    }

    pub fn held(&self) -> impl Iterator<Item = (TaskId, Phase)> {
        self.held.iter().map(|(task, (phase, _))| (*task, *phase))
    }

    /// A new session knows nothing of what the one before was told.
    pub fn connected(&mut self) {
        self.sequence = 0;
        let lost = std::mem::take(&mut self.in_flight);
        self.due.extend(lost.into_iter().flat_map(|(_, tasks)| tasks));
    }

    /// False if it runs already.
    pub fn run(&mut self, task: TaskId) -> bool {
        let new = !self.held.contains_key(&task);
        if new {
            self.held.insert(task, (Phase::Running, now()));
            self.due.insert(task);
        }
        new
    }

    pub fn stop(&mut self, task: TaskId) {
        self.held.insert(task, (Phase::Stopped, now()));
        self.due.insert(task);
    }

    pub fn forget(&mut self, task: TaskId) {
        self.held.remove(&task);
        self.due.remove(&task);
    }

    pub fn acked(&mut self, sequence: u64) {
        self.in_flight.retain(|(sent, _)| *sent > sequence);
    }

    /// The next message, if there is news and the manager keeps up.
    pub fn due(&mut self) -> Option<pb::Report> {
        if self.due.is_empty() || self.in_flight.len() >= MESSAGES_IN_FLIGHT_MAX {
            return None;
        }
        let tasks: Vec<TaskId> = self.due.iter().copied().take(REPORTS_PER_MESSAGE_MAX).collect();
        for task in &tasks {
            self.due.remove(task);
        }
        let reports = tasks.iter().filter_map(|task| self.report(*task)).collect();
        self.sequence += 1;
        self.in_flight.push_back((self.sequence, tasks));
        Some(pb::Report { sequence: self.sequence, reports })
    }

    fn report(&self, task: TaskId) -> Option<pb::TaskReport> {
        let (phase, since) = *self.held.get(&task)?;
        let stopped = phase == Phase::Stopped;
        let container = ContainerStatus {
            name: "main".into(),
            phase,
            runtime_id: Some(format!("hollow-{task}-main").into()),
            pid: Some(1),
            exit_code: stopped.then_some(STOPPED),
            ..ContainerStatus::default()
        };
        let observed = Observed {
            phase,
            containers: vec![container],
            pull_started_at: Some(since),
            pull_stopped_at: Some(since),
            started_at: Some(since),
            stopped_at: stopped.then_some(since),
            ..Observed::default()
        };
        Some(convert::report_to_wire(&TaskReport { task, instance: self.instance, observed }))
    }
}

fn now() -> Time {
    let since = UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO);
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
