//! What a round of planning looks at: the time, the rows that changed, the times to look again.
//!
//! Invariant: a key leaves the dirty set only when every stage that looks at it has done so.

use super::roster::draining;
use super::witness::Witness;
use muster_model::{
    Changes, IdSource, InstanceId, JobId, Millis, Phase, Service, ServiceId, State, Step, Task,
    TaskId, Time,
};
use std::collections::{BTreeMap, BTreeSet};

pub(super) struct View<'a> {
    pub now: Time,
    pub dirty: Dirty,
    /// Phases that reports on their way into the log are about to set.
    pub arriving: BTreeMap<TaskId, Phase>,
    /// Instances that missed a heartbeat while others are being lost.
    pub suspects: BTreeSet<InstanceId>,
    pub ids: &'a mut IdSource,
    pub wakes: &'a mut Wakes,
    /// Who is told why each instance was chosen, if anyone asked.
    pub witness: Option<&'a mut Witness>,
}

/// Keys whose rows, or whose neighbours, changed since a stage last looked.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub services: BTreeSet<ServiceId>,
    pub jobs: BTreeSet<JobId>,
    pub instances: BTreeSet<InstanceId>,
    /// Instances that a task ended on.
    pub relieved: BTreeSet<InstanceId>,
    /// Tasks wait, or something that could help them happened.
    pub waiting: bool,
    pub history: bool,
    /// A schedule may be due, or the first that will be is another one.
    pub schedules: bool,
    /// Every row, not only those named here.
    pub all: bool,
    deferred: BTreeSet<ServiceId>,
    deferred_jobs: BTreeSet<JobId>,
    deferred_instances: BTreeSet<InstanceId>,
    deferred_waiting: bool,
    deferred_schedules: bool,
    deferred_all: bool,
}

impl Dirty {
    pub fn is_empty(&self) -> bool {
        !self.all
            && !self.waiting
            && !self.history
            && !self.schedules
            && self.services.is_empty()
            && self.jobs.is_empty()
            && self.instances.is_empty()
    }

    pub fn everything(&mut self) {
        self.all = true;
    }

    pub fn mark(&mut self, changes: &Changes, state: &State, wakes: &mut Wakes) {
        self.services.extend(changes.services.iter().filter_map(|c| c.latest()).map(|s| s.id));
        for change in &changes.tasks {
            let Some(task) = change.latest() else { continue };
            match (&change.before, &change.after) {
                (Some(before), Some(after)) if only_seen(before, after) => {
                    if before.observed.started_at != after.observed.started_at {
                        self.jobs.extend(task.job());
                    }
                    let after = state.healthy_after(task.cluster);
                    if let Some((at, service)) = task.healthy_at(after).zip(task.service()) {
                        wakes.healthy_at(at, after, service);
                    }
                }
                _ => self.mark_task(task, state),
            }
        }
        // A setting of a cluster may say anew when its tasks count as healthy.
        let set = |change: &muster_model::diff::Change<muster_model::Cluster>| {
            let settings = |row: &Option<std::sync::Arc<muster_model::Cluster>>| {
                row.as_ref().map(|row| row.settings.clone()).unwrap_or_default()
            };
            settings(&change.before) != settings(&change.after)
        };
        self.all |= changes.clusters.iter().any(set);
        self.schedules |= !changes.schedules.is_empty();
        self.services.extend(alarmed(changes, state));
        self.jobs.extend(changes.jobs.iter().filter_map(|c| c.latest()).map(|row| row.id));
        // With what its images came to, a task of it may turn out to be a stray.
        self.services.extend(changes.pins.iter().filter_map(|c| c.latest()).map(|row| row.service));
        let protected = changes.protections.iter().filter_map(|change| change.latest());
        let tasks = protected.filter_map(|row| state.task(row.task));
        self.services.extend(tasks.filter_map(|task| task.service()));
        for change in &changes.instances {
            let Some(row) = change.latest() else { continue };
            self.mark_instance(row.id, state);
        }
    }

    fn mark_task(&mut self, task: &Task, state: &State) {
        self.services.extend(task.service());
        self.waiting = true;
        if task.ended_at().is_some() {
            self.history = true;
            self.relieved.extend(task.instance);
            // On a draining instance DAEMON services' tasks stop after all others.
            if draining(state, task).is_some() {
                self.services.extend(state.daemons(task.cluster));
            }
        }
    }

    fn mark_instance(&mut self, id: InstanceId, state: &State) {
        self.instances.insert(id);
        let cluster = state.instance(id).map(|row| row.cluster);
        self.services.extend(cluster.into_iter().flat_map(|cluster| state.daemons(cluster)));
        self.services.extend(state.tasks_on(id).filter_map(|task| task.service()));
        self.waiting = true;
    }

    /// What a step touched, or would have touched had it not been refused.
    pub fn mark_step(&mut self, step: &Step, state: &State) {
        match step {
            Step::CreateTasks { service, .. }
            | Step::Advance { service, .. }
            | Step::Event { service, .. }
            | Step::FailDeployment { service, .. }
            | Step::Turn { service, .. }
            | Step::AnswerHook { service, .. }
            | Step::RetireTaskSet { service, .. }
            | Step::Retire { service } => {
                self.services.insert(*service);
                self.waiting = true;
            }
            Step::Place { task, instance, .. } => {
                self.instances.insert(*instance);
                if let Some(task) = state.task(*task) {
                    self.mark_task(task, state);
                }
            }
            Step::Stop { task, .. } | Step::Abandon { task } | Step::Explain { task, .. } => {
                if let Some(task) = state.task(*task) {
                    self.instances.extend(task.instance);
                    self.mark_task(task, state);
                }
            }
            Step::SetHealth { instance, .. } => self.mark_instance(*instance, state),
            Step::Fire { .. } => self.schedules = true,
            Step::StartAttempts { job, .. } | Step::TimeOutJob { job } => {
                self.jobs.insert(*job);
            }
            Step::Forget { .. } | Step::Purge { .. } | Step::RemoveDefinitions { .. } => {
                self.history = true;
            }
        }
    }

    /// The plan is full: this service is looked at again in the next one.
    pub fn defer(&mut self, service: ServiceId) {
        self.deferred.insert(service);
    }

    /// The same for a job.
    pub fn defer_job(&mut self, job: JobId) {
        self.deferred_jobs.insert(job);
    }

    /// The same for an instance.
    pub fn defer_instance(&mut self, instance: InstanceId) {
        self.deferred_instances.insert(instance);
    }

    /// The plan is full while tasks still wait.
    pub fn defer_waiting(&mut self) {
        self.deferred_waiting = true;
    }

    /// The plan is full while schedules are due.
    pub fn defer_schedules(&mut self) {
        self.deferred_schedules = true;
    }

    /// The plan is full in a stage that keeps no list: everything once more.
    pub fn defer_all(&mut self) {
        self.deferred_all = true;
    }

    /// What the next round starts with.
    pub fn left_over(self) -> Self {
        Self {
            services: self.deferred,
            jobs: self.deferred_jobs,
            instances: self.deferred_instances,
            waiting: self.deferred_waiting,
            schedules: self.deferred_schedules,
            all: self.deferred_all,
            ..Self::default()
        }
    }
}

/// Services that name an alarm which has changed, or which is gone.
fn alarmed(changes: &Changes, state: &State) -> Vec<ServiceId> {
    if changes.alarms.is_empty() {
        return Vec::new();
    }
    let changed: BTreeSet<&str> =
        changes.alarms.iter().filter_map(|change| change.latest()).map(|row| &*row.name).collect();
    let names = |row: &Service| row.spec.alarms.names.iter().any(|n| changed.contains(n.as_str()));
    state.services().filter(|row| names(row)).map(|row| row.id).collect()
}

/// A change that no stage decides on: the agent's progress up to RUNNING, and what is new of its
/// containers there. RUNNING alone changes no decision; having run for a while does.
fn only_seen(before: &Task, after: &Task) -> bool {
    before.desired == after.desired
        && before.instance == after.instance
        && before.waiting == after.waiting
        && healths(before) == healths(after)
        && after.observed.phase <= Phase::Running
}

/// What health checks decided: a task that fails them is replaced, one that passes takes its place.
fn healths(task: &Task) -> impl PartialEq + use<> {
    task.observed.containers.iter().map(|container| container.health).collect::<Vec<_>>()
}

/// A service whose tasks become healthy one by one is looked at as often as this part of the time
/// that takes, within bounds, not for each of them: each wave of a deployment waits for half of it,
/// and each look reads all tasks of the service.
const HEALTH_STEPS: u64 = 40;
const HEALTH_STEP_MIN: u64 = 50;
const HEALTH_STEP_MAX: u64 = 250;

/// Rows to look at again, each at a time of its own. The earliest wish of a row counts; it states
/// the others again when it is looked at.
#[derive(Debug)]
struct Timers<K> {
    by_time: BTreeSet<(Time, K)>,
    of: BTreeMap<K, Time>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { by_time: BTreeSet::new(), of: BTreeMap::new() }
    }
}

impl<K: Copy + Ord> Timers<K> {
    fn set(&mut self, at: Time, of: K) {
        if let Some(old) = self.of.get(&of) {
            if *old <= at {
                return;
            }
            self.by_time.remove(&(*old, of));
        }
        self.of.insert(of, at);
        self.by_time.insert((at, of));
    }

    /// Moves what is due into the dirty rows.
    fn ring(&mut self, now: Time, dirty: &mut BTreeSet<K>) {
        while let Some(&(at, of)) = self.by_time.first() {
            if at > now {
                break;
            }
            self.by_time.pop_first();
            self.of.remove(&of);
            dirty.insert(of);
        }
    }

    fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _)| *at)
    }
}

/// What is to be looked at again, and when.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    services: Timers<ServiceId>,
    jobs: Timers<JobId>,
    instances: Timers<InstanceId>,
    history: Option<Time>,
    waiting: Option<Time>,
    schedules: Option<Time>,
}

impl Wakes {
    pub fn service_at(&mut self, at: Time, service: ServiceId) {
        self.services.set(at, service);
    }

    pub fn instance_at(&mut self, at: Time, instance: InstanceId) {
        self.instances.set(at, instance);
    }

    pub fn job_at(&mut self, at: Time, job: JobId) {
        self.jobs.set(at, job);
    }

    /// A task of the service is healthy from then on, having run for `after`.
    pub fn healthy_at(&mut self, at: Time, after: Millis, service: ServiceId) {
        let step = (after.0 / HEALTH_STEPS).clamp(HEALTH_STEP_MIN, HEALTH_STEP_MAX);
        self.service_at(Time(at.0.next_multiple_of(step)), service);
    }

    pub fn history_at(&mut self, at: Time) {
        self.history = Some(at);
    }

    pub fn waiting_at(&mut self, at: Time) {
        self.waiting = Some(self.waiting.map_or(at, |old| old.min(at)));
    }

    /// When the first schedule is due; none of them will be otherwise.
    pub fn schedules_at(&mut self, at: Option<Time>) {
        self.schedules = at;
    }

    /// Moves what is due into the dirty set.
    pub fn due(&mut self, now: Time, dirty: &mut Dirty) {
        self.services.ring(now, &mut dirty.services);
        self.jobs.ring(now, &mut dirty.jobs);
        self.instances.ring(now, &mut dirty.instances);
        if self.history.is_some_and(|at| at <= now) {
            self.history = None;
            dirty.history = true;
        }
        if self.waiting.is_some_and(|at| at <= now) {
            self.waiting = None;
            dirty.waiting = true;
        }
        if self.schedules.is_some_and(|at| at <= now) {
            self.schedules = None;
            dirty.schedules = true;
        }
    }

    pub fn next(&self) -> Option<Time> {
        let rows = [self.services.next(), self.jobs.next(), self.instances.next()];
        let others = [self.history, self.waiting, self.schedules];
        rows.into_iter().chain(others).flatten().min()
    }
}
