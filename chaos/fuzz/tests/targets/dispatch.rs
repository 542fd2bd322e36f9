//! What agents and managers tell each other, and what a joining machine says of itself.
//!
//! What was read can be written and is read back as the same.

use super::chosen;
use super::world::world;
use muster_model::dispatch::{Assignment, Assignments, Order};
use muster_model::fixture::World;
use muster_model::{
    Command, Epoch, Index, InstanceId, InstanceSpec, Principal, Resources, TaskId, TaskReport,
};
use muster_proto::convert::dispatch as convert;
use muster_proto::dispatch as wire;
use prost::Message;
use wire::agent_message::Message as FromAgent;
use wire::manager_message::Message as FromManager;

#[test]
fn dispatch_from_agent() {
    muster_fuzz::target("dispatch_from_agent", from_agent_seeds, |input| {
        let (kind, bytes) = chosen(input);
        match kind % 2 {
            0 => from_agent(bytes),
            _ => joining(bytes),
        }
    });
}

#[test]
fn dispatch_from_manager() {
    muster_fuzz::target("dispatch_from_manager", from_manager_seeds, |input| {
        let Ok(message) = wire::ManagerMessage::decode(input) else { return };
        match message.message {
            Some(FromManager::Assignments(orders)) => assignments(&orders),
            Some(FromManager::Confirmed(_)) => {}
            Some(FromManager::Welcome(welcome)) => {
                let _ = convert::id_from_wire("session", &welcome.session);
            }
            Some(FromManager::Attach(order)) => {
                let _ = convert::id_from_wire("attach", &order.attach);
                let _ = convert::id_from_wire("task", &order.task);
            }
            Some(FromManager::Ack(_)) | None => {}
        }
    });
}

fn assignments(orders: &wire::Assignments) {
    let Ok(orders) = convert::assignments_from_wire(orders) else { return };
    let again = convert::assignments_to_wire(&orders).expect("what was read can be written");
    assert_eq!(convert::assignments_from_wire(&again).as_ref(), Ok(&orders));
}

fn from_agent(bytes: &[u8]) {
    let Ok(message) = wire::AgentMessage::decode(bytes) else { return };
    match message.message {
        Some(FromAgent::Hello(hello)) => {
            if let Some(said) = &hello.spec {
                spec(said);
            }
            for held in convert::inventory_from_wire(&hello.inventory).into_iter().flatten() {
                assert_eq!(convert::held_from_wire(&convert::held_to_wire(&held)), Ok(held));
            }
        }
        Some(FromAgent::Report(report)) => reports(&report.reports),
        Some(FromAgent::Heartbeat(_)) | None => {}
    }
}

fn reports(said: &[wire::TaskReport]) {
    let mut world = world();
    let instance = world.instance("i1");
    let Ok(reports) = convert::reports_from_wire(instance, said) else { return };
    for report in &reports {
        let again = convert::report_from_wire(instance, &convert::report_to_wire(report));
        assert_eq!(again.as_ref(), Ok(report));
    }
    report_to(&mut world, reports);
}

/// The leader commits what agents say as it is.
fn report_to(world: &mut World, reports: Vec<TaskReport>) {
    let leader = Principal::Manager(world.state.meta().leader);
    let request = world.ids.request();
    let _ = world.apply_as(leader, request, Command::Report { reports });
}

fn spec(said: &wire::InstanceSpec) {
    let Ok(spec) = convert::instance_spec_from_wire(said) else { return };
    let again = convert::instance_spec_from_wire(&convert::instance_spec_to_wire(&spec));
    assert_eq!(again.as_ref(), Ok(&spec));
}

fn joining(bytes: &[u8]) {
    let Ok(request) = wire::JoinRequest::decode(bytes) else { return };
    let _ = muster_proto::convert::request_id(&request.request);
    if let Some(wire::join_request::As::Worker(worker)) = request.r#as
        && let Some(said) = &worker.spec
    {
        spec(said);
    }
}

fn instance_spec() -> wire::InstanceSpec {
    convert::instance_spec_to_wire(&InstanceSpec {
        hostname: "worker-1".into(),
        zone: "az-a".into(),
        address: "10.0.0.11".into(),
        total: Resources { cpu: 2048, memory_mib: 4096 },
        reserved_ports: [22].into(),
        attributes: [("disk".into(), Some("ssd".into())), ("gpu".into(), None)].into(),
        agent_version: "0.1.0".into(),
        versions: [("runc".into(), "1.1.5".into())].into(),
        ..InstanceSpec::default()
    })
}

fn from_agent_seeds() -> Vec<Vec<u8>> {
    let world = world();
    let observed = &world.state.task(world.task("t1")).expect("t1").observed;
    let task = world.task("t1");
    let report =
        TaskReport { task, instance: InstanceId::from_bits(1), observed: observed.clone() };
    let held = wire::Held { task: convert::id_to_wire(task.bits()), phase: 3 };
    let hello =
        wire::Hello { spec: Some(instance_spec()), inventory: vec![held], epoch: 2, revision: 9 };
    let reports = vec![convert::report_to_wire(&report)];
    let agent = |message| wire::AgentMessage { message: Some(message) }.encode_to_vec();
    let worker = wire::JoinWorker { cluster: "default".into(), spec: Some(instance_spec()) };
    let join = wire::JoinRequest {
        token_secret: "0123456789abcdef0123456789abcdef".into(),
        certificate_request_pem: "-----BEGIN CERTIFICATE REQUEST-----".into(),
        request: format!("{:032x}", 7),
        r#as: Some(wire::join_request::As::Worker(worker)),
    };
    let prefixed = |kind: u8, bytes: Vec<u8>| [vec![kind], bytes].concat();
    vec![
        prefixed(0, agent(FromAgent::Hello(hello))),
        prefixed(0, agent(FromAgent::Report(wire::Report { sequence: 1, reports }))),
        prefixed(0, agent(FromAgent::Heartbeat(wire::Heartbeat { number: Some(3) }))),
        prefixed(1, join.encode_to_vec()),
    ]
}

fn from_manager_seeds() -> Vec<Vec<u8>> {
    let world = world();
    let row = world.state.latest("web").expect("web:1");
    let run = Assignment {
        task: world.task("t1"),
        account: "000000000000".into(),
        region: "local".into(),
        cluster: "default".into(),
        family: "web".into(),
        revision: row.revision,
        group: "service:web".into(),
        spec: row.spec.clone(),
        ports: vec![32768],
        trace: None,
        fencing_token: None,
        instance_metadata: false,
        digests: Default::default(),
    };
    let orders = vec![
        Order::Run(Box::new(run)),
        Order::Stop(TaskId::from_bits(2)),
        Order::Forget(TaskId::from_bits(3)),
    ];
    let orders = Assignments { epoch: Epoch(2), revision: Index(9), complete: true, orders };
    let orders = convert::assignments_to_wire(&orders).expect("the seeds are valid");
    let welcome = wire::Welcome {
        session: convert::id_to_wire(5),
        heartbeat_ms: 1000,
        managers: vec![wire::ManagerAddress { id: 1, address: "m1:7400".into(), leader: true }],
    };
    let manager = |message| wire::ManagerMessage { message: Some(message) }.encode_to_vec();
    vec![manager(FromManager::Assignments(orders)), manager(FromManager::Welcome(welcome))]
}
