//! The mixed workload: what users do while machines fail.
//!
//! Anchors are services that nobody touches: their tasks are what a fault disturbs. Churn creates,
//! scales, redeploys and deletes services; bursts run one-shot tasks and stop some; counters write
//! numbers that only grow, so that a lost one is seen. It decides what is asked for, and keeps what
//! was promised in [`Promised`]; it does not judge.

use super::hub::Door;
use super::only;
use super::record::Record;
use muster_model::Error;
use muster_proto::pb;
use pb::ecs_client::EcsClient;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Services that keep their tasks, and how many tasks each has.
pub const ANCHORS: [(&str, i32); 3] = [("anchor-a", 6), ("anchor-b", 6), ("anchor-c", 4)];
/// Family of tasks that run until they are stopped.
pub const LONG: &str = "long";
/// Family of tasks that end by themselves.
pub const ONCE: &str = "once";
/// Resource whose tags the counters write.
pub const COUNTERS: &str = "counters";
const CHURN_PAUSE: Duration = Duration::from_millis(400);
/// A soak is long, and not for load.
const STEADY_PAUSE: Duration = Duration::from_secs(5);
const BURST_PAUSE: Duration = Duration::from_millis(1500);
/// How often a resting client looks whether the rest is over.
const REST_LOOK: Duration = Duration::from_millis(20);
const COUNT_PAUSE: Duration = Duration::from_millis(10);

/// What the cluster acknowledged: it must be there in the end.
#[derive(Default)]
pub struct Promised {
    /// Per counter: the last number acknowledged, and the last one asked for.
    counters: Mutex<BTreeMap<String, (u64, u64)>>,
    /// Per service: what was acknowledged last; absent while a change is under way or its outcome
    /// is not known.
    services: Mutex<BTreeMap<String, Wanted>>,
    /// Tasks that RunTask named.
    tasks: AtomicU64,
}

/// A service as it was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Desired(i32),
    Deleted,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Promised {
    pub fn counters(&self) -> BTreeMap<String, (u64, u64)> {
        locked(&self.counters).clone()
    }

    pub fn services(&self) -> BTreeMap<String, Wanted> {
        locked(&self.services).clone()
    }

    fn service(&self, name: &str, wanted: Option<Wanted>) {
        match wanted {
            Some(wanted) => locked(&self.services).insert(name.to_owned(), wanted),
            None => locked(&self.services).remove(name),
        };
    }
}

/// Counts up on a tag of its own.
pub async fn counter(
    door: Arc<Door>,
    arn: String,
    key: String,
    promised: Arc<Promised>,
    stop: Stop,
) {
    for number in 1.. {
        if !stop.go().await {
            return;
        }
        locked(&promised.counters).entry(key.clone()).or_default().1 = number;
        let request = pb::TagResourceRequest {
            resource_arn: arn.clone(),
            tags: vec![pb::Tag { key: key.clone(), value: number.to_string() }],
            ..Default::default()
        };
        let answer = door
            .write(request, async |channel, request| {
                EcsClient::new(channel).tag_resource(request).await
            })
            .await;
        if answer.is_ok() {
            locked(&promised.counters).entry(key.clone()).or_default().0 = number;
        }
        tokio::time::sleep(COUNT_PAUSE).await;
    }
}

/// Tells everything that runs beside the faults when to rest and when to end.
#[derive(Clone, Default)]
pub struct Stop(Arc<Flags>);

#[derive(Default)]
struct Flags {
    end: AtomicBool,
    rest: AtomicBool,
}

impl Stop {
    pub fn now(&self) -> bool {
        self.0.end.load(Ordering::Relaxed)
    }

    pub fn end(&self) {
        self.0.end.store(true, Ordering::Relaxed);
    }

    /// The workload begins nothing more, or goes on.
    pub fn rest(&self, rest: bool) {
        self.0.rest.store(rest, Ordering::Relaxed);
    }

    /// Waits until it is time to end.
    pub async fn ended(&self) {
        while !self.now() {
            tokio::time::sleep(REST_LOOK).await;
        }
    }

    /// Waits for the end of a rest; false: it is time to end.
    pub async fn go(&self) -> bool {
        while self.0.rest.load(Ordering::Relaxed) && !self.now() {
            tokio::time::sleep(REST_LOOK).await;
        }
        !self.now()
    }
}

/// Creates, scales, redeploys and deletes services, one after another.
pub async fn churn(door: Arc<Door>, lane: usize, promised: Arc<Promised>, stop: Stop) {
    for number in 0.. {
        let name = format!("churn{lane}-{number}");
        for step in 0..4 {
            if !stop.go().await {
                return;
            }
            promised.service(&name, None);
            let wanted = match step {
                0 => create(&door, &name, 2).await.map(|()| Wanted::Desired(2)),
                1 => update(&door, &name, 4, false).await.map(|()| Wanted::Desired(4)),
                2 => update(&door, &name, 3, true).await.map(|()| Wanted::Desired(3)),
                _ => delete(&door, &name).await.map(|()| Wanted::Deleted),
            };
            match wanted {
                Ok(wanted) => promised.service(&name, Some(wanted)),
                // Nobody knows: the next step asks for another name.
                Err(Error::UnknownOutcome { .. } | Error::Unavailable { .. }) => break,
                Err(error) => refused(door.record(), &name, step, &error),
            }
            tokio::time::sleep(CHURN_PAUSE).await;
        }
    }
}

/// The workload asks for nothing that may be refused: a refusal means that an acknowledged write
/// was not there, or that one was done twice.
fn refused(record: &Record, name: &str, step: usize, error: &Error) {
    record.breach("I2", format!("step {step} on service {name} was refused: {error}"));
}

pub async fn create(door: &Door, name: &str, desired: i32) -> Result<(), Error> {
    let request = pb::CreateServiceRequest {
        service_name: name.to_owned(),
        task_definition: LONG.to_owned(),
        desired_count: desired,
        placement_strategy: vec![pb::PlacementStrategy {
            r#type: "spread".into(),
            field: "instanceId".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let call = async |channel, request| EcsClient::new(channel).create_service(request).await;
    door.write(request, call).await.map(|_| ())
}

/// The strict singleton, on instances of these names.
pub async fn create_strict(door: &Door, names: &[String]) -> Result<(), Error> {
    let list =
        async |channel, request| EcsClient::new(channel).list_container_instances(request).await;
    let arns = door.read(pb::ListContainerInstancesRequest::default(), list).await?;
    let request = pb::DescribeContainerInstancesRequest {
        container_instances: arns.container_instance_arns,
        ..Default::default()
    };
    let describe = async |channel, request| {
        EcsClient::new(channel).describe_container_instances(request).await
    };
    let instances = door.read(request, describe).await?.container_instances;
    let real = instances.into_iter().filter(|row| names.contains(&row.ec2_instance_id));
    let mark = |row: pb::ContainerInstance| pb::Attribute {
        name: only::ATTRIBUTE.into(),
        value: Some("yes".into()),
        target_type: "container-instance".into(),
        target_id: row.container_instance_arn,
    };
    let request =
        pb::PutAttributesRequest { attributes: real.map(mark).collect(), ..Default::default() };
    let put = async |channel, request| EcsClient::new(channel).put_attributes(request).await;
    door.write(request, put).await?;
    let request = pb::CreateServiceRequest {
        service_name: only::NAME.into(),
        task_definition: only::FAMILY.into(),
        desired_count: 1,
        strict: true,
        placement_constraints: vec![pb::PlacementConstraint {
            r#type: "memberOf".into(),
            expression: format!("attribute:{} == yes", only::ATTRIBUTE),
        }],
        ..Default::default()
    };
    let call = async |channel, request| EcsClient::new(channel).create_service(request).await;
    door.write(request, call).await.map(|_| ())
}

async fn update(door: &Door, name: &str, desired: i32, force: bool) -> Result<(), Error> {
    let request = pb::UpdateServiceRequest {
        service: name.to_owned(),
        desired_count: Some(desired),
        force_new_deployment: force,
        ..Default::default()
    };
    let call = async |channel, request| EcsClient::new(channel).update_service(request).await;
    door.write(request, call).await.map(|_| ())
}

pub async fn delete(door: &Door, name: &str) -> Result<(), Error> {
    let request =
        pb::DeleteServiceRequest { service: name.to_owned(), force: true, ..Default::default() };
    let call = async |channel, request| EcsClient::new(channel).delete_service(request).await;
    door.write(request, call).await.map(|_| ())
}

/// Scales and redeploys one service for ever: what a soak does, which leaves no deleted names
/// behind.
pub async fn steady(door: Arc<Door>, lane: usize, promised: Arc<Promised>, stop: Stop) {
    let name = format!("steady{lane}");
    while create(&door, &name, 2).await.is_err() {
        if !stop.go().await {
            return;
        }
        tokio::time::sleep(CHURN_PAUSE).await;
    }
    for step in 0.. {
        if !stop.go().await {
            return;
        }
        promised.service(&name, None);
        let desired = [4, 3, 2][step % 3];
        match update(&door, &name, desired, step.is_multiple_of(3)).await {
            Ok(()) => promised.service(&name, Some(Wanted::Desired(desired))),
            Err(Error::UnknownOutcome { .. } | Error::Unavailable { .. }) => {}
            Err(error) => refused(door.record(), &name, step, &error),
        }
        tokio::time::sleep(STEADY_PAUSE).await;
    }
}

/// Runs one-shot tasks, and stops one of each burst of long ones.
pub async fn bursts(door: Arc<Door>, promised: Arc<Promised>, stop: Stop) {
    for number in 0u64.. {
        if !stop.go().await {
            return;
        }
        let long = number.is_multiple_of(4);
        let request = pb::RunTaskRequest {
            task_definition: if long { LONG } else { ONCE }.to_owned(),
            count: if long { 1 } else { 3 },
            ..Default::default()
        };
        let call = async |channel, request| EcsClient::new(channel).run_task(request).await;
        let tasks = match door.write(request, call).await {
            Ok(answer) => answer.tasks,
            Err(_) => Vec::new(),
        };
        promised.tasks.fetch_add(tasks.len() as u64, Ordering::Relaxed);
        tokio::time::sleep(BURST_PAUSE).await;
        for task in tasks.iter().filter(|_| long) {
            let request = pb::StopTaskRequest { task: task.task_arn.clone(), ..Default::default() };
            let call = async |channel, request| EcsClient::new(channel).stop_task(request).await;
            door.write(request, call).await.ok();
        }
    }
}
