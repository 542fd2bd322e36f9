//! The sentences that ECS's clients know: tools compare them, and people search for them.
//!
//! Only where ECS has one of its own; for the rest the table's message stands.

use muster_model::{Error, Kind};

/// What a client of the ECS wire protocol reads.
pub fn message(error: &Error) -> String {
    let known = match error {
        Error::Invalid { allowed, .. } => super::sentence(allowed).unwrap_or_default(),
        Error::NotFound { kind, .. } => missing(*kind),
        Error::Exists { kind: Kind::Service, .. } => "Creation of service was not idempotent.",
        Error::NotActive { kind: Kind::Cluster, .. } => "Cluster not found.",
        Error::NotActive { kind: Kind::Service, .. } => "Service was not ACTIVE.",
        Error::NotActive { kind: Kind::TaskDefinition, .. } => "TaskDefinition is inactive",
        Error::InUse { kind, what, .. } => used(*kind, what),
        Error::TokenReused { .. } => {
            "The client token was used for a request with other parameters."
        }
        Error::Unsupported { feature, instead } => {
            return format!("{feature} is not supported by this release of Muster: {instead}.");
        }
        _ => "",
    };
    if known.is_empty() { super::message(error) } else { known.to_owned() }
}

fn missing(kind: Kind) -> &'static str {
    match kind {
        Kind::Cluster => "Cluster not found.",
        Kind::TaskDefinition => "Unable to describe task definition.",
        Kind::Service => "Service not found.",
        Kind::Task => "The referenced task was not found.",
        Kind::ContainerInstance => "The referenced container instance was not found.",
        Kind::Deployment => "Service deployment not found.",
        Kind::Manager
        | Kind::User
        | Kind::Target
        | Kind::AgentUpdate
        | Kind::AccountSetting
        | Kind::AccessKey
        | Kind::Policy => "",
    }
}

fn used(kind: Kind, what: &str) -> &'static str {
    match kind {
        Kind::Cluster if what.contains("service") => {
            "The Cluster cannot be deleted while Services are active."
        }
        Kind::Cluster if what.contains("instance") => {
            "The Cluster cannot be deleted while Container Instances are active or draining."
        }
        Kind::Cluster => "The Cluster cannot be deleted while Tasks are active.",
        Kind::Service => "The service cannot be stopped while it is scaled above 0.",
        Kind::ContainerInstance => "Found running tasks on the instance.",
        Kind::TaskDefinition
        | Kind::Task
        | Kind::Manager
        | Kind::User
        | Kind::Deployment
        | Kind::Target
        | Kind::AgentUpdate
        | Kind::AccountSetting
        | Kind::AccessKey
        | Kind::Policy => "",
    }
}
