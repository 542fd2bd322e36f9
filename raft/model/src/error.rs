//! The one error of the state machine and of both brains: data, not strings.
//!
//! Its wire form (gRPC code, ECS exception, HTTP status, text) is decided in `muster-proto`.

use crate::ids::Epoch;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What kind of thing a name or an id was looked up as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Cluster,
    TaskDefinition,
    Service,
    Task,
    ContainerInstance,
    Manager,
    User,
    Deployment,
    /// What an attribute is to be put on.
    Target,
    /// A newer program for an instance's agent.
    AgentUpdate,
    AccountSetting,
    AccessKey,
    Policy,
    CapacityProvider,
    Schedule,
    Secret,
    Job,
    /// What tags are to be put on.
    Resource,
    Alarm,
    TaskSet,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::TaskDefinition => "task definition",
            Self::Service => "service",
            Self::Task => "task",
            Self::ContainerInstance => "container instance",
            Self::Manager => "manager",
            Self::User => "user",
            Self::Deployment => "deployment",
            Self::Target => "target",
            Self::AgentUpdate => "agent update",
            Self::AccountSetting => "account setting",
            Self::AccessKey => "access key",
            Self::Policy => "policy",
            Self::CapacityProvider => "capacity provider",
            Self::Schedule => "schedule",
            Self::Secret => "secret",
            Self::Alarm => "alarm",
            Self::TaskSet => "task set",
            Self::Job => "job",
            Self::Resource => "resource",
        })
    }
}

/// Append only: responses that carry an error are stored beside the request that caused it.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum Error {
    /// A field's value is not allowed.
    #[error("{field}: {value:?} is not allowed; allowed: {allowed}")]
    Invalid { field: String, value: String, allowed: String },
    #[error("{kind} {name:?} not found")]
    NotFound { kind: Kind, name: String },
    #[error("{kind} {name:?} exists already")]
    Exists { kind: Kind, name: String },
    /// It exists, but is being deleted or has been.
    #[error("{kind} {name:?} is not active")]
    NotActive { kind: Kind, name: String },
    /// Still holds something: `what` says what.
    #[error("{kind} {name:?} is in use: {what}")]
    InUse { kind: Kind, name: String, what: String },
    #[error("limit exceeded: {what}: {value}, at most {limit}")]
    LimitExceeded { what: String, value: u64, limit: u64 },
    /// The same request id came with other parameters.
    #[error("client token was used for a different request")]
    TokenReused { resources: Vec<String> },
    /// The row is not as the caller expected it (compare-and-set).
    #[error("{kind} {name:?} has version {found}, expected {expected}")]
    VersionMismatch { kind: Kind, name: String, found: u64, expected: u64 },
    /// A plan of a leader that has been replaced.
    #[error("epoch {refused} has ended; the current one is {current}")]
    StaleEpoch { refused: Epoch, current: Epoch },
    /// A step that the present state does not allow; the planner looks again.
    #[error("step refused: {why}")]
    Refused { why: String },
    #[error("{principal} may not {action}")]
    Denied { principal: String, action: String },
    /// Something the request needs is not part of this release.
    #[error("{feature} is not supported: {instead}")]
    Unsupported { feature: String, instead: String },
    /// No leader, no quorum, or the disk refuses writes: nothing was done.
    #[error("unavailable: {why}")]
    Unavailable { why: String },
    /// It may or may not have been committed: repeat with the same request id.
    #[error("outcome unknown: {why}")]
    UnknownOutcome { why: String },
    /// A watch asked for changes older than what is kept.
    #[error("changes since index {since} are no longer kept; oldest is {oldest}")]
    Compacted { since: u64, oldest: u64 },
    /// A member or a stored format is from another version.
    #[error("upgrade required: {what}")]
    UpgradeRequired { what: String },
}

impl Error {
    /// A value that is not allowed; `allowed` says what would be.
    pub fn invalid(
        field: impl Into<String>,
        value: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Self {
        let mut value = value.into();
        // An error must never carry a whole hostile request back and into logs.
        if let Some((end, _)) = value.char_indices().nth(80) {
            value.truncate(end);
            value.push('…');
        }
        Self::Invalid { field: field.into(), value, allowed: allowed.into() }
    }

    pub fn not_found(kind: Kind, name: impl ToString) -> Self {
        Self::NotFound { kind, name: name.to_string() }
    }

    pub fn refused(why: impl Into<String>) -> Self {
        Self::Refused { why: why.into() }
    }
}
