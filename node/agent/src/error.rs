//! What can go wrong on an instance, under the names that ECS's agent gives it.
//!
//! The text is what a user finds in a task's reason, so it says what was attempted, on which thing,
//! and what to do. Converting it into a report is the caller's.

use muster_model::limits::REASON_CHARS_MAX;
use std::fmt;
use std::sync::Arc;

/// ECS's agent error names; users search for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    CannotPullContainer,
    /// The registry wants other credentials.
    CannotPullContainerAuth,
    /// The registry has no image of this name and tag, or its manifest cannot be used.
    CannotPullImageManifest,
    CannotCreateContainer,
    CannotCreateVolume,
    CannotStartContainer,
    CannotStopContainer,
    CannotInspectContainer,
    ContainerNetworking,
    /// The runtime did not answer in time (Docker's name stayed in ECS).
    DockerTimeout,
    /// The agent's own state directory cannot be used.
    ResourceInitialization,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CannotPullContainer => "CannotPullContainerError",
            Self::CannotPullContainerAuth => "CannotPullContainerAuthError",
            Self::CannotPullImageManifest => "CannotPullImageManifestError",
            Self::CannotCreateContainer => "CannotCreateContainerError",
            Self::CannotCreateVolume => "CannotCreateVolumeError",
            Self::CannotStartContainer => "CannotStartContainerError",
            Self::CannotStopContainer => "CannotStopContainerError",
            Self::CannotInspectContainer => "CannotInspectContainerError",
            Self::ContainerNetworking => "ContainerNetworkingError",
            Self::DockerTimeout => "DockerTimeoutError",
            Self::ResourceInitialization => "ResourceInitializationError",
        })
    }
}

/// An error with ECS's name in front; the whole is at most 1024 characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {text}")]
pub struct Error {
    pub name: Name,
    pub text: String,
}

impl Error {
    pub fn new(name: Name, text: impl Into<String>) -> Self {
        let mut text = text.into();
        let room = REASON_CHARS_MAX - name.to_string().len() - 2;
        if let Some((end, _)) = text.char_indices().nth(room) {
            text.truncate(end);
        }
        Self { name, text }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// Why a task cannot have what it is made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct PullFailed {
    /// Whose image it is; none for what the task lacks as a whole.
    pub container: Option<Arc<str>>,
    #[source]
    pub error: Error,
}

impl From<Error> for PullFailed {
    fn from(error: Error) -> Self {
        Self { container: None, error }
    }
}

/// Gives a lower error its ECS name and says what was attempted.
pub trait Context<T> {
    fn context(self, name: Name, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, name: Name, what: impl fmt::Display) -> Result<T> {
        self.map_err(|e| Error::new(name, format!("{what}: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_starts_with_the_ecs_name_and_is_bounded() {
        let error = Error::new(Name::CannotPullContainer, "é".repeat(5000)).to_string();
        assert!(error.starts_with("CannotPullContainerError: é"));
        assert_eq!(error.chars().count(), REASON_CHARS_MAX);
    }
}
