//! I10: a reader of changes who is cut off again and again, and resumes where it was, each time at
//! another manager.
//!
//! It keeps what it was told and nothing else. At rest that must be what a read of everything says:
//! a change that was left out, or told before an older one, shows. An answer that the position is
//! no longer kept is allowed, and begins anew.

use super::field::Field;
use super::record::Record;
use super::workload::Stop;
use muster_proto::client::Dialer;
use muster_proto::pb;
use pb::ecs_client::EcsClient;
use pb::live_client::LiveClient;
use pb::watch_response::change::Row;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const CLUSTER: &str = "default";
/// Between two cuts.
const READ_FOR: Duration = Duration::from_secs(4);
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// The watch and the read see one state within this, with the workload at rest.
const SAME_WITHIN: Duration = Duration::from_secs(20);
/// How many rows one question may name.
const SERVICES_AT_ONCE: usize = 10;
const TASKS_AT_ONCE: usize = 100;

/// Versions of live rows, by ARN.
type Versions = BTreeMap<String, i64>;

/// What the reader was told.
#[derive(Default)]
pub struct Told(Mutex<Rows>);

#[derive(Default)]
struct Rows {
    /// Version, and whether the row is live: an active service, a task that has not stopped.
    rows: BTreeMap<String, (i64, bool)>,
    resume: String,
    synced: bool,
}

impl Told {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: it has not been told everything yet.
    fn live(&self) -> Option<Versions> {
        let rows = self.rows();
        let live = rows.rows.iter().filter(|(_, (_, live))| *live);
        rows.synced.then(|| live.map(|(arn, (version, _))| (arn.clone(), *version)).collect())
    }
}

impl Rows {
    fn message(&mut self, message: pb::WatchResponse, record: &Record) {
        for change in message.changes {
            let (arn, version, live) = match change.row {
                Some(Row::Task(task)) => {
                    (task.task_arn, task.version, task.last_status != "STOPPED")
                }
                Some(Row::Service(service)) => {
                    (service.service_arn, service.version, service.status == "ACTIVE")
                }
                Some(Row::RemovedArn(arn)) => {
                    self.rows.remove(&arn);
                    continue;
                }
                _ => continue,
            };
            record.count("I10 changes told", 1);
            if let Some((old, _)) = self.rows.get(&arn)
                && *old > version
            {
                let what = format!("{arn} was told at version {old}, and then at {version}");
                record.breach("I10", what);
            }
            self.rows.insert(arn, (version, live));
        }
        self.resume = message.resume_token;
        self.synced |= message.synced;
    }
}

/// Reads changes until told to stop.
pub async fn follow(
    dialer: Dialer,
    managers: Vec<String>,
    told: Arc<Told>,
    record: Arc<Record>,
    stop: Stop,
) {
    for address in managers.iter().cycle() {
        if stop.now() {
            return;
        }
        if let Err(status) = read(&dialer, address, &told, &record).await
            && status.code() == tonic::Code::OutOfRange
        {
            record.count("I10 positions no longer kept", 1);
            *told.rows() = Rows::default();
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

async fn read(
    dialer: &Dialer,
    address: &str,
    told: &Told,
    record: &Record,
) -> Result<(), tonic::Status> {
    let end = Instant::now() + READ_FOR;
    let channel = dialer(address).map_err(tonic::Status::unavailable)?;
    let resume_from = {
        let mut rows = told.rows();
        if !rows.synced {
            // Cut off amid the present rows: those that are gone meanwhile would never be told.
            *rows = Rows::default();
        }
        rows.resume.clone()
    };
    if !resume_from.is_empty() {
        record.count("I10 reads resumed", 1);
    }
    let request = pb::WatchRequest {
        cluster: CLUSTER.into(),
        kinds: vec!["task".into(), "service".into()],
        resume_from,
        ..Default::default()
    };
    let asked = async { LiveClient::new(channel).watch(request).await };
    let Ok(stream) = tokio::time::timeout_at(end, asked).await else { return Ok(()) };
    let mut stream = stream?.into_inner();
    while let Ok(message) = tokio::time::timeout_at(end, stream.message()).await {
        match message? {
            Some(message) => told.rows().message(message, record),
            None => return Ok(()),
        }
    }
    Ok(())
}

/// With the workload at rest: what was told is what is there.
///
/// # Errors
/// The campaign is interrupted.
pub fn complete(field: &Field) -> Result<(), String> {
    let same = field.until("what was told is what is there", SAME_WITHIN, || {
        let there = present(field)?;
        let told = field.told.live().ok_or("not everything has been told yet")?;
        match told == there {
            true => Ok(there.len()),
            false => Err(difference(&told, &there)),
        }
    });
    match same {
        Ok(rows) => field.record.count("I10 rows compared", rows as u64),
        Err(why) if why == "interrupted" => return Err(why),
        Err(why) => field.record.breach("I10", why),
    }
    Ok(())
}

fn difference(told: &Versions, there: &Versions) -> String {
    let not_told = there.iter().filter(|(arn, version)| told.get(*arn) != Some(version));
    let gone = told.iter().filter(|(arn, _)| !there.contains_key(*arn));
    let first = |mut rows: Vec<(&String, &i64)>| {
        let count = rows.len();
        rows.truncate(3);
        format!("{count} {rows:?}")
    };
    let (not_told, gone) = (first(not_told.collect()), first(gone.collect()));
    format!("there and not told: {not_told}; told and not there: {gone}")
}

/// Active services and live tasks, by linearizable reads.
fn present(field: &Field) -> Result<Versions, String> {
    let door = field.door(0)?;
    field.ask(async move {
        let text = |error: muster_model::Error| error.to_string();
        let mut there = Versions::new();
        let mut next_token = String::new();
        loop {
            let request = pb::ListServicesRequest { next_token, ..Default::default() };
            let list =
                async |channel, request| EcsClient::new(channel).list_services(request).await;
            let answer = door.read(request, list).await.map_err(text)?;
            for services in answer.service_arns.chunks(SERVICES_AT_ONCE) {
                let services = services.to_vec();
                let request = pb::DescribeServicesRequest { services, ..Default::default() };
                let describe = async |channel, request| {
                    EcsClient::new(channel).describe_services(request).await
                };
                let described = door.read(request, describe).await.map_err(text)?.services;
                let active = described.into_iter().filter(|service| service.status == "ACTIVE");
                there.extend(active.map(|service| (service.service_arn, service.version)));
            }
            next_token = answer.next_token;
            if next_token.is_empty() {
                break;
            }
        }
        for wanted in ["RUNNING", "STOPPED"] {
            live_tasks(&door, wanted, &mut there).await.map_err(text)?;
        }
        Ok(there)
    })
}

/// A task that is to stop and has not yet is among those that are `STOPPED` by desire.
async fn live_tasks(
    door: &super::hub::Door,
    wanted: &str,
    there: &mut Versions,
) -> Result<(), muster_model::Error> {
    let mut next_token = String::new();
    loop {
        let desired_status = wanted.to_owned();
        let request = pb::ListTasksRequest { desired_status, next_token, ..Default::default() };
        let list = async |channel, request| EcsClient::new(channel).list_tasks(request).await;
        let answer = door.read(request, list).await?;
        for tasks in answer.task_arns.chunks(TASKS_AT_ONCE) {
            let request = pb::DescribeTasksRequest { tasks: tasks.to_vec(), ..Default::default() };
            let describe =
                async |channel, request| EcsClient::new(channel).describe_tasks(request).await;
            let described = door.read(request, describe).await?.tasks;
            let live = described.into_iter().filter(|task| task.last_status != "STOPPED");
            there.extend(live.map(|task| (task.task_arn, task.version)));
        }
        next_token = answer.next_token;
        if next_token.is_empty() {
            return Ok(());
        }
    }
}
