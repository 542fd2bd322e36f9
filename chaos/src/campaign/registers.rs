//! The clients of I1: registers (tags) and compare-and-set rows (services) that several clients
//! write and read at once, at all managers.
//!
//! A register lives for a few hundred calls; then its history is checked and the next one begins,
//! so that a check takes milliseconds and memory stays bounded, however long the campaign is.

use super::hub::Door;
use super::linear::{Call, OnRegister, OnRow, register_is_linear, row_is_linear};
use super::record::{Micros, Record};
use super::workload::Stop;
use muster_model::Error;
use muster_proto::pb;
use pb::ecs_client::EcsClient;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Barrier;

/// The cluster that carries the registers: it has no instances.
pub const CLUSTER: &str = "registers";
/// Calls of one client on one register.
const CALLS: u64 = 60;
/// Clients on one register.
const CLIENTS: usize = 4;
/// Between two calls of a client: the machine is shared with the cluster under test.
const PAUSE: Duration = Duration::from_millis(15);
/// How often a new row is looked at until its deployment is completed.
const COMPLETED_LOOKS: u32 = 200;
/// `maximumPercent` carries a row's value: 101 to 1000.
const VALUE_BASE: u64 = 101;

/// What both kinds of object do.
trait Object: Send + Sync + 'static {
    type On: Clone + std::fmt::Debug + Send + 'static;
    const NAME: &'static str;

    fn begin(&self, door: &Door) -> impl Future<Output = Result<(), Error>> + Send;
    /// The `turn`-th call of a client; `None`: it was certainly not done.
    fn call(
        &self,
        door: &Door,
        client: usize,
        turn: u64,
        seen: &mut u64,
    ) -> impl Future<Output = Option<Call<Self::On>>> + Send;
    fn end(&self, door: &Door) -> impl Future<Output = ()> + Send;
    fn holds(calls: &[Call<Self::On>]) -> bool;
}

/// Runs registers one after another until told to stop; then the last one is checked too.
pub async fn registers(doors: Vec<Arc<Door>>, cluster_arn: String, lane: u64, stop: Stop) {
    for generation in 0.. {
        if !stop.go().await {
            return;
        }
        let key = format!("r{lane}-{generation}");
        live(&doors, Arc::new(Tag { arn: cluster_arn.clone(), key }), &stop).await;
    }
}

/// As `registers`, with compare-and-set rows.
pub async fn rows(doors: Vec<Arc<Door>>, definition: String, lane: u64, stop: Stop) {
    for generation in 0.. {
        if !stop.go().await {
            return;
        }
        let name = format!("cas{lane}-{generation}");
        live(
            &doors,
            Arc::new(Row { name, definition: definition.clone(), before: AtomicU64::new(0) }),
            &stop,
        )
        .await;
    }
}

async fn live<O: Object>(doors: &[Arc<Door>], object: Arc<O>, stop: &Stop) {
    let Some(record) = doors.first().map(|door| door.record().clone()) else { return };
    if object.begin(&doors[0]).await.is_err() {
        // Not there, so nothing to check; without a quorum the next try must not be at once.
        tokio::time::sleep(PAUSE * 10).await;
        return;
    }
    let barrier = Arc::new(Barrier::new(CLIENTS));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (object, door) = (object.clone(), doors[client % doors.len()].clone());
            let (barrier, stop) = (barrier.clone(), stop.clone());
            tokio::spawn(async move {
                let mut calls = Vec::new();
                let mut seen = 1;
                barrier.wait().await;
                for turn in 0..CALLS {
                    if !stop.go().await {
                        break;
                    }
                    calls.extend(object.call(&door, client, turn, &mut seen).await);
                    tokio::time::sleep(PAUSE).await;
                }
                calls
            })
        })
        .collect();
    let mut calls = Vec::new();
    for client in clients {
        match client.await {
            Ok(some) => calls.extend(some),
            Err(error) => record.breach("I1", format!("a client of {} ended: {error}", O::NAME)),
        }
    }
    object.end(&doors[0]).await;
    record.count("I1 calls checked", calls.len() as u64);
    record.count("I1 histories", 1);
    let checked = calls.clone();
    let holds = tokio::task::spawn_blocking(move || O::holds(&checked)).await;
    if !matches!(holds, Ok(true)) {
        record.breach("I1", format!("{} is not linearizable: {}", O::NAME, evidence(&calls)));
    }
}

/// The calls as a person can follow them, in the order of their begins.
fn evidence<C: std::fmt::Debug>(calls: &[Call<C>]) -> String {
    let mut calls: Vec<_> = calls.iter().collect();
    calls.sort_by_key(|call| call.begun);
    let line = |call: &&Call<C>| {
        let ended = call.ended.map_or("never".to_owned(), |ended| ended.to_string());
        format!("{}..{ended} {:?}", call.begun, call.what)
    };
    calls.iter().map(line).collect::<Vec<_>>().join("; ")
}

/// A register: one tag of a cluster.
struct Tag {
    arn: String,
    key: String,
}

impl Object for Tag {
    type On = OnRegister;
    const NAME: &'static str = "a register (tag)";

    async fn begin(&self, _: &Door) -> Result<(), Error> {
        Ok(())
    }

    async fn call(
        &self,
        door: &Door,
        client: usize,
        turn: u64,
        _: &mut u64,
    ) -> Option<Call<OnRegister>> {
        let begun = door.record().now();
        if (turn + client as u64).is_multiple_of(3) {
            let value = client as u64 * 10_000 + turn;
            let request = pb::TagResourceRequest {
                resource_arn: self.arn.clone(),
                tags: vec![pb::Tag { key: self.key.clone(), value: value.to_string() }],
                ..Default::default()
            };
            let answer = door
                .write(request, async |channel, request| {
                    EcsClient::new(channel).tag_resource(request).await
                })
                .await;
            let what = OnRegister::Write(value);
            return outcome(door.record(), "tag", begun, answer.map(|_| what.clone()), what);
        }
        let request =
            pb::ListTagsForResourceRequest { resource_arn: self.arn.clone(), ..Default::default() };
        let answer = door
            .read(request, async |channel, request| {
                EcsClient::new(channel).list_tags_for_resource(request).await
            })
            .await
            .ok()?;
        let tag = answer.tags.iter().find(|tag| tag.key == self.key);
        // What is no number is a value that nobody wrote: told apart from "not there".
        let seen = tag.map(|tag| tag.value.parse().unwrap_or(u64::MAX));
        Some(Call { begun, ended: Some(door.record().now()), what: OnRegister::Read(seen) })
    }

    async fn end(&self, door: &Door) {
        let request = pb::UntagResourceRequest {
            resource_arn: self.arn.clone(),
            tag_keys: vec![self.key.clone()],
            ..Default::default()
        };
        let call = async |channel, request| EcsClient::new(channel).untag_resource(request).await;
        door.write(request, call).await.ok();
    }

    fn holds(calls: &[Call<OnRegister>]) -> bool {
        register_is_linear(calls)
    }
}

/// A row with compare-and-set: a service that wants no tasks. Its deployment is soon completed,
/// which is a change too: the history begins after it.
struct Row {
    name: String,
    definition: String,
    /// Versions before the history's first, which counts as 1.
    before: AtomicU64,
}

impl Object for Row {
    type On = OnRow;
    const NAME: &'static str = "a compare-and-set row (service)";

    async fn begin(&self, door: &Door) -> Result<(), Error> {
        let base = i32::try_from(VALUE_BASE).unwrap_or(i32::MAX);
        let request = pb::CreateServiceRequest {
            cluster: CLUSTER.into(),
            service_name: self.name.clone(),
            task_definition: self.definition.clone(),
            deployment_configuration: Some(pb::DeploymentConfiguration {
                maximum_percent: Some(base),
                ..Default::default()
            }),
            ..Default::default()
        };
        let call = async |channel, request| EcsClient::new(channel).create_service(request).await;
        door.write(request, call).await?;
        for _ in 0..COMPLETED_LOOKS {
            let service = self.service(door).await?;
            let rollout = service.deployments.first().map(|d| d.rollout_state.as_str());
            if rollout == Some("COMPLETED") {
                let version = service.version.unsigned_abs();
                self.before.store(version.saturating_sub(1), Ordering::Relaxed);
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(Error::Unavailable { why: format!("the deployment of {} goes on", self.name) })
    }

    async fn call(
        &self,
        door: &Door,
        client: usize,
        turn: u64,
        seen: &mut u64,
    ) -> Option<Call<OnRow>> {
        let begun = door.record().now();
        if (turn + client as u64).is_multiple_of(2) {
            return self.set(door, begun, client as u64 * CALLS + turn + 1, *seen).await;
        }
        let service = self.service(door).await.ok()?;
        let configured = service.deployment_configuration;
        let percent = configured.and_then(|configured| configured.maximum_percent);
        let value = percent.map_or(u64::MAX, |p| i64::from(p).unsigned_abs() - VALUE_BASE);
        let version = self.counted(service.version.unsigned_abs());
        *seen = version;
        let what = OnRow::Read { version, value };
        Some(Call { begun, ended: Some(door.record().now()), what })
    }

    async fn end(&self, door: &Door) {
        let request = pb::DeleteServiceRequest {
            cluster: CLUSTER.into(),
            service: self.name.clone(),
            force: true,
            ..Default::default()
        };
        let call = async |channel, request| EcsClient::new(channel).delete_service(request).await;
        door.write(request, call).await.ok();
    }

    fn holds(calls: &[Call<OnRow>]) -> bool {
        row_is_linear(calls)
    }
}

impl Row {
    /// The row; empty where it is not there, which no history explains.
    async fn service(&self, door: &Door) -> Result<pb::Service, Error> {
        let request = pb::DescribeServicesRequest {
            cluster: CLUSTER.into(),
            services: vec![self.name.clone()],
            ..Default::default()
        };
        let call =
            async |channel, request| EcsClient::new(channel).describe_services(request).await;
        let answer = door.read(request, call).await?;
        Ok(answer.services.into_iter().next().unwrap_or_default())
    }

    /// A version as the history counts.
    fn counted(&self, version: u64) -> u64 {
        version.saturating_sub(self.before.load(Ordering::Relaxed))
    }

    async fn set(
        &self,
        door: &Door,
        begun: Micros,
        value: u64,
        expected: u64,
    ) -> Option<Call<OnRow>> {
        let request = pb::UpdateServiceRequest {
            cluster: CLUSTER.into(),
            service: self.name.clone(),
            deployment_configuration: Some(pb::DeploymentConfiguration {
                maximum_percent: i32::try_from(VALUE_BASE + value).ok(),
                ..Default::default()
            }),
            expected_version: i64::try_from(expected + self.before.load(Ordering::Relaxed)).ok(),
            ..Default::default()
        };
        let answer = door
            .write(request, async |channel, request| {
                EcsClient::new(channel).update_service(request).await
            })
            .await;
        let answer = match answer {
            Ok(_) => Ok(OnRow::Set { expected, value }),
            Err(Error::VersionMismatch { found, .. }) => {
                Ok(OnRow::Refused { expected, found: self.counted(found) })
            }
            Err(error) => Err(error),
        };
        outcome(door.record(), "service", begun, answer, OnRow::MaybeSet { expected, value })
    }
}

/// A write as the history takes it.
fn outcome<O>(
    record: &Record,
    kind: &str,
    begun: Micros,
    answer: Result<O, Error>,
    maybe: O,
) -> Option<Call<O>> {
    match answer {
        Ok(what) => Some(Call { begun, ended: Some(record.now()), what }),
        Err(Error::UnknownOutcome { .. }) => Some(Call { begun, ended: None, what: maybe }),
        // It says that nothing was done, and is held to it: a read that sees the value has no
        // write to show for it.
        Err(Error::Unavailable { .. }) => None,
        Err(error) => {
            record.breach("I1", format!("a {kind} was refused for no reason: {error}"));
            None
        }
    }
}
