//! What managers and agents tell each other, between wire and domain, both ways.
//!
//! Agents are not trusted with sizes: counts are bounded, texts are cut. Whose rows a message may
//! name is checked by who knows the session. Invariant: no bytes make this panic, and what
//! `*_to_wire` writes, `*_from_wire` reads back equal.

mod spec;

pub(super) use spec::resource_name;
pub use spec::{instance_spec_from_wire, instance_spec_to_wire};

use super::At;
use crate::dispatch as wire;
use muster_model::dispatch::{Assignment, Assignments, Held, Order};
use muster_model::limits::{
    CONTAINERS_PER_DEFINITION_MAX, DEFINITION_BYTES_MAX, PORT_MAPPINGS_MAX,
};
use muster_model::spec::Protocol;
use muster_model::task::{ContainerStatus, NetworkBinding, reason};
use muster_model::{
    Epoch, Error, HealthStatus, Index, InstanceId, Observed, Phase, Revision, StopCode, TaskId,
    TaskReport, Time, TraceId,
};
use prost::bytes::Bytes;
use std::sync::Arc;

/// Orders of one message, and lines of one inventory: more tasks than an instance can hold.
pub const ORDERS_MAX: usize = 20_000;
/// Reports of one message.
pub const REPORTS_MAX: usize = 20_000;
/// An id or a digest that an agent names.
const WORD_CHARS_MAX: usize = 255;
/// A stored definition is CBOR with names: somewhat longer than what the user wrote.
const SPEC_BYTES_MAX: usize = 4 * DEFINITION_BYTES_MAX;

/// 16 bytes, big-endian, as ids stand on this wire.
pub fn id_to_wire(bits: u128) -> Bytes {
    Bytes::copy_from_slice(&bits.to_be_bytes())
}

/// The bits of an id; `field` names it in the error.
pub fn id_from_wire(field: &str, bytes: &[u8]) -> Result<u128, Error> {
    match <[u8; 16]>::try_from(bytes) {
        Ok(bytes) => Ok(u128::from_be_bytes(bytes)),
        Err(_) => Err(Error::invalid(field, format!("{} bytes", bytes.len()), "16 bytes")),
    }
}

fn task_id(field: &str, bytes: &[u8]) -> Result<TaskId, Error> {
    id_from_wire(field, bytes).map(TaskId::from_bits)
}

fn bounded(field: &str, count: usize, limit: usize) -> Result<(), Error> {
    super::at_most(&At::Field(field), count, limit, "entries")
}

// ---- orders: manager to agent ----

/// Fails only if a definition cannot be encoded, which no registered one is known to do.
pub fn assignments_to_wire(orders: &Assignments) -> Result<wire::Assignments, Error> {
    Ok(wire::Assignments {
        epoch: orders.epoch.0,
        revision: orders.revision.0,
        complete: orders.complete,
        orders: orders.orders.iter().map(order_to_wire).collect::<Result<_, _>>()?,
    })
}

pub fn assignments_from_wire(orders: &wire::Assignments) -> Result<Assignments, Error> {
    bounded("orders", orders.orders.len(), ORDERS_MAX)?;
    Ok(Assignments {
        epoch: Epoch(orders.epoch),
        revision: Index(orders.revision),
        complete: orders.complete,
        orders: orders.orders.iter().map(order_from_wire).collect::<Result<_, _>>()?,
    })
}

pub fn order_to_wire(order: &Order) -> Result<wire::Order, Error> {
    use wire::order::Order as Wire;
    let order = match order {
        Order::Run(assignment) => Wire::Run(assignment_to_wire(assignment)?),
        Order::Stop(task) => Wire::Stop(id_to_wire(task.bits())),
        Order::Forget(task) => Wire::Forget(id_to_wire(task.bits())),
    };
    Ok(wire::Order { order: Some(order) })
}

pub fn order_from_wire(order: &wire::Order) -> Result<Order, Error> {
    use wire::order::Order as Wire;
    match &order.order {
        Some(Wire::Run(assignment)) => {
            assignment_from_wire(assignment).map(Box::new).map(Order::Run)
        }
        Some(Wire::Stop(task)) => task_id("stop", task).map(Order::Stop),
        Some(Wire::Forget(task)) => task_id("forget", task).map(Order::Forget),
        None => Err(Error::UpgradeRequired {
            what: "the manager sent an order this agent does not know; upgrade the agent".into(),
        }),
    }
}

fn assignment_to_wire(assignment: &Assignment) -> Result<wire::Assignment, Error> {
    let mut spec = Vec::new();
    ciborium::into_writer(&*assignment.spec, &mut spec)
        .map_err(|error| Error::invalid("spec", error.to_string(), "an encodable definition"))?;
    Ok(wire::Assignment {
        task: id_to_wire(assignment.task.bits()),
        account: assignment.account.to_string(),
        region: assignment.region.to_string(),
        cluster: assignment.cluster.to_string(),
        family: assignment.family.to_string(),
        revision: assignment.revision.0,
        group: assignment.group.to_string(),
        spec: spec.into(),
        ports: assignment.ports.iter().map(|port| u32::from(*port)).collect(),
        trace: assignment.trace.map(|id| id_to_wire(id.bits())).unwrap_or_default(),
        fencing_token: assignment.fencing_token,
        instance_metadata: assignment.instance_metadata,
        digests: assignment
            .digests
            .iter()
            .map(|(of, digest)| (of.to_string(), digest.to_string()))
            .collect(),
    })
}

fn assignment_from_wire(assignment: &wire::Assignment) -> Result<Assignment, Error> {
    let bytes = &assignment.spec;
    bounded("spec", bytes.len(), SPEC_BYTES_MAX)?;
    let spec = ciborium::from_reader(&bytes[..])
        .map_err(|error| Error::invalid("spec", error.to_string(), "a task definition in CBOR"))?;
    bounded("ports", assignment.ports.len(), CONTAINERS_PER_DEFINITION_MAX * PORT_MAPPINGS_MAX)?;
    let ports = assignment.ports.iter().map(|wire| port("ports", *wire));
    bounded("digests", assignment.digests.len(), CONTAINERS_PER_DEFINITION_MAX)?;
    let trace = match &assignment.trace[..] {
        [] => None,
        bytes => Some(TraceId::from_bits(id_from_wire("trace", bytes)?)),
    };
    Ok(Assignment {
        task: task_id("task", &assignment.task)?,
        account: clip(&assignment.account),
        region: clip(&assignment.region),
        cluster: clip(&assignment.cluster),
        family: clip(&assignment.family),
        revision: Revision(assignment.revision),
        group: clip(&assignment.group),
        spec: Arc::new(spec),
        ports: ports.collect::<Result<_, _>>()?,
        trace,
        fencing_token: assignment.fencing_token,
        instance_metadata: assignment.instance_metadata,
        digests: assignment.digests.iter().map(|(of, digest)| (clip(of), clip(digest))).collect(),
    })
}

fn port(field: &str, wire: u32) -> Result<u16, Error> {
    match u16::try_from(wire) {
        Ok(port) => Ok(port),
        Err(_) => Err(Error::invalid(field, wire.to_string(), "0 to 65535")),
    }
}

/// Cut on a character boundary.
fn clip(text: &str) -> Arc<str> {
    match text.char_indices().nth(WORD_CHARS_MAX) {
        Some((end, _)) => Arc::from(&text[..end]),
        None => Arc::from(text),
    }
}

// ---- inventory and reports: agent to manager ----

pub fn held_to_wire(held: &Held) -> wire::Held {
    wire::Held { task: id_to_wire(held.task.bits()), phase: phase_to_wire(held.phase) }
}

pub fn held_from_wire(held: &wire::Held) -> Result<Held, Error> {
    Ok(Held { task: task_id("task", &held.task)?, phase: phase_from_wire(held.phase)? })
}

/// A whole inventory, as `Hello` carries it.
pub fn inventory_from_wire(inventory: &[wire::Held]) -> Result<Vec<Held>, Error> {
    bounded("inventory", inventory.len(), ORDERS_MAX)?;
    inventory.iter().map(held_from_wire).collect()
}

pub fn report_to_wire(report: &TaskReport) -> wire::TaskReport {
    wire::TaskReport {
        task: id_to_wire(report.task.bits()),
        observed: Some(observed_to_wire(&report.observed)),
    }
}

/// `instance` is who says it, from its certificate: the wire does not carry it.
pub fn report_from_wire(
    instance: InstanceId,
    report: &wire::TaskReport,
) -> Result<TaskReport, Error> {
    let missing = || Error::invalid("observed", "", "what was observed of the task");
    Ok(TaskReport {
        task: task_id("task", &report.task)?,
        instance,
        observed: observed_from_wire(report.observed.as_ref().ok_or_else(missing)?)?,
    })
}

/// All reports of one message.
pub fn reports_from_wire(
    instance: InstanceId,
    reports: &[wire::TaskReport],
) -> Result<Vec<TaskReport>, Error> {
    bounded("reports", reports.len(), REPORTS_MAX)?;
    reports.iter().map(|report| report_from_wire(instance, report)).collect()
}

pub fn observed_to_wire(observed: &Observed) -> wire::Observed {
    let at = |time: Option<Time>| time.map(|time| time.0);
    wire::Observed {
        phase: phase_to_wire(observed.phase),
        containers: observed.containers.iter().map(container_to_wire).collect(),
        pull_started_at_ms: at(observed.pull_started_at),
        pull_stopped_at_ms: at(observed.pull_stopped_at),
        started_at_ms: at(observed.started_at),
        stopping_at_ms: at(observed.stopping_at),
        stopped_at_ms: at(observed.stopped_at),
        stop_code: observed.stop_code.map(stop_code_to_wire),
        reason: observed.reason.as_deref().map(str::to_owned),
    }
}

pub fn observed_from_wire(observed: &wire::Observed) -> Result<Observed, Error> {
    bounded("containers", observed.containers.len(), CONTAINERS_PER_DEFINITION_MAX)?;
    Ok(Observed {
        phase: phase_from_wire(observed.phase)?,
        containers: observed
            .containers
            .iter()
            .map(container_from_wire)
            .collect::<Result<_, _>>()?,
        pull_started_at: observed.pull_started_at_ms.map(Time),
        pull_stopped_at: observed.pull_stopped_at_ms.map(Time),
        started_at: observed.started_at_ms.map(Time),
        stopping_at: observed.stopping_at_ms.map(Time),
        stopped_at: observed.stopped_at_ms.map(Time),
        stop_code: observed.stop_code.map(stop_code_from_wire).transpose()?,
        reason: observed.reason.as_deref().map(reason),
    })
}

fn container_to_wire(status: &ContainerStatus) -> wire::ContainerStatus {
    let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    let binding = |binding: &NetworkBinding| wire::Binding {
        container_port: binding.container_port.into(),
        host_port: binding.host_port.into(),
        udp: binding.protocol == Protocol::Udp,
    };
    wire::ContainerStatus {
        name: status.name.to_string(),
        phase: phase_to_wire(status.phase),
        exit_code: status.exit_code,
        reason: text(&status.reason),
        runtime_id: text(&status.runtime_id),
        image_digest: text(&status.image_digest),
        bindings: status.bindings.iter().map(binding).collect(),
        address: text(&status.address),
        pid: status.pid,
        health: health_to_wire(status.health),
        restarts: status.restarts,
    }
}

fn container_from_wire(status: &wire::ContainerStatus) -> Result<ContainerStatus, Error> {
    bounded("bindings", status.bindings.len(), PORT_MAPPINGS_MAX)?;
    let binding = |binding: &wire::Binding| {
        Ok(NetworkBinding {
            container_port: port("containerPort", binding.container_port)?,
            host_port: port("hostPort", binding.host_port)?,
            protocol: if binding.udp { Protocol::Udp } else { Protocol::Tcp },
        })
    };
    Ok(ContainerStatus {
        name: clip(&status.name),
        phase: phase_from_wire(status.phase)?,
        exit_code: status.exit_code,
        reason: status.reason.as_deref().map(reason),
        runtime_id: status.runtime_id.as_deref().map(clip),
        image_digest: status.image_digest.as_deref().map(clip),
        bindings: status.bindings.iter().map(binding).collect::<Result<_, Error>>()?,
        address: status.address.as_deref().map(clip),
        pid: status.pid,
        health: health_from_wire(status.health)?,
        restarts: status.restarts,
    })
}

fn health_to_wire(health: HealthStatus) -> u32 {
    health as u32
}

fn health_from_wire(wire: u32) -> Result<HealthStatus, Error> {
    match wire {
        0 => Ok(HealthStatus::Unknown),
        1 => Ok(HealthStatus::Healthy),
        2 => Ok(HealthStatus::Unhealthy),
        other => Err(Error::invalid("health", other.to_string(), "0 to 2")),
    }
}

/// Positions in `Phase`, which is append only.
const PHASES: [Phase; 8] = [
    Phase::Provisioning,
    Phase::Pending,
    Phase::Activating,
    Phase::Running,
    Phase::Deactivating,
    Phase::Stopping,
    Phase::Deprovisioning,
    Phase::Stopped,
];

fn phase_to_wire(phase: Phase) -> u32 {
    phase as u32
}

fn phase_from_wire(wire: u32) -> Result<Phase, Error> {
    let phase = usize::try_from(wire).ok().and_then(|index| PHASES.get(index));
    phase.copied().ok_or_else(|| {
        Error::invalid("phase", wire.to_string(), format!("0 to {}", PHASES.len() - 1))
    })
}

fn stop_code_to_wire(code: StopCode) -> u32 {
    code as u32
}

fn stop_code_from_wire(wire: u32) -> Result<StopCode, Error> {
    match wire {
        0 => Ok(StopCode::TaskFailedToStart),
        1 => Ok(StopCode::EssentialContainerExited),
        2 => Ok(StopCode::UserInitiated),
        3 => Ok(StopCode::ServiceSchedulerInitiated),
        4 => Ok(StopCode::TerminationNotice),
        other => Err(Error::invalid("stopCode", other.to_string(), "0 to 4")),
    }
}
