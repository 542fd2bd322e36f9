//! Small conversions between this crate's values and the session's wire. What both ends need is
//! converted in `muster-proto`.

use crate::session::Standing;
use muster_model::dispatch::Assignments;
use muster_model::{InstanceSpec, TaskReport, Time};
use muster_proto::convert::dispatch as convert;
use muster_proto::dispatch as pb;
pub use muster_proto::error::LEADER_METADATA as LEADER;
use tonic::Status;

/// Everything the manager needs to know first.
pub fn hello(spec: &InstanceSpec, standing: Standing) -> pb::AgentMessage {
    let hello = pb::Hello {
        spec: Some(convert::instance_spec_to_wire(spec)),
        inventory: standing.inventory.iter().map(convert::held_to_wire).collect(),
        epoch: standing.epoch.0,
        revision: standing.revision.0,
    };
    pb::AgentMessage { message: Some(pb::agent_message::Message::Hello(hello)) }
}

pub fn report(sequence: u64, reports: &[TaskReport]) -> pb::AgentMessage {
    let reports = reports.iter().map(convert::report_to_wire).collect();
    let report = pb::Report { sequence, reports };
    pb::AgentMessage { message: Some(pb::agent_message::Message::Report(report)) }
}

/// # Errors
/// Orders that this agent cannot read must not be skipped: the session ends.
pub fn assignments(orders: &pb::Assignments) -> Result<Assignments, Status> {
    convert::assignments_from_wire(orders).map_err(|error| Status::internal(error.to_string()))
}

/// 128 bits, as ids stand on this wire.
///
/// # Errors
/// When it is another number of bytes.
pub fn id(bytes: &[u8], field: &str) -> Result<u128, Status> {
    convert::id_from_wire(field, bytes).map_err(|error| Status::internal(error.to_string()))
}

/// `None` for times before 1970.
pub fn time(seconds: i64, nanos: i32) -> Option<Time> {
    let ms = u64::try_from(seconds).ok()?.checked_mul(1000)?;
    ms.checked_add(u64::try_from(nanos).ok()? / 1_000_000).map(Time)
}
