//! The cluster under test with everything around it: workload, observers, and the clean end.
//!
//! It forms the cluster, starts what runs beside the faults, and answers questions about it. It
//! does not know the faults. Invariant: whatever becomes of this process, nothing is left of the
//! cluster: a janitor that outlives it holds the other end of a pipe.

use super::hub::{self, Door};
use super::intruder::CANARY;
use super::kernel;
use super::only;
use super::record::Record;
use super::registers;
use super::resuming::{self, Told};
use super::watching::{self, Views};
use super::workload::{self, ANCHORS, COUNTERS, LONG, ONCE, Promised, Stop};
use crate::cluster::{Cluster, Shape};
use crate::lab::Lab;
use muster_model::IdSource;
use muster_proto::client::Dialer;
use muster_proto::pb;
use pb::ecs_client::EcsClient;
use pb::operator_client::OperatorClient;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How often a wait looks.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// A manager that does not answer a question within this is not there.
const ASK_WAIT: Duration = Duration::from_millis(800);
/// The same, where the answer needs all rows.
const HASH_WAIT: Duration = Duration::from_secs(10);

/// Set by SIGINT and SIGTERM.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

pub struct Field {
    // Dropped in this order: clients, cluster, janitor.
    runtime: Option<Runtime>,
    pub cluster: Cluster,
    pub record: Arc<Record>,
    pub views: Arc<Views>,
    pub promised: Arc<Promised>,
    pub told: Arc<Told>,
    pub dialer: Dialer,
    pub stop: Stop,
    pub dice: IdSource,
    pub shape: Shape,
    pub managers: Vec<String>,
    _janitor: Janitor,
}

/// What users do meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Everything, with new names all along.
    Mixed,
    /// What leaves no history of its own behind: services that stay, tasks, registers, counters.
    Steady,
}

/// `deploy/lib/janitor`, waiting for this process to end.
struct Janitor(Child);

impl Drop for Janitor {
    fn drop(&mut self) {
        self.0.stdin.take();
        self.0.wait().ok();
    }
}

impl Field {
    /// Forms the cluster and starts the workload and the observers.
    ///
    /// # Errors
    /// Something of it cannot be started; what was is cleared away.
    pub fn open(shape: Shape, seed: u64, load: Load) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let dir = tempfile::Builder::new().prefix("muster-chaos-").tempdir().map_err(text)?;
        let lab = Lab::new();
        let mut janitor = lab.janitor(dir.path());
        let janitor = Janitor(janitor.stdin(Stdio::piped()).spawn().map_err(text)?);
        let cluster = Cluster::form_on(lab, shape, dir);
        let runtime = hub::runtime(&cluster.lab.netns("hub")).map_err(text)?;
        let dialer = hub::dialer(&cluster.admin())?;
        let managers = (1..=shape.managers).map(|n| cluster.manager_address(n)).collect();
        let mut field = Self {
            runtime: Some(runtime),
            cluster,
            record: Arc::new(Record::new()),
            views: Arc::default(),
            promised: Arc::default(),
            told: Arc::default(),
            dialer,
            stop: Stop::default(),
            dice: IdSource::new(u128::from(seed)),
            shape,
            managers,
            _janitor: janitor,
        };
        field.prepare()?;
        field.start_workload(load)?;
        Ok(field)
    }

    /// What the workload takes for granted.
    fn prepare(&mut self) -> Result<(), String> {
        let stays = "trap 'exit 0' TERM; sleep 100000 & wait";
        let shell = |script: &str| serde_json::json!(["/bin/busybox", "sh", "-c", script]);
        self.cluster.register(LONG, serde_json::json!({ "command": shell(stays), "memory": 16 }));
        let once = serde_json::json!({ "command": shell("sleep 1; exit 0"), "memory": 16,
            "environment": [{ "name": "PASSWORD", "value": CANARY }] });
        self.cluster.register(ONCE, once);
        self.cluster.run(&["cluster", "create", registers::CLUSTER]);
        self.cluster.run(&["cluster", "create", COUNTERS]);
        let strict = serde_json::json!({ "command": shell(stays), "memory": 16,
            "stopTimeout": only::STOP_TIMEOUT_SECS });
        self.cluster.register(only::FAMILY, strict);
        let real = (1..=self.shape.workers).map(|number| format!("w{number}"));
        let (door, real) = (self.door(0)?, real.collect::<Vec<_>>());
        self.ask(async move {
            for (name, desired) in ANCHORS {
                let made = workload::create(&door, name, desired).await;
                made.map_err(|error| format!("service {name}: {error}"))?;
            }
            let made = workload::create_strict(&door, &real).await;
            made.map_err(|error| format!("service {}: {error}", only::NAME))
        })
    }

    fn start_workload(&mut self, load: Load) -> Result<(), String> {
        let doors = (0..4).map(|n| self.door(n).map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        let counters = self.cluster_arn(COUNTERS)?;
        let tags = self.cluster_arn(registers::CLUSTER)?;
        let Some(runtime) = &self.runtime else { return Err("no runtime".into()) };
        let (stop, promised) = (&self.stop, &self.promised);
        for lane in 0..2u64 {
            let clients = doors.clone();
            runtime.spawn(registers::registers(clients, tags.clone(), lane, stop.clone()));
            if load == Load::Mixed {
                runtime.spawn(registers::rows(doors.clone(), LONG.into(), lane, stop.clone()));
            }
        }
        for (n, door) in doors.iter().enumerate() {
            let (arn, key) = (counters.clone(), format!("counter{n}"));
            let counter = workload::counter(door.clone(), arn, key, promised.clone(), stop.clone());
            runtime.spawn(counter);
        }
        for (lane, door) in doors.iter().take(2).enumerate() {
            let (door, promised, stop) = (door.clone(), promised.clone(), stop.clone());
            match load {
                Load::Mixed => runtime.spawn(workload::churn(door, lane, promised, stop)),
                Load::Steady => runtime.spawn(workload::steady(door, lane, promised, stop)),
            };
        }
        runtime.spawn(workload::bursts(doors[2].clone(), promised.clone(), stop.clone()));
        let (views, record, stop) = (self.views.clone(), self.record.clone(), self.stop.clone());
        let lab = self.cluster.lab.prefix().to_owned();
        runtime.spawn_blocking(move || only::look(&lab, &views, &record, &stop));
        let stop = &self.stop;
        let (dialer, told, record) = (self.dialer.clone(), self.told.clone(), self.record.clone());
        let managers = self.managers.clone();
        runtime.spawn(resuming::follow(dialer, managers, told, record, stop.clone()));
        for address in &self.managers {
            let (views, record) = (self.views.clone(), self.record.clone());
            let (dialer, address) = (self.dialer.clone(), address.clone());
            runtime.spawn(watching::watch(
                dialer.clone(),
                address.clone(),
                views.clone(),
                record.clone(),
                stop.clone(),
            ));
            runtime.spawn(watching::status(dialer, address, views, record, stop.clone()));
        }
        Ok(())
    }

    /// # Errors
    /// There is no such cluster.
    pub fn cluster_arn(&self, name: &str) -> Result<String, String> {
        let answer = self.cluster.json(&["cluster", "describe", name]);
        let arn = answer["clusters"][0]["clusterArn"].as_str();
        arn.map(str::to_owned).ok_or_else(|| format!("cluster {name} has no ARN: {answer}"))
    }

    /// A client of its own that begins at the `turn`-th manager.
    ///
    /// # Errors
    /// There are no managers.
    pub fn door(&self, turn: usize) -> Result<Door, String> {
        Door::new(&self.managers, turn, &self.dialer, &self.record).map_err(|e| e.to_string())
    }

    /// Runs something in the hub's network and waits for it.
    ///
    /// # Errors
    /// As the work says, or it panicked.
    pub fn ask<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, String>> + Send + 'static,
    ) -> Result<T, String> {
        let Some(runtime) = &self.runtime else { return Err("the clients have ended".into()) };
        runtime.block_on(runtime.spawn(work)).map_err(|error| error.to_string())?
    }

    /// Runs something in the hub's network beside everything else.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<tokio::task::JoinHandle<T>> {
        self.runtime.as_ref().map(|runtime| runtime.spawn(work))
    }

    /// Status of each manager, in the order of their numbers; `None`: no answer.
    pub fn statuses(&self) -> Vec<Option<pb::RaftStatusResponse>> {
        self.statuses_with(pb::RaftStatusRequest::default())
    }

    /// The same, asked so.
    pub fn statuses_with(
        &self,
        request: pb::RaftStatusRequest,
    ) -> Vec<Option<pb::RaftStatusResponse>> {
        let (dialer, managers) = (self.dialer.clone(), self.managers.clone());
        let wait = if request.state_hash { HASH_WAIT } else { ASK_WAIT };
        let all = self.ask(async move {
            let asked: Vec<_> = managers
                .into_iter()
                .map(|address| {
                    let dialer = dialer.clone();
                    tokio::spawn(async move {
                        let channel = dialer(&address).ok()?;
                        let mut client = OperatorClient::new(channel);
                        let asked = client.raft_status(request);
                        let answer = tokio::time::timeout(wait, asked).await.ok()?.ok()?;
                        Some(answer.into_inner())
                    })
                })
                .collect();
            let mut all = Vec::new();
            for one in asked {
                all.push(one.await.ok().flatten());
            }
            Ok(all)
        });
        all.unwrap_or_default()
    }

    /// Status of one manager.
    pub fn status(&self, number: u32) -> Option<pb::RaftStatusResponse> {
        self.statuses().into_iter().nth(number.checked_sub(1)? as usize).flatten()
    }

    /// Number of the manager that a majority calls the leader.
    pub fn leader(&self) -> Option<u32> {
        let statuses = self.statuses();
        let says = |number: &u32| {
            let address = self.cluster.manager_address(*number);
            let same = |s: &&pb::RaftStatusResponse| s.leader_address == address;
            statuses.iter().flatten().filter(same).count()
        };
        let managers = self.shape.managers;
        (1..=managers).find(|number| says(number) * 2 > managers as usize)
    }

    /// # Errors
    /// Nobody leads in time.
    pub fn wait_leader(&self) -> Result<u32, String> {
        self.until("one manager leads", Duration::from_secs(30), || {
            self.leader().ok_or_else(|| "no majority names one".to_owned())
        })
    }

    /// Waits for a condition.
    ///
    /// # Errors
    /// It does not come in time; with what was seen last. Or the campaign is interrupted.
    pub fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Result<T, String>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + limit;
        loop {
            match look() {
                Ok(seen) => return Ok(seen),
                Err(seen) if Instant::now() >= deadline => {
                    let limit = limit.as_secs_f32();
                    return Err(format!("{what}: not within {limit} s; last seen: {seen}"));
                }
                Err(_) => std::thread::sleep(LOOK_EVERY),
            }
            if INTERRUPTED.load(Ordering::Relaxed) {
                return Err("interrupted".into());
            }
        }
    }

    /// Starts whatever a fault that went wrong has left dead.
    pub fn revive(&mut self) {
        let managers = (1..=self.shape.managers).map(|n| format!("m{n}"));
        let workers = self.shape.workers + self.shape.simulated;
        for host in managers.chain((1..=workers).map(|n| format!("w{n}"))) {
            if self.cluster.pid(&host).is_none() {
                self.cluster.reap(&host);
                self.cluster.start(&host);
            }
        }
    }

    /// Lets a fault last.
    ///
    /// # Errors
    /// The campaign is interrupted.
    pub fn last(&self, span: Duration) -> Result<(), String> {
        let end = Instant::now() + span;
        while Instant::now() < end {
            if INTERRUPTED.load(Ordering::Relaxed) {
                return Err("interrupted".into());
            }
            std::thread::sleep(LOOK_EVERY.min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    /// A number below `bound`, from the campaign's seed.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.dice.next_u64() % bound.max(1)
    }

    /// How often the row that is being run was struck before: rows with several forms take turns.
    pub fn turn(&self) -> u64 {
        self.record.struck_in_row()
    }

    /// Writes one text setting of a host's configuration; its daemon reads it when it starts again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_config(&self, host: &str, key: &str, value: &str) -> Result<(), String> {
        let path = self.cluster.config(host);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let kept = text.lines().filter(|line| !line.starts_with(&format!("{key} = ")));
        // At the top, before the first section.
        let new = std::iter::once(format!("{key} = {value:?}")).chain(kept.map(str::to_owned));
        let new = new.collect::<Vec<_>>().join("\n");
        std::fs::write(&path, new).map_err(|error| format!("{path}: {error}"))
    }

    /// Running tasks of a service and its desired count.
    ///
    /// # Errors
    /// No manager answers.
    pub fn service(&self, name: &str) -> Result<pb::Service, String> {
        let (door, name) = (self.door(0)?, name.to_owned());
        self.ask(async move {
            let request =
                pb::DescribeServicesRequest { services: vec![name.clone()], ..Default::default() };
            let call =
                async |channel, request| EcsClient::new(channel).describe_services(request).await;
            let answer = door.read(request, call).await.map_err(|error| error.to_string())?;
            answer.services.into_iter().next().ok_or_else(|| format!("service {name} is missing"))
        })
    }

    /// The leader's rows of tasks, if its watch is up to date.
    pub fn tasks(&self) -> Option<std::collections::BTreeMap<String, watching::SeenTask>> {
        self.views.tasks(&self.cluster.manager_address(self.leader()?))
    }

    /// As `tasks`, once a leader is there and has shown its rows.
    ///
    /// # Errors
    /// Nobody leads, or its watch shows nothing.
    pub fn leaders_tasks(
        &self,
    ) -> Result<std::collections::BTreeMap<String, watching::SeenTask>, String> {
        self.until("the leader's rows are at hand", Duration::from_secs(20), || {
            self.tasks().ok_or_else(|| "no leader, or its watch is behind".to_owned())
        })
    }

    /// Tasks that run by the kernel's word although the cluster does not own them there.
    pub fn orphans(&self) -> Result<Vec<String>, String> {
        let running = kernel::running(self.cluster.lab.prefix());
        let tasks = self.tasks().ok_or("no leader's rows are at hand")?;
        let owned = |instance: &str, task: &str| {
            tasks.iter().any(|(arn, row)| {
                arn.ends_with(task)
                    && row.status != "STOPPED"
                    && row.instance.rsplit('/').next().is_some_and(|id| id.starts_with(instance))
            })
        };
        let all = running.iter().flat_map(|(instance, tasks)| {
            tasks.keys().filter(|task| !owned(instance, task)).map(move |t| (instance, t))
        });
        Ok(all.map(|(instance, task)| format!("{instance}/{task}")).collect())
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        self.stop.end();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    }
}
