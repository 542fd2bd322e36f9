//! What may stand in the log: an `Entry` carries one `Command`; a leader's plan is a list of
//! `Step`s.
//!
//! Commands, not objects: a placement is a task, an instance and its ports. Both enums are append
//! only (their encoding is positional); what users wrote is stored by name (`stored::named`).

use crate::access_key::{AccessKeyId, AccessKeyStatus, SealedSecret};
use crate::alarm::AlarmCommand;
use crate::capacity::CapacityCommand;
use crate::cluster::UserRole;
use crate::error::Error;
use crate::ids::{
    ClusterId, DefinitionId, DeploymentId, Epoch, InstanceId, JobId, Principal, RaftId, RequestId,
    ScheduleId, ServiceId, Slot, TaskId, TraceId,
};
use crate::instance::{Health, InstanceSpec, InstanceStatus};
use crate::job::JobCommand;
use crate::mark::SettingKey;
use crate::policy::Holder;
use crate::schedule::ScheduleCommand;
use crate::secret::SecretCommand;
use crate::service::{RolloutState, ServiceChange, ServiceSpec};
use crate::spec::{Overrides, Tags, TaskDefinition};
use crate::stored::named;
use crate::strategy::HookAction;
use crate::task::{Blocker, Observed, StopCode, Waiting};
use crate::task_set::TaskSetCommand;
use crate::time::{Millis, Time};
use crate::turn::Turn;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// A repeat of the same request is answered with the first response and changes nothing.
    pub request: RequestId,
    /// The proposer's clock. State never moves back in time: `apply` takes the later of this and
    /// the last entry's.
    pub at: Time,
    pub by: Principal,
    pub trace: Option<TraceId>,
    pub command: Command,
}

/// Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// First entry of a new cluster.
    Bootstrap(Box<Bootstrap>),
    /// First entry of a new leader: its log index becomes the epoch.
    Takeover {
        manager: RaftId,
    },
    /// All managers can apply commands up to this level.
    RaiseLevel {
        level: u32,
    },

    CreateCluster(CreateCluster),
    DeleteCluster {
        cluster: ClusterId,
    },
    RegisterTaskDefinition(#[serde(with = "named")] Arc<TaskDefinition>),
    DeregisterTaskDefinition {
        definition: DefinitionId,
    },
    CreateService(CreateService),
    UpdateService(UpdateService),
    DeleteService {
        service: ServiceId,
        force: bool,
    },
    RunTask(RunTask),
    StopTask {
        task: TaskId,
        reason: Arc<str>,
    },
    TagResource {
        resource: Resource,
        set: Tags,
        remove: Vec<String>,
    },

    /// An agent joined with a token, or re-registers what its machine is. The first registration is
    /// proposed `by` the manager that checked the token; `by` the instance itself only renews.
    RegisterInstance(RegisterInstance),
    UpdateInstanceStatus {
        instance: InstanceId,
        status: InstanceStatus,
    },
    DeregisterInstance {
        instance: InstanceId,
        force: bool,
    },
    /// What agents said, gathered over instances. Foreign reports were refused before.
    Report {
        reports: Vec<TaskReport>,
    },

    /// What the leader of this epoch decided. Each step is judged alone.
    Plan {
        epoch: Epoch,
        steps: Vec<Step>,
    },

    /// Gives out the next Raft id with the row that describes it.
    AddManager {
        name: Arc<str>,
        zone: Arc<str>,
        address: Arc<str>,
        level: u32,
    },
    /// A manager says its address or what level it can apply.
    UpdateManager {
        manager: RaftId,
        address: Arc<str>,
        level: u32,
    },
    RemoveManager {
        manager: RaftId,
    },
    /// New hash for the join token of a role; the old token is refused from here on.
    RotateToken {
        role: TokenRole,
        hash: Arc<str>,
    },
    /// A certificate was issued to a user; creates the user if need be.
    CreateUser {
        name: Arc<str>,
        role: UserRole,
        serial: Arc<str>,
    },
    RemoveUser {
        name: Arc<str>,
    },

    StartTask(StartTask),
    /// Attributes of container instances; the agents' own are not touched. All or nothing.
    ChangeAttributes {
        set: Vec<InstanceAttribute>,
        remove: Vec<(InstanceId, String)>,
    },
    /// Sets the settings that are given, keeps the others.
    UpdateCluster {
        cluster: ClusterId,
        settings: std::collections::BTreeMap<String, String>,
    },
    /// Marks an INACTIVE one; it goes when nothing refers to it any more.
    DeleteTaskDefinition {
        definition: DefinitionId,
    },
    /// For this long from the entry's time; `None` ends a protection.
    ProtectTask {
        task: TaskId,
        span: Option<Millis>,
    },
    /// `None` deletes it.
    SetAccountSetting {
        key: SettingKey,
        value: Option<Arc<str>>,
    },
    /// Forgets everything but managers, users and the authority. Only where nothing real runs.
    Reset,
    /// A key for a user to sign requests with.
    CreateAccessKey {
        id: AccessKeyId,
        user: Arc<str>,
        secret: SealedSecret,
    },
    SetAccessKeyStatus {
        id: AccessKeyId,
        status: AccessKeyStatus,
    },
    DeleteAccessKey {
        id: AccessKeyId,
    },
    /// Attaches a policy to a user or a role, or replaces the one of this name.
    PutPolicy {
        holder: Holder,
        name: Arc<str>,
        document: Arc<str>,
    },
    DeletePolicy {
        holder: Holder,
        name: Arc<str>,
    },
    StopServiceDeployment {
        service: ServiceId,
        deployment: DeploymentId,
        stop: StopType,
    },
    Capacity(CapacityCommand),
    PauseServiceDeployment {
        service: ServiceId,
        deployment: DeploymentId,
    },
    /// Without a hook: whatever the deployment waits for.
    ContinueServiceDeployment {
        service: ServiceId,
        deployment: DeploymentId,
        hook: Option<Arc<str>>,
        action: HookAction,
    },
    Schedule(ScheduleCommand),
    Secret(SecretCommand),
    /// Keeps the key that statements about tasks are signed with, unless there is one.
    CreateSigningKey {
        public: Arc<[u8]>,
        private: SealedSecret,
    },
    Job(JobCommand),
    Alarm(AlarmCommand),
    TaskSet(TaskSetCommand),
}

/// ECS `stopType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopType {
    /// It goes no further, and nothing comes back.
    Abort,
    /// Back to the last deployment that completed.
    Rollback,
}

/// One attribute as a user puts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceAttribute {
    pub instance: InstanceId,
    pub name: String,
    pub value: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenRole {
    Manager,
    Worker,
}

/// What `init` decides: ids, authority and the first manager and administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    pub name: Arc<str>,
    /// Account id and region that ARNs carry.
    pub account: Arc<str>,
    pub region: Arc<str>,
    pub default_cluster: ClusterId,
    pub authority: crate::cluster::Authority,
    pub manager: crate::cluster::Manager,
    pub admin: Arc<str>,
    pub admin_serial: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateCluster {
    /// Id the cluster gets if none of this name is active; ECS: idempotent by name.
    pub id: ClusterId,
    pub name: Arc<str>,
    pub settings: std::collections::BTreeMap<String, String>,
    pub tags: Tags,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateService {
    pub id: ServiceId,
    pub deployment: DeploymentId,
    pub cluster: ClusterId,
    pub definition: DefinitionId,
    #[serde(with = "named")]
    pub spec: Arc<ServiceSpec>,
    pub tags: Tags,
}

/// Fields that are `None` stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateService {
    pub service: ServiceId,
    /// Compare-and-set: refused unless the row has this version.
    pub expected_version: Option<u64>,
    /// Id for the new deployment, if this update starts one.
    pub deployment: DeploymentId,
    pub definition: Option<DefinitionId>,
    pub force_new_deployment: bool,
    #[serde(with = "named")]
    pub change: Arc<ServiceChange>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunTask {
    pub cluster: ClusterId,
    pub definition: DefinitionId,
    /// One id per task to run.
    pub tasks: Vec<TaskId>,
    pub group: Arc<str>,
    pub started_by: Option<Arc<str>>,
    #[serde(with = "named")]
    pub overrides: Arc<Overrides>,
    pub tags: Tags,
}

/// A run whose caller chose the instances: `on[n]` is where `run.tasks[n]` starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartTask {
    pub run: RunTask,
    pub on: Vec<InstanceId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterInstance {
    pub id: InstanceId,
    pub cluster: ClusterId,
    #[serde(with = "named")]
    pub spec: Arc<InstanceSpec>,
}

/// What can carry tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resource {
    Cluster(ClusterId),
    Service(ServiceId),
    Task(TaskId),
    Instance(InstanceId),
    Definition(DefinitionId),
    CapacityProvider(Arc<str>),
    TaskSet { service: ServiceId, set: DeploymentId },
}

/// What an agent last saw of a task. `instance` is who said it, from its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    pub task: TaskId,
    pub instance: InstanceId,
    pub observed: Observed,
}

/// What a leader may do. Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// New tasks in free slots of a service.
    CreateTasks {
        service: ServiceId,
        deployment: DeploymentId,
        tasks: Vec<(Slot, TaskId)>,
    },
    /// `ports`: host ports in the order of `TaskDefinition::port_mappings`.
    Place {
        task: TaskId,
        instance: InstanceId,
        ports: Vec<u16>,
    },
    Stop {
        task: TaskId,
        code: StopCode,
        reason: Arc<str>,
    },
    /// The task's instance is lost.
    Abandon {
        task: TaskId,
    },
    SetHealth {
        instance: InstanceId,
        health: Health,
    },
    /// A deployment's state; `Completed` ends older ones that have no task left.
    Advance {
        service: ServiceId,
        deployment: DeploymentId,
        rollout: RolloutState,
    },
    /// A line of the service's history.
    Event {
        service: ServiceId,
        text: Arc<str>,
    },
    /// Why a task waits.
    Explain {
        task: TaskId,
        waiting: Waiting,
    },
    /// History that is no longer kept.
    Forget {
        tasks: Vec<TaskId>,
    },
    /// A draining service has no task left.
    Retire {
        service: ServiceId,
    },
    /// Inactive rows past their time: services, instances.
    Purge {
        services: Vec<ServiceId>,
        instances: Vec<InstanceId>,
    },
    /// Deleted task definitions that nothing refers to any more.
    RemoveDefinitions {
        definitions: Vec<DefinitionId>,
    },
    /// The circuit breaker's verdict on a service's newest deployment, and what it is rolled back
    /// to.
    FailDeployment {
        service: ServiceId,
        deployment: DeploymentId,
        back_to: Option<DeploymentId>,
    },
    /// What a deployment that shifts traffic does next.
    Turn {
        service: ServiceId,
        deployment: DeploymentId,
        turn: Turn,
    },
    /// A schedule is due: it waits for `due`, and `latest` is the last of its times that passed,
    /// after `missed` others. `next` is what it waits for from then on.
    Fire {
        schedule: ScheduleId,
        due: Time,
        latest: Time,
        missed: u32,
        next: Option<Time>,
    },
    /// New tasks of a job.
    StartAttempts {
        job: JobId,
        tasks: Vec<TaskId>,
    },
    /// A job has taken too long.
    TimeOutJob {
        job: JobId,
    },
    /// What the endpoint of the hook that a deployment waits for said.
    AnswerHook {
        service: ServiceId,
        deployment: DeploymentId,
        hook: Arc<str>,
        answer: HookAction,
    },
    /// A task set that drains has no task left.
    RetireTaskSet {
        service: ServiceId,
        set: DeploymentId,
    },
}

/// What an applied entry answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    Done,
    Cluster(ClusterId),
    Definition(DefinitionId),
    Service(ServiceId),
    Tasks(Vec<TaskId>),
    Instance(InstanceId),
    Manager(RaftId),
    /// Steps that were refused, by position, with the reason; the rest stand.
    Plan {
        refused: Vec<(u32, Error)>,
    },
    /// Reports that were refused, by position, with the reason; the rest stand.
    Reports {
        refused: Vec<(u32, Error)>,
    },
    /// The tasks that start, and the instances that took none, with the first rule against it.
    Started {
        tasks: Vec<TaskId>,
        refused: Vec<(InstanceId, Blocker)>,
    },
    AccessKey(AccessKeyId),
    CapacityProvider(Arc<str>),
    Schedule(ScheduleId),
    Secret {
        name: Arc<str>,
        version: u64,
    },
    Job(JobId),
    TaskSet {
        service: ServiceId,
        set: DeploymentId,
    },
}
