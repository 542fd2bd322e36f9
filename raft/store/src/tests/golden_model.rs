//! The bytes of everything of the model that is stored: each command, step, answer, error and row.
//!
//! bincode is positional: a variant that moves or a field that is added shows here as a changed
//! line. New variants go at the end and get a line of their own; a changed row raises its table's
//! format. Before the first release a changed line may be recorded anew (`UPDATE=1`).

mod commands;

use super::golden::{check, line, value};
use crate::codec;
use crate::rows;
use crate::types::Reply;
use muster_model::capacity::{AutoScalingGroup, ClusterProviders, StrategyItem};
use muster_model::cluster::{Authority, Cluster, Manager, User, UserRole};
use muster_model::job::{JobEnd, JobFailure};
use muster_model::mark::{AccountSetting, Deletion, Established, Protection, SettingKey};
use muster_model::schedule::{RunOutcome, ScheduleRun, ScheduledRun};
use muster_model::service::{Backoff, Deployment, End, Halt, HaltCause, Outcome, RolloutState};
use muster_model::shift::Hook;
use muster_model::spec::{ContainerDefinition, Overrides, Protocol, Tags};
use muster_model::state::{Meta, RequestRow};
use muster_model::task::{Blocker, ContainerStatus, NetworkBinding};
use muster_model::{
    AccessKey, AccessKeyId, AccessKeyStatus, Alarm, AlarmState, CapacityProvider, ClusterId,
    ClusterStatus, DefinitionId, DefinitionRow, DeploymentId, DeploymentStrategy, Desired, Entry,
    Epoch, Error, Event, Health, HealthStatus, Holder, HookAction, Index, Instance, InstanceId,
    InstanceSpec, InstanceStatus, Job, JobId, JobOutcome, JobSpec, Kind, LifecycleHook, Observed,
    OverlapPolicy, Owner, Pace, Pause, Phase, Pin, Pins, Policy, Principal, RaftId, RequestId,
    Resources, Response, Revision, Row, Schedule, ScheduleId, ScheduleSpec, SealedSecret, Secret,
    SecretVersion, Service, ServiceId, ServiceSpec, ServiceStatus, Shift, SigningKey, Slot, Stage,
    StepSize, StopCode, Task, TaskDefinition, TaskId, Time, TraceId, Weight,
};
use std::sync::Arc;

const CLUSTER: ClusterId = ClusterId::from_bits(0x1111);
const SERVICE: ServiceId = ServiceId::from_bits(0x2222);
const TASK: TaskId = TaskId::from_bits(0x3333);
const INSTANCE: InstanceId = InstanceId::from_bits(0x4444);
const DEPLOYMENT: DeploymentId = DeploymentId::from_bits(0x5555);
const SCHEDULE: ScheduleId = ScheduleId::from_bits(0x9999);
const JOB: JobId = JobId::from_bits(0xaaaa);
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

fn schedule_spec() -> Arc<ScheduleSpec> {
    let run = ScheduledRun { family: "web".into(), count: 2, tags: tags(), ..Default::default() };
    Arc::new(ScheduleSpec {
        name: "nightly".into(),
        expression: "cron(30 2 * * ? *)".into(),
        timezone: "Europe/Berlin".into(),
        end: Some(Time(99)),
        overlap: OverlapPolicy::Replace,
        run,
        ..ScheduleSpec::default()
    })
}

/// A run of each outcome.
fn schedule() -> Schedule {
    let outcomes = [
        RunOutcome::Started { tasks: vec![TASK] },
        RunOutcome::Skipped { open: 1 },
        RunOutcome::Missed,
        RunOutcome::Failed { why: Error::refused("x") },
        RunOutcome::StartedJob { job: JOB },
    ];
    let run =
        |(due, outcome)| ScheduleRun { due: Time(due), at: Time(due + 1), missed: 3, outcome };
    Schedule {
        id: SCHEDULE,
        cluster: CLUSTER,
        spec: schedule_spec(),
        next_due: Some(Time(50)),
        runs: (10..).zip(outcomes).map(run).collect(),
        created_at: Time(5),
        updated_at: Time(6),
        version: 7,
    }
}

fn job_spec() -> Arc<JobSpec> {
    Arc::new(JobSpec {
        name: "import".into(),
        completions: 20,
        parallelism: 5,
        retries: 6,
        timeout_secs: Some(3600),
        tags: tags(),
        ..JobSpec::default()
    })
}

fn job() -> Job {
    let reason: Arc<str> = "x".into();
    Job {
        id: JOB,
        cluster: CLUSTER,
        definition: DEFINITION,
        spec: job_spec(),
        attempts: 9,
        succeeded: 3,
        failed: 2,
        backoff: Backoff { failures: 2, until: Time(60) },
        last_failure: Some(JobFailure { task: TASK, reason: reason.clone() }),
        created_at: Time(5),
        started_at: Some(Time(6)),
        end: Some(JobEnd { outcome: JobOutcome::Stopped, at: Time(70), reason }),
        version: 7,
    }
}

/// An attempt of a job.
fn attempt() -> Task {
    let owner = Owner::Job { job: JOB, group: "night".into(), started_by: "job/import".into() };
    Task::new(TASK, CLUSTER, owner, DEFINITION, Time(5))
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

fn pins() -> Pins {
    let pin = Pin { digest: "sha256:00".into(), at: Time(9) };
    let deployments = [(DEPLOYMENT, [("web".into(), pin)].into())].into();
    Pins { service: SERVICE, deployments }
}

fn setting() -> SettingKey {
    SettingKey { principal: Some("ada".into()), name: "containerInsights".into() }
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
        Ok(Response::CapacityProvider("spot".into())),
        Err(Error::not_found(Kind::CapacityProvider, "x")),
        Ok(Response::Schedule(SCHEDULE)),
        Err(Error::not_found(Kind::Schedule, "x")),
        Ok(Response::Secret { name: "db".into(), version: 2 }),
        Err(Error::not_found(Kind::Secret, "x")),
        Ok(Response::Job(JOB)),
        Err(Error::not_found(Kind::Job, "x")),
        Ok(Response::TaskSet { service: SERVICE, set: DEPLOYMENT }),
        Err(Error::not_found(Kind::TaskSet, "x")),
    ]
}

fn task() -> Task {
    let owner = Owner::Service { service: SERVICE, slot: Slot(1), deployment: DEPLOYMENT };
    let mut task = Task::new(TASK, CLUSTER, owner, DEFINITION, Time(3));
    task.overrides = Some(Arc::new(Overrides::default()));
    task.tags = Arc::new(tags());
    task.instance = Some(INSTANCE);
    task.placed_at = Some(Time(4));
    task.ports = [32768].into();
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

fn capacity_provider() -> CapacityProvider {
    let group = AutoScalingGroup { arn: "spot".into(), ..AutoScalingGroup::default() };
    CapacityProvider {
        name: "spot".into(),
        group: Arc::new(group),
        tags: Arc::new(tags()),
        updated_at: Some(Time(2)),
        deleted_at: Some(Time(3)),
    }
}

fn cluster_providers() -> ClusterProviders {
    let provider: Arc<str> = "spot".into();
    let strategy = vec![StrategyItem { provider: provider.clone(), weight: 2, base: 1 }];
    ClusterProviders { cluster: CLUSTER, names: vec![provider], strategy }
}

fn shift() -> Shift {
    let hook = LifecycleHook {
        stages: vec![Stage::PostScaleUp],
        timeout_minutes: 5,
        on_timeout: HookAction::Continue,
        ..LifecycleHook::default()
    };
    let pace = Pace::Canary(StepSize::CANARY);
    let strategy = DeploymentStrategy { pace, bake_minutes: 4, hooks: vec![hook] };
    Shift {
        service: SERVICE,
        green: DEPLOYMENT,
        blue: DeploymentId::from_bits(0x9999),
        strategy: Arc::new(strategy),
        stage: Stage::PostScaleUp,
        entered_at: Time(7),
        turns: 3,
        production: Weight::NONE,
        test: Weight::ALL,
        hook: Some(Hook { expires_at: Time(8), on_timeout: HookAction::Rollback }),
    }
}

fn alarm() -> Alarm {
    let (name, reason) = ("errors".into(), "x".into());
    Alarm { name, state: AlarmState::Alarm, reason, since: Time(9) }
}

fn secret() -> Secret {
    let version = |number| SecretVersion { number, value: sealed(), created_at: Time(number) };
    Secret { name: "db".into(), created_at: Time(1), versions: vec![version(1), version(2)] }
}

fn meta() -> Meta {
    Meta {
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
    }
}

/// One of each variant, in the order of the enum.
fn rows() -> Vec<Row> {
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
        Row::Meta(Arc::new(meta())),
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
        Row::CapacityProvider(Arc::new(capacity_provider())),
        Row::ClusterProviders(Arc::new(cluster_providers())),
        Row::Shift(Arc::new(shift())),
        Row::Pause(Arc::new(Pause { service: SERVICE, deployment: DEPLOYMENT, since: Time(9) })),
        Row::Schedule(Arc::new(schedule())),
        Row::Secret(Arc::new(secret())),
        Row::SigningKey(Arc::new(SigningKey {
            public: vec![4, 250].into(),
            private: sealed(),
            created_at: Time(1),
        })),
        Row::Job(Arc::new(job())),
        Row::Alarm(Arc::new(alarm())),
        Row::Task(Arc::new(attempt())),
        Row::Pins(Arc::new(pins())),
        Row::TaskSets(Arc::new(commands::task_sets())),
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
    for command in commands::all() {
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
