//! `muster join`: this machine becomes a manager or a worker of an existing cluster.
//!
//! The token says which, and carries the digest by which the manager's certificate is checked.

use super::{CliError, ClientArguments, init, output};
use crate::config::{self, EcsConfig, LifecycleHooksConfig, ManagerConfig, TimingProfile};
use crate::roles;
use clap::Args;
use muster_agent::config::AgentConfig;
use muster_agent::image::mirror;
use muster_identity::{ConnectOptions, Connector, Identity, IdentityPem, JoinRole, JoinToken};
use muster_model::Error;
use muster_process::config::TelemetryConfig;
use muster_proto::dispatch;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Between two managers that are asked in turn.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How long one manager may take: an election and a few entries.
const CALL_WAIT: Duration = Duration::from_secs(10);

/// Make this machine a manager or a worker of an existing cluster.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster join --manager 10.0.1.10:7400 --address 10.0.2.10:7400 \
    --zone az-b --token MUSTER-1-mgr-...\n  \
    muster join --manager 10.0.1.10:7400 --address 10.0.2.20 --zone az-b --attr disk=ssd \
    --token MUSTER-1-wkr-..."
)]
pub struct Join {
    /// What `muster init` or `muster token rotate` printed.
    #[arg(long, env = "MUSTER_TOKEN", hide_env_values = true)]
    token: String,
    /// A manager to ask, host:port; may be repeated.
    #[arg(long = "manager", required = true)]
    asked: Vec<String>,
    /// manager or worker; only to be sure: the token decides.
    #[arg(long, value_parser = ["manager", "worker"])]
    role: Option<String>,
    /// How others reach this machine: host:port for a manager, host for a worker.
    #[arg(long)]
    address: String,
    /// Availability zone of this machine.
    #[arg(long)]
    zone: String,
    /// Name of this machine [default: the host's name].
    #[arg(long)]
    name: Option<String>,
    /// Worker: an attribute for placement, name=value or name; may be repeated.
    #[arg(long = "attr", value_parser = attribute)]
    attributes: Vec<(String, Option<String>)>,
    /// Worker: a resource that tasks get by number, as GPU=2; may be repeated.
    #[arg(long = "resource", value_parser = resource)]
    resources: Vec<(String, u32)>,
    /// Manager: where to listen [default: every address, at the port of --address].
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Manager: how soon a silent leader is replaced; the same on every manager.
    #[arg(long, value_enum, default_value_t = init::Timing::Lan)]
    timing: init::Timing,
    /// Worker: registry that is asked over plain HTTP, host:port; may be repeated.
    #[arg(long = "insecure-registry")]
    insecure_registries: Vec<String>,
    /// Worker: whom to ask instead of a registry, as docker.io=http://HOST:5000; may be repeated.
    #[arg(long = "registry-mirror", value_parser = mirror::pair)]
    registry_mirrors: Vec<(String, String)>,
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Configuration file to write.
    #[arg(long)]
    config: Option<PathBuf>,
}

fn attribute(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    match name.is_empty() {
        true => Err(format!("{text:?} is not allowed; allowed: name=value or name")),
        false => Ok((name.to_owned(), value)),
    }
}

fn resource(text: &str) -> Result<(String, u32), String> {
    let pair = text.split_once('=').and_then(|(name, units)| {
        Some((name.to_owned(), units.parse::<u32>().ok().filter(|units| *units > 0)?))
    });
    let named = pair.filter(|(name, _)| !name.is_empty());
    named.ok_or_else(|| format!("{text:?} is not allowed; allowed: NAME=UNITS, such as GPU=2"))
}

impl Join {
    pub async fn run(self, client: &ClientArguments) -> Result<(), CliError> {
        let token: JoinToken = self.token.parse()?;
        for manager in &self.asked {
            muster_identity::check_address(manager)?;
        }
        let role = match token.role {
            JoinRole::Manager => "manager",
            JoinRole::Worker => "worker",
        };
        if let Some(asked) = &self.role
            && asked != role
        {
            return Err(CliError::Usage(format!(
                "--role: {asked:?} does not fit the token, which is a {role}'s; leave --role out, \
                 or get the other token with `muster token rotate {asked}`"
            )));
        }
        match token.role {
            JoinRole::Manager => self.join_manager(&token, client).await,
            JoinRole::Worker => self.join_worker(&token, client).await,
        }
    }

    async fn join_manager(
        self,
        token: &JoinToken,
        client: &ClientArguments,
    ) -> Result<(), CliError> {
        let listen = match self.listen {
            Some(listen) => listen,
            None => init::listen_at(&self.address)?,
        };
        let data_dir = self.data_dir.clone().unwrap_or(config::MANAGER_DATA.into());
        let config = self.config.clone().unwrap_or(config::MANAGER_CONFIG.into());
        roles::refuse_used(&data_dir)?;
        let name = self.name.clone().unwrap_or_else(roles::host_name);
        muster_manager::check_manager(&name, &self.zone, &self.address)?;
        let row = dispatch::join_request::As::Manager(dispatch::JoinManager {
            name,
            zone: self.zone.clone(),
            address: self.address.clone(),
            level: roles::LEVEL,
        });
        let joined = ask(token, &self.asked, row, client.timeout).await?;
        joined.identity.save(&roles::identity_dir(&data_dir))?;
        roles::write_config(
            &config,
            &ManagerConfig {
                data_dir,
                listen,
                address: self.address.clone(),
                timing: TimingProfile::from(self.timing),
                log_mib: 64,
                telemetry: TelemetryConfig::default(),
                ecs: EcsConfig::beside(listen),
                lifecycle_hooks: LifecycleHooksConfig::default(),
            },
        )?;
        report(client, "manager", &joined.id, &config)
    }

    async fn join_worker(
        self,
        token: &JoinToken,
        client: &ClientArguments,
    ) -> Result<(), CliError> {
        let data_dir = self.data_dir.unwrap_or(config::AGENT_DATA.into());
        let path = self.config.unwrap_or(config::AGENT_CONFIG.into());
        roles::refuse_used(&data_dir)?;
        let mut config = roles::config_of(roles::Machine {
            data_dir: data_dir.clone(),
            managers: self.asked,
            cluster: client.cluster.clone(),
            zone: self.zone,
            address: self.address,
        })?;
        config.hostname = self.name;
        config.attributes =
            self.attributes.into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect();
        config.resources = self.resources.into_iter().collect();
        config.registry.insecure = self.insecure_registries;
        config.registry.mirrors = mirror::gather(&self.registry_mirrors);
        config.check()?;
        let joined = join_worker(token, &config, client.timeout).await?;
        joined.identity.save(&roles::identity_dir(&data_dir))?;
        config.managers = joined.managers;
        roles::write_config(&path, &config)?;
        report(client, "agent", &joined.id, &path)
    }
}

/// What a machine gets by joining.
pub struct Joined {
    pub id: String,
    pub identity: Identity,
    /// host:port of every manager.
    pub managers: Vec<String>,
}

/// Makes this machine a container instance.
///
/// # Errors
/// What the cluster answered, or that no manager answered within `timeout`.
pub async fn join_worker(
    token: &JoinToken,
    config: &AgentConfig,
    timeout: Duration,
) -> Result<Joined, CliError> {
    let spec = muster_agent::config::machine::instance_spec(config).await?;
    let row = dispatch::join_request::As::Worker(dispatch::JoinWorker {
        cluster: config.cluster.clone(),
        spec: Some(muster_proto::convert::dispatch::instance_spec_to_wire(&spec)),
    });
    ask(token, &config.managers, row, timeout).await
}

/// Asks the managers in turn until one lets us in, the deadline passes, or one says no.
async fn ask(
    token: &JoinToken,
    managers: &[String],
    row: dispatch::join_request::As,
    timeout: Duration,
) -> Result<Joined, CliError> {
    let (key, certificate_request_pem) = muster_identity::new_key_and_csr()?;
    let connector = Connector::pinned(token.ca);
    let request = dispatch::JoinRequest {
        token_secret: token.secret().to_owned(),
        certificate_request_pem,
        r#as: Some(row),
        request: roles::fresh_request().to_string(),
    };
    let deadline = Instant::now() + timeout;
    let mut next: VecDeque<String> = managers.iter().cloned().collect();
    while let Some(address) = next.pop_front() {
        let error = match ask_one(&connector, &address, &request).await {
            Ok(joined) => {
                let pem = IdentityPem { ca: joined.ca_pem, cert: joined.certificate_pem, key };
                return Ok(Joined {
                    id: joined.id,
                    identity: Identity::from_pem(pem)?,
                    managers: joined.managers.into_iter().map(|m| m.address).collect(),
                });
            }
            Err(Refused::Final(error)) => return Err(error),
            Err(Refused::AskLeader(leader)) => {
                next.push_front(leader);
                CliError::Failed(format!("{address} does not lead"))
            }
            Err(Refused::TryAgain(error)) => error,
        };
        if Instant::now() >= deadline {
            return Err(error);
        }
        if !next.contains(&address) {
            next.push_back(address);
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    Err(CliError::Usage("--manager is needed: the address of any manager, host:port".into()))
}

async fn ask_one(
    connector: &Connector,
    address: &str,
    request: &dispatch::JoinRequest,
) -> Result<dispatch::JoinResponse, Refused> {
    let channel = connector.connect(address, ConnectOptions::default()).await;
    let channel = channel.map_err(|error| match error.is_transient() {
        true => Refused::TryAgain(error.into()),
        false => Refused::Final(error.into()),
    })?;
    let mut enroll = dispatch::enroll_client::EnrollClient::new(channel);
    let mut call = tonic::Request::new(request.clone());
    call.set_timeout(CALL_WAIT);
    enroll.join(call).await.map(tonic::Response::into_inner).map_err(|status| {
        let leader = status.metadata().get("muster-leader").and_then(|v| v.to_str().ok());
        if let Some(leader) = leader.filter(|leader| *leader != address) {
            return Refused::AskLeader(leader.to_owned());
        }
        match muster_proto::error::from_status(&status) {
            error @ (Error::Unavailable { .. } | Error::UnknownOutcome { .. }) => {
                Refused::TryAgain(error.into())
            }
            error => Refused::Final(error.into()),
        }
    })
}

enum Refused {
    Final(CliError),
    TryAgain(CliError),
    AskLeader(String),
}

fn report(
    client: &ClientArguments,
    role: &str,
    id: &str,
    config: &std::path::Path,
) -> Result<(), CliError> {
    match client.output {
        output::Format::Json => output::json(&serde_json::json!({
            "role": role, "id": id, "config": config,
        })),
        output::Format::Table => output::print(&format!(
            "Joined as {role} {id}.\n\nStart it:\n  systemctl enable --now muster-{role}   \
             (without systemd: muster {role} --config {})\n",
            config.display()
        )),
    }
}
