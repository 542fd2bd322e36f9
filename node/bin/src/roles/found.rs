//! Founding a cluster: identities on disk, and the log's first entry waiting for its first start.

use super::{LEVEL, RoleError, identity_dir, refuse_used};
use crate::files;
use muster_identity::{Identity, JoinToken};
use muster_manager::{Founding, bootstrap_command};
use muster_model::Command;
use muster_process::clock;
use std::path::{Path, PathBuf};

/// Name of the first user.
pub const ADMIN: &str = "admin";

/// What `init` and `dev` know about the first manager.
pub struct FirstManager {
    pub data_dir: PathBuf,
    pub name: String,
    pub zone: String,
    /// host:port.
    pub address: String,
    pub cluster_name: String,
    pub account: String,
    pub region: String,
}

/// What founding leaves for its caller to hand out.
pub struct Founded {
    pub admin: Identity,
    pub manager_token: JoinToken,
    pub worker_token: JoinToken,
}

/// The log's first entry, until a leader has committed it.
fn bootstrap_file(data_dir: &Path) -> PathBuf {
    data_dir.join("bootstrap.json")
}

/// Makes the authority, the first manager's identity and the entry that founds the cluster.
///
/// # Errors
/// The directory belongs to a cluster already, a name is not allowed, or a file cannot be written.
pub fn create_cluster(first: &FirstManager) -> Result<Founded, RoleError> {
    refuse_used(&first.data_dir)?;
    let founding = Founding {
        name: first.cluster_name.clone(),
        account: first.account.clone(),
        region: first.region.clone(),
        manager: first.name.clone(),
        zone: first.zone.clone(),
        address: first.address.clone(),
        level: LEVEL,
        admin: ADMIN.into(),
    };
    let founded = bootstrap_command(&founding, clock::start()())?;
    let entry = serde_json::to_vec(&founded.command)
        .map_err(|error| RoleError::Failed(format!("encoding the first entry: {error}")))?;
    let path = bootstrap_file(&first.data_dir);
    files::replace(&path, &entry, files::SECRET).map_err(RoleError::file("writing", &path))?;
    // Last, because it is what marks the directory as used.
    founded.manager.save(&identity_dir(&first.data_dir))?;
    let muster_manager::Founded { admin, manager_token, worker_token, .. } = founded;
    Ok(Founded { admin, manager_token, worker_token })
}

/// The entry that founds the cluster, if it has not been committed yet.
///
/// # Errors
/// The file is there and cannot be read.
pub fn pending_bootstrap(data_dir: &Path) -> Result<Option<Command>, RoleError> {
    let path = bootstrap_file(data_dir);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RoleError::file("reading", &path)(error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        RoleError::Failed(format!(
            "{}: {error}; the cluster was never started: delete {} and run muster init again",
            path.display(),
            data_dir.display()
        ))
    })
}

/// The first entry is committed: its file, which holds the authority's key, goes.
///
/// # Errors
/// The file cannot be removed.
pub fn bootstrap_done(data_dir: &Path) -> Result<(), RoleError> {
    let path = bootstrap_file(data_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(RoleError::file("removing", &path)(error))
        }
        _ => Ok(()),
    }
}
