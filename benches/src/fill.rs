//! Services for a cluster's instances to run, made as a user makes them.

use crate::Outcome;
use crate::facts::micros;
use crate::load::histogram;
use crate::local::{self, Local};
use hdrhistogram::Histogram;
use muster_proto::pb;
use pb::ecs_client::EcsClient;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic::transport::Channel;

const FAMILY: &str = "bench";
/// ECS: names in one DescribeServices call.
const DESCRIBED_AT_ONCE: usize = 10;
/// How long one service may take to be accepted.
const LIMIT: Duration = Duration::from_secs(30);

/// Makes services, one after the other or many at once, whose names were not used before.
pub struct Filler {
    channel: Channel,
    next: usize,
    /// How long each call took, microseconds.
    pub calls: Histogram<u64>,
}

/// A task definition of one small container that no hollow agent looks at.
///
/// # Errors
/// The managers refuse it.
pub async fn register_small(channel: &Channel, family: &str) -> Outcome<()> {
    let container = pb::ContainerDefinition {
        name: "main".into(),
        image: "none".into(),
        memory: Some(16),
        ..Default::default()
    };
    let request = pb::RegisterTaskDefinitionRequest {
        family: family.into(),
        container_definitions: vec![container],
        ..Default::default()
    };
    EcsClient::new(channel.clone()).register_task_definition(request).await?;
    Ok(())
}

impl Filler {
    /// With a task definition of one small container.
    ///
    /// # Errors
    /// The managers refuse it.
    pub async fn new(local: &Local) -> Outcome<Self> {
        let channel = local.channel(&local::address(local.leader().await?))?;
        register_small(&channel, FAMILY).await?;
        Ok(Self { channel, next: 0, calls: histogram() })
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    fn request(&mut self, tasks: usize) -> Outcome<pb::CreateServiceRequest> {
        self.next += 1;
        Ok(pb::CreateServiceRequest {
            service_name: name(self.next),
            task_definition: FAMILY.into(),
            desired_count: i32::try_from(tasks)?,
            ..Default::default()
        })
    }

    /// One service of so many tasks.
    ///
    /// # Errors
    /// The managers refuse it.
    pub async fn service(&mut self, tasks: usize) -> Outcome<()> {
        let request = self.request(tasks)?;
        create(self.channel(), request).await.map(drop)
    }

    /// Tasks that run, of all services made here.
    ///
    /// # Errors
    /// The managers do not answer.
    pub async fn running(&self) -> Outcome<usize> {
        let names: Vec<String> = (1..=self.next).map(name).collect();
        let mut running = 0;
        for services in names.chunks(DESCRIBED_AT_ONCE) {
            let services = services.to_vec();
            let request = pb::DescribeServicesRequest { services, ..Default::default() };
            let answer = EcsClient::new(self.channel()).describe_services(request).await?;
            let services = answer.into_inner().services;
            running += services.iter().map(|s| s.running_count as usize).sum::<usize>();
        }
        Ok(running)
    }

    /// So many tasks in services of one size, `at_once` calls under way.
    ///
    /// # Errors
    /// The managers refuse one.
    pub async fn fill(&mut self, tasks: usize, each: usize, at_once: usize) -> Outcome<()> {
        let mut under_way = JoinSet::new();
        for first in (0..tasks).step_by(each) {
            let request = self.request(each.min(tasks - first))?;
            if under_way.len() >= at_once
                && let Some(done) = under_way.join_next().await
            {
                self.calls.saturating_record(micros(done??));
            }
            under_way.spawn(create(self.channel(), request));
        }
        while let Some(done) = under_way.join_next().await {
            self.calls.saturating_record(micros(done??));
        }
        Ok(())
    }

    /// So many tasks in services of one size, made at a pace of so many tasks per second whether
    /// those before are answered or not.
    ///
    /// # Errors
    /// The managers refuse one.
    pub async fn pace(&mut self, tasks: usize, each: usize, per_second: f64) -> Outcome<()> {
        let mut turns = tokio::time::interval(Duration::from_secs_f64(each as f64 / per_second));
        let mut under_way = JoinSet::new();
        for first in (0..tasks).step_by(each) {
            let request = self.request(each.min(tasks - first))?;
            turns.tick().await;
            under_way.spawn(create(self.channel(), request));
        }
        while let Some(done) = under_way.join_next().await {
            self.calls.saturating_record(micros(done??));
        }
        Ok(())
    }
}

fn name(number: usize) -> String {
    format!("fill-{number}")
}

async fn create(channel: Channel, request: pb::CreateServiceRequest) -> Outcome<Duration> {
    let began = Instant::now();
    let mut request = tonic::Request::new(request);
    request.set_timeout(LIMIT);
    EcsClient::new(channel).create_service(request).await?;
    Ok(began.elapsed())
}

/// Runs one task; how long until the answer says on which instance. A task that is not placed is
/// answered for after two seconds, which count.
///
/// # Errors
/// It was refused.
pub async fn run_one(channel: Channel) -> Outcome<Duration> {
    let began = Instant::now();
    let mut request = tonic::Request::new(pb::RunTaskRequest {
        task_definition: FAMILY.into(),
        ..Default::default()
    });
    request.set_timeout(LIMIT);
    let answer = EcsClient::new(channel).run_task(request).await?.into_inner();
    let took = began.elapsed();
    if answer.tasks.first().is_none_or(|task| task.container_instance_arn.is_empty()) {
        eprintln!("not placed after {took:.1?}: {:?}", answer.failures);
    }
    Ok(took)
}
