//! Messages between managers and agents: equal after the way, and no bytes make them panic.

use muster_model::dispatch::{Assignment, Assignments, Held, Order};
use muster_model::task::{ContainerStatus, NetworkBinding};
use muster_model::{
    Epoch, Error, HealthStatus, Index, InstanceId, InstanceSpec, Observed, Phase, Resources,
    Revision, StopCode, TaskId, TaskReport, Time, TraceId, spec::Protocol,
};
use muster_proto::convert::dispatch::*;
use muster_proto::{convert, dispatch as wire, json};
use proptest::prelude::*;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;

fn spec() -> Arc<muster_model::TaskDefinition> {
    let text = include_str!("../data/definitions/web.json");
    Arc::new(convert::definition::checked(&json::from_str_strict(text).unwrap()).unwrap())
}

fn orders() -> Assignments {
    let task = TaskId::from_bits(u128::MAX - 7);
    let assignment = Assignment {
        task,
        account: "000000000000".into(),
        region: "local".into(),
        cluster: "default".into(),
        family: "web".into(),
        revision: Revision(3),
        group: "service:web".into(),
        spec: spec(),
        ports: vec![8080, 65535],
        trace: Some(TraceId::from_bits(9)),
        fencing_token: Some(u64::MAX),
        instance_metadata: true,
        digests: [("app".into(), "sha256:00".into())].into(),
    };
    let run = Order::Run(Box::new(assignment));
    let orders = vec![run, Order::Stop(task), Order::Forget(TaskId::from_bits(1))];
    Assignments { epoch: Epoch(7), revision: Index(u64::MAX), complete: true, orders }
}

fn observed() -> Observed {
    Observed {
        phase: Phase::Stopped,
        containers: vec![ContainerStatus {
            name: "app".into(),
            phase: Phase::Stopped,
            exit_code: Some(-1),
            reason: Some("OutOfMemoryError: Container killed due to memory usage".into()),
            runtime_id: Some("r".into()),
            image_digest: Some("sha256:x".into()),
            bindings: vec![NetworkBinding {
                container_port: 53,
                host_port: 40000,
                protocol: Protocol::Udp,
            }],
            address: Some("10.1.1.1".into()),
            pid: Some(1),
            health: HealthStatus::Unhealthy,
            restarts: 2,
        }],
        pull_started_at: Some(Time(1)),
        pull_stopped_at: Some(Time(2)),
        started_at: Some(Time(3)),
        stopping_at: None,
        stopped_at: Some(Time(4)),
        stop_code: Some(StopCode::EssentialContainerExited),
        reason: Some("Essential container in task exited".into()),
    }
}

#[test]
fn orders_arrive_as_they_were_sent() {
    let sent = assignments_to_wire(&orders()).unwrap();
    let bytes = sent.encode_to_vec();
    let received = wire::Assignments::decode(bytes.as_slice()).unwrap();
    assert_eq!(assignments_from_wire(&received).unwrap(), orders());
}

#[test]
fn reports_and_inventories_arrive_as_they_were_sent() {
    let instance = InstanceId::from_bits(5);
    let report = TaskReport { task: TaskId::from_bits(1), instance, observed: observed() };
    assert_eq!(report_from_wire(instance, &report_to_wire(&report)).unwrap(), report);
    for phase in [
        Phase::Provisioning,
        Phase::Pending,
        Phase::Activating,
        Phase::Running,
        Phase::Deactivating,
        Phase::Stopping,
        Phase::Deprovisioning,
        Phase::Stopped,
    ] {
        let held = Held { task: TaskId::from_bits(2), phase };
        assert_eq!(held_from_wire(&held_to_wire(&held)).unwrap(), held);
    }
    for code in [
        StopCode::TaskFailedToStart,
        StopCode::EssentialContainerExited,
        StopCode::UserInitiated,
        StopCode::ServiceSchedulerInitiated,
        StopCode::TerminationNotice,
    ] {
        let observed = Observed { stop_code: Some(code), ..Observed::default() };
        assert_eq!(observed_from_wire(&observed_to_wire(&observed)).unwrap(), observed);
    }
}

fn machine() -> InstanceSpec {
    InstanceSpec {
        hostname: "worker-1".into(),
        zone: "az-a".into(),
        address: "10.0.0.11".into(),
        total: Resources { cpu: 2048, memory_mib: 4096 },
        resources: [("GPU".into(), 4), ("dongle".into(), 1)].into(),
        reserved_ports: [22].into(),
        attributes: [("disk".into(), Some("ssd".into())), ("gpu".into(), None)].into(),
        agent_version: "0.1.0".into(),
        versions: [("runc".into(), "1.1.5".into())].into(),
        ..InstanceSpec::default()
    }
}

#[test]
fn a_machine_is_described_as_it_is() {
    assert_eq!(instance_spec_from_wire(&instance_spec_to_wire(&machine())).unwrap(), machine());
}

#[test]
fn a_machine_that_says_nonsense_is_refused_with_the_field() {
    let refused = |change: fn(&mut wire::InstanceSpec)| {
        let mut spec = instance_spec_to_wire(&machine());
        change(&mut spec);
        match instance_spec_from_wire(&spec) {
            Err(Error::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(|s| s.hostname.clear()), "hostname");
    assert_eq!(refused(|s| s.zone.clear()), "zone");
    assert_eq!(refused(|s| s.zone = "az a".into()), "zone");
    assert_eq!(refused(|s| s.cpu = 0), "cpu");
    assert_eq!(refused(|s| s.cpu = u32::MAX), "cpu");
    assert_eq!(refused(|s| s.memory_mib = u32::MAX), "memory");
    assert_eq!(refused(|s| s.reserved_ports = vec![70000]), "reservedPorts");
    assert_eq!(refused(|s| s.reserved_ports = (1..200).collect()), "reservedPorts");
    let resource = |name: &str, units| BTreeMap::from([(name.to_owned(), units)]);
    let many = (0..30).map(|n| (format!("r{n}"), 1));
    for (resources, field) in [
        (resource("GPU", 0), "resources.GPU"),
        (resource("GPU", 257), "resources.GPU"),
        (resource("licence", 1_000_001), "resources.licence"),
        (resource("a b", 1), "resources"),
        (resource("MEMORY", 1), "resources"),
        (many.collect(), "resources"),
    ] {
        let spec = wire::InstanceSpec { resources, ..instance_spec_to_wire(&machine()) };
        let refused = instance_spec_from_wire(&spec).unwrap_err();
        assert!(matches!(&refused, Error::Invalid { field: of, .. } if of == field), "{refused}");
    }
    assert_eq!(refused(|s| s.flags = vec!["disk".into()]), "attributes");
    assert_eq!(refused(|s| s.flags = vec!["ecs.availability-zone".into()]), "attributes");
    assert_eq!(refused(|s| s.flags = (0..60).map(|n| format!("f{n}")).collect()), "attributes");
    assert_eq!(
        refused(|s| {
            s.attributes.insert("a".into(), " x".into());
        }),
        "attributes.a"
    );
    assert_eq!(
        refused(|s| {
            s.versions.insert("a".into(), "\n".into());
        }),
        "versions"
    );
}

#[test]
fn sizes_are_bounded() {
    let task = id_to_wire(1);
    let held = wire::Held { task: task.clone(), phase: 0 };
    assert!(inventory_from_wire(&vec![held.clone(); ORDERS_MAX]).is_ok());
    assert!(inventory_from_wire(&vec![held; ORDERS_MAX + 1]).is_err());
    let report = wire::TaskReport { task, observed: Some(wire::Observed::default()) };
    let instance = InstanceId::from_bits(1);
    assert!(reports_from_wire(instance, &vec![report; REPORTS_MAX + 1]).is_err());
    let many = wire::Observed { containers: vec![Default::default(); 11], ..Default::default() };
    assert!(observed_from_wire(&many).is_err());
    let long = wire::Observed { reason: Some("é".repeat(5000)), ..Default::default() };
    assert_eq!(observed_from_wire(&long).unwrap().reason.unwrap().chars().count(), 1024);
    let container = wire::ContainerStatus { name: "é".repeat(300), ..Default::default() };
    let wordy = wire::Observed { containers: vec![container], ..Default::default() };
    assert_eq!(observed_from_wire(&wordy).unwrap().containers[0].name.chars().count(), 255);
}

#[test]
fn an_order_of_a_later_version_asks_for_an_upgrade() {
    let error = order_from_wire(&wire::Order { order: None }).unwrap_err();
    assert!(matches!(error, Error::UpgradeRequired { .. }), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = wire::Assignments::decode(bytes.as_slice()).map(|m| assignments_from_wire(&m));
        let _ = wire::Observed::decode(bytes.as_slice()).map(|m| observed_from_wire(&m));
        let _ = wire::Held::decode(bytes.as_slice()).map(|m| held_from_wire(&m));
        let _ = wire::InstanceSpec::decode(bytes.as_slice()).map(|m| instance_spec_from_wire(&m));
        let _ = id_from_wire("task", &bytes);
    }

    #[test]
    fn no_change_of_good_bytes_makes_it_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
    ) {
        let mut bytes = assignments_to_wire(&orders()).unwrap().encode_to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = wire::Assignments::decode(bytes.as_slice()).map(|m| assignments_from_wire(&m));
    }

    /// The definition's CBOR is what a manager stored; a damaged one is an error.
    #[test]
    fn no_spec_makes_it_panic(spec in prop::collection::vec(any::<u8>(), 0..200)) {
        let run = wire::Assignment { task: id_to_wire(1), spec: spec.into(), ..Default::default() };
        let order = wire::Order { order: Some(wire::order::Order::Run(run)) };
        let _ = order_from_wire(&order);
    }

    #[test]
    fn random_reports_keep_their_shape(phase in 0u32..12, code in proptest::option::of(0u32..8)) {
        let observed = wire::Observed { phase, stop_code: code, ..Default::default() };
        let known = phase < 8 && code.is_none_or(|c| c < 5);
        prop_assert_eq!(observed_from_wire(&observed).is_ok(), known);
    }
}
