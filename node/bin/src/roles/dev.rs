//! `muster dev`: one manager and one agent in this process, on loopback, from nothing; or, with
//! `--simulate --ecs-listen`, a manager and whatever instances its clients register: a local ECS.
//!
//! The same parts as on real machines: a cluster is founded, workers join it with a token.

use super::found::{self, FirstManager};
use super::manager::Manner;
use super::simulate::Instances;
use super::{Machine, RoleError, agent, identity_dir, manager, stop_on_signal};
use crate::cli;
use crate::config::{ECS_PORT, EcsConfig, LifecycleHooksConfig, ManagerConfig, TimingProfile};
use crate::files;
use clap::Args;
use muster_agent::config::SimulateConfig;
use muster_agent::image::mirror;
use muster_api::ecs::Trust;
use muster_identity::{ConnectOptions, Connector, Identity, JoinToken};
use muster_process::config::TelemetryConfig;
use muster_process::{clock, telemetry};
use muster_proto::error::from_status;
use muster_proto::pb;
use muster_proto::pb::operator_client::OperatorClient;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Run one manager and one worker in this process, on loopback only.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster dev &\n  \
    export MUSTER_MANAGERS=127.0.0.1:7400 MUSTER_IDENTITY=/var/lib/muster-dev/admin\n  \
    muster instance list\n\n  \
    muster dev --simulate --ecs-listen 127.0.0.1:8400    # a local ECS for test suites")]
pub struct DevArguments {
    /// Kept between runs; delete it to start from nothing. Who is not root names one of their own
    /// [default: /var/lib/muster-dev; with --simulate --ecs-listen a new one each time].
    #[arg(long)]
    data_dir: Option<PathBuf>,
    #[arg(long, default_value_t = crate::config::PORT)]
    port: u16,
    /// Pretend to run containers: no root, no runc.
    #[arg(long)]
    simulate: bool,
    /// Where the ECS wire protocol is served, in the clear [default: 127.0.0.1:8400]. With
    /// --simulate: a local ECS without a cluster or an instance until clients make some.
    #[arg(long)]
    ecs_listen: Option<SocketAddr>,
    /// Account that ARNs carry.
    #[arg(long, default_value = "123456789012", value_parser = cli::account)]
    account_id: String,
    /// Region that ARNs carry; a local ECS takes the region of each request instead.
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// Registry that is asked over plain HTTP, host:port; may be repeated.
    #[arg(long = "insecure-registry")]
    insecure_registries: Vec<String>,
    /// Whom to ask instead of a registry, as docker.io=http://HOST:5000; may be repeated.
    #[arg(long = "registry-mirror", value_parser = mirror::pair)]
    registry_mirrors: Vec<(String, String)>,
}

/// Where a laptop's cluster lives.
const DATA_DIR: &str = "/var/lib/muster-dev";
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
    let place = Place::of(&arguments)?;
    let ended = cluster(&arguments, &place.dir).await;
    telemetry.finish();
    place.leave();
    ended
}

async fn cluster(arguments: &DevArguments, data_dir: &Path) -> Result<(), RoleError> {
    let stop = stop_on_signal()?;
    let clock = clock::start();
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port));
    let address = listen.to_string();
    let manager_dir = data_dir.join("manager");
    if !identity_dir(&manager_dir).join("cert.pem").exists() {
        found_here(arguments, data_dir, &manager_dir, &address)?;
    }
    let config = ManagerConfig {
        data_dir: manager_dir,
        listen,
        address: address.clone(),
        timing: TimingProfile::Lan,
        log_mib: 64,
        telemetry: TelemetryConfig::default(),
        ecs: arguments.ecs(),
        lifecycle_hooks: LifecycleHooksConfig::default(),
    };
    let local = match arguments.local_ecs() {
        true => {
            let token = read_token(data_dir)?;
            let (dir, clock) = (data_dir.join("instances"), clock.clone());
            Some(Arc::new(Instances::new(dir, address.clone(), token, clock, stop.clone())))
        }
        false => None,
    };
    let manner = match &local {
        Some(instances) => Manner {
            trust: Trust::Anyone,
            simulator: Some(instances.clone()),
            empty: true,
            ..Manner::default()
        },
        None => Manner::default(),
    };
    let founded = manner.founded.clone();
    let of_manager = tokio::spawn({
        let (clock, stop) = (clock.clone(), stop.clone());
        async move {
            let result = manager::run(&config, clock, stop.clone(), manner).await;
            // One half without the other is no cluster.
            stop.cancel();
            result
        }
    });
    let worked = match local {
        Some(instances) => pretend(arguments, &instances, founded, stop.clone()).await,
        None => work(arguments, data_dir, &address, clock, stop.clone()).await,
    };
    stop.cancel();
    let managed = of_manager.await.map_err(|error| RoleError::Failed(error.to_string()))?;
    managed.and(worked)
}

impl DevArguments {
    /// Whether it is for programs that speak to ECS and must find it empty.
    fn local_ecs(&self) -> bool {
        self.simulate && self.ecs_listen.is_some()
    }

    fn ecs(&self) -> Option<EcsConfig> {
        let beside = SocketAddr::from((Ipv4Addr::LOCALHOST, ECS_PORT));
        let listen = self.ecs_listen.or((!self.simulate).then_some(beside))?;
        Some(EcsConfig { listen, plain: true, certificate: None, key: None, issuer: None })
    }
}

/// The data directory, and whether it goes with the process.
struct Place {
    dir: PathBuf,
    passing: bool,
}

impl Place {
    /// Says what is missing before a cluster is half made.
    fn of(arguments: &DevArguments) -> Result<Self, RoleError> {
        if !arguments.simulate && !nix::unistd::geteuid().is_root() {
            return Err(RoleError::Failed(
                "running containers needs root; as another user: muster dev --simulate \
                 --data-dir DIR"
                    .into(),
            ));
        }
        let passing = arguments.data_dir.is_none() && arguments.local_ecs();
        let dir = match &arguments.data_dir {
            Some(dir) => dir.clone(),
            None if passing => {
                let name = format!("muster-dev-{:016x}", rand::random::<u64>());
                std::env::temp_dir().join(name)
            }
            None => PathBuf::from(DATA_DIR),
        };
        std::fs::create_dir_all(&dir).map_err(|error| {
            RoleError::Failed(format!(
                "making {}: {error}; name a directory of your own: --data-dir DIR",
                dir.display()
            ))
        })?;
        Ok(Self { dir, passing })
    }

    fn leave(self) {
        if self.passing
            && let Err(error) = std::fs::remove_dir_all(&self.dir)
        {
            eprintln!("muster: removing {}: {error}", self.dir.display());
        }
    }
}

/// Serves a local ECS until `stop`.
async fn pretend(
    arguments: &DevArguments,
    instances: &Instances,
    founded: CancellationToken,
    stop: CancellationToken,
) -> Result<(), RoleError> {
    if stop.run_until_cancelled(founded.cancelled()).await.is_some() {
        instances.resume()?;
        if let Some(ecs) = arguments.ecs() {
            eprintln!(
                "\nA local ECS is up; its instances only pretend. In another terminal:\n  export \
                 AWS_ENDPOINT_URL_ECS=http://{listen} AWS_ENDPOINT_URL_STS=http://{listen}\n  \
                 export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test\n  export \
                 AWS_REGION={region} AWS_DEFAULT_REGION={region}    # boto3 reads the second\n  \
                 aws ecs create-cluster\n",
                listen = ecs.listen,
                region = arguments.region
            );
        }
        stop.cancelled().await;
    }
    instances.ended().await;
    Ok(())
}

/// Join tokens of a founded cluster, until the worker has joined.
fn token_file(data_dir: &Path) -> PathBuf {
    data_dir.join("worker.token")
}

fn read_token(data_dir: &Path) -> Result<JoinToken, RoleError> {
    let path = token_file(data_dir);
    let token = std::fs::read_to_string(&path).map_err(RoleError::file("reading", &path))?;
    Ok(token.parse()?)
}

fn found_here(
    arguments: &DevArguments,
    data_dir: &Path,
    manager_dir: &Path,
    address: &str,
) -> Result<(), RoleError> {
    let founded = found::create_cluster(&FirstManager {
        data_dir: manager_dir.to_path_buf(),
        name: super::host_name(),
        zone: ZONE.into(),
        address: address.into(),
        cluster_name: "dev".into(),
        account: arguments.account_id.clone(),
        region: arguments.region.clone(),
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
    data_dir: &Path,
    address: &str,
    clock: clock::Clock,
    stop: CancellationToken,
) -> Result<(), RoleError> {
    let mut config = agent::config_of(Machine {
        data_dir: data_dir.join("agent"),
        managers: vec![address.to_owned()],
        cluster: muster_model::cluster::DEFAULT_CLUSTER.into(),
        zone: ZONE.into(),
        address: Ipv4Addr::LOCALHOST.to_string(),
    })?;
    config.registry.insecure.clone_from(&arguments.insecure_registries);
    config.registry.mirrors = mirror::gather(&arguments.registry_mirrors);
    config.check().map_err(|error| RoleError::Failed(error.to_string()))?;
    config.simulate = arguments.simulate.then(SimulateConfig::default);
    if !identity_dir(&config.data_dir).join("cert.pem").exists() {
        let token = read_token(data_dir)?;
        let joining = cli::join_worker(&token, &config, JOIN_WAIT);
        let identity = match stop.run_until_cancelled(joining).await {
            Some(joined) => joined.map_err(|error| RoleError::Failed(error.to_string()))?.identity,
            None => return Ok(()),
        };
        identity.save(&identity_dir(&config.data_dir))?;
        let path = token_file(data_dir);
        std::fs::remove_file(&path).map_err(RoleError::file("removing", &path))?;
    }
    let admin = data_dir.join("admin");
    eprintln!(
        "\nA cluster of one machine is up. In another terminal:\n  export \
         MUSTER_MANAGERS={address} MUSTER_IDENTITY={}\n  muster instance list",
        admin.display()
    );
    if let Some(ecs) = arguments.ecs() {
        let asking = aws_environment(&admin, address, &ecs, &arguments.region);
        match stop.run_until_cancelled(asking).await {
            Some(environment) => eprintln!("or, with ECS's own tools:\n  {}", environment?),
            None => return Ok(()),
        }
    }
    let identity = Identity::load(&config.identity_dir())?;
    muster_agent::run(config, identity, clock, stop)
        .await
        .map_err(|error| RoleError::Failed(error.to_string()))
}

/// What `aws` and the SDKs need, as a line for a shell. The key is made once and kept beside the
/// administrator's certificate: its secret is told only once.
async fn aws_environment(
    admin: &Path,
    manager: &str,
    ecs: &EcsConfig,
    region: &str,
) -> Result<String, RoleError> {
    let path = admin.join("aws.env");
    match std::fs::read_to_string(&path) {
        Ok(kept) => return Ok(kept),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(RoleError::file("reading", &path)(error)),
    }
    let connector = Connector::new(Identity::load(admin)?);
    let channel = connector.connect(manager, ConnectOptions::default()).await?;
    let request = pb::CreateAccessKeyRequest { user: found::ADMIN.into(), ..Default::default() };
    let made = OperatorClient::new(channel).create_access_key(request).await;
    let key = made.map_err(|status| from_status(&status))?.into_inner();
    let environment = format!(
        "export AWS_ENDPOINT_URL_ECS=http://{0} AWS_ENDPOINT_URL_STS=http://{0} \
         AWS_REGION={region} AWS_DEFAULT_REGION={region} AWS_ACCESS_KEY_ID={1} \
         AWS_SECRET_ACCESS_KEY={2}\n",
        ecs.listen, key.access_key_id, key.secret_access_key
    );
    files::replace(&path, environment.as_bytes(), files::SECRET)
        .map_err(RoleError::file("writing", &path))?;
    Ok(environment)
}
