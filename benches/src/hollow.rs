//! One agent that runs nothing: its own certificate, a warm connection to every manager, a session
//! with the leader, heartbeats and reports, as `muster-agent` has them; without a disk and without
//! an engine, so that thousands fit one process.
//!
//! It reports RUNNING as soon as it is told to run a task, or as long after as starts are said to
//! take: what the real agent reports of a task whose image is there. One that is dead says and
//! reads nothing any more, and its connections stay open, as those of a machine that lost its power
//! do.

mod book;
mod report;

pub use book::Book;

use muster_model::dispatch::Held;
use muster_model::{InstanceId, TaskId};
use muster_proto::convert::dispatch as convert;
use muster_proto::dispatch as pb;
use muster_proto::dispatch::dispatch_client::DispatchClient;
use muster_proto::error::LEADER_METADATA;
use nix::time::{ClockId, clock_gettime};
use pb::agent_message::Message as Up;
use pb::manager_message::Message as Down;
use report::Reports;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// As the agent's: see `node/agent/src/session.rs`, whose behaviour on the wire this is.
const WELCOME_WAIT: Duration = Duration::from_secs(3);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
const HINTS_MAX: u32 = 2;
const HEARTBEAT_JITTER: f64 = 0.1;
const MANAGER_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Messages on their way up; the agent's outbox holds more, and no test fills it.
const OUTBOX_MAX: usize = 64;

/// What all agents of a process share.
#[derive(Default)]
pub struct Shared {
    /// Whether tasks are reported as RUNNING, or stay as if their images were still pulled.
    pub reporting: AtomicBool,
    /// Sessions that are open now.
    pub open: AtomicUsize,
    /// Orders to run a task, in order of arrival: which, and when.
    pub received: Mutex<Vec<(u128, u64)>>,
    /// From an order to RUNNING.
    pub start_ms: AtomicU64,
    /// Tasks that were ordered and have not ended, and since when they run.
    pub present: Mutex<HashMap<TaskId, Option<u64>>>,
}

impl Shared {
    /// Tasks there are, and those of them that have run for so long.
    pub fn count(&self, healthy_ms: u64) -> (usize, usize) {
        let present = self.present();
        let before = now_us().saturating_sub(healthy_ms * 1000);
        let healthy = present.values().flatten().filter(|since| **since <= before).count();
        (present.len(), healthy)
    }

    fn present(&self) -> MutexGuard<'_, HashMap<TaskId, Option<u64>>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of one agent from outside.
#[derive(Default)]
pub struct Life {
    /// It says and reads nothing any more.
    pub dead: AtomicBool,
    /// When it last said that it lives.
    pub beat_us: AtomicU64,
}

/// Microseconds of the machine's monotonic clock, the same in every process.
pub fn now_us() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(u64::MAX))
}

/// One agent, for as long as it is polled.
pub struct Agent {
    shared: Arc<Shared>,
    life: Arc<Life>,
    spec: pb::InstanceSpec,
    book: Arc<Book>,
    reports: Reports,
    /// Given back once the first session is open.
    place: Option<OwnedSemaphorePermit>,
    /// Tasks on their way to RUNNING, and when they are there.
    starting: VecDeque<(Instant, TaskId)>,
    /// The highest orders obeyed.
    epoch: u64,
    revision: u64,
}

/// Why a conversation ended.
enum Ended {
    /// Another manager leads, perhaps this one.
    Elsewhere(Option<String>),
    Broken,
}

/// What can happen in a session.
enum Happened {
    Heard(Result<Option<pb::ManagerMessage>, Status>),
    Beat,
    Started,
}

impl Agent {
    pub fn new(
        shared: Arc<Shared>,
        life: Arc<Life>,
        spec: pb::InstanceSpec,
        book: Arc<Book>,
        instance: InstanceId,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let (reports, place) = (Reports::new(instance), Some(place));
        let starting = VecDeque::new();
        Self { shared, life, spec, book, reports, place, starting, epoch: 0, revision: 0 }
    }

    /// Sessions, one after the other, and warm connections beside them.
    pub async fn run(mut self) {
        let book = self.book.clone();
        let life = self.life.clone();
        tokio::join!(book.keep_fresh(&life), self.sessions());
    }

    async fn sessions(&mut self) {
        let (mut pause, mut hints, mut hint) = (PAUSE_MIN, 0, None);
        loop {
            let address = hint.take().unwrap_or_else(|| self.book.next());
            let opened = Instant::now();
            let (ended, welcomed) = self.converse(&address).await;
            if welcomed {
                hints = 0;
                if opened.elapsed() > PAUSE_MAX {
                    pause = PAUSE_MIN;
                }
            }
            if let Ended::Elsewhere(Some(leader)) = ended
                && hints < HINTS_MAX
                && leader != address
            {
                hints += 1;
                hint = Some(leader);
                continue;
            }
            hints = 0;
            sleep(pause.mul_f64(0.5 + random() / 2.0)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// One session with one manager; and whether it was ever open.
    async fn converse(&mut self, address: &str) -> (Ended, bool) {
        let Ok(channel) = self.book.channel(address) else { return (Ended::Broken, false) };
        let (messages, queue) = mpsc::channel(OUTBOX_MAX);
        // An empty queue takes one message.
        let _ = messages.try_send(self.hello());
        let mut client =
            DispatchClient::new(channel).max_decoding_message_size(MANAGER_MESSAGE_BYTES_MAX);
        let open = async {
            let mut incoming = client.session(ReceiverStream::new(queue)).await?.into_inner();
            let first = incoming.message().await?;
            Ok::<_, Status>((incoming, first))
        };
        let (incoming, first) = match timeout(WELCOME_WAIT, open).await {
            Ok(Ok(open)) => open,
            Ok(Err(status)) => return (ended(&status), false),
            Err(_) => return (Ended::Broken, false),
        };
        let Some(Down::Welcome(welcome)) = first.and_then(|message| message.message) else {
            return (Ended::Broken, false);
        };
        self.place = None;
        self.book.leads(address);
        self.book.learn(&welcome.managers);
        self.reports.connected();
        self.shared.open.fetch_add(1, Ordering::Relaxed);
        let period = Duration::from_millis(u64::from(welcome.heartbeat_ms));
        let ended = self.talk(incoming, &messages, period).await;
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        (ended, true)
    }

    fn hello(&self) -> pb::AgentMessage {
        let wire = |(task, phase)| convert::held_to_wire(&Held { task, phase });
        let inventory = self.reports.held().map(wire).collect();
        let (epoch, revision) = (self.epoch, self.revision);
        self.life.beat_us.store(now_us(), Ordering::Relaxed);
        up(Up::Hello(pb::Hello { spec: Some(self.spec.clone()), inventory, epoch, revision }))
    }

    async fn talk(
        &mut self,
        mut incoming: Streaming<pb::ManagerMessage>,
        messages: &mpsc::Sender<pb::AgentMessage>,
        period: Duration,
    ) -> Ended {
        let next = || Instant::now() + period.mul_f64(1.0 - HEARTBEAT_JITTER * random());
        let mut beat_at = next();
        loop {
            let start_at = self.starting.front().map(|(at, _)| *at);
            let happened = tokio::select! {
                heard = incoming.message() => Happened::Heard(heard),
                () = sleep_until(beat_at) => Happened::Beat,
                () = sleep_until(start_at.unwrap_or(beat_at)), if start_at.is_some() => {
                    Happened::Started
                }
            };
            if self.life.dead.load(Ordering::Relaxed) {
                // With its streams in its hands: the manager sees an open connection.
                std::future::pending::<()>().await;
            }
            match happened {
                Happened::Beat => {
                    beat_at = next();
                    self.life.beat_us.store(now_us(), Ordering::Relaxed);
                    // A full outbox is news of life enough, once the manager reads it.
                    let _ = messages.try_send(up(Up::Heartbeat(pb::Heartbeat::default())));
                }
                Happened::Started => self.start_due(),
                Happened::Heard(Ok(Some(message))) if self.hear(&message) => {}
                Happened::Heard(Ok(_)) => return Ended::Broken,
                Happened::Heard(Err(status)) => return ended(&status),
            }
            let reporting = self.shared.reporting.load(Ordering::Relaxed);
            if let Some(report) = reporting.then(|| self.reports.due()).flatten()
                && messages.try_send(up(Up::Report(report))).is_err()
            {
                return Ended::Broken;
            }
        }
    }

    /// False if it is nothing that a manager may say.
    fn hear(&mut self, message: &pb::ManagerMessage) -> bool {
        match &message.message {
            Some(Down::Assignments(orders)) => {
                (self.epoch, self.revision) = (orders.epoch, orders.revision);
                orders.orders.iter().all(|order| self.obey(order))
            }
            Some(Down::Ack(ack)) => {
                self.reports.acked(ack.sequence);
                true
            }
            // It never asks to be confirmed.
            Some(Down::Welcome(_) | Down::Confirmed(_)) => false,
            Some(Down::Attach(_)) | None => true,
        }
    }

    fn obey(&mut self, order: &pb::Order) -> bool {
        use pb::order::Order;
        let task = |bytes: &[u8]| convert::id_from_wire("task", bytes).map(TaskId::from_bits);
        match &order.order {
            Some(Order::Run(assignment)) => {
                let Ok(task) = task(&assignment.task) else { return false };
                self.run_task(task);
            }
            Some(Order::Stop(bytes)) => {
                let Ok(task) = task(bytes) else { return false };
                self.starting.retain(|(_, other)| *other != task);
                self.shared.present().remove(&task);
                self.reports.stop(task);
            }
            Some(Order::Forget(bytes)) => {
                let Ok(task) = task(bytes) else { return false };
                self.reports.forget(task);
            }
            None => return false,
        }
        true
    }

    /// An order that is repeated starts nothing.
    fn run_task(&mut self, task: TaskId) {
        if self.starting.iter().any(|(_, other)| *other == task) {
            return;
        }
        let delay = Duration::from_millis(self.shared.start_ms.load(Ordering::Relaxed));
        let new = match delay.is_zero() {
            true => self.reports.run(task),
            false => !self.reports.held().any(|(held, _)| held == task),
        };
        if !new {
            return;
        }
        let now = now_us();
        self.shared
            .received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((task.bits(), now));
        self.shared.present().insert(task, delay.is_zero().then_some(now));
        if !delay.is_zero() {
            self.starting.push_back((Instant::now() + delay, task));
        }
    }

    /// Those whose time has come run now.
    fn start_due(&mut self) {
        while let Some((_, task)) = self.starting.pop_front_if(|(at, _)| *at <= Instant::now()) {
            self.reports.run(task);
            self.shared.present().insert(task, Some(now_us()));
        }
    }
}

fn up(message: Up) -> pb::AgentMessage {
    pb::AgentMessage { message: Some(message) }
}

fn ended(status: &Status) -> Ended {
    match status.metadata().get(LEADER_METADATA).and_then(|value| value.to_str().ok()) {
        Some(leader) => Ended::Elsewhere(Some(leader.to_owned())),
        None => Ended::Broken,
    }
}

/// From 0 to 1, for jitter.
pub fn random() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}
