//! The whole cluster as one value: tables of rows, and indexes derived from them.
//!
//! Persistent maps: a snapshot is a clone of a few pointers. Only `apply` and `stored` change it,
//! through one private setter per table that keeps rows and indexes together.
//! Invariant: the indexes equal a rebuild from the tables (a property test).

use crate::access_key::{AccessKey, AccessKeyId};
use crate::alarm::Alarm;
use crate::capacity::{CapacityProvider, ClusterProviders};
use crate::cluster::{Authority, Cluster, Manager, User};
use crate::command::Response;
use crate::error::Error;
use crate::ids::{
    ClusterId, DefinitionId, Epoch, Index, InstanceId, JobId, RaftId, RequestId, Revision,
    ScheduleId, ServiceId, Slot, TaskId,
};
use crate::instance::Instance;
use crate::job::Job;
use crate::mark::{AccountSetting, Deletion, Established, Protection, SettingKey};
use crate::pin::Pins;
use crate::policy::{Holder, Policy, task_role_name};
use crate::schedule::Schedule;
use crate::secret::Secret;
use crate::service::{Event, Service};
use crate::shift::{Pause, Shift};
use crate::signing_key::SigningKey;
use crate::spec::{Named, Resources, TaskDefinition};
use crate::task::{Owner, Task};
use crate::task_set::TaskSets;
use crate::time::Time;
use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

mod capacity;
mod daemon;
mod facing;
mod fit;
mod index;
mod marks;
mod reserve;
mod secrets;
mod sides;

pub use facing::Facing;
pub use index::HostPort;
pub use reserve::Room;
pub use sides::Side;

/// A registered task definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefinitionRow {
    pub id: DefinitionId,
    pub family: Arc<str>,
    pub revision: Revision,
    #[serde(with = "crate::stored::named")]
    pub spec: Arc<TaskDefinition>,
    pub registered_at: Time,
    pub registered_by: Arc<str>,
    /// INACTIVE definitions keep running tasks and services, but start no new ones.
    pub deregistered_at: Option<Time>,
}

/// The answer a request got, for its repeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRow {
    pub id: RequestId,
    /// Hash of the command: another command under the same id is a conflict.
    pub hash: u64,
    /// Index of its entry: the order of ages, since many entries may share a time.
    pub index: Index,
    pub at: Time,
    pub answer: Result<Response, Error>,
}

/// What there is once per cluster of managers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Empty before `Bootstrap`.
    pub name: Arc<str>,
    pub account: Arc<str>,
    pub region: Arc<str>,
    /// Kept as a row of its own (`Row::Authority`): this one is written with every entry.
    #[serde(skip)]
    pub authority: Arc<Authority>,
    /// Time of the newest entry; never moves back.
    pub now: Time,
    /// Index of the newest `Takeover`, and who took over.
    pub epoch: Epoch,
    pub leader: RaftId,
    /// Highest command level all managers can apply.
    pub level: u32,
    pub next_definition: u64,
    pub next_manager: u64,
}

/// What the reserving tasks of an instance take together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    pub resources: Resources,
    /// Of named resources, as far as any task takes some.
    pub named: Named,
    /// How many tasks reserve.
    pub tasks: u32,
    /// Host ports and who holds them.
    pub ports: OrdMap<HostPort, TaskId>,
}

/// What is on an instance, in one place: a placement looks it up once and writes it once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Occupancy {
    /// Tasks placed there that are not stopped, abandoned ones included.
    pub tasks: OrdSet<TaskId>,
    pub reserved: Reserved,
}

/// What a service has, in one place as well: its id is not repeated with each of its tasks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ServiceTasks {
    /// All that are still remembered, finished ones included.
    pub tasks: OrdSet<TaskId>,
    /// The one task per slot that should run.
    pub slots: OrdMap<Slot, TaskId>,
}

/// Everything. `Clone` costs a few reference counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Index of the newest entry applied: the version of this value.
    pub(crate) applied: Index,
    pub(crate) meta: Arc<Meta>,

    pub(crate) clusters: OrdMap<ClusterId, Arc<Cluster>>,
    pub(crate) definitions: OrdMap<DefinitionId, Arc<DefinitionRow>>,
    pub(crate) services: OrdMap<ServiceId, Arc<Service>>,
    pub(crate) tasks: OrdMap<TaskId, Arc<Task>>,
    pub(crate) instances: OrdMap<InstanceId, Arc<Instance>>,
    pub(crate) managers: OrdMap<RaftId, Arc<Manager>>,
    pub(crate) users: OrdMap<Arc<str>, Arc<User>>,
    pub(crate) access_keys: OrdMap<AccessKeyId, Arc<AccessKey>>,
    pub(crate) events: OrdMap<(ServiceId, u64), Arc<Event>>,
    /// In order of age: what is remembered last stands last, so that a busy minute touches the end
    /// of the table and not all of it.
    pub(crate) requests: OrdMap<Index, Arc<RequestRow>>,
    pub(crate) protections: OrdMap<TaskId, Arc<Protection>>,
    pub(crate) deletions: OrdMap<DefinitionId, Arc<Deletion>>,
    pub(crate) settings: OrdMap<SettingKey, Arc<AccountSetting>>,
    pub(crate) established: OrdMap<ServiceId, Arc<Established>>,
    pub(crate) policies: OrdMap<(Holder, Arc<str>), Arc<Policy>>,
    pub(crate) capacity_providers: OrdMap<Arc<str>, Arc<CapacityProvider>>,
    pub(crate) cluster_providers: OrdMap<ClusterId, Arc<ClusterProviders>>,
    pub(crate) shifts: OrdMap<ServiceId, Arc<Shift>>,
    pub(crate) pauses: OrdMap<ServiceId, Arc<Pause>>,
    pub(crate) pins: OrdMap<ServiceId, Arc<Pins>>,
    pub(crate) schedules: OrdMap<ScheduleId, Arc<Schedule>>,
    pub(crate) secrets: OrdMap<Arc<str>, Arc<Secret>>,
    pub(crate) signing_key: Option<Arc<SigningKey>>,
    pub(crate) jobs: OrdMap<JobId, Arc<Job>>,
    pub(crate) alarms: OrdMap<Arc<str>, Arc<Alarm>>,
    pub(crate) task_sets: OrdMap<ServiceId, Arc<TaskSets>>,

    pub(crate) index: Indexes,
    pub(crate) written: Written,
}

/// How many rows of tasks were written on the way to a state. It is no part of what the state
/// says: of two equal ones, one may have been read from disk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written(pub u64);

impl PartialEq for Written {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Derived; never stored. Kept by the setters in `state/index.rs`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Indexes {
    /// Active clusters by name.
    pub cluster_names: OrdMap<Arc<str>, ClusterId>,
    /// Services that are not `Inactive` yet, by cluster and name.
    pub service_names: OrdMap<(ClusterId, Arc<str>), ServiceId>,
    /// How many of them per cluster; absent = none.
    pub services_per_cluster: OrdMap<ClusterId, usize>,
    /// ACTIVE services that follow their cluster's instances.
    pub daemons: OrdSet<(ClusterId, ServiceId)>,
    /// Instances that are ACTIVE, whatever their agents do.
    pub active_instances: OrdSet<(ClusterId, InstanceId)>,
    pub revisions: OrdMap<(Arc<str>, Revision), DefinitionId>,
    /// Of services that have tasks.
    pub service_tasks: OrdMap<ServiceId, Arc<ServiceTasks>>,
    /// Of instances that have something on them.
    pub occupancy: OrdMap<InstanceId, Arc<Occupancy>>,
    /// Wanted, but not placed.
    pub waiting: OrdSet<TaskId>,
    /// Tasks that have ended, lost ones included, by the time they did.
    pub finished: OrdSet<(Time, TaskId)>,
    pub request_ids: OrdMap<RequestId, Index>,
    pub access_keys_of_user: OrdSet<(Arc<str>, AccessKeyId)>,
    pub schedule_names: OrdMap<(ClusterId, Arc<str>), ScheduleId>,
    pub schedules_due: OrdSet<(Time, ScheduleId)>,
    pub job_names: OrdSet<(ClusterId, Arc<str>, JobId)>,
    /// By when they ended.
    pub jobs_ended: OrdSet<(ClusterId, Time, JobId)>,
    pub tasks_of_job: OrdSet<(JobId, TaskId)>,
}

impl State {
    /// Index of the newest entry applied.
    pub fn applied(&self) -> Index {
        self.applied
    }
    /// Rows of tasks written so far, by this process: an older version of its state keeps about as
    /// many rows in memory for itself as it counts fewer.
    pub fn written(&self) -> u64 {
        self.written.0
    }
    /// The same rows, whose ARNs carry another region: for showing, never for applying to.
    pub fn in_region(&self, region: Arc<str>) -> Self {
        let meta = Meta { region, ..Meta::clone(&self.meta) };
        Self { meta: Arc::new(meta), ..self.clone() }
    }

    pub fn meta(&self) -> &Meta {
        &self.meta
    }
    /// Time of the newest entry; never moves back.
    pub fn now(&self) -> Time {
        self.meta.now
    }
    /// Whether `Bootstrap` was applied; before it only a takeover is.
    pub fn bootstrapped(&self) -> bool {
        !self.meta.name.is_empty()
    }

    pub fn cluster(&self, id: ClusterId) -> Option<&Arc<Cluster>> {
        self.clusters.get(&id)
    }
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.values()
    }
    /// The active cluster of this name.
    pub fn cluster_named(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.cluster(*self.index.cluster_names.get(name)?)
    }

    pub fn definition(&self, id: DefinitionId) -> Option<&Arc<DefinitionRow>> {
        self.definitions.get(&id)
    }
    pub fn definitions(&self) -> impl Iterator<Item = &Arc<DefinitionRow>> {
        self.definitions.values()
    }
    pub fn revision(&self, family: &str, revision: Revision) -> Option<&Arc<DefinitionRow>> {
        self.definition(*self.index.revisions.get(&(Arc::from(family), revision))?)
    }
    /// All revisions of a family, oldest first.
    pub fn revisions(&self, family: &str) -> impl DoubleEndedIterator<Item = &Arc<DefinitionRow>> {
        let family: Arc<str> = Arc::from(family);
        self.index
            .revisions
            .range((family.clone(), Revision(0))..=(family, Revision(u32::MAX)))
            .filter_map(|(_, id)| self.definitions.get(id))
    }
    /// The newest ACTIVE revision of a family.
    pub fn latest(&self, family: &str) -> Option<&Arc<DefinitionRow>> {
        self.revisions(family).rev().find(|row| row.deregistered_at.is_none())
    }

    pub fn service(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.services.get(&id)
    }
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }
    /// The service of this name that is not INACTIVE.
    pub fn service_named(&self, cluster: ClusterId, name: &str) -> Option<&Arc<Service>> {
        self.service(*self.index.service_names.get(&(cluster, Arc::from(name)))?)
    }
    /// Services of a cluster that are not INACTIVE, by name.
    pub fn services_in(&self, cluster: ClusterId) -> impl Iterator<Item = &Arc<Service>> {
        self.index
            .service_names
            .range((cluster, Arc::from(""))..)
            .take_while(move |((c, _), _)| *c == cluster)
            .filter_map(|(_, id)| self.services.get(id))
    }
    /// How many services `services_in` lists.
    pub fn service_count(&self, cluster: ClusterId) -> usize {
        self.index.services_per_cluster.get(&cluster).copied().unwrap_or(0)
    }
    /// Oldest first.
    pub fn events(
        &self,
        service: ServiceId,
    ) -> impl DoubleEndedIterator<Item = (u64, &Arc<Event>)> {
        self.events.range((service, 0)..=(service, u64::MAX)).map(|((_, n), e)| (*n, e))
    }

    pub fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.tasks.get(&id)
    }
    pub fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }
    /// Tasks whose ids lie in a range, in order of id.
    pub fn tasks_within(
        &self,
        ids: impl std::ops::RangeBounds<TaskId>,
    ) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.range(ids).map(|(_, task)| task)
    }
    /// The largest id of a task.
    pub(crate) fn newest_task(&self) -> Option<TaskId> {
        self.tasks.get_max().map(|(id, _)| *id)
    }
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }
    /// All tasks of a service that are still remembered, finished ones included.
    pub fn tasks_of(&self, service: ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        let own = self.index.service_tasks.get(&service);
        own.into_iter().flat_map(|own| &own.tasks).filter_map(|id| self.tasks.get(id))
    }
    /// The task that should run in a slot.
    pub fn in_slot(&self, service: ServiceId, slot: Slot) -> Option<&Arc<Task>> {
        self.task(*self.index.service_tasks.get(&service)?.slots.get(&slot)?)
    }
    /// Tasks placed on an instance that have not stopped, abandoned ones included.
    pub fn tasks_on(&self, instance: InstanceId) -> impl Iterator<Item = &Arc<Task>> {
        let row = self.index.occupancy.get(&instance);
        row.into_iter().flat_map(|row| &row.tasks).filter_map(|id| self.tasks.get(id))
    }
    /// Wanted but not placed, in order of id.
    pub fn waiting(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.index.waiting.iter().filter_map(|id| self.tasks.get(id))
    }
    /// Tasks that have ended (`Task::ended_at`), abandoned ones included, the longest ended first.
    pub fn finished(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.index.finished.iter().filter_map(|(_, id)| self.tasks.get(id))
    }

    /// How many tasks `finished` lists.
    pub fn finished_count(&self) -> usize {
        self.index.finished.len()
    }

    pub fn instance(&self, id: InstanceId) -> Option<&Arc<Instance>> {
        self.instances.get(&id)
    }
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.values()
    }
    /// `None`: nothing is on it.
    fn held(&self, instance: InstanceId) -> Option<&Reserved> {
        self.index.occupancy.get(&instance).map(|row| &row.reserved)
    }
    /// Whether no instance is DRAINING, nor one that is gone still remembered.
    pub fn all_active(&self) -> bool {
        self.index.active_instances.len() == self.instances.len()
    }
    /// What tasks placed on it take together; zero if none.
    pub fn reserved(&self, instance: InstanceId) -> Reserved {
        self.held(instance).cloned().unwrap_or_default()
    }
    /// What is left for new tasks.
    pub fn free(&self, instance: &Instance) -> Resources {
        let held = self.held(instance.id);
        instance.spec.total.minus(held.map(|held| held.resources).unwrap_or_default())
    }
    /// What is left of a named resource for new tasks; 0 if it declares none of this name.
    pub fn free_named(&self, instance: &Instance, name: &str) -> u32 {
        let total = instance.spec.resources.get(name).copied().unwrap_or(0);
        let held = self.held(instance.id).and_then(|held| held.named.get(name)).copied();
        total.saturating_sub(held.unwrap_or(0))
    }

    pub fn manager(&self, id: RaftId) -> Option<&Arc<Manager>> {
        self.managers.get(&id)
    }
    pub fn managers(&self) -> impl Iterator<Item = &Arc<Manager>> {
        self.managers.values()
    }
    pub fn user(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }
    pub fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values()
    }
    pub fn access_key(&self, id: AccessKeyId) -> Option<&Arc<AccessKey>> {
        self.access_keys.get(&id)
    }
    pub fn access_keys(&self) -> impl Iterator<Item = &Arc<AccessKey>> {
        self.access_keys.values()
    }
    /// In order of id.
    pub fn access_keys_of(&self, user: &str) -> impl Iterator<Item = &Arc<AccessKey>> {
        let user: Arc<str> = Arc::from(user);
        let id = AccessKeyId::from_bits;
        self.index
            .access_keys_of_user
            .range((user.clone(), id(0))..=(user, id(u128::MAX)))
            .filter_map(|(_, id)| self.access_keys.get(id))
    }
    pub fn policy(&self, holder: &Holder, name: &str) -> Option<&Arc<Policy>> {
        self.policies.get(&(holder.clone(), Arc::from(name)))
    }
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values()
    }
    /// Those attached to this user or role itself, by name.
    pub fn policies_of<'a>(
        &'a self,
        holder: &Holder,
    ) -> impl Iterator<Item = &'a Arc<Policy>> + use<'a> {
        let (from, holder) = ((holder.clone(), Arc::from("")), holder.clone());
        self.policies.range(from..).map(|(_, row)| row).take_while(move |row| row.holder == holder)
    }
    /// Whether any policy is attached to one of these.
    pub fn has_policies(&self, holders: &[Holder]) -> bool {
        // Most clusters have none, and every request asks.
        let attached = |holder: &Holder| self.policies_of(holder).next().is_some();
        !self.policies.is_empty() && holders.iter().any(attached)
    }
    /// Whether users and policies are the very ones of `other`: nobody's rights differ.
    pub fn same_rights(&self, other: &State) -> bool {
        self.users.ptr_eq(&other.users) && self.policies.ptr_eq(&other.policies)
    }
    pub fn request(&self, id: RequestId) -> Option<&Arc<RequestRow>> {
        self.requests.get(self.index.request_ids.get(&id)?)
    }

    /// What a task reserves: its definition with its overrides.
    pub fn reservation(&self, task: &Task) -> Resources {
        self.spec_of(task).map(|spec| spec.reservation()).unwrap_or_default()
    }
    /// The name of the task role that a task acts as, if it has one.
    pub fn task_role_of(&self, task: &Task) -> Option<String> {
        let spec = self.spec_of(task)?;
        task_role_name("taskRoleArn", spec.task_role_arn.as_deref()?).ok().map(str::to_owned)
    }
    /// The definition a task runs, overrides applied. `None` only if the definition is gone.
    pub fn spec_of(&self, task: &Task) -> Option<Arc<TaskDefinition>> {
        let row = self.definitions.get(&task.definition)?;
        Some(match &task.overrides {
            Some(overrides) => overrides.applied_to(&row.spec),
            None => row.spec.clone(),
        })
    }
    /// ECS `group`: `service:<name>` or what RunTask said.
    pub fn group_of(&self, task: &Task) -> Arc<str> {
        match &task.owner {
            Owner::Run { group, .. } | Owner::Job { group, .. } => group.clone(),
            Owner::Service { service, .. } => {
                let name = self.services.get(service).map_or("", |s| s.spec.name.as_str());
                Arc::from(format!("service:{name}"))
            }
        }
    }
}
