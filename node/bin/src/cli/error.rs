//! How a command fails: what to say, and which exit code tells a script.

use muster_model::Error;
use muster_process::config::ConfigError;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// What the cluster answered, or that it did not.
    #[error("{}", muster_proto::error::message(.0))]
    Cluster(#[from] Error),
    /// A stream that was open ended in the middle. One that cannot be opened is a `Cluster` error.
    #[error("{}", muster_proto::error::message(.0))]
    Broke(Error),
    #[error("{0}")]
    Identity(#[from] muster_identity::Error),
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Role(#[from] crate::roles::RoleError),
    #[error("{doing} {}: {source}", path.display())]
    File { doing: &'static str, path: PathBuf, source: std::io::Error },
    /// The words of the command are wrong in a way that clap cannot see.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Failed(String),
    #[error("writing output: {0}")]
    Output(std::io::Error),
    #[error("formatting output: {0}")]
    Json(serde_json::Error),
    #[error("output closed")]
    PipeClosed,
    /// A command in a container ended with this code, which becomes ours.
    #[error("command in the container ended with exit code {0}")]
    Remote(i32),
}

/// No manager answered, or one stopped in the middle: another may do better.
pub fn is_outage(error: &Error) -> bool {
    matches!(error, Error::Unavailable { .. } | Error::UnknownOutcome { .. })
}

impl CliError {
    /// Nobody could answer, or whoever did stopped in the middle.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Cluster(why) | Self::Broke(why) if is_outage(why))
    }

    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_)
            | Self::Cluster(Error::Invalid { .. })
            | Self::Identity(
                muster_identity::Error::Address { .. } | muster_identity::Error::Token { .. },
            ) => ExitCode::from(2),
            error if error.is_outage() => ExitCode::from(3),
            Self::Cluster(Error::NotFound { .. }) | Self::Broke(Error::NotFound { .. }) => {
                ExitCode::from(4)
            }
            Self::PipeClosed => ExitCode::SUCCESS,
            Self::Remote(code) => ExitCode::from(u8::try_from(*code).unwrap_or(1)),
            _ => ExitCode::FAILURE,
        }
    }
}
