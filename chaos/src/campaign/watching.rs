//! The second observer: what each manager has applied, from a watch on each and from its status.
//!
//! It keeps the newest row of every task and instance per manager and checks, after each message,
//! what must hold in any applied state: I4 (`percents`), I6 (no instance has more placed on it
//! than it registered, no host port twice), I7 (no task goes back), and that a stopped task says
//! why. Of the status it keeps the hash of each applied index: equal indexes must have equal hashes
//! (I2).

use super::only;
use super::percents::Percents;
use super::record::Record;
use super::workload::Stop;
use muster_proto::client::Dialer;
use muster_proto::pb;
use pb::live_client::LiveClient;
use pb::operator_client::OperatorClient;
use pb::watch_response::change::Row;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks at a manager's status.
/// Each hash reads every row.
const STATUS_EVERY: Duration = Duration::from_secs(5);
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Applied indexes whose hash is remembered.
const HASHES_MAX: usize = 20_000;
/// ECS's ladder: a task only goes down it.
const LADDER: [&str; 8] = [
    "PROVISIONING",
    "PENDING",
    "ACTIVATING",
    "RUNNING",
    "DEACTIVATING",
    "STOPPING",
    "DEPROVISIONING",
    "STOPPED",
];

fn rung(status: &str) -> Option<usize> {
    LADDER.iter().position(|rung| *rung == status)
}

/// One task as a manager has it.
#[derive(Clone, Debug, Default)]
pub struct SeenTask {
    pub status: String,
    pub instance: String,
    /// Host name of its instance.
    pub host: String,
    pub group: String,
    /// The managers want it stopped.
    pub to_stop: bool,
    pub stop_code: String,
    /// When it was first seen running, by the observer's clock.
    pub running_since: Option<Instant>,
    pub cpu: i64,
    pub ports: Vec<(String, i32)>,
}

/// One manager's applied state, as far as it is watched.
#[derive(Default)]
struct View {
    tasks: BTreeMap<String, SeenTask>,
    /// Registered CPU units.
    instances: BTreeMap<String, i64>,
    percents: Percents,
    resume: String,
    synced: bool,
}

/// What all managers showed.
#[derive(Default)]
pub struct Views {
    views: Mutex<BTreeMap<String, View>>,
    hashes: Mutex<BTreeMap<u64, (String, String)>>,
    /// Ids of all tasks that the strict singleton ever had.
    strict: Mutex<BTreeSet<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Views {
    /// Tasks as that manager has them, unless it is behind on its rows.
    pub fn tasks(&self, manager: &str) -> Option<BTreeMap<String, SeenTask>> {
        let views = locked(&self.views);
        views.get(manager).filter(|view| view.synced).map(|view| view.tasks.clone())
    }

    /// Ids of all tasks that the strict singleton ever had.
    pub fn strict(&self) -> BTreeSet<String> {
        locked(&self.strict).clone()
    }

    fn status(&self, manager: &str, status: &pb::RaftStatusResponse, record: &Record) {
        let mut hashes = locked(&self.hashes);
        let new = (status.state_hash.clone(), manager.to_owned());
        let (hash, other) = hashes.entry(status.applied_index).or_insert(new);
        if *hash != status.state_hash {
            record.breach(
                "I2",
                format!(
                    "at index {} {other} has state {hash} and {manager} has {}",
                    status.applied_index, status.state_hash
                ),
            );
        } else if other != manager {
            record.count("I2 equal hashes at equal index", 1);
        }
        while hashes.len() > HASHES_MAX {
            hashes.pop_first();
        }
    }

    fn message(&self, manager: &str, message: pb::WatchResponse, record: &Record) {
        let mut views = locked(&self.views);
        let view = views.entry(manager.to_owned()).or_default();
        record.count("watched changes", message.changes.len() as u64);
        for change in message.changes {
            match change.row {
                Some(Row::Task(task)) => {
                    if task.group == only::group() {
                        let id = task.task_arn.rsplit('/').next().unwrap_or_default();
                        locked(&self.strict).insert(id.to_owned());
                    }
                    view.task(manager, *task, record);
                }
                Some(Row::ContainerInstance(instance)) => view.instance(*instance),
                Some(Row::Service(service)) => view.percents.service(&service),
                Some(Row::RemovedArn(arn)) => {
                    view.percents.forget(&arn);
                    view.tasks.remove(&arn);
                    view.instances.remove(&arn);
                }
                _ => {}
            }
        }
        view.synced |= message.synced;
        view.resume = message.resume_token;
        if view.synced {
            view.check(manager, record);
        }
    }
}

impl View {
    fn task(&mut self, manager: &str, task: pb::Task, record: &Record) {
        let arn = task.task_arn.clone();
        if let Some(old) = self.tasks.get(&arn)
            && rung(&old.status) > rung(&task.last_status)
        {
            let (was, is) = (&old.status, &task.last_status);
            record.breach("I7", format!("{manager}: task {arn} went from {was} back to {is}"));
        }
        if task.last_status == "STOPPED" && task.stop_code.is_empty() {
            record.breach("I8", format!("{manager}: task {arn} is STOPPED and nobody says why"));
        }
        let running = task.last_status == "RUNNING";
        let since = self.tasks.get(&arn).and_then(|old| old.running_since);
        let bindings = task.containers.iter().flat_map(|c| &c.network_bindings);
        let seen = SeenTask {
            cpu: task.cpu.parse().unwrap_or(0),
            ports: bindings.map(|b| (b.protocol.clone(), b.host_port)).collect(),
            status: task.last_status,
            instance: task.container_instance_arn,
            host: task.instance_name,
            group: task.group,
            to_stop: task.desired_status == "STOPPED",
            stop_code: task.stop_code,
            running_since: since.or_else(|| running.then(Instant::now)),
        };
        if let Some(old) = self.tasks.get(&arn) {
            self.percents.task(old, &seen);
        }
        self.tasks.insert(arn, seen);
    }

    fn instance(&mut self, instance: pb::ContainerInstance) {
        let cpu = instance.registered_resources.iter().find(|r| r.name == "CPU");
        let cpu = cpu.map_or(0, |resource| i64::from(resource.integer_value));
        self.instances.insert(instance.container_instance_arn, cpu);
    }

    /// I4 and I6 of this state.
    fn check(&mut self, manager: &str, record: &Record) {
        let (broken, services) = self.percents.check(&self.tasks);
        record.count("I4 services checked", services);
        for what in broken {
            record.breach("I4", format!("{manager}: {what}"));
        }
        let mut used: BTreeMap<&str, i64> = BTreeMap::new();
        let mut ports = BTreeSet::new();
        let placed = self.tasks.values().filter(|t| !t.instance.is_empty());
        for task in placed.filter(|task| task.status != "STOPPED") {
            *used.entry(&task.instance).or_default() += task.cpu;
            for port in &task.ports {
                if !ports.insert((&task.instance, port)) {
                    let what = format!("{manager}: port {port:?} twice on {}", task.instance);
                    record.breach("I6", what);
                }
            }
        }
        for (instance, used) in used {
            let Some(registered) = self.instances.get(instance) else { continue };
            if used > *registered {
                let what = format!("{manager}: {used} of {registered} CPU units on {instance}");
                record.breach("I6", what);
            }
        }
        record.count("I6 states checked", 1);
    }
}

/// Watches one manager until told to stop, however often it goes away.
pub async fn watch(
    dialer: Dialer,
    address: String,
    views: Arc<Views>,
    record: Arc<Record>,
    stop: Stop,
) {
    while !stop.now() {
        if let Err(why) = watch_once(&dialer, &address, &views, &record, &stop).await {
            let mut seen = locked(&views.views);
            let view = seen.entry(address.clone()).or_default();
            view.synced = false;
            if why.code() == tonic::Code::OutOfRange {
                // Compacted, which is allowed to happen: from the beginning.
                *view = View::default();
            }
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

async fn watch_once(
    dialer: &Dialer,
    address: &str,
    views: &Views,
    record: &Record,
    stop: &Stop,
) -> Result<(), tonic::Status> {
    // A manager that was away may have to catch up with what it had shown: begin anew.
    locked(&views.views).insert(address.to_owned(), View::default());
    let channel = dialer(address).map_err(tonic::Status::unavailable)?;
    let kinds = ["service", "task", "container-instance"].map(str::to_owned).to_vec();
    let request = pb::WatchRequest { kinds, ..Default::default() };
    let mut stream = LiveClient::new(channel).watch(request).await?.into_inner();
    while !stop.now() {
        match tokio::time::timeout(Duration::from_secs(5), stream.message()).await {
            Ok(Ok(Some(message))) => views.message(address, message, record),
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(status)) => return Err(status),
            // A manager that is stopped says nothing; the connection is kept.
            Err(_) => {}
        }
    }
    Ok(())
}

/// Asks one manager for its status again and again.
pub async fn status(
    dialer: Dialer,
    address: String,
    views: Arc<Views>,
    record: Arc<Record>,
    stop: Stop,
) {
    let Ok(channel) = dialer(&address) else { return };
    while !stop.now() {
        let mut request = tonic::Request::new(pb::RaftStatusRequest { state_hash: true });
        request.set_timeout(Duration::from_secs(10));
        let asked = OperatorClient::new(channel.clone()).raft_status(request).await;
        if let Ok(answer) = asked {
            views.status(&address, &answer.into_inner(), &record);
        }
        tokio::time::sleep(STATUS_EVERY).await;
    }
}
