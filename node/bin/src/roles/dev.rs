//! `muster dev`: one manager and one agent in this process, on loopback, from nothing.
//!
//! The same parts as on real machines: a cluster is founded, the worker joins it with a token.

use super::found::{self, FirstManager};
use super::{Machine, RoleError, agent, identity_dir, manager, stop_on_signal};
use crate::cli;
use crate::config::{ManagerConfig, TimingProfile};
use crate::files;
use clap::Args;
use muster_agent::config::SimulateConfig;
use muster_identity::Identity;
use muster_identity::JoinToken;
use muster_process::config::TelemetryConfig;
use muster_process::{clock, telemetry};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Run one manager and one worker in this process, on loopback only.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster dev &\n  \
    export MUSTER_MANAGERS=127.0.0.1:7400 MUSTER_IDENTITY=/var/lib/muster-dev/admin\n  \
    muster instance list")]
pub struct DevArguments {
    /// Kept between runs; delete it to start from nothing. Who is not root names one of their own.
    #[arg(long, default_value = "/var/lib/muster-dev")]
    data_dir: PathBuf,
    #[arg(long, default_value_t = crate::config::PORT)]
    port: u16,
    /// Pretend to run containers: no root, no runc.
    #[arg(long)]
    simulate: bool,
    /// Registry that is asked over plain HTTP, host:port; may be repeated.
    #[arg(long = "insecure-registry")]
    insecure_registries: Vec<String>,
}

/// Zone of the one machine.
const ZONE: &str = "az-a";
/// How long the worker may take to join its own machine's manager.
const JOIN_WAIT: Duration = Duration::from_secs(30);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// The data directory, the port or the runtime cannot be used.
pub async fn dev(arguments: DevArguments) -> Result<(), RoleError> {
    let telemetry =
        telemetry::start("dev", &TelemetryConfig::default()).await.map_err(RoleError::Telemetry)?;
    super::join_traces(&telemetry);
    check_rights(&arguments)?;
    let stop = stop_on_signal()?;
    let clock = clock::start();
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port));
    let address = listen.to_string();
    let manager_dir = arguments.data_dir.join("manager");
    if !identity_dir(&manager_dir).join("cert.pem").exists() {
        found_here(&arguments.data_dir, &manager_dir, &address)?;
    }
    let config = ManagerConfig {
        data_dir: manager_dir,
        listen,
        address: address.clone(),
        timing: TimingProfile::Lan,
        log_mib: 64,
        telemetry: TelemetryConfig::default(),
    };
    let of_manager = tokio::spawn({
        let (clock, stop) = (clock.clone(), stop.clone());
        async move {
            let result = manager::run(&config, clock, stop.clone()).await;
            // One half without the other is no cluster.
            stop.cancel();
            result
        }
    });
    let worked = work(&arguments, &address, clock, stop.clone()).await;
    stop.cancel();
    let managed = of_manager.await.map_err(|error| RoleError::Failed(error.to_string()))?;
    telemetry.finish();
    managed.and(worked)
}

/// Says what is missing before a cluster is half made.
fn check_rights(arguments: &DevArguments) -> Result<(), RoleError> {
    if !arguments.simulate && !nix::unistd::geteuid().is_root() {
        return Err(RoleError::Failed(
            "running containers needs root; as another user: muster dev --simulate --data-dir DIR"
                .into(),
        ));
    }
    let dir = &arguments.data_dir;
    std::fs::create_dir_all(dir).map_err(|error| {
        RoleError::Failed(format!(
            "making {}: {error}; name a directory of your own: --data-dir DIR",
            dir.display()
        ))
    })
}

/// Join tokens of a founded cluster, until the worker has joined.
fn token_file(data_dir: &Path) -> PathBuf {
    data_dir.join("worker.token")
}

fn found_here(data_dir: &Path, manager_dir: &Path, address: &str) -> Result<(), RoleError> {
    let founded = found::create_cluster(&FirstManager {
        data_dir: manager_dir.to_path_buf(),
        name: super::host_name(),
        zone: ZONE.into(),
        address: address.into(),
        cluster_name: "dev".into(),
        account: "123456789012".into(),
        region: "local".into(),
    })?;
    let admin = data_dir.join("admin");
    founded.admin.save(&admin)?;
    cli::write_managers(&admin, &[address.to_owned()])
        .map_err(|error| RoleError::Failed(error.to_string()))?;
    let path = token_file(data_dir);
    files::replace(&path, founded.worker_token.reveal().as_bytes(), files::SECRET)
        .map_err(RoleError::file("writing", &path))
}

async fn work(
    arguments: &DevArguments,
    address: &str,
    clock: clock::Clock,
    stop: tokio_util::sync::CancellationToken,
) -> Result<(), RoleError> {
    let mut config = agent::config_of(Machine {
        data_dir: arguments.data_dir.join("agent"),
        managers: vec![address.to_owned()],
        cluster: muster_model::cluster::DEFAULT_CLUSTER.into(),
        zone: ZONE.into(),
        address: Ipv4Addr::LOCALHOST.to_string(),
    })?;
    config.registry.insecure.clone_from(&arguments.insecure_registries);
    config.simulate = arguments.simulate.then(SimulateConfig::default);
    if !identity_dir(&config.data_dir).join("cert.pem").exists() {
        let path = token_file(&arguments.data_dir);
        let token = std::fs::read_to_string(&path).map_err(RoleError::file("reading", &path))?;
        let token: JoinToken = token.parse()?;
        let joining = cli::join_worker(&token, &config, JOIN_WAIT);
        let identity = match stop.run_until_cancelled(joining).await {
            Some(joined) => joined.map_err(|error| RoleError::Failed(error.to_string()))?.identity,
            None => return Ok(()),
        };
        identity.save(&identity_dir(&config.data_dir))?;
        std::fs::remove_file(&path).map_err(RoleError::file("removing", &path))?;
    }
    eprintln!(
        "\nA cluster of one machine is up. In another terminal:\n  export \
         MUSTER_MANAGERS={address} MUSTER_IDENTITY={}\n  muster instance list\n",
        arguments.data_dir.join("admin").display()
    );
    let identity = Identity::load(&config.identity_dir())?;
    muster_agent::run(config, identity, clock, stop)
        .await
        .map_err(|error| RoleError::Failed(error.to_string()))
}
