//! Errors as ECS's clients know them: `__type`, message and HTTP status.
//!
//! What an error of the cluster is called stands in the one table (`muster_proto::error`); here are
//! only those that arise before a request is one, and the JSON around them.

use super::identify::Unidentified;
use super::{JSON, Reply};
use http::StatusCode;
use muster_model::Error;
use muster_proto::error::{bounded, ecs, face, from_status};
use serde_json::{Value, json};
use tonic::{Code, Status};

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    exception: &'static str,
    status: StatusCode,
    message: String,
    /// ECS's ConflictException names what the token was used for.
    resources: Vec<String>,
    code: Code,
}

impl Refusal {
    pub fn new(exception: &'static str, message: impl Into<String>) -> Self {
        let (status, code) = (StatusCode::BAD_REQUEST, Code::InvalidArgument);
        Self { exception, status, message: message.into(), resources: Vec::new(), code }
    }

    fn with_status(self, status: StatusCode, code: Code) -> Self {
        Self { status, code, ..self }
    }

    /// A body that is not the operation's JSON.
    pub fn serialization(message: impl Into<String>) -> Self {
        Self::new("SerializationException", message)
    }

    /// A body that is no message of its operation; asking for what is not built keeps its own name.
    pub fn undecodable(error: Error) -> Self {
        match error {
            Error::Invalid { .. } => Self::serialization(ecs::message(&bounded(error))),
            other => other.into(),
        }
    }

    pub fn unknown_operation(message: impl Into<String>) -> Self {
        Self::new("UnknownOperationException", message)
    }

    pub fn not_built(name: &str, why: &str) -> Self {
        let message = format!("{name} is not supported by this release of Muster: {why}");
        Self::new("UnsupportedFeatureException", message)
            .with_status(StatusCode::BAD_REQUEST, Code::Unimplemented)
    }

    pub fn throttled() -> Self {
        Self::new("ThrottlingException", "Rate exceeded")
            .with_status(StatusCode::BAD_REQUEST, Code::ResourceExhausted)
    }

    /// The outcome is not known: clients repeat it, with their token.
    pub fn late(name: &str) -> Self {
        Self::server(format!("{name} was not done in time; it may take effect or not"))
    }

    pub fn server(message: impl Into<String>) -> Self {
        Self::new("ServerException", message)
            .with_status(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal)
    }

    pub fn too_large(limit: usize) -> Self {
        Self::new("RequestEntityTooLargeException", format!("at most {limit} bytes are allowed"))
            .with_status(StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted)
    }

    pub fn code(&self) -> Code {
        self.code
    }

    pub fn reply(self) -> Reply {
        let mut body = json!({ "__type": self.exception, "message": self.message });
        if !self.resources.is_empty() {
            body["resourceIds"] = Value::from(self.resources);
        }
        Reply { status: self.status, content_type: JSON, body: body.to_string().into_bytes() }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let error = bounded(error);
        let face = face(&error);
        let message = ecs::message(&error);
        let resources = match error {
            Error::TokenReused { resources } => resources,
            _ => Vec::new(),
        };
        let status = StatusCode::from_u16(face.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { exception: face.exception, status, message, resources, code: face.code }
    }
}

impl From<Unidentified> for Refusal {
    fn from(unidentified: Unidentified) -> Self {
        match unidentified {
            Unidentified::Unavailable(error) => error.into(),
            Unidentified::Refused(refusal) => {
                let fault = refusal.json();
                let status = StatusCode::from_u16(fault.http_status);
                Self::new(fault.name, refusal.to_string())
                    .with_status(status.unwrap_or(StatusCode::BAD_REQUEST), Code::Unauthenticated)
            }
        }
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        from_status(&status).into()
    }
}
