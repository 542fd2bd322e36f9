//! One of each command and each step, those that came last at the end.

use super::{
    ACCESS_KEY, CLUSTER, DEFINITION, DEPLOYMENT, INSTANCE, JOB, SCHEDULE, SERVICE, TASK, authority,
    capacity_provider, cluster_providers, definition, instance_spec, job_spec, manager, observed,
    schedule_spec, sealed, service_spec, setting, tags,
};
use muster_model::capacity::{AutoScalingGroupChange, CapacityCommand};
use muster_model::command::{
    Bootstrap, CreateCluster, CreateService, InstanceAttribute, RegisterInstance, Resource,
    RunTask, StartTask, StopType, TokenRole, UpdateService,
};
use muster_model::schedule::ScheduleCommand;
use muster_model::service::ServiceChange;
use muster_model::spec::{Overrides, Tags};
use muster_model::task::{Blocker, Shortfall, Waiting};
use muster_model::{
    AccessKeyStatus, AlarmCommand, AlarmState, Command, Epoch, Health, Holder, HookAction,
    InstanceStatus, JobCommand, Millis, NewTaskSet, RaftId, RolloutState, Scale, SecretCommand,
    Slot, Stage, Step, StepSize, StopCode, TaskReport, TaskSet, TaskSetCommand, TaskSets, Time,
    Turn, UserRole, Weight,
};
use std::sync::Arc;

fn steps() -> Vec<Step> {
    let nearest = Some((INSTANCE, Shortfall::MemoryMib { wanted: 512, free: 100 }));
    let waiting = Waiting { instances: 3, removed: vec![(Blocker::Memory, 3)], nearest };
    vec![
        Step::CreateTasks {
            service: SERVICE,
            deployment: DEPLOYMENT,
            tasks: vec![(Slot(1), TASK)],
        },
        Step::Place { task: TASK, instance: INSTANCE, ports: vec![32768] },
        Step::Stop {
            task: TASK,
            code: StopCode::ServiceSchedulerInitiated,
            reason: "scaled in".into(),
        },
        Step::Abandon { task: TASK },
        Step::SetHealth { instance: INSTANCE, health: Health::Down { since: Time(8) } },
        Step::Advance {
            service: SERVICE,
            deployment: DEPLOYMENT,
            rollout: RolloutState::Completed,
        },
        Step::Event { service: SERVICE, text: "(service web) is steady".into() },
        Step::Explain { task: TASK, waiting },
        Step::Forget { tasks: vec![TASK] },
        Step::Retire { service: SERVICE },
        Step::Purge { services: vec![SERVICE], instances: vec![INSTANCE] },
    ]
}

fn commands_of_users() -> Vec<Command> {
    vec![
        Command::CreateCluster(CreateCluster {
            id: CLUSTER,
            name: "default".into(),
            settings: Tags::from([("containerInsights".to_owned(), "on".to_owned())]),
            tags: tags(),
        }),
        Command::DeleteCluster { cluster: CLUSTER },
        Command::RegisterTaskDefinition(definition()),
        Command::DeregisterTaskDefinition { definition: DEFINITION },
        Command::CreateService(CreateService {
            id: SERVICE,
            deployment: DEPLOYMENT,
            cluster: CLUSTER,
            definition: DEFINITION,
            spec: service_spec(),
            tags: tags(),
        }),
        Command::UpdateService(UpdateService {
            service: SERVICE,
            expected_version: Some(4),
            deployment: DEPLOYMENT,
            definition: Some(DEFINITION),
            force_new_deployment: true,
            change: Arc::new(ServiceChange { desired_count: Some(5), ..ServiceChange::default() }),
        }),
        Command::DeleteService { service: SERVICE, force: true },
        Command::RunTask(run_task()),
        Command::StopTask { task: TASK, reason: "done".into() },
        Command::TagResource {
            resource: Resource::Instance(INSTANCE),
            set: tags(),
            remove: vec!["old".into()],
        },
    ]
}

fn run_task() -> RunTask {
    RunTask {
        cluster: CLUSTER,
        definition: DEFINITION,
        tasks: vec![TASK],
        group: "family:web".into(),
        started_by: Some("me".into()),
        overrides: Arc::new(Overrides::default()),
        tags: tags(),
    }
}

/// What came after the others; one plan more for the steps that did.
fn commands_of_operations() -> Vec<Command> {
    let (name, value) = ("stack".into(), Some("blue".into()));
    let steps = vec![
        Step::RemoveDefinitions { definitions: vec![DEFINITION] },
        Step::FailDeployment { service: SERVICE, deployment: DEPLOYMENT, back_to: None },
    ];
    vec![
        Command::StartTask(StartTask { run: run_task(), on: vec![INSTANCE] }),
        Command::ChangeAttributes {
            set: vec![InstanceAttribute { instance: INSTANCE, name, value }],
            remove: vec![(INSTANCE, "old".into())],
        },
        Command::UpdateCluster { cluster: CLUSTER, settings: tags() },
        Command::DeleteTaskDefinition { definition: DEFINITION },
        Command::ProtectTask { task: TASK, span: Some(Millis(7)) },
        Command::SetAccountSetting { key: setting(), value: Some("enabled".into()) },
        Command::Reset,
        Command::Plan { epoch: Epoch(12), steps },
        Command::StopServiceDeployment {
            service: SERVICE,
            deployment: DEPLOYMENT,
            stop: StopType::Rollback,
        },
    ]
}

/// One plan for the turns.
fn commands_of_deployments() -> Vec<Command> {
    let (service, deployment) = (SERVICE, DEPLOYMENT);
    let turn = |turn| Step::Turn { service, deployment, turn };
    let (stage, production) = (Stage::ProductionTrafficShift, StepSize::CANARY.weight);
    let enter = Turn::Enter { stage, production, test: Weight::ALL };
    let steps = vec![turn(enter), turn(Turn::RollBack)];
    let (hook, action) = (Some("post_scale_up-3".into()), HookAction::Rollback);
    vec![
        Command::Plan { epoch: Epoch(12), steps },
        Command::PauseServiceDeployment { service, deployment },
        Command::ContinueServiceDeployment { service, deployment, hook, action },
        Command::ContinueServiceDeployment {
            service,
            deployment,
            hook: None,
            action: HookAction::Continue,
        },
    ]
}

fn commands_of_capacity() -> Vec<Command> {
    let (name, group): (Arc<str>, _) = ("spot".into(), capacity_provider().group);
    let change = AutoScalingGroupChange { draining: Some(false), ..Default::default() };
    let create =
        CreateCluster { id: CLUSTER, name: "default".into(), settings: Tags::new(), tags: tags() };
    let providers = cluster_providers();
    let commands = vec![
        CapacityCommand::Create { name: name.clone(), group, tags: tags() },
        CapacityCommand::Update { name: name.clone(), change: Arc::new(change) },
        CapacityCommand::Delete { name },
        CapacityCommand::Put(providers.clone()),
        CapacityCommand::CreateCluster { create, providers },
    ];
    commands.into_iter().map(Command::Capacity).collect()
}

fn commands_of_schedules() -> Vec<Command> {
    let (id, next_due) = (SCHEDULE, Some(Time(50)));
    let (due, latest, next) = (Time(50), Time(70), Some(Time(80)));
    let fire = Step::Fire { schedule: SCHEDULE, due, latest, missed: 2, next };
    let (spec, expected_version) = (schedule_spec(), Some(7));
    let create = ScheduleCommand::Create { id, cluster: CLUSTER, spec: spec.clone(), next_due };
    let update = ScheduleCommand::Update { id, expected_version, spec, next_due };
    vec![
        Command::Schedule(create),
        Command::Schedule(update),
        Command::Schedule(ScheduleCommand::Delete { id }),
        Command::Plan { epoch: Epoch(12), steps: vec![fire] },
    ]
}

fn commands_of_machines() -> Vec<Command> {
    let report = TaskReport { task: TASK, instance: INSTANCE, observed: observed() };
    vec![
        Command::RegisterInstance(RegisterInstance {
            id: INSTANCE,
            cluster: CLUSTER,
            spec: instance_spec(),
        }),
        Command::UpdateInstanceStatus { instance: INSTANCE, status: InstanceStatus::Draining },
        Command::DeregisterInstance { instance: INSTANCE, force: true },
        Command::Report { reports: vec![report] },
        Command::Plan { epoch: Epoch(12), steps: steps() },
        Command::AddManager {
            name: "manager-2".into(),
            zone: "az-b".into(),
            address: "10.0.0.2:7700".into(),
            level: 1,
        },
        Command::UpdateManager { manager: RaftId(2), address: "10.0.0.9:7700".into(), level: 2 },
        Command::RemoveManager { manager: RaftId(2) },
        Command::RotateToken { role: TokenRole::Worker, hash: "cc".into() },
        Command::CreateUser { name: "ada".into(), role: UserRole::Operator, serial: "01".into() },
        Command::RemoveUser { name: "ada".into() },
        Command::CreateAccessKey { id: ACCESS_KEY, user: "ada".into(), secret: sealed() },
        Command::SetAccessKeyStatus { id: ACCESS_KEY, status: AccessKeyStatus::Inactive },
        Command::DeleteAccessKey { id: ACCESS_KEY },
        Command::PutPolicy {
            holder: Holder::Role(UserRole::Restricted),
            name: "blue".into(),
            document: "{}".into(),
        },
        Command::DeletePolicy { holder: Holder::User("ada".into()), name: "blue".into() },
    ]
}

fn commands_of_alarms() -> Vec<Command> {
    let name: Arc<str> = "errors".into();
    let states = [AlarmState::Ok, AlarmState::Alarm, AlarmState::InsufficientData];
    let set = |state| AlarmCommand::Set { name: name.clone(), state, reason: "x".into() };
    let sets = states.map(set).into_iter().chain([AlarmCommand::Delete { name: name.clone() }]);
    sets.map(Command::Alarm).collect()
}

fn task_set() -> TaskSet {
    let (external_id, scale, tags) = (Some("r1".into()), Scale::WHOLE, Arc::new(tags()));
    TaskSet { external_id, scale, draining: true, tags }
}

pub(super) fn task_sets() -> TaskSets {
    TaskSets { service: SERVICE, primary: None, sets: [(DEPLOYMENT, task_set())].into() }
}

fn commands_of_task_sets() -> Vec<Command> {
    let (service, set, scale, tags) = (SERVICE, DEPLOYMENT, Scale::WHOLE, tags());
    let (id, cluster, spec, definition) = (SERVICE, CLUSTER, service_spec(), DEFINITION);
    let new =
        NewTaskSet { service, id: set, definition, external_id: None, scale, tags: tags.clone() };
    let steps = vec![Step::RetireTaskSet { service, set }];
    let (resource, put) = (Resource::TaskSet { service, set }, tags.clone());
    let sets = [
        TaskSetCommand::CreateService { id, cluster, spec, tags },
        TaskSetCommand::Create(new),
        TaskSetCommand::Scale { service, set, scale },
        TaskSetCommand::SetPrimary { service, set },
        TaskSetCommand::Delete { service, set, force: true },
    ];
    let mut all: Vec<Command> = sets.into_iter().map(Command::TaskSet).collect();
    all.push(Command::TagResource { resource, set: put, remove: vec![] });
    all.push(Command::Plan { epoch: Epoch(12), steps });
    all
}

fn commands_of_secrets() -> Vec<Command> {
    let name: Arc<str> = "db".into();
    vec![
        Command::Secret(SecretCommand::Create { name: name.clone(), value: sealed() }),
        Command::Secret(SecretCommand::PutValue { name: name.clone(), value: sealed() }),
        Command::Secret(SecretCommand::Delete { name }),
    ]
}

fn commands_of_roles() -> Vec<Command> {
    let (holder, name) = (Holder::TaskRole("web".into()), "blue".into());
    vec![
        Command::DeletePolicy { holder, name },
        Command::CreateSigningKey { public: vec![4, 250].into(), private: sealed() },
    ]
}

fn commands_of_jobs() -> Vec<Command> {
    let (id, cluster, definition, spec) = (JOB, CLUSTER, DEFINITION, job_spec());
    let start = Step::StartAttempts { job: id, tasks: vec![TASK] };
    vec![
        Command::Job(JobCommand::Run { id, cluster, definition, spec }),
        Command::Job(JobCommand::Stop { id, reason: "x".into() }),
        Command::Job(JobCommand::Delete { id }),
        Command::Plan { epoch: Epoch(12), steps: vec![start, Step::TimeOutJob { job: id }] },
    ]
}

fn commands_of_endpoints() -> Vec<Command> {
    let (service, deployment) = (SERVICE, DEPLOYMENT);
    let answer =
        |answer| Step::AnswerHook { service, deployment, hook: "post_scale_up-3".into(), answer };
    let steps = vec![answer(HookAction::Continue), answer(HookAction::Rollback)];
    vec![Command::Plan { epoch: Epoch(12), steps }]
}

/// In the order in which they came to be.
pub(super) fn all() -> Vec<Command> {
    let first = Bootstrap {
        name: "fleet".into(),
        account: "000000000000".into(),
        region: "local".into(),
        default_cluster: CLUSTER,
        authority: authority(),
        manager: manager(),
        admin: "admin".into(),
        admin_serial: "00".into(),
    };
    let mut commands = vec![
        Command::Bootstrap(Box::new(first)),
        Command::Takeover { manager: RaftId(1) },
        Command::RaiseLevel { level: 2 },
    ];
    commands.extend(commands_of_users());
    commands.extend(commands_of_machines());
    commands.extend(commands_of_operations());
    commands.extend(commands_of_capacity());
    commands.extend(commands_of_deployments());
    commands.extend(commands_of_schedules());
    commands.extend(commands_of_secrets());
    commands.extend(commands_of_roles());
    commands.extend(commands_of_jobs());
    commands.extend(commands_of_endpoints());
    commands.extend(commands_of_alarms());
    commands.extend(commands_of_task_sets());
    commands
}
