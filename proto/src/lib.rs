//! The wire: generated types, conversions between wire and domain, and the one error table.
//!
//! Converting a request is validating it: every check that needs no rule of the state stands in
//! `convert`, once, and ends in types that cannot be wrong. Names and ARNs are resolved here too;
//! nothing inside knows them. This crate does no IO; only `client` (a feature) needs a runtime.

pub mod arn;
#[cfg(feature = "client")]
pub mod client;
#[doc(hidden)]
pub mod codec;
pub mod convert;
pub mod error;
mod hidden;
pub mod json;
pub mod policy;
pub mod target;
pub mod view;

/// The public API, ECS-shaped.
#[allow(clippy::large_enum_variant, clippy::too_many_lines, reason = "generated")]
pub mod pb {
    tonic::include_proto!("muster.v1");
}
/// Manager to agent.
#[allow(clippy::large_enum_variant, clippy::too_many_lines, reason = "generated")]
pub mod dispatch {
    tonic::include_proto!("muster.dispatch.v1");
}
/// Manager to manager.
#[allow(clippy::large_enum_variant, clippy::too_many_lines, reason = "generated")]
pub mod raft {
    tonic::include_proto!("muster.raft.v1");
}
/// What ECS's enums may say; `ecs.proto` has the lists.
pub mod spelled {
    include!(concat!(env!("OUT_DIR"), "/spelled.rs"));
}
include!(concat!(env!("OUT_DIR"), "/operations.rs"));

/// All files of `api/`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
