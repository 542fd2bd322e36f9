//! The bytes of everything of the model that is stored: each command, step, answer, error and row.
//!
//! bincode is positional: a variant that moves or a field that is added shows here as a changed
//! line. New variants go at the end and get a line of their own; a changed row raises its table's
//! format. Before the first release a changed line may be recorded anew (`UPDATE=1`).

use super::golden::{check, line, value};
use crate::codec;
use crate::rows;
use crate::types::Reply;
use muster_model::cluster::{Authority, Cluster, Manager, User, UserRole};
use muster_model::command::{
    Bootstrap, CreateCluster, CreateService, InstanceAttribute, RegisterInstance, Resource,
    RunTask, ServiceChange, StartTask, StopType, TokenRole, UpdateService,
};
use muster_model::mark::{AccountSetting, Deletion, Established, Protection, SettingKey};
use muster_model::service::{Backoff, Deployment, End, Halt, HaltCause, Outcome, RolloutState};
use muster_model::spec::{ContainerDefinition, Overrides, Protocol, Tags};
use muster_model::state::{Meta, RequestRow};
use muster_model::task::{Blocker, ContainerStatus, NetworkBinding, Shortfall, Waiting};
use muster_model::{
    AccessKey, AccessKeyId, AccessKeyStatus, ClusterId, ClusterStatus, Command, DefinitionId,
    DefinitionRow, DeploymentId, Desired, Entry, Epoch, Error, Event, Health, HealthStatus, Holder,
    Index, Instance, InstanceId, InstanceSpec, InstanceStatus, Kind, Millis, Observed, Owner,
    Phase, Policy, Principal, RaftId, RequestId, Resources, Response, Revision, Row, SealedSecret,
    Service, ServiceId, ServiceSpec, ServiceStatus, Slot, Step, StopCode, Task, TaskDefinition,
    TaskId, TaskReport, Time, TraceId,
};
use std::sync::Arc;

const CLUSTER: ClusterId = ClusterId::from_bits(0x1111);
const SERVICE: ServiceId = ServiceId::from_bits(0x2222);
const TASK: TaskId = TaskId::from_bits(0x3333);
const INSTANCE: InstanceId = InstanceId::from_bits(0x4444);
const DEPLOYMENT: DeploymentId = DeploymentId::from_bits(0x5555);
const DEFINITION: DefinitionId = DefinitionId(7);
const ACCESS_KEY: AccessKeyId = AccessKeyId::from_bits(0x8888);

fn sealed() -> SealedSecret {
    SealedSecret(vec![1, 2, 250].into())
}

fn tags() -> Tags {
    Tags::from([("team".to_owned(), "web".to_owned())])
}

fn definition() -> Arc<TaskDefinition> {
    let web = ContainerDefinition {
        name: "web".into(),
        image: "busybox".into(),
        essential: true,
        ..ContainerDefinition::default()
    };
    let family = "web".into();
    Arc::new(TaskDefinition { family, containers: vec![web], ..TaskDefinition::default() })
}

fn service_spec() -> Arc<ServiceSpec> {
    Arc::new(ServiceSpec { name: "web".into(), desired_count: 3, ..ServiceSpec::default() })
}

fn instance_spec() -> Arc<InstanceSpec> {
    let total = Resources { cpu: 2048, memory_mib: 4096 };
    let (hostname, zone) = ("worker-1".into(), "az-a".into());
    Arc::new(InstanceSpec { hostname, zone, total, ..InstanceSpec::default() })
}

fn manager() -> Manager {
    Manager {
        id: RaftId(1),
        name: "manager-1".into(),
        zone: "az-a".into(),
        address: "10.0.0.1:7700".into(),
        level: 1,
        joined_at: Time(5),
        removed_at: None,
    }
}

fn authority() -> Authority {
    Authority {
        certificate_pem: "certificate".into(),
        key_pem: "key".into(),
        manager_token_hash: "aa".into(),
        worker_token_hash: "bb".into(),
    }
}

fn observed() -> Observed {
    let web = ContainerStatus {
        name: "web".into(),
        phase: Phase::Running,
        exit_code: Some(-1),
        reason: Some("reason".into()),
        runtime_id: Some("id".into()),
        image_digest: Some("sha256:00".into()),
        bindings: vec![NetworkBinding {
            container_port: 80,
            host_port: 32768,
            protocol: Protocol::Udp,
        }],
        address: Some("172.17.0.2".into()),
        pid: Some(42),
        health: HealthStatus::Unhealthy,
        restarts: 3,
    };
    Observed {
        phase: Phase::Stopped,
        containers: vec![web],
        started_at: Some(Time(9)),
        stop_code: Some(StopCode::EssentialContainerExited),
        reason: Some("exited".into()),
        ..Observed::default()
    }
}

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

fn setting() -> SettingKey {
    SettingKey { principal: Some("ada".into()), name: "containerInsights".into() }
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

/// In the order of the enum.
fn commands() -> Vec<Command> {
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
    commands
}

fn answers() -> Vec<Result<Response, Error>> {
    let refused = vec![(1, Error::Refused { why: "full".into() })];
    vec![
        Ok(Response::Done),
        Ok(Response::Cluster(CLUSTER)),
        Ok(Response::Definition(DEFINITION)),
        Ok(Response::Service(SERVICE)),
        Ok(Response::Tasks(vec![TASK])),
        Ok(Response::Instance(INSTANCE)),
        Ok(Response::Manager(RaftId(3))),
        Ok(Response::Plan { refused: refused.clone() }),
        Ok(Response::Reports { refused }),
        Ok(Response::AccessKey(ACCESS_KEY)),
        Err(Error::invalid("field", "value", "allowed")),
        Err(Error::not_found(Kind::Deployment, "x")),
        Err(Error::Exists { kind: Kind::Cluster, name: "x".into() }),
        Err(Error::NotActive { kind: Kind::TaskDefinition, name: "x".into() }),
        Err(Error::InUse { kind: Kind::Service, name: "x".into(), what: "y".into() }),
        Err(Error::LimitExceeded { what: "x".into(), value: 2, limit: 1 }),
        Err(Error::TokenReused { resources: vec!["x".into()] }),
        Err(Error::VersionMismatch { kind: Kind::Task, name: "x".into(), found: 1, expected: 2 }),
        Err(Error::StaleEpoch { refused: Epoch(1), current: Epoch(2) }),
        Err(Error::refused("x")),
        Err(Error::Denied { principal: "x".into(), action: "y".into() }),
        Err(Error::Unsupported { feature: "x".into(), instead: "y".into() }),
        Err(Error::Unavailable { why: "x".into() }),
        Err(Error::UnknownOutcome { why: "x".into() }),
        Err(Error::Compacted { since: 1, oldest: 2 }),
        Err(Error::UpgradeRequired { what: "x".into() }),
        Ok(Response::Started { tasks: vec![TASK], refused: vec![(INSTANCE, Blocker::Ports)] }),
        Err(Error::not_found(Kind::AccountSetting, "x")),
        Err(Error::not_found(Kind::AccessKey, "x")),
    ]
}

fn task() -> Task {
    let owner = Owner::Service { service: SERVICE, slot: Slot(1), deployment: DEPLOYMENT };
    let mut task = Task::new(TASK, CLUSTER, owner, DEFINITION, Time(3));
    task.overrides = Some(Arc::new(Overrides::default()));
    task.tags = Arc::new(tags());
    task.instance = Some(INSTANCE);
    task.placed_at = Some(Time(4));
    task.ports = vec![32768];
    task.desired = Desired::Stopped { code: StopCode::UserInitiated, reason: "done".into() };
    task.observed = observed();
    task.trace = Some(TraceId::from_bits(0x7777));
    task
}

fn service() -> Service {
    Service {
        id: SERVICE,
        cluster: CLUSTER,
        spec: service_spec(),
        status: ServiceStatus::Draining,
        deployments: vec![Deployment {
            id: DEPLOYMENT,
            definition: DEFINITION,
            created_at: Time(1),
            updated_at: Time(2),
            rollout: RolloutState::Failed,
            failed_tasks: 3,
            failed_at: Some(Time(2)),
            halt: Some(Halt { cause: HaltCause::User, at: Time(2), back_to: Some(DEPLOYMENT) }),
            end: Some(End { outcome: Outcome::RolledBack, at: Time(3) }),
        }],
        backoff: Backoff { failures: 2, until: Time(9) },
        tags: Arc::new(tags()),
        created_at: Time(1),
        created_by: "user/ada".into(),
        deleted_at: Some(Time(8)),
        next_event: 2,
        version: 6,
        past: Vec::new(),
    }
}

fn instance() -> Instance {
    Instance {
        id: INSTANCE,
        cluster: CLUSTER,
        spec: instance_spec(),
        status: InstanceStatus::Active,
        health: Health::Ready,
        registered_at: Time(1),
        deregistered_at: None,
        tags: Arc::new(tags()),
        version: 2,
    }
}

fn cluster() -> Cluster {
    Cluster {
        id: CLUSTER,
        name: "default".into(),
        status: ClusterStatus::Inactive,
        settings: tags(),
        tags: Arc::new(tags()),
        created_at: Time(1),
        deleted_at: Some(Time(2)),
        version: 3,
    }
}

/// One of each variant, in the order of the enum.
fn rows() -> Vec<Row> {
    let meta = Meta {
        name: "fleet".into(),
        account: "000000000000".into(),
        region: "local".into(),
        authority: Arc::default(),
        now: Time(77),
        epoch: Epoch(12),
        leader: RaftId(1),
        level: 1,
        next_definition: 8,
        next_manager: 4,
    };
    let definition = DefinitionRow {
        id: DEFINITION,
        family: "web".into(),
        revision: Revision(2),
        spec: definition(),
        registered_at: Time(1),
        registered_by: "user/ada".into(),
        deregistered_at: Some(Time(2)),
    };
    let user = User {
        name: "ada".into(),
        role: UserRole::Admin,
        created_at: Time(1),
        serials: vec!["01".into()],
        removed_at: Some(Time(2)),
    };
    let access_key = AccessKey {
        id: ACCESS_KEY,
        user: "ada".into(),
        secret: sealed(),
        status: AccessKeyStatus::Inactive,
        created_at: Time(1),
    };
    let policy = Policy {
        holder: Holder::User("ada".into()),
        name: "blue".into(),
        document: "{}".into(),
        created_at: Time(1),
        updated_at: Time(2),
    };
    let event = Event { at: Time(3), text: "(service web) is steady".into() };
    let answer = Ok(Response::Service(SERVICE));
    let id = RequestId::from_bits(0x6666);
    let request = RequestRow { id, hash: 99, index: Index(12), at: Time(4), answer };
    vec![
        Row::Meta(Arc::new(meta)),
        Row::Cluster(Arc::new(cluster())),
        Row::Definition(Arc::new(definition)),
        Row::Service(Arc::new(service())),
        Row::Task(Arc::new(task())),
        Row::Instance(Arc::new(instance())),
        Row::Manager(Arc::new(manager())),
        Row::User(Arc::new(user)),
        Row::Event(SERVICE, 1, Arc::new(event)),
        Row::Request(Arc::new(request)),
        Row::Authority(Arc::new(authority())),
        Row::Protection(Arc::new(Protection { task: TASK, until: Time(9) })),
        Row::Deletion(Arc::new(Deletion { definition: DEFINITION, at: Time(9) })),
        Row::AccountSetting(Arc::new(AccountSetting { key: setting(), value: "enabled".into() })),
        Row::AccessKey(Arc::new(access_key)),
        Row::Policy(Arc::new(policy)),
        Row::Established(Arc::new(Established { service: SERVICE, places: 3 })),
    ]
}

/// The first word of what `Debug` prints: the name of a variant.
fn variant(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

#[test]
fn what_the_model_stores_is_as_committed() {
    let mut now = String::new();
    for command in commands() {
        let entry = Entry {
            request: RequestId::from_bits(0x6666),
            at: Time(1_700_000_000_000),
            by: Principal::User("ada".into()),
            trace: Some(TraceId::from_bits(0x7777)),
            command,
        };
        let bytes = codec::encode(codec::ENTRY, &entry).unwrap();
        assert_eq!(codec::decode::<Entry>(codec::ENTRY, &bytes).unwrap(), entry);
        line(&mut now, &format!("command {}", variant(&entry.command)), &bytes);
    }
    for answer in answers() {
        let name = answer.as_ref().map_or_else(variant, variant);
        value(&mut now, codec::Kind { name: "answer", ..codec::REPLY }, &Reply(answer));
        let end = now.trim_end().len();
        now.truncate(end);
        now.push_str(&format!("  {name}\n"));
    }
    for row in rows() {
        let bytes = rows::encode(&row).unwrap();
        assert_eq!(rows::decode_at(row.table(), &row.key(), &bytes).unwrap(), row);
        line(&mut now, &format!("row of {}", row.table().name()), &bytes);
    }
    check("model.txt", &now);
}
