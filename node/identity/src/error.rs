//! The one error of this crate. Each text says what failed, on what, and what to do about it.
//!
//! It is `Clone` and carries its whole meaning in `Display`, because tonic keeps only that text
//! when a lazily connected channel fails.

use crate::digest::CaDigest;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Why an identity could not be made, read, or believed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "join token: {problem}; copy the whole one that `muster init` or `muster token rotate` \
         printed"
    )]
    Token { problem: String },

    #[error(
        "the join token is of the cluster with authority {}, but the manager at {addr} {}; \
         check --manager, or take a token of that cluster",
        token.short(), presented(server)
    )]
    OtherCluster {
        addr: String,
        token: CaDigest,
        /// The authority the server presented, if it presented any.
        server: Option<CaDigest>,
    },

    #[error("{what}: {problem}")]
    Invalid { what: &'static str, problem: String },

    #[error("certificate request: {problem}")]
    Request { problem: String },

    #[error("certificate: {problem}")]
    Certificate { problem: String },

    #[error("{action} {}: {source}{}", path.display(), hint(source))]
    File { action: &'static str, path: PathBuf, source: Arc<io::Error> },

    #[error(
        "manager address `{addr}`: {problem}; write it as host:port, for example 10.0.1.10:7400"
    )]
    Address { addr: String, problem: &'static str },

    #[error("listen on {addr}: {source}; is another muster running here?")]
    Listen { addr: SocketAddr, source: Arc<io::Error> },

    #[error("connect to manager {addr}: {source}")]
    Connect { addr: String, source: Arc<io::Error> },

    #[error("connect to manager {addr}: no answer to the {stage} within {after:?}")]
    Timeout { addr: String, stage: &'static str, after: Duration },

    #[error("the server at {addr} is not a manager of our cluster: {problem}")]
    Server { addr: String, problem: String },

    #[error("the manager at {addr} refused our certificate: {problem}")]
    Refused { addr: String, problem: String },

    #[error("TLS with {addr} failed: {problem}")]
    Tls { addr: String, problem: String },

    /// The cryptography library refused what should always work.
    #[error("{action}: {problem}")]
    Crypto { action: &'static str, problem: String },
}

impl Error {
    pub(crate) fn invalid(what: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid { what, problem: problem.into() }
    }

    pub(crate) fn certificate(problem: impl Into<String>) -> Self {
        Self::Certificate { problem: problem.into() }
    }

    pub(crate) fn crypto(action: &'static str, problem: impl ToString) -> Self {
        Self::Crypto { action, problem: problem.to_string() }
    }

    /// The error of this crate inside `error` or its sources: what a tonic `Status` or transport
    /// error of one of our channels was caused by.
    pub fn find<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }

    /// Whether trying again without changing anything may help: the network failed, not trust.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Timeout { .. })
    }
}

fn presented(server: &Option<CaDigest>) -> String {
    match server {
        Some(digest) => format!("is of the one with authority {}", digest.short()),
        None => "presented no authority at all".to_owned(),
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => {
            "; there is no identity here yet: a machine gets one by `muster join`, a person by `muster \
             user create`"
        }
        io::ErrorKind::PermissionDenied => "; run as the user that owns it, usually root",
        _ => "",
    }
}
