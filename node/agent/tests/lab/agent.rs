//! An agent without managers, the worker's brain over real runc.

use super::{SOON, Told, key, machine, until};
use muster_agent::contact::Contact;
use muster_agent::drive::engine::Engine;
use muster_agent::drive::lanes::Lanes;
use muster_agent::drive::obeyed::Obeyed;
use muster_agent::drive::{Drive, Parts};
use muster_agent::runtime::RuntimeConfig;
use muster_agent::runtime::engine::RuncEngine;
use muster_agent::session::{FromSession, Outbox};
use muster_control::io::{ContainerEvent, Found, WorkerInput};
use muster_control::worker::Worker;
use muster_model::dispatch::{Assignment, Assignments, Order};
use muster_model::life::HealthCheck;
use muster_model::spec::ContainerDefinition;
use muster_model::{Epoch, Index, InstanceId, Observed, SessionId, Time};
use muster_proto::convert::dispatch::report_from_wire;
use muster_proto::dispatch as pb;
use muster_proto::dispatch::agent_message::Message;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Orders go in; what its containers do and what it reports of its task is read.
pub struct Agent {
    pub engine: Arc<RuncEngine>,
    orders: mpsc::Sender<FromSession>,
    revision: u64,
    events: mpsc::UnboundedReceiver<ContainerEvent>,
    reports: mpsc::UnboundedReceiver<Observed>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

pub fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Time(u64::try_from(since.as_millis()).unwrap())
}

impl Agent {
    /// With what it found.
    pub async fn start(config: &RuntimeConfig) -> (Self, Vec<Found>) {
        let engine = RuncEngine::open(config.clone(), Arc::new(Told::default())).unwrap();
        let (from_engine, mut said) = mpsc::channel(64);
        let found = engine.boot(from_engine).await.unwrap();
        let (to_drive, heard) = mpsc::channel(64);
        let (seen, events) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some((task, event)) = said.recv().await {
                let _ = seen.send(ContainerEvent::clone(&event));
                let _ = to_drive.send((task, event)).await;
            }
        });
        let obeyed = Obeyed::open(config.data_dir.join("obeyed.json")).unwrap();
        let revision = obeyed.highest().1.0;
        let (orders, session) = mpsc::channel(8);
        let reports = hear(orders.clone()).await;
        let stop = CancellationToken::new();
        let drive = Drive::new(Parts {
            worker: Worker::new(InstanceId::from_bits(1), obeyed.highest()),
            clock: Arc::new(now),
            lanes: Lanes::new(engine.clone(), 4, 4),
            obeyed,
            session,
            events: heard,
            contact: Arc::new(Contact::new(&config.data_dir, Arc::new(now))),
            stop: stop.clone(),
        });
        let running = tokio::spawn(drive.run(found.clone()));
        (Self { engine, orders, revision, events, reports, stop, running }, found)
    }

    pub async fn order(&mut self, order: Order) {
        self.revision += 1;
        let orders = Assignments {
            epoch: Epoch(1),
            revision: Index(self.revision),
            complete: false,
            orders: vec![order],
        };
        let input = FromSession::Input(WorkerInput::Assignments(orders));
        assert!(self.orders.send(input).await.is_ok());
    }

    pub async fn run(&mut self, assignment: &Arc<Assignment>) {
        self.order(Order::Run(Box::new(Assignment::clone(assignment)))).await;
    }

    async fn next(&mut self) -> ContainerEvent {
        let next = tokio::time::timeout(SOON, self.events.recv()).await;
        next.expect("nothing happened").unwrap()
    }

    /// The next event that `pick` knows, in a few words.
    pub async fn until<T>(&mut self, pick: impl Fn(&ContainerEvent) -> Option<T>) -> T {
        loop {
            let event = self.next().await;
            if let Some(found) = pick(&event) {
                return found;
            }
        }
    }

    /// Starts, outcomes of checks and ends from here on, up to the end of `last`.
    pub async fn story(&mut self, last: &str) -> Vec<String> {
        let mut story = Vec::new();
        while story.last().is_none_or(|line: &String| line != last) {
            story.push(self.until(told).await);
        }
        story
    }

    /// What `pick` finds in the next report that it knows.
    pub async fn reported<T>(&mut self, pick: impl Fn(&Observed) -> Option<T>) -> T {
        let found = async {
            loop {
                if let Some(found) = pick(&self.reports.recv().await.unwrap()) {
                    return found;
                }
            }
        };
        tokio::time::timeout(SOON, found).await.expect("it is never reported")
    }

    pub async fn log(&self, assignment: &Assignment, container: &str) -> String {
        let mut log = String::new();
        let key = key(assignment, container);
        let mut frames = self.engine.runtime().logs(&key, Default::default());
        while let Some(frame) = frames.recv().await {
            log.push_str(&frame.unwrap().text);
        }
        log
    }

    /// Waits until its script minds signals.
    pub async fn is_up(&self, assignment: &Assignment, container: &str) {
        let up = async || self.log(assignment, container).await.contains("up").then_some(());
        until("it is up", up).await;
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap();
        self.engine.close().await;
    }
}

/// A session in which every report is acknowledged at once.
async fn hear(orders: mpsc::Sender<FromSession>) -> mpsc::UnboundedReceiver<Observed> {
    let (outbox, mut said) = mpsc::channel(8);
    let open = FromSession::Open(SessionId::from_bits(1), Outbox::new(outbox));
    assert!(orders.send(open).await.is_ok());
    let (heard, reports) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(pb::AgentMessage { message: Some(Message::Report(report)) }) =
            said.recv().await
        {
            for told in &report.reports {
                let told = report_from_wire(InstanceId::from_bits(1), told).unwrap();
                let _ = heard.send(told.observed);
            }
            let acked = WorkerInput::Acked { sequence: report.sequence };
            let _ = orders.send(FromSession::Input(acked)).await;
        }
    });
    reports
}

fn told(event: &ContainerEvent) -> Option<String> {
    Some(match event {
        ContainerEvent::Started { container, .. } => format!("{container} started"),
        ContainerEvent::Checked { container, outcome: Ok(()), .. } => format!("{container} passed"),
        ContainerEvent::Checked { container, outcome: Err(_), .. } => format!("{container} failed"),
        ContainerEvent::Exited { container, exit_code: Some(code), .. } => {
            format!("{container} ended {code}")
        }
        ContainerEvent::Restarted { container, .. } => format!("{container} restarted"),
        _ => return None,
    })
}

/// Runs a test against an agent on a machine of its own, and takes back what it left.
pub fn agent(test: impl AsyncFnOnce(Agent, &RuntimeConfig) -> Agent + Send) {
    agent_with(|_| {}, test);
}

/// The same, with a changed configuration.
pub fn agent_with(
    change: impl FnOnce(&mut RuntimeConfig) + Send,
    test: impl AsyncFnOnce(Agent, &RuntimeConfig) -> Agent + Send,
) {
    machine(change, async |_dir, config| {
        let (agent, found) = Agent::start(&config).await;
        assert!(found.is_empty());
        let agent = test(agent, &config).await;
        let engine = agent.engine.clone();
        agent.stop().await;
        for name in std::fs::read_dir(config.data_dir.join("tasks")).unwrap() {
            let task = name.unwrap().file_name().into_string().unwrap().parse().unwrap();
            engine.runtime().delete(task).await.unwrap();
        }
    });
}

/// Ends with `code` when it is told to stop, after as many turns of its loop.
pub fn stops_with(code: u8, turns: u32) -> String {
    let slowly = format!("n=0; while [ $n -lt {turns} ]; do n=$((n+1)); sleep 0.05; done");
    format!("trap '{slowly}; exit {code}' TERM; echo up; while :; do sleep 0.05; done")
}

/// With a health check by this line of its shell's.
pub fn checked(mut container: ContainerDefinition, line: &str) -> ContainerDefinition {
    container.health_check = Some(HealthCheck {
        command: vec!["CMD-SHELL".into(), line.into()],
        interval_secs: 5,
        timeout_secs: 2,
        retries: 1,
        start_period_secs: 0,
    });
    container
}
