//! The long-running roles: a manager, and both roles at once on a laptop; the agent alone is a
//! program of its own.
//!
//! Each reads its file, starts its parts, waits for SIGTERM or SIGINT and ends them in order.

mod agent;
mod dev;
mod ecs;
mod found;
mod front;
mod manager;
mod simulate;

pub use agent::{Machine, become_agent, config_of};
pub use dev::{DevArguments, dev};
pub use found::{FirstManager, create_cluster};
pub use manager::{ManagerArguments, manager};

use crate::cli::CliError;
use crate::files;
use muster_model::{IdSource, RequestId};
use muster_process::config::ConfigError;
use muster_process::telemetry::{self, Telemetry};
use serde::Serialize;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// The newest command level that this binary can apply (`Command` and `Step` are append only).
pub const LEVEL: u32 = 1;

/// Why a role could not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Identity(#[from] muster_identity::Error),
    #[error("{0}")]
    Store(#[from] muster_store::StoreError),
    #[error("{0}")]
    Cluster(#[from] muster_model::Error),
    #[error("telemetry: {0}")]
    Telemetry(String),
    #[error("{doing} {}: {source}", path.display())]
    File { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("listening on {address}: {source}; is another manager running here?")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("{0}")]
    Failed(String),
}

impl RoleError {
    fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { doing, path, source }
    }
}

/// Where a role's certificate lies in its data directory.
pub fn identity_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("identity")
}

pub fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".into())
}

/// Ids of this process, seeded by the machine.
pub fn ids() -> IdSource {
    IdSource::new(rand::random())
}

pub fn fresh_request() -> RequestId {
    ids().request()
}

/// A directory that already belongs to a machine of some cluster is not taken over.
///
/// # Errors
/// It holds an identity.
pub fn refuse_used(data_dir: &Path) -> Result<(), RoleError> {
    match identity_dir(data_dir).join("cert.pem").exists() {
        false => Ok(()),
        true => Err(RoleError::Failed(format!(
            "{} belongs to a machine that has joined already; to join again, remove that machine \
             from its cluster (muster instance deregister, muster operator raft remove), then \
             delete the directory",
            data_dir.display()
        ))),
    }
}

/// A person's certificate and key are not replaced by those of another cluster or user.
///
/// # Errors
/// The directory holds some.
pub fn refuse_identity(dir: &Path) -> Result<(), RoleError> {
    match dir.join("key.pem").exists() {
        false => Ok(()),
        true => Err(RoleError::Failed(format!(
            "{0} holds a certificate and its key already, which would be lost; move it away, or \
             name another directory",
            dir.display()
        ))),
    }
}

/// Writes a role's configuration; one that exists and differs is kept beside it as `.old`.
///
/// # Errors
/// The file cannot be written.
pub fn write_config(path: &Path, config: &impl Serialize) -> Result<(), CliError> {
    let text = toml::to_string(config)
        .map_err(|error| CliError::Failed(format!("writing {}: {error}", path.display())))?;
    let text = format!(
        "# Written by muster {}. Every key is explained in the commented example of the same name.\n\
         {text}",
        env!("CARGO_PKG_VERSION")
    );
    let failed = |doing| move |source| CliError::File { doing, path: path.into(), source };
    if std::fs::read(path).is_ok_and(|old| old != text.as_bytes()) {
        std::fs::rename(path, path.with_extension("toml.old")).map_err(failed("keeping"))?;
    }
    files::replace(path, text.as_bytes(), files::PUBLIC).map_err(failed("writing"))
}

/// Cancelled by the first SIGTERM or SIGINT.
///
/// # Errors
/// The signals cannot be caught.
fn stop_on_signal() -> Result<CancellationToken, RoleError> {
    muster_process::stop_on_signal().map_err(|error| RoleError::Failed(format!("signals: {error}")))
}

/// Lets entries, plans and orders belong to the trace of the call that they come from.
fn join_traces(telemetry: &Telemetry) {
    if telemetry.exports_spans() {
        muster_store::spans::adopt_with(telemetry::adopt_trace);
        muster_manager::spans::adopt_with(telemetry::adopt_trace);
        muster_agent::spans::adopt_with(telemetry::adopt_trace);
    }
}
