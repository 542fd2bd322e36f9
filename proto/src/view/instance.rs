//! Container instances with what they have and what is left of it.

use super::{int, pending, tags, timestamp};
use crate::arn::{Arns, name_of};
use crate::pb;
use muster_model::instance::{GPU_RESOURCE, ZONE_ATTRIBUTE};
use muster_model::limits::DYNAMIC_PORTS;
use muster_model::spec::{Named, Protocol, Resources};
use muster_model::{Instance, InstanceStatus, Phase, State};

pub fn instance(state: &State, row: &Instance) -> pb::ContainerInstance {
    let arns = Arns::of(state);
    let cluster = name_of(state, row.cluster);
    let (mut running, mut waiting) = (0_i32, 0_i32);
    for task in state.tasks_on(row.id) {
        match task.last_status() {
            Phase::Running => running += 1,
            phase if pending(phase) => waiting += 1,
            _ => {}
        }
    }
    let reserved = &row.spec.reserved_ports;
    let held = state.reserved(row.id).ports;
    // As in ECS: not those that were chosen for a task, and what the machine keeps comes first.
    let taken = |protocol: Protocol| {
        let of = held.keys().filter(move |key| key.1 == protocol).map(|key| key.0);
        of.filter(|port| !DYNAMIC_PORTS.contains(port))
    };
    let system: Vec<u16> = reserved.iter().copied().collect();
    let tcp: Vec<u16> = system.iter().copied().chain(taken(Protocol::Tcp)).collect();
    let udp: Vec<u16> = taken(Protocol::Udp).collect();
    let left = row.spec.resources.keys().map(|name| (name.clone(), state.free_named(row, name)));
    let left: Named = left.collect();
    pb::ContainerInstance {
        container_instance_arn: arns.instance(&cluster, row.id),
        ec2_instance_id: row.spec.hostname.clone(),
        status: status(row.status).into(),
        agent_connected: row.ready(),
        running_tasks_count: running,
        pending_tasks_count: waiting,
        registered_resources: resources(row.spec.total, &system, &[], &row.spec.resources),
        remaining_resources: resources(state.free(row), &tcp, &udp, &left),
        attributes: attributes(row),
        version_info: Some(pb::VersionInfo {
            agent_version: row.spec.agent_version.clone(),
            versions: row.spec.versions.clone(),
        }),
        registered_at: Some(timestamp(row.registered_at)),
        version: i64::try_from(row.version).unwrap_or(i64::MAX),
        tags: tags(&row.tags),
        availability_zone: row.spec.zone.clone(),
        address: row.spec.address.clone(),
        cluster_arn: arns.cluster(&cluster),
    }
}

fn status(status: InstanceStatus) -> &'static str {
    match status {
        InstanceStatus::Active => "ACTIVE",
        InstanceStatus::Draining => "DRAINING",
        InstanceStatus::Inactive => "INACTIVE",
    }
}

/// ECS lists the ports that are taken, also under what remains, and GPUs by their ids, which are
/// numbers here: they are counted, not claimed.
fn resources(
    amount: Resources,
    tcp: &[u16],
    udp: &[u16],
    named: &Named,
) -> Vec<pb::InstanceResource> {
    let integer = |name: &str, value: u32| pb::InstanceResource {
        name: name.into(),
        r#type: "INTEGER".into(),
        integer_value: int(value),
        string_set_value: Vec::new(),
    };
    let set = |name: &str, members: Vec<String>| pb::InstanceResource {
        name: name.into(),
        r#type: "STRINGSET".into(),
        integer_value: 0,
        string_set_value: members,
    };
    let ports = |name, ports: &[u16]| set(name, ports.iter().map(u16::to_string).collect());
    let others = named.iter().map(|(name, units)| match name.as_str() {
        GPU_RESOURCE => set(name, (0..*units).map(|id| id.to_string()).collect()),
        _ => integer(name, *units),
    });
    let own = [
        integer("CPU", amount.cpu),
        integer("MEMORY", amount.memory_mib),
        ports("PORTS", tcp),
        ports("PORTS_UDP", udp),
    ];
    own.into_iter().chain(others).collect()
}

/// The zone, then what its agent says and what users put, by name.
pub fn attributes(row: &Instance) -> Vec<pb::Attribute> {
    let zone = attribute(ZONE_ATTRIBUTE, Some(&row.spec.zone));
    let others = row.spec.all_attributes();
    let others = others.into_iter().map(|(name, value)| attribute(name, value));
    std::iter::once(zone).chain(others).collect()
}

pub(super) fn attribute(name: &str, value: Option<&str>) -> pb::Attribute {
    let value = value.map(str::to_owned);
    pb::Attribute { name: name.to_owned(), value, ..pb::Attribute::default() }
}
