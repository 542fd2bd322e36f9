//! Small conversions between this crate's values and its wire: statuses, ids, manager lists.
//!
//! What means the same everywhere is converted in `muster-proto`; this only adds what a manager
//! alone knows.

use muster_model::{InstanceSpec, RaftId, State, Time};
use muster_proto::convert::dispatch as convert;
use muster_proto::dispatch as pb;
use muster_proto::error::LEADER_METADATA;
pub use muster_proto::error::to_status as status;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tonic::Status;

/// For callers that need the leader: who it is, if anybody knows.
pub fn not_leader(leader: Option<(RaftId, String)>) -> Status {
    let Some((id, address)) = leader else {
        return Status::unavailable("no manager leads at the moment");
    };
    let mut status = Status::unavailable(format!("manager {id} at {address} leads"));
    if let Ok(address) = address.parse() {
        status.metadata_mut().insert(LEADER_METADATA, address);
    }
    status
}

/// The managers that are not removed.
pub fn managers(state: &State, leader: Option<RaftId>) -> Vec<pb::ManagerAddress> {
    let present = state.managers().filter(|row| row.removed_at.is_none());
    present
        .map(|row| pb::ManagerAddress {
            id: row.id.0,
            address: row.address.to_string(),
            leader: Some(row.id) == leader,
        })
        .collect()
}

/// As certificates want it.
pub fn system_time(time: Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(time.0)
}

/// 128 bits, as ids stand on this wire.
pub fn id(bytes: &[u8], field: &str) -> Result<u128, Status> {
    convert::id_from_wire(field, bytes).map_err(|error| status(&error))
}

/// What a machine says of itself, checked.
pub fn instance_spec(spec: &pb::InstanceSpec) -> Result<InstanceSpec, Status> {
    convert::instance_spec_from_wire(spec).map_err(|error| status(&error))
}
