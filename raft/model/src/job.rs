//! Jobs: runs of a task definition that are over once enough of them have succeeded. Kubernetes'
//! Job in ECS's words; how long an attempt may take and what ends one is AWS Batch's.
//!
//! A row holds what a user wrote and how far it has come, so that whoever leads goes on from there.
//! It does not know which tasks those were: `State::tasks_of_job` has those that are remembered.
//! Invariant: while a job has not ended, `attempts` less those that ended are its tasks that have
//! not, and never more than `completions` and `retries` together.

use crate::ids::{ClusterId, DefinitionId, JobId, TaskId};
use crate::limits;
use crate::service::Backoff;
use crate::spec::{Overrides, Tags, TaskDefinition};
use crate::state::State;
use crate::task::{Desired, Phase, Task};
use crate::time::{Millis, Time};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    /// While it has not ended it has the name to itself there.
    pub cluster: ClusterId,
    pub definition: DefinitionId,
    #[serde(with = "crate::stored::named")]
    pub spec: Arc<JobSpec>,
    /// Tasks that were made.
    pub attempts: u32,
    /// Of them: those that ended and succeeded (`Task::succeeded`), before the job ended.
    pub succeeded: u32,
    /// Those that ended otherwise, before the job ended.
    pub failed: u32,
    /// As a service's: what fails again and again is started ever more seldom.
    pub backoff: Backoff,
    pub last_failure: Option<JobFailure>,
    pub created_at: Time,
    /// When the first of its tasks was RUNNING.
    pub started_at: Option<Time>,
    pub end: Option<JobEnd>,
    pub version: u64,
}

/// What is asked of jobs in the log. Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobCommand {
    Run {
        id: JobId,
        cluster: ClusterId,
        definition: DefinitionId,
        #[serde(with = "crate::stored::named")]
        spec: Arc<JobSpec>,
    },
    /// It ends as STOPPED, and its tasks are stopped.
    Stop { id: JobId, reason: Arc<str> },
    /// Forgets one that has ended.
    Delete { id: JobId },
}

/// What a user writes; stored by name because it will gain fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobSpec {
    pub name: String,
    /// Tasks that are to succeed.
    pub completions: u32,
    /// Its tasks that may be there at once.
    pub parallelism: u32,
    /// Tasks that may fail before the job does: Kubernetes' `backoffLimit`.
    pub retries: u32,
    /// From the request to the end of the last task: Kubernetes' `activeDeadlineSeconds`.
    pub timeout_secs: Option<u32>,
    /// From RUNNING, for each task: AWS Batch's `attemptDurationSeconds`.
    pub attempt_timeout_secs: Option<u32>,
    /// Empty: the family's.
    pub group: String,
    pub overrides: Overrides,
    pub tags: Tags,
}

/// The last task that failed, and what users are told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFailure {
    pub task: TaskId,
    pub reason: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnd {
    pub outcome: JobOutcome,
    pub at: Time,
    /// Empty if it succeeded.
    pub reason: Arc<str>,
}

/// Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobOutcome {
    Succeeded,
    /// More tasks failed than may, or it took too long.
    Failed,
    /// By a user.
    Stopped,
}

/// What users see of a job's course.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// None of its tasks has been RUNNING yet.
    Pending,
    Running,
    Ended(JobOutcome),
}

impl JobState {
    pub const ALL: [JobState; 5] = [
        Self::Pending,
        Self::Running,
        Self::Ended(JobOutcome::Succeeded),
        Self::Ended(JobOutcome::Failed),
        Self::Ended(JobOutcome::Stopped),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Ended(JobOutcome::Succeeded) => "SUCCEEDED",
            Self::Ended(JobOutcome::Failed) => "FAILED",
            Self::Ended(JobOutcome::Stopped) => "STOPPED",
        }
    }
}

impl Job {
    pub fn state(&self) -> JobState {
        match (&self.end, self.started_at) {
            (Some(end), _) => JobState::Ended(end.outcome),
            (None, Some(_)) => JobState::Running,
            (None, None) => JobState::Pending,
        }
    }

    /// Tasks that were made and have not ended, as long as the job has not.
    pub fn open_attempts(&self) -> u32 {
        self.attempts.saturating_sub(self.succeeded.saturating_add(self.failed))
    }

    /// Tasks that may be started beside those that are there.
    pub fn room(&self) -> u32 {
        if self.end.is_some() {
            return 0;
        }
        let wanted = self.spec.completions.saturating_sub(self.succeeded);
        wanted.min(self.spec.parallelism).saturating_sub(self.open_attempts())
    }

    /// When it has taken too long.
    pub fn deadline(&self) -> Option<Time> {
        Some(self.created_at + secs(self.spec.timeout_secs?))
    }

    /// When one of its tasks has taken too long.
    pub fn attempt_deadline(&self, task: &Task) -> Option<Time> {
        Some(task.observed.started_at? + secs(self.spec.attempt_timeout_secs?))
    }

    /// `startedBy` of its tasks.
    pub fn started_by(&self) -> Arc<str> {
        Arc::from(format!("job/{}", self.spec.name))
    }
}

fn secs(secs: u32) -> Millis {
    Millis::from_secs(u64::from(secs))
}

impl Task {
    /// It ended by itself, and all its essential containers with 0. `spec` is the definition it
    /// runs by.
    pub fn succeeded(&self, spec: &TaskDefinition) -> bool {
        let ended = self.desired == Desired::Running && self.observed.phase == Phase::Stopped;
        let mut essential = spec.containers.iter().filter(|container| container.essential);
        ended && essential.all(|container| self.exit_code(&container.name) == Some(0))
    }

    fn exit_code(&self, container: &str) -> Option<i32> {
        let mut seen = self.observed.containers.iter();
        seen.find(|c| &*c.name == container)?.exit_code
    }

    /// Why it did not succeed: ECS's `stoppedReason`, and the first essential container that says
    /// more.
    pub fn failure(&self, spec: &TaskDefinition) -> String {
        let reason = self.stopped_reason();
        let reason = reason.as_deref().unwrap_or("Task stopped");
        let essential = spec.containers.iter().filter(|container| container.essential);
        let code = |name: &str| self.exit_code(name).filter(|code| *code != 0);
        let mut codes = essential.filter_map(|c| Some((&c.name, code(&c.name)?)));
        match codes.next() {
            Some((name, code)) => format!("{reason} (container {name}: exit code {code})"),
            None => reason.to_owned(),
        }
    }
}

impl State {
    pub fn job(&self, id: JobId) -> Option<&Arc<Job>> {
        self.jobs.get(&id)
    }
    pub fn jobs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.values()
    }
    /// Jobs of a cluster, ended ones included: by name, those of one name the oldest first.
    pub fn jobs_in(&self, cluster: ClusterId) -> impl Iterator<Item = &Arc<Job>> {
        self.index
            .job_names
            .range((cluster, Arc::from(""), JobId::from_bits(0))..)
            .take_while(move |(c, ..)| *c == cluster)
            .filter_map(|(.., id)| self.jobs.get(id))
    }
    /// The one of this name that has not ended, else the newest.
    pub fn job_named(&self, cluster: ClusterId, name: &str) -> Option<&Arc<Job>> {
        let key = |bits| (cluster, Arc::from(name), JobId::from_bits(bits));
        let named = self.index.job_names.range(key(0)..=key(u128::MAX));
        let mut newest = None;
        for row in named.filter_map(|(.., id)| self.jobs.get(id)) {
            newest = Some(row);
            if row.end.is_none() {
                break;
            }
        }
        newest
    }
    /// How many have not ended.
    pub fn open_jobs(&self) -> usize {
        self.jobs.len().saturating_sub(self.index.jobs_ended.len())
    }
    /// Tasks of a job that are still remembered, ended ones included.
    pub fn tasks_of_job(&self, job: JobId) -> impl Iterator<Item = &Arc<Task>> {
        let id = TaskId::from_bits;
        self.index
            .tasks_of_job
            .range((job, id(0))..=(job, id(u128::MAX)))
            .filter_map(|(_, id)| self.tasks.get(id))
    }
    /// Jobs of a cluster beyond the history that is kept, the longest ended first.
    pub(crate) fn surplus_jobs(&self, cluster: ClusterId) -> Vec<JobId> {
        let key = |at, bits| (cluster, Time(at), JobId::from_bits(bits));
        let ended = self.index.jobs_ended.range(key(0, 0)..=key(u64::MAX, u128::MAX));
        let ended: Vec<JobId> = ended.map(|(.., id)| *id).collect();
        let surplus = ended.len().saturating_sub(limits::ENDED_JOBS_PER_CLUSTER_MAX);
        ended[..surplus].to_vec()
    }

    pub(crate) fn put_job(&mut self, row: Arc<Job>) {
        self.remove_job(row.id);
        let name = Arc::from(row.spec.name.as_str());
        self.index.job_names.insert((row.cluster, name, row.id));
        if let Some(end) = &row.end {
            self.index.jobs_ended.insert((row.cluster, end.at, row.id));
        }
        self.jobs.insert(row.id, row);
    }

    pub(crate) fn remove_job(&mut self, id: JobId) {
        let Some(old) = self.jobs.remove(&id) else { return };
        let name = Arc::from(old.spec.name.as_str());
        self.index.job_names.remove(&(old.cluster, name, id));
        if let Some(end) = &old.end {
            self.index.jobs_ended.remove(&(old.cluster, end.at, id));
        }
    }
}
