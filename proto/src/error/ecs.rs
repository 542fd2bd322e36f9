//! What ECS calls an error and how it words it: tools compare both, and people search for them.
//!
//! Each of ECS's sentences stands here and nowhere else; what people need beside it, which thing is
//! meant and what to try next, the parent adds.

use muster_model::{Error, Kind};

const INVALID: &str = "InvalidParameterException";
const CLIENT: &str = "ClientException";
const SERVER: &str = "ServerException";

/// What a client of the ECS wire protocol reads: ECS's sentence alone, where it has one.
pub fn message(error: &Error) -> String {
    match (error, words(error).1) {
        (Error::Unsupported { feature, instead }, _) => {
            format!("{feature} is not supported by this release of Muster: {instead}.")
        }
        (_, "") => super::message(error),
        (_, sentence) => sentence.to_owned(),
    }
}

/// ECS's exception, the `__type` of its JSON, and its sentence; empty where it has none of its own.
pub(super) fn words(error: &Error) -> (&'static str, &str) {
    match error {
        Error::Invalid { field, allowed, .. } => {
            (invalid(field, allowed), super::sentence(allowed).unwrap_or_default())
        }
        Error::NotFound { kind, .. } => missing(*kind),
        Error::Exists { kind: Kind::Service, .. } => {
            (INVALID, "Creation of service was not idempotent.")
        }
        Error::Exists { kind: Kind::CapacityProvider, .. } => (
            CLIENT,
            "The specified capacity provider already exists. To change the configuration of an \
             existing capacity provider, update the capacity provider.",
        ),
        Error::Exists { .. } | Error::Compacted { .. } => (INVALID, ""),
        Error::NotActive { kind, .. } => inactive(*kind),
        Error::InUse { kind, what, .. } => used(*kind, what),
        Error::LimitExceeded { what, .. } if what == "attributes" => {
            ("AttributeLimitExceededException", "")
        }
        Error::LimitExceeded { .. } => ("LimitExceededException", ""),
        Error::TokenReused { .. } => {
            let sentence = "The client token was used for a request with other parameters.";
            ("ConflictException", sentence)
        }
        Error::VersionMismatch { .. } => ("ConflictException", ""),
        Error::Refused { .. } => (CLIENT, ""),
        Error::Denied { .. } => ("AccessDeniedException", ""),
        Error::Unsupported { .. } => ("UnsupportedFeatureException", ""),
        Error::StaleEpoch { .. }
        | Error::Unavailable { .. }
        | Error::UnknownOutcome { .. }
        | Error::UpgradeRequired { .. } => (SERVER, ""),
    }
}

/// ECS answers ClientException to what is wrong inside a task definition, and to a revision that is
/// none; each way there are sentences that are an exception.
fn invalid(field: &str, allowed: &str) -> &'static str {
    let begins = |sentences: &[&str]| sentences.iter().any(|it| allowed.starts_with(it));
    let of_definition = ["containerDefinitions", "volumes"].iter().any(|it| field.starts_with(it));
    let client = [
        "Revision is missing.",
        "Invalid revision number.",
        "Fargate requires",
        "No Fargate configuration",
    ];
    match (of_definition && !begins(&["Container port "])) || begins(&client) {
        true => CLIENT,
        false => INVALID,
    }
}

fn missing(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Cluster => ("ClusterNotFoundException", "Cluster not found."),
        Kind::TaskDefinition => (CLIENT, "Unable to describe task definition."),
        Kind::Service => ("ServiceNotFoundException", "Service not found."),
        Kind::Task => (INVALID, "The referenced task was not found."),
        Kind::ContainerInstance => (INVALID, "The referenced container instance was not found."),
        Kind::Deployment => ("ServiceDeploymentNotFoundException", "Service deployment not found."),
        Kind::TaskSet => ("TaskSetNotFoundException", "The specified task set wasn't found."),
        Kind::Target => ("TargetNotFoundException", "The specified target wasn't found."),
        Kind::Resource => ("ResourceNotFoundException", "The specified resource wasn't found."),
        Kind::AgentUpdate => (
            "NoUpdateAvailableException",
            "There's no update available for this Amazon ECS container agent.",
        ),
        Kind::AccountSetting => (INVALID, ""),
        Kind::CapacityProvider => (
            CLIENT,
            "The specified capacity provider does not exist. Specify a valid name or ARN and try \
             again.",
        ),
        Kind::Manager
        | Kind::User
        | Kind::AccessKey
        | Kind::Policy
        | Kind::Schedule
        | Kind::Job
        | Kind::Secret
        | Kind::Alarm => ("ResourceNotFoundException", ""),
    }
}

fn inactive(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Cluster => missing(Kind::Cluster),
        Kind::TaskDefinition => (CLIENT, "TaskDefinition is inactive"),
        Kind::Service => ("ServiceNotActiveException", "Service was not ACTIVE."),
        // What is to be stopped is over.
        Kind::Deployment => ("ConflictException", ""),
        Kind::Task | Kind::TaskSet | Kind::ContainerInstance => (INVALID, ""),
        _ => ("ResourceNotFoundException", ""),
    }
}

fn used(kind: Kind, what: &str) -> (&'static str, &'static str) {
    match kind {
        // Jobs and schedules are not ECS's: none of its sentences is true of them.
        Kind::Cluster if what.starts_with("job") => ("ResourceInUseException", ""),
        Kind::Cluster if what.contains("service") => (
            "ClusterContainsServicesException",
            "The Cluster cannot be deleted while Services are active.",
        ),
        Kind::Cluster if what.contains("instance") => (
            "ClusterContainsContainerInstancesException",
            "The Cluster cannot be deleted while Container Instances are active or draining.",
        ),
        Kind::Cluster if what.contains("schedule") => ("ResourceInUseException", ""),
        Kind::Cluster => (
            "ClusterContainsTasksException",
            "The Cluster cannot be deleted while Tasks are active.",
        ),
        Kind::Service if what.contains("task set") => (INVALID, ""),
        Kind::Service => (INVALID, "The service cannot be stopped while it is scaled above 0."),
        Kind::ContainerInstance => (INVALID, "Found running tasks on the instance."),
        Kind::Task | Kind::TaskSet => (INVALID, ""),
        Kind::TaskDefinition | Kind::CapacityProvider => (CLIENT, ""),
        _ => ("ResourceInUseException", ""),
    }
}
