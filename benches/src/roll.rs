//! `roll`: a rolling update of one service over hollow agents whose tasks take a while to start,
//! and the cluster a while to trust; over the least time that its percentages leave, and once more
//! with leaders that are killed on the way.
//!
//! What runs is counted at the agents, not asked of the managers: a task exists from its order
//! until its end, and is healthy once it has run as long as the cluster wants. A sample below the
//! floor or above the ceiling is a breach.

use crate::Outcome;
use crate::facts;
use crate::figure::{Good, figure};
use crate::fill::register_small;
use crate::fleet::{Fleet, Reporting};
use crate::local::{self, Local};
use clap::Args;
use muster_proto::pb;
use pb::ecs_client::EcsClient;
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;

#[derive(Debug, Args)]
pub struct Roll {
    /// Tasks of the service.
    #[arg(long, default_value_t = 1000)]
    tasks: u32,
    /// Registered instances, each with its agent.
    #[arg(long, default_value_t = 100)]
    instances: usize,
    /// From an order to RUNNING.
    #[arg(long, default_value_t = 200)]
    start_ms: u64,
    /// From RUNNING to healthy.
    #[arg(long, default_value_t = 1)]
    healthy_secs: u64,
    /// The service's percentages.
    #[arg(long, default_value_t = 90)]
    minimum: u32,
    #[arg(long, default_value_t = 110)]
    maximum: u32,
    /// Leaders that are killed during the last update.
    #[arg(long, default_value_t = 3)]
    kills: usize,
}

const FAMILY: &str = "roll";
const SERVICE: &str = "roll";
const SETTLE: Duration = Duration::from_secs(5);
/// Between two looks at the agents, and at the service.
const LOOK: Duration = Duration::from_millis(10);
/// How long one update may take, and one try of a call.
const LIMIT: Duration = Duration::from_secs(180);
const TRY: Duration = Duration::from_secs(2);
/// Updates without a kill: the median counts.
const ROUNDS: usize = 3;

/// What the percentages allow.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    floor: u32,
    ceiling: u32,
}

/// What one update took, and how often it was seen outside the bounds.
#[derive(Debug)]
struct Rolled {
    seconds: f64,
    below: u64,
    above: u64,
    looks: u64,
}

impl Roll {
    pub async fn run(self) -> Outcome<()> {
        let here = tempfile::tempdir()?;
        facts::print(here.path())?;
        let mut local = Local::form(3, "lan").await?;
        let mut fleet = Fleet::connect(&local, self.instances).await?;
        println!("{} agents joined and connected in {:.1?}", fleet.agents, fleet.connected_in);
        fleet.start_after(self.start_ms).await?;
        fleet.report(Reporting::Running).await?;
        self.prepare(&local).await?;
        let bounds = Bounds {
            floor: (self.tasks * self.minimum).div_ceil(100),
            ceiling: self.tasks * self.maximum / 100,
        };
        let least = self.least(bounds);
        println!("{bounds:?}; no update can take less than {least:.2} s");
        let mut rolled = Vec::new();
        for round in 0..ROUNDS {
            tokio::time::sleep(SETTLE).await;
            let one = self.update(&mut local, &mut fleet, bounds, 0).await?;
            println!("update {}: {one:?}", round + 1);
            rolled.push(one);
        }
        tokio::time::sleep(SETTLE).await;
        let killed = self.update(&mut local, &mut fleet, bounds, self.kills).await?;
        println!("update with {} leaders killed: {killed:?}\n", self.kills);
        rolled.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
        let median = rolled[rolled.len() / 2].seconds / least;
        let breaches: u64 = rolled.iter().map(|one| one.below + one.above).sum();
        figure("roll.over_least", median, "x", Good::AtMost, 1.15);
        figure("roll.breaches", breaches as f64, "looks", Good::AtMost, 0.0);
        let breaches = (killed.below + killed.above) as f64;
        figure("roll.breaches_with_kills", breaches, "looks", Good::AtMost, 0.0);
        Ok(())
    }

    /// Between the floor and the ceiling so many tasks can be on their way at once, and each takes
    /// its start and its trial.
    fn least(&self, bounds: Bounds) -> f64 {
        let at_once = (bounds.ceiling - bounds.floor).clamp(1, self.tasks);
        let waves = self.tasks.div_ceil(at_once);
        f64::from(waves) * (self.start_ms as f64 / 1e3 + self.healthy_secs as f64)
    }

    /// A service that runs all its tasks, its first deployment done.
    async fn prepare(&self, local: &Local) -> Outcome<()> {
        let channel = local.channel(&local::address(local.leader().await?))?;
        let mut ecs = EcsClient::new(channel.clone());
        register_small(&channel, FAMILY).await?;
        let setting = pb::Setting {
            name: muster_model::cluster::HEALTHY_AFTER_SETTING.into(),
            value: self.healthy_secs.to_string(),
        };
        let request = pb::UpdateClusterSettingsRequest {
            cluster: "default".into(),
            settings: vec![setting],
            ..Default::default()
        };
        ecs.update_cluster_settings(request).await?;
        let request = pb::CreateServiceRequest {
            service_name: SERVICE.into(),
            task_definition: FAMILY.into(),
            desired_count: i32::try_from(self.tasks)?,
            deployment_configuration: Some(pb::DeploymentConfiguration {
                minimum_healthy_percent: Some(i32::try_from(self.minimum)?),
                maximum_percent: Some(i32::try_from(self.maximum)?),
                ..Default::default()
            }),
            ..Default::default()
        };
        ecs.create_service(request).await?;
        let began = Instant::now();
        while !is_done(&channel).await.unwrap_or(false) {
            if began.elapsed() > LIMIT {
                return Err(format!("{} tasks do not run", self.tasks).into());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn update(
        &self,
        local: &mut Local,
        fleet: &mut Fleet,
        bounds: Bounds,
        kills: usize,
    ) -> Outcome<Rolled> {
        let channels: Vec<Channel> =
            (0..3).map(|index| local.channel(&local::address(index))).collect::<Outcome<_>>()?;
        let leader = local.leader().await?;
        let request = pb::UpdateServiceRequest {
            service: SERVICE.into(),
            force_new_deployment: true,
            ..Default::default()
        };
        let began = Instant::now();
        EcsClient::new(channels[leader].clone()).update_service(request).await?;
        let mut rolled = Rolled { seconds: 0.0, below: 0, above: 0, looks: 0 };
        let mut killed = 0;
        // Spread over the time that it takes at least.
        let pause = Duration::from_secs_f64(self.least(bounds) / (kills + 1) as f64);
        for turn in 0.. {
            let (existing, healthy) = fleet.count(self.healthy_secs * 1000).await?;
            rolled.looks += 1;
            rolled.below += u64::from(healthy < u64::from(bounds.floor));
            rolled.above += u64::from(existing > u64::from(bounds.ceiling));
            if killed < kills && began.elapsed() > pause * u32::try_from(killed + 1)? {
                let leader = local.leader().await?;
                local.kill(leader);
                local.start(leader)?;
                killed += 1;
            }
            // Any of them answers; one that was just killed does not.
            let asked = is_done(&channels[turn % channels.len()]).await;
            if asked.unwrap_or(false) {
                break;
            }
            if began.elapsed() > LIMIT {
                return Err(format!("not done within {LIMIT:?}: {rolled:?}").into());
            }
            tokio::time::sleep(LOOK).await;
        }
        rolled.seconds = began.elapsed().as_secs_f64();
        Ok(rolled)
    }
}

/// The newest deployment has completed, and nothing else is left.
async fn is_done(channel: &Channel) -> Outcome<bool> {
    let mut request = tonic::Request::new(pb::DescribeServicesRequest {
        services: vec![SERVICE.into()],
        ..Default::default()
    });
    request.set_timeout(TRY);
    let answer = EcsClient::new(channel.clone()).describe_services(request).await?.into_inner();
    let service = answer.services.first().ok_or("the service is gone")?;
    let [one] = &service.deployments[..] else { return Ok(false) };
    Ok(one.rollout_state == "COMPLETED" && one.running_count == service.desired_count)
}
