//! The wire: generated types, conversions between wire and domain, and the one error table.

/// The public API, ECS-shaped.
pub mod pb {
    tonic::include_proto!("muster.v1");
}
/// Manager to agent.
pub mod dispatch {
    tonic::include_proto!("muster.dispatch.v1");
}
/// Manager to manager.
pub mod raft {
    tonic::include_proto!("muster.raft.v1");
}
/// All files above, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
