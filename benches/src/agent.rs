//! An agent process beside the managers under test.

use crate::Outcome;
use crate::local::{self, Local};
use muster_proto::pb;
use pb::ecs_client::EcsClient;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tonic::transport::Channel;

/// Name of the cgroup, the bridge and, with a prefix, the nft table of an agent here: not those of
/// an agent that the machine may have.
const OWN: &str = "musterbench";
const CONNECT_WAIT: Duration = Duration::from_secs(30);

/// An agent that has joined.
pub struct Agent {
    process: Child,
    tasks: PathBuf,
}

impl Agent {
    /// One that runs containers.
    ///
    /// # Errors
    /// It cannot join or start.
    pub fn start(local: &Local) -> Outcome<Self> {
        Self::start_with(local, "")
    }

    /// One that runs nothing and pretends to.
    ///
    /// # Errors
    /// It cannot join or start.
    pub fn simulated(local: &Local) -> Outcome<Self> {
        Self::start_with(local, "[simulate]\n")
    }

    fn start_with(local: &Local, more: &str) -> Outcome<Self> {
        let home = local.dir.path().join("w1");
        let config = home.join("agent.toml").to_string_lossy().into_owned();
        local::run(&[
            "join",
            "--manager",
            &local::address(0),
            "--zone",
            "az-a",
            "--name",
            "w1",
            "--address",
            "127.0.0.1",
            "--token",
            &local.worker_token,
            "--data-dir",
            &home.join("data").to_string_lossy(),
            "--config",
            &config,
        ])?;
        let written = std::fs::read_to_string(&config)?;
        let own = written
            .replace("cgroup_root = \"muster\"", &format!("cgroup_root = \"{OWN}\""))
            .replace("name = \"muster0\"", &format!("name = \"{OWN}\""));
        std::fs::write(&config, own + more)?;
        let log = std::fs::File::create(home.join("log"))?;
        let process = Command::new(local::muster())
            .args(["agent", "--config", &config])
            .env("MUSTER_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Self { process, tasks: home.join("data/tasks") })
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The OCI configuration of the one container of a running task.
    ///
    /// # Errors
    /// It is not there.
    pub fn config_of(&self, task_arn: &str) -> Outcome<PathBuf> {
        let id = task_arn.rsplit('/').next().unwrap_or(task_arn);
        let path = self.tasks.join(id).join("containers/main/config.json");
        match path.exists() {
            true => Ok(path),
            false => Err(format!("{} is missing", path.display()).into()),
        }
    }

    pub fn stop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Drop for Agent {
    /// Ends the agent and removes what an agent leaves for the next one.
    fn drop(&mut self) {
        self.stop();
        let quietly = |words: &[&str]| {
            let (program, arguments) = words.split_first().unwrap_or((&"true", &[]));
            Command::new(program).args(arguments).stderr(Stdio::null()).status().ok();
        };
        quietly(&["ip", "link", "delete", OWN]);
        quietly(&["nft", "delete", "table", "ip", &format!("muster-{OWN}")]);
        // A task is stopped before its agent has cleared it away.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| Path::new(point).starts_with(&self.tasks)) {
            quietly(&["umount", point]);
        }
        let below = format!("*/{OWN}*");
        quietly(&["find", "/sys/fs/cgroup", "-depth", "-type", "d", "-path", &below, "-delete"]);
    }
}

/// Waits until the managers call an agent connected.
///
/// # Errors
/// None is in time.
pub async fn connected(channel: &Channel) -> Outcome<()> {
    let deadline = Instant::now() + CONNECT_WAIT;
    loop {
        let request = pb::DescribeClustersRequest::default();
        let mut ecs = EcsClient::new(channel.clone());
        ecs.describe_clusters(request).await?;
        let listed =
            ecs.list_container_instances(pb::ListContainerInstancesRequest::default()).await?;
        let request = pb::DescribeContainerInstancesRequest {
            container_instances: listed.into_inner().container_instance_arns,
            ..Default::default()
        };
        if !request.container_instances.is_empty() {
            let described = ecs.describe_container_instances(request).await?.into_inner();
            if described.container_instances.iter().any(|i| i.agent_connected) {
                return Ok(());
            }
        }
        if Instant::now() > deadline {
            return Err("the agent did not connect in time".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
