//! Tasks of several containers, the worker's brain over real runc: who waits for whom, health
//! checks inside the container, restarts in place.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::{SOON, assign, machine, script, sh, task, until};
use muster_agent::contact::Contact;
use muster_agent::drive::engine::Engine;
use muster_agent::drive::lanes::Lanes;
use muster_agent::drive::obeyed::Obeyed;
use muster_agent::drive::{Drive, Parts};
use muster_agent::runtime::RuntimeConfig;
use muster_agent::runtime::engine::RuncEngine;
use muster_agent::session::FromSession;
use muster_control::io::{ContainerEvent, FoundContainer, WorkerInput};
use muster_control::worker::Worker;
use muster_model::dispatch::{Assignment, Assignments, Order};
use muster_model::life::{Condition, Dependency, HealthCheck, RestartPolicy};
use muster_model::spec::{ContainerDefinition, NetworkMode};
use muster_model::{Epoch, Index, InstanceId, Time};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// An agent without managers: orders go in, what its containers do is read.
struct Agent {
    engine: Arc<RuncEngine>,
    orders: mpsc::Sender<FromSession>,
    revision: u64,
    events: mpsc::UnboundedReceiver<ContainerEvent>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Time(u64::try_from(since.as_millis()).unwrap())
}

impl Agent {
    /// With what it found.
    async fn start(config: &RuntimeConfig) -> (Self, Vec<muster_control::io::Found>) {
        let engine = RuncEngine::open(config.clone(), Arc::new(lab::Told::default())).unwrap();
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
        (Self { engine, orders, revision, events, stop, running }, found)
    }

    async fn order(&mut self, order: Order) {
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

    async fn run(&mut self, assignment: &Arc<Assignment>) {
        self.order(Order::Run(Box::new(Assignment::clone(assignment)))).await;
    }

    async fn next(&mut self) -> ContainerEvent {
        let next = tokio::time::timeout(SOON, self.events.recv()).await;
        next.expect("nothing happened").unwrap()
    }

    /// The next event that `pick` knows, in a few words.
    async fn until<T>(&mut self, pick: impl Fn(&ContainerEvent) -> Option<T>) -> T {
        loop {
            let event = self.next().await;
            if let Some(found) = pick(&event) {
                return found;
            }
        }
    }

    /// Starts, outcomes of checks and ends from here on, up to the end of `last`.
    async fn story(&mut self, last: &str) -> Vec<String> {
        let mut story = Vec::new();
        while story.last().is_none_or(|line: &String| line != last) {
            story.push(self.until(told).await);
        }
        story
    }

    async fn log(&self, assignment: &Assignment, container: &str) -> String {
        let mut log = String::new();
        let key = lab::key(assignment, container);
        let mut frames = self.engine.runtime().logs(&key, Default::default());
        while let Some(frame) = frames.recv().await {
            log.push_str(&frame.unwrap().text);
        }
        log
    }

    /// Waits until its script minds signals.
    async fn is_up(&self, assignment: &Assignment, container: &str) {
        let up = async || self.log(assignment, container).await.contains("up").then_some(());
        until("it is up", up).await;
    }

    async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap();
        self.engine.close().await;
    }
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
fn agent(test: impl AsyncFnOnce(Agent, &RuntimeConfig) -> Agent + Send) {
    machine(
        |_| {},
        async |_dir, config| {
            let (agent, found) = Agent::start(&config).await;
            assert!(found.is_empty());
            let agent = test(agent, &config).await;
            let engine = agent.engine.clone();
            agent.stop().await;
            for name in std::fs::read_dir(config.data_dir.join("tasks")).unwrap() {
                let task = name.unwrap().file_name().into_string().unwrap().parse().unwrap();
                engine.runtime().delete(task).await.unwrap();
            }
        },
    );
}

fn after(name: &str, condition: Condition) -> Vec<Dependency> {
    vec![Dependency { container: name.into(), condition }]
}

fn checked(mut container: ContainerDefinition, line: &str) -> ContainerDefinition {
    container.health_check = Some(HealthCheck {
        command: vec!["CMD-SHELL".into(), line.into()],
        interval_secs: 5,
        timeout_secs: 2,
        retries: 1,
        start_period_secs: 0,
    });
    container
}

/// Ends with `code` when it is told to stop, after as many turns of its loop.
fn stops_with(code: u8, turns: u32) -> String {
    let slowly = format!("n=0; while [ $n -lt {turns} ]; do n=$((n+1)); sleep 0.05; done");
    format!("trap '{slowly}; exit {code}' TERM; echo up; while :; do sleep 0.05; done")
}

#[test]
fn containers_start_when_what_they_wait_for_is_so_and_stop_the_other_way_round() {
    agent(async |mut agent, _| {
        let mut app = script("app", &stops_with(3, 20));
        app.depends_on = after("db", Condition::Healthy);
        // The first look fails, the second finds what the first left in the container.
        let db = script("db", &stops_with(7, 0));
        let mut db = checked(db, "test -e /seen || { touch /seen; exit 1; }");
        db.depends_on = after("init", Condition::Success);
        let mut init = script("init", "exit 0");
        init.essential = false;
        let assignment = assign(task(NetworkMode::None, vec![app, db, init]));
        agent.run(&assignment).await;
        let story = agent.story("app started").await;
        let wanted =
            ["init started", "init ended 0", "db started", "db failed", "db passed", "app started"];
        assert_eq!(story, wanted);
        agent.is_up(&assignment, "app").await;
        agent.is_up(&assignment, "db").await;
        agent.order(Order::Stop(assignment.task)).await;
        let ends = agent.story("db ended 7").await;
        let ends: Vec<_> = ends.iter().filter(|line| line.contains("ended")).collect();
        assert_eq!(ends, ["app ended 3", "db ended 7"]);
        agent
    });
}

#[test]
fn a_check_that_hangs_is_killed_with_all_it_started_and_holds_up_no_stop() {
    agent(async |mut agent, _| {
        // A number that no other process has among its arguments.
        let line = "sleep 918273 & sleep 918273";
        let app = checked(script("app", &stops_with(0, 0)), line);
        let assignment = assign(task(NetworkMode::None, vec![app]));
        agent.run(&assignment).await;
        let outcome = async |agent: &mut Agent| {
            let outcome = |event: &ContainerEvent| match event {
                ContainerEvent::Checked { outcome, .. } => Some(outcome.clone()),
                _ => None,
            };
            agent.until(outcome).await.unwrap_err()
        };
        assert_eq!(&*outcome(&mut agent).await, "it took longer than its timeout of 2 s");
        let hanging = || sh("grep -alz '^918273$' /proc/[0-9]*/cmdline 2>/dev/null | wc -l");
        until("nothing hangs", async || (hanging().trim() == "0").then_some(())).await;
        // The next one is under way when the task is told to stop.
        until("it hangs again", async || (hanging().trim() == "2").then_some(())).await;
        agent.order(Order::Stop(assignment.task)).await;
        // The end of the container cuts the check short, and that may be told first.
        let first = agent.until(|event| match event {
            ContainerEvent::Exited { exit_code, .. } => Some(format!("ended {exit_code:?}")),
            ContainerEvent::Checked { outcome: Err(why), .. } => {
                why.contains("timeout").then(|| why.to_string())
            }
            _ => None,
        });
        assert_eq!(first.await, "ended Some(0)", "the signal waited for the check");
        agent
    });
}

#[test]
fn a_failing_check_says_why_in_few_words() {
    agent(async |mut agent, _| {
        let line = "yes no-such-thing | head -c 1000000 >&2; exit 3";
        let app = checked(script("app", &stops_with(0, 0)), line);
        agent.run(&assign(task(NetworkMode::None, vec![app]))).await;
        let why = agent
            .until(|event| match event {
                ContainerEvent::Checked { outcome: Err(why), .. } => Some(why.clone()),
                _ => None,
            })
            .await;
        assert!(why.starts_with("it ended with code 3: no-such-thing"), "{why}");
        assert!(why.len() < 300, "{}", why.len());
        agent
    });
}

#[test]
fn a_container_is_started_again_with_its_files_its_address_and_its_log() {
    agent(async |mut agent, config| {
        let again = "echo serving; while :; do echo served | nc -l -p 80; done";
        let once = format!("echo run; test -e /again && {{ {again}; }}; touch /again; exit 5");
        let mut app = script("app", &once);
        let (enabled, attempt_period_secs) = (true, 0);
        app.restart_policy =
            Some(RestartPolicy { enabled, attempt_period_secs, ..RestartPolicy::default() });
        let assignment = assign(task(NetworkMode::Bridge, vec![app]));
        agent.run(&assignment).await;
        let address = agent
            .until(|event| match event {
                ContainerEvent::Created { status, .. } => status.address.clone(),
                _ => None,
            })
            .await;
        let story = agent.story("app restarted").await;
        assert_eq!(story, ["app started", "app ended 5", "app restarted"]);
        let at = SocketAddr::new(address.parse().unwrap(), 80);
        until("it serves at its address", async || {
            let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(1)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            text.contains("served").then_some(())
        })
        .await;
        assert_eq!(agent.log(&assignment, "app").await, "run\nrun\nserving\n");
        // The next agent knows how often, and takes the new process for what it is.
        agent.stop().await;
        let (agent, found) = Agent::start(config).await;
        let FoundContainer::Running { status, .. } = &found[0].containers[0].1 else {
            panic!("{found:?}");
        };
        assert_eq!(status.restarts, 1);
        agent
    });
}

#[test]
fn what_stops_is_not_started_again() {
    agent(async |mut agent, _| {
        let mut app = script("app", &stops_with(5, 0));
        let (enabled, attempt_period_secs) = (true, 0);
        app.restart_policy =
            Some(RestartPolicy { enabled, attempt_period_secs, ..RestartPolicy::default() });
        let assignment = assign(task(NetworkMode::None, vec![app]));
        agent.run(&assignment).await;
        assert_eq!(agent.story("app started").await, ["app started"]);
        agent.is_up(&assignment, "app").await;
        agent.order(Order::Stop(assignment.task)).await;
        assert_eq!(agent.story("app ended 5").await, ["app ended 5"]);
        agent.order(Order::Forget(assignment.task)).await;
        let deleted = agent.until(|event| match event {
            ContainerEvent::Restarted { .. } => Some(false),
            ContainerEvent::Deleted => Some(true),
            _ => None,
        });
        assert!(tokio::time::timeout(Duration::from_secs(60), deleted).await.unwrap());
        agent
    });
}
