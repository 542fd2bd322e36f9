//! The one error table: what each error is to gRPC, to ECS clients, over HTTP and to a reader.
//!
//! It does not know where an error came from. Invariant: every error survives the way through a
//! `tonic::Status` and back (`to_status`, `from_status`), so a client sees the server's own value.

pub mod ecs;

use crate::pb;
use muster_model::{Error, Kind};
use prost::Message as _;
use prost::bytes::Bytes;
use tonic::{Code, Status};

/// How the action of a `Denied` begins that policies refused.
pub const PERFORM: &str = "perform: ";

/// Metadata key under which a manager that does not lead names who does (`host:port`).
pub const LEADER_METADATA: &str = "muster-leader";

/// Longest text of one field of an error on the wire, in characters: all of an error's details
/// travel in HTTP/2 headers, which peers bound to some KiB.
const TEXT_CHARS_MAX: usize = 600;
/// Most resources that a conflict names.
const RESOURCES_MAX: usize = 10;

const TYPE_URL: &str = "type.googleapis.com/muster.v1.ErrorDetail";

/// An error as the outside sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Face {
    pub code: Code,
    /// ECS's exception, the `__type` of its JSON.
    pub exception: &'static str,
    /// Status over HTTP: ECS answers 400 to all that the caller can change.
    pub http: u16,
    pub message: String,
}

/// The table.
pub fn face(error: &Error) -> Face {
    let (code, exception, http) = class(error);
    Face { code, exception, http, message: message(error) }
}

fn class(error: &Error) -> (Code, &'static str, u16) {
    match error {
        Error::Invalid { field, allowed, .. } if of_definition(field) || of_revision(allowed) => {
            (Code::InvalidArgument, "ClientException", 400)
        }
        Error::Invalid { .. } => (Code::InvalidArgument, "InvalidParameterException", 400),
        Error::NotFound { kind, .. } => (Code::NotFound, not_found(*kind), 400),
        Error::Exists { .. } => (Code::AlreadyExists, "InvalidParameterException", 400),
        Error::NotActive { kind, .. } => (Code::FailedPrecondition, not_active(*kind), 400),
        Error::InUse { kind, what, .. } => (Code::FailedPrecondition, in_use(*kind, what), 400),
        Error::LimitExceeded { what, .. } if what == "attributes" => {
            (Code::ResourceExhausted, "AttributeLimitExceededException", 400)
        }
        Error::LimitExceeded { .. } => (Code::ResourceExhausted, "LimitExceededException", 400),
        Error::TokenReused { .. } => (Code::AlreadyExists, "ConflictException", 400),
        Error::VersionMismatch { .. } => (Code::Aborted, "ConflictException", 400),
        Error::StaleEpoch { .. } => (Code::Aborted, "ServerException", 500),
        Error::Refused { .. } => (Code::FailedPrecondition, "ClientException", 400),
        Error::Denied { .. } => (Code::PermissionDenied, "AccessDeniedException", 400),
        Error::Unsupported { .. } => (Code::Unimplemented, "UnsupportedFeatureException", 400),
        Error::Unavailable { .. } => (Code::Unavailable, "ServerException", 503),
        Error::UnknownOutcome { .. } => (Code::Unknown, "ServerException", 500),
        Error::Compacted { .. } => (Code::OutOfRange, "InvalidParameterException", 400),
        Error::UpgradeRequired { .. } => (Code::FailedPrecondition, "ServerException", 500),
    }
}

/// ECS answers ClientException to what is wrong inside a task definition.
fn of_definition(field: &str) -> bool {
    field.starts_with("containerDefinitions") || field.starts_with("volumes")
}

/// Nor does it name the field of a revision that is none.
fn of_revision(allowed: &str) -> bool {
    allowed.starts_with("Revision is missing.") || allowed.starts_with("Invalid revision number.")
}

fn not_found(kind: Kind) -> &'static str {
    match kind {
        Kind::Cluster => "ClusterNotFoundException",
        Kind::TaskDefinition => "ClientException",
        Kind::Service => "ServiceNotFoundException",
        Kind::Task | Kind::ContainerInstance => "InvalidParameterException",
        Kind::Deployment => "ServiceDeploymentNotFoundException",
        Kind::Manager | Kind::User | Kind::AccessKey | Kind::Policy => "ResourceNotFoundException",
        Kind::Target => "TargetNotFoundException",
        Kind::AgentUpdate => "NoUpdateAvailableException",
        Kind::AccountSetting => "InvalidParameterException",
    }
}

fn not_active(kind: Kind) -> &'static str {
    match kind {
        Kind::Cluster => "ClusterNotFoundException",
        Kind::TaskDefinition => "ClientException",
        Kind::Service => "ServiceNotActiveException",
        Kind::Task | Kind::ContainerInstance | Kind::Deployment => "InvalidParameterException",
        Kind::Manager
        | Kind::User
        | Kind::Target
        | Kind::AgentUpdate
        | Kind::AccountSetting
        | Kind::AccessKey
        | Kind::Policy => "ResourceNotFoundException",
    }
}

fn in_use(kind: Kind, what: &str) -> &'static str {
    match kind {
        Kind::Cluster if what.contains("service") => "ClusterContainsServicesException",
        Kind::Cluster if what.contains("instance") => "ClusterContainsContainerInstancesException",
        Kind::Cluster => "ClusterContainsTasksException",
        Kind::ContainerInstance | Kind::Service | Kind::Task => "InvalidParameterException",
        Kind::TaskDefinition => "ClientException",
        Kind::Manager
        | Kind::User
        | Kind::Deployment
        | Kind::Target
        | Kind::AgentUpdate
        | Kind::AccountSetting
        | Kind::AccessKey
        | Kind::Policy => "ResourceInUseException",
    }
}

/// What the caller reads: what is wrong, in ECS's words where it has some, and what to try next.
/// It is also the message of the status of a failed call.
pub fn message(error: &Error) -> String {
    match error {
        Error::Invalid { field, value, allowed } => invalid(field, value, allowed),
        Error::NotFound { kind, name } => missing(*kind, name),
        Error::Exists { kind: Kind::Service, name } => format!(
            "Creation of service was not idempotent. A service named {name:?} exists already; \
             change it with `muster service update {name}`."
        ),
        Error::NotActive { kind, name } => inactive(*kind, name),
        Error::InUse { kind, name, what } => used(*kind, name, what),
        Error::TokenReused { .. } => format!("{error}; take a fresh token for another request"),
        Error::VersionMismatch { .. } => format!("{error}; read it again and repeat the change"),
        // IAM's sentence, which people know and search for.
        Error::Denied { principal, action } if action.starts_with(PERFORM) => {
            format!("{principal} is not authorized to {action}")
        }
        Error::Denied { .. } => format!("{error}; ask an administrator for another role"),
        Error::UnknownOutcome { .. } => {
            format!("{error}; repeating with the same client token is safe")
        }
        Error::Compacted { .. } => format!("{error}; begin anew without a resume token"),
        // Users have steps of no plan.
        Error::Refused { why } => why.clone(),
        Error::Exists { .. }
        | Error::LimitExceeded { .. }
        | Error::StaleEpoch { .. }
        | Error::Unsupported { .. }
        | Error::Unavailable { .. }
        | Error::UpgradeRequired { .. } => error.to_string(),
    }
}

/// ECS's own sentence, where what is allowed begins with one: `sentence` or `sentence (hint)`. The
/// hint is ours, for people; programs compare the sentence.
fn sentence(allowed: &str) -> Option<&str> {
    match allowed.strip_suffix(".)").and_then(|rest| rest.rsplit_once(" (")) {
        Some((sentence, _)) => Some(sentence),
        None => allowed.ends_with('.').then_some(allowed),
    }
}

fn invalid(field: &str, value: &str, allowed: &str) -> String {
    match (value, sentence(allowed).is_some()) {
        ("", true) => format!("{field}: {allowed}"),
        ("", false) => format!("{field} is missing; allowed: {allowed}"),
        (value, true) => format!("{field}: {value:?}: {allowed}"),
        (value, false) => format!("{field}: {value:?} is not allowed; allowed: {allowed}"),
    }
}

fn missing(kind: Kind, name: &str) -> String {
    match kind {
        Kind::Cluster => format!("Cluster not found. {name:?}: see `muster cluster list`."),
        Kind::TaskDefinition => format!(
            "Unable to describe task definition. {name:?} was not found: see `muster taskdef list`."
        ),
        Kind::Service => format!("Service not found. {name:?}: see `muster service list`."),
        Kind::Task => {
            format!("The referenced task was not found. {name:?}: see `muster task list`.")
        }
        Kind::ContainerInstance => format!(
            "The referenced container instance was not found. {name:?}: see `muster instance list`."
        ),
        Kind::Manager => format!("Manager {name:?} not found: see `muster operator raft status`."),
        Kind::User => format!("User {name:?} not found: see `muster user list`."),
        Kind::Deployment => format!("Deployment {name:?} not found."),
        Kind::Target => {
            format!("The specified target wasn't found. {name:?}: see `muster instance list`.")
        }
        Kind::AgentUpdate => format!(
            "There's no update available for this Amazon ECS container agent. {name:?} runs \
             Muster's own, which is updated with the machine's packages."
        ),
        Kind::AccountSetting => format!("The setting {name:?} is not set for this principal."),
        Kind::AccessKey => {
            format!("Access key {name:?} not found: see `muster access-key list`.")
        }
        Kind::Policy => format!("Policy {name:?} not found: see `muster policy list`."),
    }
}

fn inactive(kind: Kind, name: &str) -> String {
    match kind {
        Kind::Cluster => format!("The referenced cluster was inactive. {name:?}"),
        Kind::TaskDefinition => {
            format!("TaskDefinition is inactive. {name:?}: register a new revision.")
        }
        Kind::Service => format!("Service was not ACTIVE. {name:?} is being or has been deleted."),
        Kind::Task
        | Kind::ContainerInstance
        | Kind::Manager
        | Kind::User
        | Kind::Deployment
        | Kind::Target
        | Kind::AgentUpdate
        | Kind::AccountSetting
        | Kind::AccessKey
        | Kind::Policy => {
            format!("The {kind} {name:?} is not active.")
        }
    }
}

fn used(kind: Kind, name: &str, what: &str) -> String {
    match kind {
        Kind::Cluster if what.contains("service") => {
            format!("The Cluster cannot be deleted while Services are active. {name:?}: {what}")
        }
        Kind::Cluster if what.contains("instance") => format!(
            "The Cluster cannot be deleted while Container Instances are active or draining. \
             {name:?}: {what}"
        ),
        Kind::Cluster => {
            format!("The Cluster cannot be deleted while Tasks are active. {name:?}: {what}")
        }
        Kind::Service => {
            format!("The service cannot be stopped while it is scaled above 0. {name:?}: {what}")
        }
        Kind::ContainerInstance => format!("Found running tasks on the instance. {name:?}: {what}"),
        Kind::TaskDefinition
        | Kind::Task
        | Kind::Manager
        | Kind::User
        | Kind::Deployment
        | Kind::Target
        | Kind::AgentUpdate
        | Kind::AccountSetting
        | Kind::AccessKey
        | Kind::Policy => {
            format!("{kind} {name:?} is in use: {what}")
        }
    }
}

/// `google.rpc.Status`: what `grpc-status-details-bin` carries by convention, so that the rich
/// error libraries of other languages read ours.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// The status of a failed call, with the error itself in its details.
pub fn to_status(error: &Error) -> Status {
    let error = &bounded(error.clone());
    let face = face(error);
    let detail = pb::ErrorDetail {
        exception: face.exception.into(),
        http_status: face.http.into(),
        // The error is a plain enum of text and numbers: it has a JSON form.
        error_json: serde_json::to_string(error).unwrap_or_default(),
    };
    let any = prost_types::Any { type_url: TYPE_URL.into(), value: detail.encode_to_vec() };
    let status =
        RpcStatus { code: face.code as i32, message: face.message.clone(), details: vec![any] };
    Status::with_details(face.code, face.message, Bytes::from(status.encode_to_vec()))
}

/// The server's error; for a status without one (a proxy's, the transport's) the nearest error.
pub fn from_status(status: &Status) -> Error {
    if let Some(error) = detail(status).and_then(|d| serde_json::from_str(&d.error_json).ok()) {
        return error;
    }
    let why = status.message().to_owned();
    if let Some((value, limit)) = too_large(&why) {
        return Error::LimitExceeded { what: "bytes of the message".into(), value, limit };
    }
    match status.code() {
        Code::Unavailable => Error::Unavailable { why },
        Code::InvalidArgument | Code::OutOfRange => {
            // A sentence: it stands for itself in the message.
            Error::invalid("request", "", format!("{}.", why.trim_end_matches('.')))
        }
        Code::PermissionDenied | Code::Unauthenticated => Error::Denied {
            principal: "this certificate".into(),
            action: format!("do this: {why}"),
        },
        Code::Unimplemented => {
            Error::Unsupported { feature: "the call".into(), instead: format!("upgrade ({why})") }
        }
        Code::FailedPrecondition
        | Code::ResourceExhausted
        | Code::NotFound
        | Code::AlreadyExists => Error::refused(why),
        // The request may have reached a leader.
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::DataLoss => Error::UnknownOutcome { why: format!("{:?}: {why}", status.code()) },
    }
}

/// Size and limit in tonic's own refusal of a message, which it answers before we see a request.
fn too_large(message: &str) -> Option<(u64, u64)> {
    let rest = message.split_once("message length too large: found ")?.1;
    let (found, limit) = rest.split_once(" bytes, the limit is: ")?;
    Some((found.parse().ok()?, limit.strip_suffix(" bytes")?.parse().ok()?))
}

/// The machine-readable part of a status that `to_status` made.
pub fn detail(status: &Status) -> Option<pb::ErrorDetail> {
    let rich = RpcStatus::decode(status.details()).ok()?;
    let any = rich.details.iter().find(|any| any.type_url == TYPE_URL)?;
    pb::ErrorDetail::decode(any.value.as_slice()).ok()
}

/// The error with its texts cut to what fits into headers.
fn bounded(mut error: Error) -> Error {
    let texts: Vec<&mut String> = match &mut error {
        Error::Invalid { field, value, allowed } => vec![field, value, allowed],
        Error::NotFound { name, .. }
        | Error::Exists { name, .. }
        | Error::NotActive { name, .. }
        | Error::VersionMismatch { name, .. } => vec![name],
        Error::InUse { name, what, .. } => vec![name, what],
        Error::LimitExceeded { what, .. } | Error::UpgradeRequired { what } => vec![what],
        Error::TokenReused { resources } => {
            resources.truncate(RESOURCES_MAX);
            resources.iter_mut().collect()
        }
        Error::Refused { why } | Error::Unavailable { why } | Error::UnknownOutcome { why } => {
            vec![why]
        }
        Error::Denied { principal, action } => vec![principal, action],
        Error::Unsupported { feature, instead } => vec![feature, instead],
        Error::StaleEpoch { .. } | Error::Compacted { .. } => vec![],
    };
    for text in texts {
        if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
            text.truncate(end);
            text.push('…');
        }
    }
    error
}
