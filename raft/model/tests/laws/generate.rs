//! Arbitrary commands over small pools of ids, so that they hit each other.
//!
//! Some values are marks: `aimed` puts what would be right just now in their place, so that most
//! plans and reports get past the first check.

pub mod jobs;
mod kept;
mod marks;
pub mod schedules;
pub mod task_sets;

use marks::marks;
use muster_model::Holder;
use muster_model::cluster::UserRole;
use muster_model::command::*;
use muster_model::service::{DeploymentConfiguration, RolloutState, ServiceChange, ServiceSpec};
use muster_model::spec::*;
use muster_model::task::{Blocker, ContainerStatus, Observed, Phase, StopCode, Waiting};
use muster_model::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use std::sync::Arc;

const NOW: Epoch = Epoch(u64::MAX);
const PRIMARY: DeploymentId = DeploymentId::from_bits(u128::MAX);
const ITS_OWN: InstanceId = InstanceId::from_bits(u128::MAX);
const FITTING: u16 = 1;

/// The command with what is right in this state in place of the marks.
pub fn aimed(state: &State, mut command: Command) -> Command {
    match &mut command {
        Command::Plan { epoch, steps } => {
            if *epoch == NOW {
                *epoch = state.meta().epoch;
            }
            steps.iter_mut().for_each(|step| aim(state, step));
        }
        Command::Report { reports } => {
            for report in reports.iter_mut().filter(|report| report.instance == ITS_OWN) {
                let own = state.task(report.task).and_then(|task| task.instance);
                report.instance = own.unwrap_or(ITS_OWN);
            }
        }
        Command::TaskSet(command) => task_sets::aim(state, command),
        _ => {}
    }
    command
}

/// Where another task of the same service is: some services have at most one on an instance.
fn aim_beside(state: &State, task: TaskId, instance: &mut InstanceId) {
    let service = state.task(task).and_then(|task| task.service());
    let mut others = service.into_iter().flat_map(|id| state.tasks_of(id));
    *instance = others.find_map(|t| t.instance).unwrap_or(InstanceId::from_bits(0));
}

fn aim(state: &State, step: &mut Step) {
    if let Step::Place { task, instance, .. } = step
        && *instance == ITS_OWN
    {
        aim_beside(state, *task, instance);
    }
    schedules::aim(state, step);
    match step {
        Step::CreateTasks { service, deployment, .. }
        | Step::Advance { service, deployment, .. }
        | Step::RetireTaskSet { service, set: deployment }
            if *deployment == PRIMARY =>
        {
            let primary = state.service(*service).and_then(|row| row.primary());
            *deployment = primary.map_or(PRIMARY, |primary| primary.id);
        }
        Step::Place { task, ports, .. } if ports.first() == Some(&FITTING) => {
            let spec = state.task(*task).and_then(|task| state.spec_of(task));
            let Some(spec) = spec else { return };
            // Two tasks in three get the same dynamic port; one of those must be refused.
            let dynamic = 32768 + u16::from(task.bits() % 3 == 0);
            ports.clear();
            for (at, (_, mapping)) in (0..).zip(spec.port_mappings()) {
                let spread = if task.bits() % 2 == 0 { at } else { 0 };
                ports.push(spec.wanted_host_port(mapping).unwrap_or(dynamic + spread));
            }
        }
        _ => {}
    }
}

pub fn task() -> impl Strategy<Value = TaskId> {
    (0u128..12).prop_map(TaskId::from_bits)
}
pub fn service() -> impl Strategy<Value = ServiceId> {
    (0u128..4).prop_map(ServiceId::from_bits)
}
pub fn instance() -> impl Strategy<Value = InstanceId> {
    prop_oneof![12 => 0u128..3, 1 => 3u128..5].prop_map(InstanceId::from_bits)
}
pub fn cluster() -> impl Strategy<Value = ClusterId> {
    prop_oneof![8 => 0u128..2, 1 => Just(2u128)].prop_map(ClusterId::from_bits)
}
fn deployment() -> impl Strategy<Value = DeploymentId> {
    (0u128..4).prop_map(DeploymentId::from_bits)
}
/// Mostly the mark for "its PRIMARY one".
fn deployment_of_service() -> impl Strategy<Value = DeploymentId> {
    prop_oneof![1 => deployment(), 3 => Just(PRIMARY)]
}
fn definition() -> impl Strategy<Value = DefinitionId> {
    (1u64..6).prop_map(DefinitionId)
}
fn raft_id() -> impl Strategy<Value = RaftId> {
    (1u64..5).prop_map(RaftId)
}
fn name() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![Just("default"), Just("a"), Just("b"), Just("")].prop_map(Arc::from)
}
fn text() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![Just(""), Just("because"), Just("because é")].prop_map(Arc::from)
}
fn tags() -> impl Strategy<Value = Tags> {
    btree_map("[ab]", "[xy]", 0..2)
}
fn time() -> impl Strategy<Value = Time> {
    prop_oneof![8 => (0u64..100_000).prop_map(Time), 1 => any::<u64>().prop_map(Time)]
}

/// Five kinds of definitions: plain, a fixed port, a dynamic one, two in host mode, one alone.
pub fn task_definition() -> impl Strategy<Value = Arc<TaskDefinition>> {
    let port = |container_port, host_port, protocol| PortMapping {
        name: None,
        container_port,
        host_port,
        protocol,
        app_protocol: None,
    };
    let ports = prop_oneof![
        Just(vec![]),
        Just(vec![port(80, 8080, Protocol::Tcp)]),
        Just(vec![port(80, 0, Protocol::Tcp)]),
        Just(vec![port(80, 0, Protocol::Tcp), port(81, 8080, Protocol::Udp)]),
        Just(vec![port(80, 0, Protocol::Tcp), port(81, 0, Protocol::Tcp)]),
    ];
    let mode = prop_oneof![
        4 => Just(NetworkMode::Bridge),
        1 => Just(NetworkMode::Host),
        1 => Just(NetworkMode::None)
    ];
    let sizes = (0u32..600, 0u32..600, named());
    ("[wv]", sizes, ports, mode, constraints()).prop_map(
        |(family, sizes, port_mappings, network_mode, placement_constraints)| {
            let (cpu, memory, resource_requirements) = sizes;
            Arc::new(TaskDefinition {
                family,
                containers: vec![ContainerDefinition {
                    name: "main".into(),
                    cpu,
                    memory_mib: Some(memory),
                    port_mappings,
                    resource_requirements,
                    ..ContainerDefinition::default()
                }],
                network_mode,
                placement_constraints,
                ..TaskDefinition::default()
            })
        },
    )
}

/// What is wanted of resources that instances have two of, and of one that none has.
fn named() -> impl Strategy<Value = Named> {
    let some = |name: &str, amount| Just(Named::from([(name.to_owned(), amount)]));
    prop_oneof![
        2 => Just(Named::new()),
        6 => some("GPU", 1),
        1 => some("GPU", 2),
        1 => (1u32..3, 1u32..3)
            .prop_map(|(a, b)| Named::from([("GPU".into(), a), ("dongle".into(), b)])),
        1 => some("nothing", 1),
    ]
}

fn constraints() -> impl Strategy<Value = Vec<PlacementConstraint>> {
    let member = |text: &str| {
        Just(vec![PlacementConstraint::MemberOf(Query::parse(text).expect("a query"))])
    };
    prop_oneof![
        4 => Just(vec![]),
        1 => Just(vec![PlacementConstraint::DistinctInstance]),
        1 => member("attribute:ecs.availability-zone == a or runningTasksCount < 1"),
        1 => member("not(task:group == service:w) and agentConnected == true"),
    ]
}

fn service_spec() -> impl Strategy<Value = Arc<ServiceSpec>> {
    let replicas = (0u32..5)
        .prop_map(|count| (SchedulingStrategy::Replica, count, DeploymentConfiguration::default()));
    let daemon = (prop_oneof![Just(0u32), Just(50)], prop_oneof![9 => Just(0u32), 1 => Just(1)])
        .prop_map(|(minimum_healthy_percent, count)| {
            let percents = DeploymentConfiguration::DAEMON;
            let percents = DeploymentConfiguration { minimum_healthy_percent, ..percents };
            (SchedulingStrategy::Daemon, count, percents)
        });
    let propagate = proptest::sample::select(PropagateTags::ALL.to_vec());
    (name(), prop_oneof![2 => replicas, 1 => daemon], propagate, constraints()).prop_map(
        |(name, (scheduling, desired_count, deployment), propagate, constraints)| {
            Arc::new(ServiceSpec {
                name: name.to_string(),
                desired_count,
                scheduling,
                deployment,
                placement: Placement { constraints, ..Placement::default() },
                propagate_tags: propagate,
                ..ServiceSpec::default()
            })
        },
    )
}

fn observed() -> impl Strategy<Value = Observed> {
    let phase = prop_oneof![
        Just(Phase::Provisioning),
        Just(Phase::Pending),
        Just(Phase::Activating),
        Just(Phase::Running),
        Just(Phase::Running),
        Just(Phase::Stopping),
        Just(Phase::Stopped),
        Just(Phase::Stopped),
    ];
    let container = (option::of(any::<i32>()), option::of("[ab]"));
    (phase, option::of(time()), option::of(time()), option::of(text()), option::of(container))
        .prop_map(|(phase, started_at, stopped_at, reason, container)| Observed {
            phase,
            started_at,
            stopped_at,
            reason,
            containers: container
                .map(|(exit_code, digit)| ContainerStatus {
                    name: Arc::from("main"),
                    phase,
                    exit_code,
                    image_digest: digit.map(|digit| fixture::digest(&digit)),
                    ..ContainerStatus::default()
                })
                .into_iter()
                .collect(),
            ..Observed::default()
        })
}

fn health() -> impl Strategy<Value = Health> {
    prop_oneof![
        8 => Just(Health::Ready),
        1 => Just(Health::Registered),
        1 => time().prop_map(|since| Health::Down { since })
    ]
}

fn stop_code() -> impl Strategy<Value = StopCode> {
    prop_oneof![Just(StopCode::ServiceSchedulerInitiated), Just(StopCode::UserInitiated)]
}

fn waiting() -> impl Strategy<Value = Waiting> {
    (0u32..3).prop_map(|instances| Waiting {
        instances,
        removed: vec![(Blocker::Cpu, instances)],
        nearest: None,
    })
}

pub fn step() -> impl Strategy<Value = Step> {
    let rollout = prop_oneof![
        Just(RolloutState::InProgress),
        Just(RolloutState::Completed),
        Just(RolloutState::Completed),
        Just(RolloutState::Failed)
    ];
    let slots = vec(((0u32..4).prop_map(Slot), task()), 0..3);
    let port = prop_oneof![Just(8080u16), Just(80), Just(32768), Just(32769)];
    let ports = prop_oneof![1 => vec(port, 0..3), 3 => Just(vec![FITTING])];
    prop_oneof![
        2 => schedules::fire(),
        3 => jobs::steps(),
        1 => task_sets::steps(),
        6 => (service(), deployment_of_service(), slots).prop_map(|(service, deployment, tasks)| {
            Step::CreateTasks { service, deployment, tasks }
        }),
        8 => (task(), prop_oneof![3 => instance(), 1 => Just(ITS_OWN)], ports)
            .prop_map(|(task, instance, ports)| Step::Place { task, instance, ports }),
        2 => (task(), stop_code(), text())
            .prop_map(|(task, code, reason)| Step::Stop { task, code, reason }),
        2 => task().prop_map(|task| Step::Abandon { task }),
        3 => (instance(), health())
            .prop_map(|(instance, health)| Step::SetHealth { instance, health }),
        2 => (service(), deployment_of_service(), rollout).prop_map(
            |(service, deployment, rollout)| {
            Step::Advance { service, deployment, rollout }
        }),
        1 => (service(), text()).prop_map(|(service, text)| Step::Event { service, text }),
        1 => (task(), waiting()).prop_map(|(task, waiting)| Step::Explain { task, waiting }),
        2 => vec(task(), 0..3).prop_map(|tasks| Step::Forget { tasks }),
        1 => service().prop_map(|service| Step::Retire { service }),
        1 => (vec(service(), 0..2), vec(instance(), 0..2))
            .prop_map(|(services, instances)| Step::Purge { services, instances }),
        1 => vec(definition(), 0..3)
            .prop_map(|definitions| Step::RemoveDefinitions { definitions }),
    ]
}

fn update() -> impl Strategy<Value = UpdateService> {
    let change = option::of(0u32..5).prop_map(|desired_count| {
        Arc::new(ServiceChange { desired_count, ..ServiceChange::default() })
    });
    (service(), option::of(1u64..4), deployment(), option::of(definition()), any::<bool>(), change)
        .prop_map(|(service, expected_version, deployment, definition, force, change)| {
            UpdateService {
                service,
                expected_version,
                deployment,
                definition,
                force_new_deployment: force,
                change,
            }
        })
}

fn run_task() -> impl Strategy<Value = RunTask> {
    let overrides = (option::of(0u32..300), named()).prop_map(|(cpu, resource_requirements)| {
        let name = "main".into();
        let over = ContainerOverride { name, resource_requirements, ..Default::default() };
        let containers = if over.resource_requirements.is_empty() { vec![] } else { vec![over] };
        Arc::new(Overrides { cpu, containers, ..Overrides::default() })
    });
    (cluster(), definition(), vec(task(), 0..4), text(), overrides, tags()).prop_map(
        |(cluster, definition, tasks, group, overrides, tags)| RunTask {
            cluster,
            definition,
            tasks,
            group,
            started_by: None,
            overrides,
            tags,
        },
    )
}

/// Where each task goes is often not one place per task, which is refused.
fn start_task() -> impl Strategy<Value = Command> {
    (run_task(), vec(instance(), 0..4))
        .prop_map(|(run, on)| Command::StartTask(StartTask { run, on }))
}

/// Sizes never shrink, so that "never more than there is" holds at every index.
pub fn instance_spec(id: InstanceId, agent_version: u8) -> Arc<InstanceSpec> {
    Arc::new(InstanceSpec {
        zone: format!("az-{}", id.bits() % 3),
        total: Resources { cpu: 1024, memory_mib: 1024 },
        resources: Named::from([("GPU".into(), 2), ("dongle".into(), 2)]),
        reserved_ports: [80].into(),
        agent_version: agent_version.to_string(),
        ..InstanceSpec::default()
    })
}

fn users_and_services() -> impl Strategy<Value = Command> {
    let status = prop_oneof![
        3 => Just(InstanceStatus::Active),
        1 => Just(InstanceStatus::Draining),
        1 => Just(InstanceStatus::Inactive)
    ];
    let resource = prop_oneof![
        cluster().prop_map(Resource::Cluster),
        service().prop_map(Resource::Service),
        task().prop_map(Resource::Task),
        instance().prop_map(Resource::Instance),
        definition().prop_map(Resource::Definition),
    ];
    prop_oneof![
        1 => (cluster(), name(), tags()).prop_map(|(id, name, tags)| {
            Command::CreateCluster(CreateCluster { id, name, settings: Default::default(), tags })
        }),
        1 => cluster().prop_map(|cluster| Command::DeleteCluster { cluster }),
        2 => task_definition().prop_map(Command::RegisterTaskDefinition),
        1 => definition()
            .prop_map(|definition| Command::DeregisterTaskDefinition { definition }),
        4 => (service(), deployment(), cluster(), definition(), service_spec(), tags()).prop_map(
            |(id, deployment, cluster, definition, spec, tags)| {
                Command::CreateService(CreateService {
                    id, deployment, cluster, definition, spec, tags,
                })
            }
        ),
        3 => update().prop_map(Command::UpdateService),
        1 => (service(), any::<bool>())
            .prop_map(|(service, force)| Command::DeleteService { service, force }),
        4 => run_task().prop_map(Command::RunTask),
        2 => start_task(),
        2 => marks(),
        2 => (task(), text()).prop_map(|(task, reason)| Command::StopTask { task, reason }),
        1 => (resource, tags()).prop_map(|(resource, set)| {
            Command::TagResource { resource, set, remove: vec!["a".into()] }
        }),
        3 => (instance(), cluster(), any::<u8>()).prop_map(|(id, cluster, version)| {
            let spec = instance_spec(id, version);
            Command::RegisterInstance(RegisterInstance { id, cluster, spec })
        }),
        1 => (instance(), status)
            .prop_map(|(instance, status)| Command::UpdateInstanceStatus { instance, status }),
        1 => (instance(), any::<bool>())
            .prop_map(|(instance, force)| Command::DeregisterInstance { instance, force }),
        1 => Just(Command::Reset),
    ]
}

fn holder() -> impl Strategy<Value = Holder> {
    prop_oneof![
        1 => Just(Holder::Role(UserRole::Restricted)),
        1 => Just(Holder::User("admin".into())),
        2 => name().prop_map(Holder::User),
        1 => name().prop_map(Holder::TaskRole),
    ]
}

fn managers() -> impl Strategy<Value = Command> {
    let role = prop_oneof![Just(UserRole::Admin), Just(UserRole::ReadOnly)];
    prop_oneof![
        raft_id().prop_map(|manager| Command::Takeover { manager }),
        (0u32..3).prop_map(|level| Command::RaiseLevel { level }),
        (name(), 0u32..3).prop_map(|(name, level)| Command::AddManager {
            zone: name.clone(),
            address: name.clone(),
            name,
            level
        }),
        (raft_id(), name(), 0u32..3).prop_map(|(manager, address, level)| Command::UpdateManager {
            manager,
            address,
            level
        }),
        raft_id().prop_map(|manager| Command::RemoveManager { manager }),
        text().prop_map(|hash| Command::RotateToken { role: TokenRole::Worker, hash }),
        (name(), role, text()).prop_map(|(name, role, serial)| Command::CreateUser {
            name,
            role,
            serial
        }),
        name().prop_map(|name| Command::RemoveUser { name }),
        kept::commands(),
        (holder(), name(), text()).prop_map(|(holder, name, document)| Command::PutPolicy {
            holder,
            name,
            document
        }),
        (holder(), name()).prop_map(|(holder, name)| Command::DeletePolicy { holder, name }),
    ]
}

pub fn command() -> impl Strategy<Value = Command> {
    let reports = vec(
        (task(), prop_oneof![1 => instance(), 3 => Just(ITS_OWN)], observed())
            .prop_map(|(task, instance, observed)| TaskReport { task, instance, observed }),
        0..4,
    );
    let epoch = prop_oneof![1 => Just(Epoch(0)), 20 => Just(NOW)];
    prop_oneof![
        12 => (epoch, vec(step(), 1..6))
            .prop_map(|(epoch, steps)| Command::Plan { epoch, steps }),
        8 => reports.prop_map(|reports| Command::Report { reports }),
        10 => users_and_services(),
        2 => schedules::schedules(),
        2 => jobs::jobs(),
        2 => task_sets::commands(),
        1 => managers(),
    ]
}

/// Who asks, under which request, after how many milliseconds.
pub fn asked() -> impl Strategy<Value = (Command, Principal, RequestId, u64)> {
    let by = prop_oneof![
        6 => Just(Principal::Manager(RaftId(1))),
        1 => instance().prop_map(Principal::Instance),
        1 => Just(Principal::User("admin".into())),
        1 => task().prop_map(|task| Principal::AssumedRole { role: "web".into(), task }),
    ];
    let request = (0u128..1000).prop_map(RequestId::from_bits);
    (command(), by, request, prop_oneof![9 => 0u64..20_000, 1 => 0u64..50_000_000])
}
