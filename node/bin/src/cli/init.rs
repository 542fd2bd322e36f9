//! `muster init`: everything a new cluster needs before its first process runs. No network.

use super::{CliError, ClientArguments, output};
use crate::config::{self, EcsConfig, LifecycleHooksConfig, ManagerConfig, TimingProfile};
use crate::roles::{self, FirstManager};
use clap::Args;
use muster_process::config::TelemetryConfig;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Make a new cluster on this machine.
///
/// Writes the manager's identity and configuration and an administrator's certificate, and prints
/// the commands that start this manager and join others.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster init --address 10.0.1.10:7400 --zone az-a\n  \
    systemctl enable --now muster-manager")]
pub struct Init {
    /// host:port at which other managers, agents and clients reach this manager.
    #[arg(long)]
    address: String,
    /// Where to listen [default: every address, at the port of --address].
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Availability zone of this machine.
    #[arg(long, default_value = "az-a")]
    zone: String,
    /// Name of this manager [default: the host's name].
    #[arg(long)]
    name: Option<String>,
    /// Name of the whole installation, in its certificates.
    #[arg(long, default_value = "muster")]
    cluster_name: String,
    /// Account id in ARNs, 12 digits.
    #[arg(long, default_value = "000000000000", value_parser = account)]
    account_id: String,
    /// Region in ARNs.
    #[arg(long, default_value = "local")]
    region: String,
    /// How soon a silent leader is replaced.
    #[arg(long, value_enum, default_value_t = Timing::Lan)]
    timing: Timing,
    #[arg(long, default_value = config::MANAGER_DATA)]
    data_dir: PathBuf,
    /// Configuration file to write.
    #[arg(long, default_value = config::MANAGER_CONFIG)]
    config: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Timing {
    Lan,
    Fast,
    Wan,
}

impl From<Timing> for TimingProfile {
    fn from(timing: Timing) -> Self {
        match timing {
            Timing::Lan => Self::Lan,
            Timing::Fast => Self::Fast,
            Timing::Wan => Self::Wan,
        }
    }
}

/// An account id, as ARNs carry it.
pub fn account(text: &str) -> Result<String, String> {
    match text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
        true => Ok(text.into()),
        false => Err(format!("{text:?} is not allowed; allowed: 12 digits")),
    }
}

impl Init {
    pub fn run(self, client: &ClientArguments) -> Result<(), CliError> {
        let listen = match self.listen {
            Some(listen) => listen,
            None => listen_at(&self.address)?,
        };
        let name = self.name.unwrap_or_else(roles::host_name);
        muster_manager::check_manager(&name, &self.zone, &self.address)?;
        let identity = super::context::identity_dir(client);
        roles::refuse_used(&self.data_dir)?;
        roles::refuse_identity(&identity)?;
        roles::write_config(
            &self.config,
            &ManagerConfig {
                data_dir: self.data_dir.clone(),
                listen,
                address: self.address.clone(),
                timing: self.timing.into(),
                log_mib: 64,
                telemetry: TelemetryConfig::default(),
                ecs: EcsConfig::beside(listen),
                lifecycle_hooks: LifecycleHooksConfig::default(),
            },
        )?;
        // Last: from here on the directory belongs to a cluster, and `init` cannot be repeated.
        let first = roles::create_cluster(&FirstManager {
            data_dir: self.data_dir,
            name,
            zone: self.zone,
            address: self.address.clone(),
            cluster_name: self.cluster_name,
            account: self.account_id,
            region: self.region,
        })?;
        first.admin.save(&identity)?;
        super::context::write_managers(&identity, std::slice::from_ref(&self.address))?;
        let config = self.config.display();
        let (address, ca) = (&self.address, first.admin.ca_digest());
        match client.output {
            output::Format::Json => output::json(&serde_json::json!({
                "managerToken": first.manager_token.reveal(),
                "workerToken": first.worker_token.reveal(),
                "address": self.address,
                "caDigest": ca.to_string(),
                "config": self.config,
                "identity": identity,
            })),
            output::Format::Table => output::print(&format!(
                "The cluster is made. Its administrator's certificate is in {identity}.\n\n\
                 Start this manager:\n  systemctl enable --now muster-manager   \
                 (without systemd: muster manager --config {config})\n\n\
                 Add a manager (on its machine; 3 or 5 in all):\n  muster join --manager {address} \
                 --address THIS_MACHINE:{port} --zone az-b --token {managers}\n\n\
                 Add a worker (on its machine):\n  muster join --manager {address} \
                 --address THIS_MACHINE --zone az-b --token {workers}\n\n\
                 Tokens are secrets; `muster token rotate` replaces one.\n",
                identity = identity.display(),
                port = listen.port(),
                managers = first.manager_token.reveal(),
                workers = first.worker_token.reveal(),
            )),
        }
    }
}

/// Every address at the port of host:port.
pub fn listen_at(address: &str) -> Result<SocketAddr, CliError> {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(port) if port > 0 => Ok(SocketAddr::from(([0, 0, 0, 0], port))),
        _ => Err(CliError::Usage(format!(
            "--address: {address:?} is not allowed; allowed: host:port, for example \
             10.0.1.10:{}",
            config::PORT
        ))),
    }
}
