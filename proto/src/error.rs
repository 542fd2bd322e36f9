//! The one error table: what each error is to gRPC, to ECS clients, over HTTP and to a reader.
//!
//! It does not know where an error came from. Invariant: every error survives the way through a
//! `tonic::Status` and back (`to_status`, `from_status`), so a client sees the server's own value.

pub mod ecs;

use crate::pb;
use muster_model::{Error, Kind, config};
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
    let (exception, _) = ecs::words(error);
    Face { code: code(error), exception, http: http(error), message: message(error) }
}

fn code(error: &Error) -> Code {
    match error {
        Error::Invalid { .. } => Code::InvalidArgument,
        Error::NotFound { .. } => Code::NotFound,
        Error::Exists { .. } | Error::TokenReused { .. } => Code::AlreadyExists,
        Error::NotActive { .. }
        | Error::InUse { .. }
        | Error::Refused { .. }
        | Error::UpgradeRequired { .. } => Code::FailedPrecondition,
        Error::LimitExceeded { .. } => Code::ResourceExhausted,
        Error::VersionMismatch { .. } | Error::StaleEpoch { .. } => Code::Aborted,
        Error::Denied { .. } => Code::PermissionDenied,
        Error::Unsupported { .. } => Code::Unimplemented,
        Error::Unavailable { .. } => Code::Unavailable,
        Error::UnknownOutcome { .. } => Code::Unknown,
        Error::Compacted { .. } => Code::OutOfRange,
    }
}

fn http(error: &Error) -> u16 {
    match error {
        // ServerException; everything else is the caller's.
        Error::Unavailable { .. }
        | Error::StaleEpoch { .. }
        | Error::UnknownOutcome { .. }
        | Error::UpgradeRequired { .. } => 500,
        _ => 400,
    }
}

/// What the caller reads: what is wrong, in ECS's words where it has some, and what to try next.
/// It is also the message of the status of a failed call.
pub fn message(error: &Error) -> String {
    let (_, sentence) = ecs::words(error);
    match error {
        // The sentence stands behind its field.
        Error::Invalid { field, value, allowed } => invalid(field, value, allowed),
        error if sentence.is_empty() => hint(error),
        error => format!("{}. {}", sentence.trim_end_matches('.'), hint(error)),
    }
}

/// What people need to know beside ECS's sentence, or in its place where it has none.
fn hint(error: &Error) -> String {
    match error {
        Error::NotFound { kind, name } => missing(*kind, name),
        Error::Exists { kind: Kind::Service, name } => format!(
            "A service named {name:?} exists already; change it with `muster service update {name}`."
        ),
        Error::NotActive { kind, name } => match kind {
            Kind::Cluster => format!("{name:?} was deleted."),
            Kind::TaskDefinition => format!("{name:?}: register a new revision."),
            Kind::Service => format!("{name:?} is being or has been deleted."),
            Kind::Deployment => format!(
                "Only a deployment that is IN_PROGRESS can be stopped, not {name}: see `muster \
                 service deployments`."
            ),
            other => format!("The {other} {name:?} is not active."),
        },
        Error::InUse { kind, name, what } => match ecs::words(error) {
            (_, "") => format!("{kind} {name:?} is in use: {what}"),
            _ => format!("{name:?}: {what}"),
        },
        Error::TokenReused { .. } => "Take a fresh token for another request.".into(),
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
        Error::Invalid { .. }
        | Error::Exists { .. }
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
        Kind::Cluster => format!("{name:?}: see `muster cluster list`."),
        Kind::TaskDefinition => format!("{name:?} was not found: see `muster taskdef list`."),
        Kind::Service => format!("{name:?}: see `muster service list`."),
        Kind::Task => format!("{name:?}: see `muster task list`."),
        Kind::ContainerInstance | Kind::Target => {
            format!("{name:?}: see `muster instance list`.")
        }
        Kind::Deployment | Kind::Resource => format!("{name:?}"),
        Kind::AgentUpdate => {
            format!("{name:?} runs Muster's own, which is updated with the machine's packages.")
        }
        Kind::Manager => format!("Manager {name:?} not found: see `muster operator raft status`."),
        Kind::User => format!("User {name:?} not found: see `muster user list`."),
        Kind::AccountSetting => format!("The setting {name:?} is not set for this principal."),
        Kind::AccessKey => {
            format!("Access key {name:?} not found: see `muster access-key list`.")
        }
        Kind::CapacityProvider => format!("{name:?}: see DescribeCapacityProviders."),
        Kind::Schedule => format!("Schedule {name:?} not found: see `muster schedule list`."),
        Kind::Job => format!("Job {name:?} not found: see `muster job list`."),
        Kind::Policy => format!("Policy {name:?} not found: see `muster policy list`."),
        Kind::TaskSet => format!("{name:?}: see `muster task-set list SERVICE`."),
        Kind::Alarm => format!("Alarm {name:?} not found: see `muster alarm list`."),
        Kind::Secret => match config::name_of(name) {
            Some(name) => format!("Config {name:?} not found: see `muster config list`."),
            None => format!("Secret {name:?} not found: see `muster secret list`."),
        },
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

/// The error with at most `TEXT_CHARS_MAX` characters of each text, however long what it repeats
/// of a request was.
pub fn bounded(mut error: Error) -> Error {
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
