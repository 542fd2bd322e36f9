//! Volumes that are more than a directory of the task or of the host. Where they are on an
//! instance, the agent knows.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// ECS `dockerVolumeConfiguration` with the driver `local`, which is the only one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerVolume {
    pub scope: VolumeScope,
    /// Whether a shared one is made where it is missing.
    pub autoprovision: bool,
    /// Of a shared one: two that differ in them are not the same volume.
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeScope {
    /// Lives and dies with its task.
    #[default]
    Task,
    /// One of its name on each instance, which stays when tasks end.
    Shared,
}

/// ECS `efsVolumeConfiguration`: a directory of an NFS server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EfsVolume {
    /// A name in the agent's file, or the server's own.
    pub file_system_id: String,
    /// An absolute path.
    pub root_directory: String,
}
