//! What a manager reads at start: one TOML file, unknown keys refused. The commented examples in
//! `deploy/config` are its documentation and are parsed by a test.
//!
//! An agent's file belongs to `muster-agent`. Cluster-wide settings are not here: they are state.

pub use muster_agent::config::AGENT_CONFIG;
use muster_model::Error;
use muster_process::config::TelemetryConfig;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where `init` and `join` put things, and where the roles look for them.
pub const MANAGER_CONFIG: &str = "/etc/muster/manager.toml";
pub const MANAGER_DATA: &str = "/var/lib/muster/manager";
pub const AGENT_DATA: &str = "/var/lib/muster/agent";
/// The one port of a manager: API, dispatch, enrolment and Raft.
pub const PORT: u16 = 7400;
/// Its port for the ECS wire protocol.
pub const ECS_PORT: u16 = 8400;
/// It stands in every identity token.
const ISSUER_CHARS_MAX: usize = 255;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagerConfig {
    /// Everything this manager keeps: identity, log, tables.
    pub data_dir: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// host:port at which managers, agents and clients reach it.
    pub address: String,
    #[serde(default)]
    pub timing: TimingProfile,
    /// Log kept for lagging managers before it is replaced by a snapshot, MiB.
    #[serde(default = "default_log_mib")]
    pub log_mib: u64,
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// The ECS wire protocol; absent: not served.
    #[serde(default)]
    pub ecs: Option<EcsConfig>,
    #[serde(default)]
    pub lifecycle_hooks: LifecycleHooksConfig,
}

/// How this manager, while it leads, calls the endpoints of services' lifecycle hooks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LifecycleHooksConfig {
    /// Files in PEM: certificate authorities that vouch for endpoints besides the machine's own.
    pub authorities: Vec<PathBuf>,
}

/// The listener of the ECS wire protocol, for `aws ecs` and the SDKs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EcsConfig {
    pub listen: SocketAddr,
    /// HTTP instead of HTTPS; on loopback only.
    #[serde(default)]
    pub plain: bool,
    /// Certificate chain and key in PEM, read again every hour. Absent: the cluster's own authority
    /// issues one for this manager's address.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// The URL under which other systems reach this listener on any manager, the same on all of
    /// them: the issuer of tasks' identity tokens. Absent: tasks get none.
    #[serde(default)]
    pub issuer: Option<String>,
}

impl EcsConfig {
    /// HTTPS with a certificate of the cluster's authority, beside a manager's own port.
    pub fn beside(listen: SocketAddr) -> Option<Self> {
        let port = listen.port().checked_add(ECS_PORT - PORT)?;
        let listen = SocketAddr::new(listen.ip(), port);
        Some(Self { listen, plain: false, certificate: None, key: None, issuer: None })
    }

    /// Checks what the form of the file cannot.
    ///
    /// # Errors
    /// Names the field, its value and what is allowed.
    pub fn check(&self) -> Result<(), Error> {
        if self.plain && !self.listen.ip().is_loopback() {
            let allowed = "plain = false, or a loopback address: credentials would travel unsealed";
            return Err(Error::invalid("ecs.listen", self.listen.to_string(), allowed));
        }
        if let Some(issuer) = &self.issuer {
            check_issuer(issuer)?;
        }
        match (&self.certificate, &self.key) {
            (Some(_), None) => Err(Error::invalid("ecs.key", "", "the certificate's key")),
            (None, Some(_)) => Err(Error::invalid("ecs.certificate", "", "the key's certificate")),
            _ => Ok(()),
        }
    }
}

/// OpenID Connect Discovery: https, and nothing behind the path.
fn check_issuer(issuer: &str) -> Result<(), Error> {
    let rest = issuer.strip_prefix("https://").filter(|rest| !rest.is_empty());
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\"".contains(&byte);
    let fits = issuer.len() <= ISSUER_CHARS_MAX && issuer.bytes().all(plain);
    if rest.is_some() && fits && !issuer.ends_with('/') {
        return Ok(());
    }
    let allowed = format!(
        "https://HOST[:PORT][/PATH] without a slash at the end, at most {ISSUER_CHARS_MAX} characters"
    );
    Err(Error::invalid("ecs.issuer", issuer, allowed))
}

fn default_log_mib() -> u64 {
    64
}

/// How soon a silent leader is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimingProfile {
    /// Heartbeat 50 ms, election 150 to 300 ms: managers within a few milliseconds of each other.
    #[default]
    Lan,
    /// Heartbeat 25 ms, election 75 to 150 ms: quiet machines on a fast network.
    Fast,
    /// Heartbeat 300 ms, election 1 to 2 s: managers in distant zones.
    Wan,
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_process::config::read;
    use std::path::Path;

    fn example(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config").join(name)
    }

    #[test]
    fn the_commented_examples_are_valid() {
        let manager: ManagerConfig = read(&example("manager.toml"), "muster init").unwrap();
        assert_eq!(manager.listen.port(), PORT);
        let ecs = manager.ecs.unwrap();
        assert_eq!(ecs.listen.port(), ECS_PORT);
        ecs.check().unwrap();
        let agent: muster_agent::config::AgentConfig =
            read(&example("agent.toml"), "muster join").unwrap();
        agent.check().unwrap();
    }

    #[test]
    fn credentials_never_leave_the_machine_unsealed() {
        let plain = |listen: &str| EcsConfig {
            listen: listen.parse().unwrap(),
            plain: true,
            certificate: None,
            key: None,
            issuer: None,
        };
        plain("127.0.0.1:8400").check().unwrap();
        plain("[::1]:8400").check().unwrap();
        let told = plain("0.0.0.0:8400").check().unwrap_err().to_string();
        assert!(told.starts_with("ecs.listen: \"0.0.0.0:8400\""), "{told}");
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let beside = EcsConfig::beside("10.0.0.1:7400".parse().unwrap()).unwrap();
        let half = EcsConfig { certificate: Some("a.pem".into()), ..beside.clone() };
        assert!(half.check().unwrap_err().to_string().starts_with("ecs.key"));
        let half = EcsConfig { key: Some("a.pem".into()), ..beside };
        assert!(half.check().unwrap_err().to_string().starts_with("ecs.certificate"));
    }

    #[test]
    fn an_issuer_is_what_others_can_look_up() {
        let beside = EcsConfig::beside("10.0.0.1:7400".parse().unwrap()).unwrap();
        let with = |issuer: &str| EcsConfig { issuer: Some(issuer.into()), ..beside.clone() };
        for issuer in ["https://m.example", "https://10.0.0.1:8400/muster"] {
            with(issuer).check().unwrap();
        }
        let long = format!("https://{}", "a".repeat(250));
        for issuer in
            ["", "https://", "http://m", "https://m/", "https://m?a", "https://m m", &long]
        {
            let told = with(issuer).check().unwrap_err().to_string();
            assert!(told.starts_with("ecs.issuer:"), "{told}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let text = std::fs::read_to_string(example("manager.toml")).unwrap();
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&path, text.replace("timing =", "timings =")).unwrap();
        let error = read::<ManagerConfig>(path.path(), "muster init").unwrap_err();
        assert!(error.to_string().contains("unknown field `timings`"), "{error}");
    }
}
