//! Configuration files: one TOML file per process, unknown keys refused, and the part of it that
//! every process has.

use muster_model::Error;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Prometheus metrics over HTTP; loopback addresses only.
    pub metrics_listen: Option<SocketAddr>,
    /// OTLP over gRPC: where spans go, for example `http://127.0.0.1:4317`. Absent: nowhere.
    pub otlp_endpoint: Option<String>,
    /// One JSON object per log line instead of text.
    pub json_logs: bool,
}

impl TelemetryConfig {
    /// Metrics are served without TLS, so only this machine may read them.
    ///
    /// # Errors
    /// The metrics address is not a loopback address.
    pub fn check(&self) -> Result<(), Error> {
        match self.metrics_listen {
            Some(address) if !address.ip().is_loopback() => Err(Error::invalid(
                "telemetry.metrics_listen",
                address.to_string(),
                "a loopback address, because metrics are served without TLS",
            )),
            _ => Ok(()),
        }
    }
}

/// What goes wrong with a configuration file, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("reading {}: {source}; create it with `{create}`", path.display())]
    Read { path: PathBuf, create: &'static str, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
}

/// Reads a role's file. `create` is the command that would have made it.
///
/// # Errors
/// The file cannot be read, is not TOML, or has a key or value that is not allowed.
pub fn read<T: serde::de::DeserializeOwned>(
    path: &Path,
    create: &'static str,
) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.into(),
        create,
        source,
    })?;
    toml::from_str(&text)
        .map_err(|source| ConfigError::Parse { path: path.into(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "json_logz = true").unwrap();
        let error = read::<TelemetryConfig>(file.path(), "muster init").unwrap_err();
        assert!(error.to_string().contains("unknown field `json_logz`"), "{error}");
    }

    #[test]
    fn metrics_are_for_this_machine_only() {
        let open = TelemetryConfig {
            metrics_listen: Some(SocketAddr::from(([10, 0, 1, 10], 7410))),
            ..TelemetryConfig::default()
        };
        let error = open.check().unwrap_err();
        assert!(error.to_string().contains("10.0.1.10:7410"), "{error}");
    }
}
