//! Schedules: runs of tasks, or of jobs, at times, in the words of Amazon EventBridge Scheduler.
//!
//! A row holds what a user wrote, the time that comes next and the last runs. It does not know how
//! an expression is read: the leader does (`muster-calendar`) and says the next time in its plan.
//! Invariant: `next_due` is later than every run's due time.

use crate::error::Error;
use crate::ids::{ClusterId, IdSource, JobId, Revision, ScheduleId, TaskId};
use crate::job::JobSpec;
use crate::limits;
use crate::spec::{Overrides, Tags};
use crate::state::State;
use crate::task::Task;
use crate::time::{Millis, Time};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    pub id: ScheduleId,
    /// It has the name to itself there. The run starts there too.
    pub cluster: ClusterId,
    #[serde(with = "crate::stored::named")]
    pub spec: Arc<ScheduleSpec>,
    /// The due time that comes next; none if it is DISABLED or has no more.
    pub next_due: Option<Time>,
    /// The last `limits::SCHEDULE_RUNS_KEPT`, oldest first; those that go on stay.
    pub runs: Vec<ScheduleRun>,
    pub created_at: Time,
    pub updated_at: Time,
    /// Counts the changes of users, not the runs.
    pub version: u64,
}

/// What is asked of schedules in the log; `next_due` is the first time that is due from then on.
/// Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScheduleCommand {
    Create {
        id: ScheduleId,
        cluster: ClusterId,
        #[serde(with = "crate::stored::named")]
        spec: Arc<ScheduleSpec>,
        next_due: Option<Time>,
    },
    /// Replaces all that users write.
    Update {
        id: ScheduleId,
        expected_version: Option<u64>,
        #[serde(with = "crate::stored::named")]
        spec: Arc<ScheduleSpec>,
        next_due: Option<Time>,
    },
    Delete {
        id: ScheduleId,
    },
}

/// What a user writes; stored by name because it will gain fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScheduleSpec {
    pub name: String,
    /// EventBridge `ScheduleExpression`; checked where it enters.
    pub expression: String,
    /// EventBridge `ScheduleExpressionTimezone`: an IANA name.
    pub timezone: String,
    pub state: ScheduleState,
    /// EventBridge `StartDate` and `EndDate`: nothing is due before and after them.
    pub start: Option<Time>,
    pub end: Option<Time>,
    pub overlap: OverlapPolicy,
    pub missed: MissedRunPolicy,
    pub run: ScheduledRun,
    /// Each run is such a job, whose tasks are as `run` says, in place of RunTask: what finds no
    /// room waits for it. Its name, group, overrides and tags are those of the run, and empty here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobSpec>,
}

impl ScheduleSpec {
    /// Whether both are due at the same times.
    pub fn same_times(&self, other: &Self) -> bool {
        let times = |spec: &Self| (spec.state, spec.start, spec.end);
        times(self) == times(other)
            && self.expression == other.expression
            && self.timezone == other.timezone
    }
}

/// EventBridge `State`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScheduleState {
    #[default]
    Enabled,
    Disabled,
}

/// What becomes of a run that is due while an earlier one goes on; EventBridge has ALLOW
/// alone, Kubernetes' CronJob all three (`concurrencyPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OverlapPolicy {
    #[default]
    Allow,
    Skip,
    /// The earlier tasks, or the earlier job, are stopped.
    Replace,
}

/// What becomes of times that passed while no manager led.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MissedRunPolicy {
    /// A run that is later than `limits::SCHEDULE_PUNCTUAL` does not happen.
    Skip,
    /// The last of those that passed happens, if it is no later than this.
    RunOnce { within_secs: u32 },
}

impl Default for MissedRunPolicy {
    /// EventBridge's: an event is delivered if it is at most a day old.
    fn default() -> Self {
        Self::RunOnce { within_secs: limits::SCHEDULE_WITHIN_SECS_MAX }
    }
}

impl MissedRunPolicy {
    /// How late a run may be.
    pub fn latest(self) -> Millis {
        match self {
            Self::Skip => limits::SCHEDULE_PUNCTUAL,
            Self::RunOnce { within_secs } => Millis::from_secs(u64::from(within_secs)),
        }
    }
}

/// What RunTask would be asked for; of a job's tasks, `count` and `started_by` are the job's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScheduledRun {
    pub family: String,
    /// `None`: the newest ACTIVE one when the run is due.
    pub revision: Option<Revision>,
    pub count: u32,
    /// Empty: the family's.
    pub group: String,
    pub started_by: Option<String>,
    pub overrides: Overrides,
    pub tags: Tags,
}

/// What became of one due time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRun {
    pub due: Time,
    /// When that was decided.
    pub at: Time,
    /// Due times before it of which nothing became, since no manager led; at most a thousand are
    /// counted.
    pub missed: u32,
    pub outcome: RunOutcome,
}

/// Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunOutcome {
    Started {
        tasks: Vec<TaskId>,
    },
    /// This many earlier runs went on.
    Skipped {
        open: u32,
    },
    /// It was noticed too late.
    Missed,
    /// RunTask or RunJob would have been refused.
    Failed {
        why: Error,
    },
    StartedJob {
        job: JobId,
    },
}

impl RunOutcome {
    /// The word that users see.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } | Self::StartedJob { .. } => "STARTED",
            Self::Skipped { .. } => "SKIPPED",
            Self::Missed => "MISSED",
            Self::Failed { .. } => "FAILED",
        }
    }
}

impl Schedule {
    /// The ids of the tasks of the run that is due then: always the same.
    pub fn task_ids(&self, due: Time) -> Vec<TaskId> {
        let mut ids = IdSource::new(self.id.bits() ^ u128::from(due.0));
        (0..self.spec.run.count).map(|_| ids.task(due)).collect()
    }

    /// The id of the job of the run that is due then: always the same.
    pub fn job_id(&self, due: Time) -> JobId {
        IdSource::new(self.id.bits() ^ u128::from(due.0)).job(due)
    }

    /// Its name: the schedule's and the seconds since 1970, as Kubernetes' CronJob has the minutes.
    /// No schedule is due twice in a second.
    pub fn job_name(&self, due: Time) -> String {
        format!("{}-{}", self.spec.name, due.0 / 1000)
    }

    /// EventBridge Scheduler's `startedBy`, unless the user says another.
    pub fn started_by(&self) -> Arc<str> {
        match &self.spec.run.started_by {
            Some(text) => Arc::from(text.as_str()),
            None => Arc::from(format!("chronos-schedule/{}", self.spec.name)),
        }
    }
}

impl ScheduleRun {
    /// Whether some of its tasks have not ended, or its job has not.
    pub fn goes_on(&self, state: &State) -> bool {
        match &self.outcome {
            RunOutcome::StartedJob { job } => state.job(*job).is_some_and(|row| row.end.is_none()),
            _ => self.open(state).next().is_some(),
        }
    }

    /// Its tasks that have not ended; a job has its own.
    pub fn open<'s>(&'s self, state: &'s State) -> impl Iterator<Item = &'s Arc<Task>> {
        let tasks: &[TaskId] = match &self.outcome {
            RunOutcome::Started { tasks } => tasks,
            _ => &[],
        };
        let rows = tasks.iter().filter_map(|id| state.task(*id));
        rows.filter(|task| task.ended_at().is_none())
    }
}

impl State {
    pub fn schedule(&self, id: ScheduleId) -> Option<&Arc<Schedule>> {
        self.schedules.get(&id)
    }
    pub fn schedules(&self) -> impl Iterator<Item = &Arc<Schedule>> {
        self.schedules.values()
    }
    pub fn schedule_named(&self, cluster: ClusterId, name: &str) -> Option<&Arc<Schedule>> {
        self.schedule(*self.index.schedule_names.get(&(cluster, Arc::from(name)))?)
    }
    /// Schedules of a cluster, by name.
    pub fn schedules_in(&self, cluster: ClusterId) -> impl Iterator<Item = &Arc<Schedule>> {
        self.index
            .schedule_names
            .range((cluster, Arc::from(""))..)
            .take_while(move |((c, _), _)| *c == cluster)
            .filter_map(|(_, id)| self.schedules.get(id))
    }
    /// Those that will be due, the soonest first.
    pub fn due_schedules(&self) -> impl Iterator<Item = (Time, &Arc<Schedule>)> {
        let due = self.index.schedules_due.iter();
        due.filter_map(|(at, id)| Some((*at, self.schedules.get(id)?)))
    }

    pub(crate) fn put_schedule(&mut self, row: Arc<Schedule>) {
        self.remove_schedule(row.id);
        let name = (row.cluster, Arc::from(row.spec.name.as_str()));
        self.index.schedule_names.insert(name, row.id);
        row.next_due.map(|at| self.index.schedules_due.insert((at, row.id)));
        self.schedules.insert(row.id, row);
    }

    pub(crate) fn remove_schedule(&mut self, id: ScheduleId) {
        let Some(old) = self.schedules.remove(&id) else { return };
        let name = (old.cluster, Arc::from(old.spec.name.as_str()));
        self.index.schedule_names.remove(&name);
        old.next_due.map(|at| self.index.schedules_due.remove(&(at, id)));
    }
}
