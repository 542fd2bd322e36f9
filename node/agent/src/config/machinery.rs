//! From the configuration to what the container runtime is made with.
//!
//! Paths and names that must differ between agents of one machine carry the instance's id.

use crate::config::AgentConfig;
use crate::forward;
use crate::image::{Credentials, LayerLimits, Registries, mirror};
use crate::network::BridgeConfig;
use crate::runtime::shim::LogLimits;
use crate::runtime::{DiskMarks, RuntimeConfig};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_model::{Error, InstanceId};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Digits of the id that tell the agents of one machine apart.
const SHORT: usize = 12;

/// # Errors
/// Names the key, its value and what is allowed.
pub fn runtime_config(config: &AgentConfig, instance: InstanceId) -> Result<RuntimeConfig, Error> {
    let short: String = instance.to_string().chars().take(SHORT).collect();
    let subnet = &config.bridge.subnet;
    let registries = Registries {
        insecure: config.registry.insecure.clone(),
        credentials: match &config.registry.credentials {
            Some(path) => credentials(path)?,
            None => BTreeMap::new(),
        },
        authorities: authorities(config)?,
        mirrors: mirror::read(&config.registry.mirrors, &config.registry.insecure)?,
    };
    registries
        .check()
        .map_err(|why| Error::invalid("registry", why, "names and private addresses"))?;
    Ok(RuntimeConfig {
        data_dir: config.data_dir.clone(),
        run_dir: match &config.run_dir {
            Some(dir) => dir.clone(),
            None => Path::new("/run/muster").join(&short),
        },
        runc: config.runtime.clone(),
        shim: config.shim_path(),
        mount: "mount".into(),
        efs: config.efs.clone(),
        init: config.init.clone(),
        zone: config.zone.clone(),
        cgroup_prefix: format!("/{}/{short}", config.cgroup_root.trim_matches('/')),
        bridge: BridgeConfig {
            name: config.bridge.name.clone(),
            subnet: subnet
                .parse()
                .map_err(|why: String| Error::invalid("bridge.subnet", subnet, why))?,
        },
        registries,
        pull_behavior: config.registry.pull.into(),
        layer_limits: LayerLimits::STANDARD,
        log: LogLimits {
            bytes_max: u64::from(config.logs.max_size_mib) << 20,
            files: config.logs.max_files,
        },
        journal_socket: forward::JOURNAL.into(),
        logs_kept: hours(config.logs.kept_hours),
        images_kept: hours(config.images.kept_hours),
        disk: DiskMarks {
            high_percent: config.images.disk_high_percent,
            low_percent: config.images.disk_low_percent,
        },
    })
}

fn hours(hours: u32) -> Duration {
    Duration::from_secs(u64::from(hours) * 3600)
}

fn authorities(config: &AgentConfig) -> Result<Vec<Vec<u8>>, Error> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).map_err(|error| {
            let value = format!("{}: {error}", path.display());
            Error::invalid("registry.authorities", value, "readable files in PEM")
        })
    };
    config.registry.authorities.iter().map(read).collect()
}

/// Docker's `config.json`, as far as it holds credentials itself.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
struct DockerAuth {
    /// Base64 of `user:password`.
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    registrytoken: Option<String>,
}

/// By registry. Errors never quote the file: it is a secret.
fn credentials(path: &Path) -> Result<BTreeMap<String, Credentials>, Error> {
    let invalid = |why: String| {
        let value = format!("{}: {why}", path.display());
        Error::invalid("registry.credentials", value, "a file in the form of Docker's config.json")
    };
    let bytes = std::fs::read(path).map_err(|error| invalid(error.to_string()))?;
    docker_credentials(&bytes).map_err(invalid)
}

/// The credentials in a file of Docker's, by registry.
///
/// # Errors
/// What is wrong with it, without quoting it.
pub fn docker_credentials(bytes: &[u8]) -> Result<BTreeMap<String, Credentials>, String> {
    let config: DockerConfig = serde_json::from_slice(bytes)
        .map_err(|error| format!("line {} cannot be read", error.line()))?;
    let mut found = BTreeMap::new();
    for (name, auth) in config.auths {
        let registry = registry_of(&name);
        match credential(auth) {
            Some(credential) => found.insert(registry, credential),
            None => return Err(format!("no user and password for {registry}")),
        };
    }
    Ok(found)
}

/// `https://index.docker.io/v1/` is how Docker writes `docker.io`.
fn registry_of(name: &str) -> String {
    let name = name.trim_start_matches("https://").trim_start_matches("http://");
    match name.split('/').next().unwrap_or(name) {
        "index.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

fn credential(auth: DockerAuth) -> Option<Credentials> {
    if let Some(token) = auth.registrytoken {
        return Some(Credentials::Token(token));
    }
    if let (Some(username), Some(password)) = (auth.username, auth.password) {
        return Some(Credentials::Basic { username, password });
    }
    let decoded = String::from_utf8(STANDARD.decode(auth.auth?).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    Some(Credentials::Basic { username: username.to_owned(), password: password.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BTreeMap<String, Credentials>, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        credentials(file.path())
    }

    #[test]
    fn credentials_are_read_as_docker_writes_them() {
        // "YW5uOnM6M2NyZXQ=" is ann:s:3cret
        let found = read(
            r#"{"auths": {"https://index.docker.io/v1/": {"auth": "YW5uOnM6M2NyZXQ="},
                "10.0.0.1:5000": {"username": "bob", "password": "x"}}, "credsStore": "desktop"}"#,
        )
        .unwrap();
        let ann = Credentials::Basic { username: "ann".into(), password: "s:3cret".into() };
        assert_eq!(found.get("docker.io"), Some(&ann));
        assert!(found.contains_key("10.0.0.1:5000"));
    }

    #[test]
    fn what_is_wrong_with_credentials_is_said_without_them() {
        for text in [r#"{"auths": {"r": {"auth": "c2VjcmV0"}}}"#, r#"{"auths": "secret"}"#] {
            let told = read(text).unwrap_err().to_string();
            assert!(told.contains("registry.credentials") && !told.contains("secret"), "{told}");
        }
    }
}
