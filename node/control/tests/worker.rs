//! Scripts of the worker's decisions: orders and container events in, actions and reports out.

// A test may panic, and its knobs come from the environment.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods)]

mod stage;

use muster_control::io::{
    ContainerEvent, Found, FoundContainer, Signal, WorkerInput, WorkerOutput,
};
use muster_control::worker::Worker;
use muster_model::dispatch::{Assignment, Assignments, Order};
use muster_model::fixture::{BEGIN, Line, script::record};
use muster_model::life::{Condition, Dependency, HealthCheck, RestartPolicy};
use muster_model::spec::{ContainerDefinition, Link, PortMapping, Protocol, TaskDefinition};
use muster_model::task::ContainerStatus;
use muster_model::{
    Epoch, HealthStatus, Index, InstanceId, Millis, Resources, Revision, SessionId, TaskId,
    TaskReport, Time,
};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

struct Bench {
    worker: Worker,
    now: Time,
    sessions: u128,
    /// Assignments as they were given, for a boot after a restart.
    given: BTreeMap<TaskId, Assignment>,
    out: String,
}

impl Bench {
    fn new() -> Self {
        let worker = worker((Epoch(0), Index(0)));
        Self { worker, now: BEGIN, sessions: 0, given: BTreeMap::new(), out: String::new() }
    }

    fn block(&mut self, lines: &[&str]) -> String {
        for text in lines {
            let mut line = Line::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            self.run(&mut line);
            line.done().unwrap_or_else(|why| panic!("{text}: {why}"));
        }
        std::mem::take(&mut self.out)
    }

    fn run(&mut self, line: &mut Line) {
        match line.verb.as_str() {
            "run" | "stop" | "forget" => {
                let orders = self.orders(line);
                self.tell(WorkerInput::Assignments(orders));
            }
            "connected" => {
                self.sessions += 1;
                self.tell(WorkerInput::Connected(SessionId::from_bits(self.sessions)));
            }
            "lost" => self.tell(WorkerInput::Lost),
            // `confirmed 2s`: of a heartbeat that was sent so long ago.
            "confirmed" => {
                let sent = self.now - span(&line.word("a span").unwrap());
                let revision = Index(line.number("rev").unwrap().unwrap_or(1));
                self.tell(WorkerInput::Confirmed { sent, orders: (Epoch(1), revision) });
            }
            "acked" => {
                let sequence = line.word("a number").unwrap().parse().unwrap();
                self.tell(WorkerInput::Acked { sequence });
            }
            "tick" => {
                self.now = self.now + span(&line.word("a span").unwrap());
                self.tell(WorkerInput::Tick);
            }
            "inventory" => {
                let held: Vec<String> = self
                    .worker
                    .inventory()
                    .iter()
                    .map(|h| format!("{}:{:?}", name(h.task), h.phase))
                    .collect();
                let _ = writeln!(self.out, "holds {}", held.join(" "));
            }
            "restart" => self.restart(line),
            _ => {
                let (task, event) = event(line, self.now);
                self.tell(WorkerInput::Container { task, event });
            }
        }
    }

    fn orders(&mut self, line: &mut Line) -> Assignments {
        let epoch = Epoch(line.number("epoch").unwrap().unwrap_or(1));
        let revision = Index(line.number("rev").unwrap().unwrap_or(1));
        let verb = line.verb.clone();
        let orders = match verb.as_str() {
            "run" => {
                let assignment = assignment(line);
                self.given.insert(assignment.task, assignment.clone());
                vec![Order::Run(Box::new(assignment))]
            }
            "stop" => line.words().iter().map(|t| Order::Stop(task(t))).collect(),
            _ => line.words().iter().map(|t| Order::Forget(task(t))).collect(),
        };
        Assignments { epoch, revision, complete: false, orders }
    }

    /// `restart t1:app=running t1:side=exited(0) t2:app=missing stopping=t2 confirmed=3s`
    fn restart(&mut self, line: &mut Line) {
        let confirmed = line.take("confirmed").map(|ago| self.now - span(&ago));
        let stopping: Vec<TaskId> = line.take_all("stopping").iter().map(|t| task(t)).collect();
        let mut found: BTreeMap<TaskId, Found> = BTreeMap::new();
        for (key, what) in line.pairs() {
            let (id, container) = key.split_once(':').expect("task:container=");
            let id = task(id);
            let entry = found.entry(id).or_insert_with(|| Found {
                assignment: self.given[&id].clone(),
                stopping: stopping.contains(&id),
                containers: Vec::new(),
            });
            let started_at = BEGIN + Millis(1);
            let mut status = ContainerStatus { pid: Some(7), ..ContainerStatus::default() };
            let what = match what.as_str() {
                "running" => FoundContainer::Running { status, started_at },
                "missing" => FoundContainer::Missing,
                exited => {
                    let code = exited.trim_start_matches("exited(").trim_end_matches(')');
                    status.exit_code = code.parse().ok();
                    let (started_at, finished_at) = (Some(started_at), self.now);
                    FoundContainer::Exited { status, started_at, finished_at }
                }
            };
            entry.containers.push((Arc::from(container), what));
        }
        self.worker = worker(self.worker.obeyed()).with_confirmed(confirmed);
        self.tell(WorkerInput::Boot { found: found.into_values().collect() });
    }

    fn tell(&mut self, input: WorkerInput) {
        for output in self.worker.handle(self.now, input) {
            let line = show(&output);
            let _ = writeln!(self.out, "{line}");
        }
    }
}

fn worker(obeyed: (Epoch, Index)) -> Worker {
    Worker::new(InstanceId::from_bits(1), obeyed)
        .with_capacity(Resources { cpu: 1024, memory_mib: 1024 })
        .with_resources(BTreeMap::from([("GPU".to_owned(), 2)]))
}

fn task(name: &str) -> TaskId {
    TaskId::from_bits(name.trim_start_matches('t').parse().expect("t1, t2, ..."))
}

fn name(task: TaskId) -> String {
    format!("t{}", task.bits())
}

fn span(text: &str) -> Millis {
    let text = text.trim_start_matches('+');
    match text.strip_suffix("ms") {
        Some(ms) => Millis(ms.parse().unwrap()),
        None => Millis::from_secs(text.trim_end_matches('s').parse().unwrap()),
    }
}

/// `run t1 app side? [cpu=] [mem=] [gpu=] [port=80] [timeout=30]`; `?` marks what is not essential.
fn assignment(line: &mut Line) -> Assignment {
    let id = task(&line.word("a task").unwrap());
    let cpu = line.number("cpu").unwrap().unwrap_or(256);
    let memory_mib = line.number("mem").unwrap().unwrap_or(128);
    let port: Option<u16> = line.number("port").unwrap();
    let gpus: Option<u32> = line.number("gpu").unwrap();
    let fencing_token = line.flag("strict").then_some(1);
    let stop_timeout_secs = line.number("timeout").unwrap();
    let mut containers: Vec<ContainerDefinition> = line
        .words()
        .iter()
        .map(|word| ContainerDefinition {
            name: word.trim_end_matches('?').to_owned(),
            essential: !word.ends_with('?'),
            stop_timeout_secs,
            ..ContainerDefinition::default()
        })
        .collect();
    if containers.is_empty() {
        let name = "app".to_owned();
        containers.push(ContainerDefinition {
            name,
            essential: true,
            stop_timeout_secs,
            ..ContainerDefinition::default()
        });
    }
    lives(line, &mut containers);
    containers[0].resource_requirements = gpus.map(|n| ("GPU".to_owned(), n)).into_iter().collect();
    containers[0].port_mappings.extend(port.map(|port| PortMapping {
        name: None,
        container_port: port,
        host_port: port,
        protocol: Protocol::Tcp,
        app_protocol: None,
    }));
    let (cpu, memory_mib) = (Some(cpu), Some(memory_mib));
    let spec = TaskDefinition { containers, cpu, memory_mib, ..TaskDefinition::default() };
    Assignment {
        task: id,
        account: "000000000000".into(),
        region: "local".into(),
        cluster: Arc::from("default"),
        family: Arc::from("web"),
        revision: Revision(1),
        group: Arc::from("service:web"),
        spec: Arc::new(spec),
        ports: port.into_iter().collect(),
        trace: None,
        fencing_token,
        instance_metadata: false,
        digests: Default::default(),
    }
}

/// `after=app:db:HEALTHY`, `link=app:db`, `within=db:10` (its start timeout), `checked=db` or
/// `checked=db:INTERVAL:TIMEOUT:RETRIES:START_PERIOD`, `restarts=app` or `restarts=app:CODE,CODE`.
fn lives(line: &mut Line, containers: &mut [ContainerDefinition]) {
    let of = |containers: &mut [ContainerDefinition], name: &str| {
        containers.iter().position(|c| c.name == name).expect("a container of the task")
    };
    let seconds = |text: &str| text.parse::<u32>().expect("a number");
    for text in line.take_all("after") {
        let parts: Vec<&str> = text.split(':').collect();
        let condition = Condition::ALL.into_iter().find(|c| c.name() == parts[2]).unwrap();
        let dependency = Dependency { container: parts[1].into(), condition };
        let at = of(containers, parts[0]);
        containers[at].depends_on.push(dependency);
    }
    for text in line.take_all("link") {
        let (name, container) = text.split_once(':').unwrap();
        let link = Link { container: container.into(), alias: container.into() };
        let at = of(containers, name);
        containers[at].links.push(link);
    }
    for text in line.take_all("within") {
        let (name, limit) = text.split_once(':').unwrap();
        let at = of(containers, name);
        containers[at].start_timeout_secs = Some(seconds(limit));
    }
    for text in line.take_all("checked") {
        let parts: Vec<&str> = text.split(':').collect();
        let mut check = HealthCheck::default();
        if let [_, interval, timeout, retries, start_period] = parts[..] {
            (check.interval_secs, check.timeout_secs) = (seconds(interval), seconds(timeout));
            (check.retries, check.start_period_secs) = (seconds(retries), seconds(start_period));
        }
        let at = of(containers, parts[0]);
        containers[at].health_check = Some(check);
    }
    for text in line.take_all("restarts") {
        let (name, codes) = text.split_once(':').unwrap_or((&text, ""));
        let codes = codes.split(',').filter(|c| !c.is_empty()).map(|c| c.parse().unwrap());
        let (enabled, ignored_exit_codes) = (true, codes.collect());
        let policy = RestartPolicy { enabled, ignored_exit_codes, ..RestartPolicy::default() };
        let at = of(containers, name);
        containers[at].restart_policy = Some(policy);
    }
}

fn event(line: &mut Line, at: Time) -> (TaskId, ContainerEvent) {
    let id = task(&line.word("a task").unwrap());
    let verb = line.verb.clone();
    let mut container =
        || -> Arc<str> { Arc::from(line.word("a container").unwrap_or_else(|_| "app".into())) };
    let event = match verb.as_str() {
        "pulling" => ContainerEvent::PullStarted,
        "pulled" => ContainerEvent::Pulled,
        "pull-failed" => {
            let reason = container();
            ContainerEvent::PullFailed {
                container: line.word("a container").ok().map(Arc::from),
                reason,
            }
        }
        "created" => ContainerEvent::Created {
            container: container(),
            status: ContainerStatus { pid: Some(7), ..ContainerStatus::default() },
        },
        "started" => ContainerEvent::Started { container: container(), at },
        "failed" => ContainerEvent::Failed { container: container(), reason: container() },
        "exited" => {
            let container = container();
            let exit_code = line.number("code").unwrap();
            let oom_killed = line.flag("oom");
            ContainerEvent::Exited { container, exit_code, oom_killed, at }
        }
        "deleted" => ContainerEvent::Deleted,
        "restarted" => ContainerEvent::Restarted { container: container(), pid: Some(8), at },
        "checked" => {
            let container = container();
            let number = line.number("number").unwrap().expect("number=");
            let outcome = line.take("failed").map_or(Ok(()), |why| Err(Arc::from(why)));
            ContainerEvent::Checked { container, number, outcome }
        }
        other => panic!("unknown line {other:?}"),
    };
    (id, event)
}

fn show(output: &WorkerOutput) -> String {
    match output {
        WorkerOutput::Pull(a) => format!("pull {}", name(a.task)),
        WorkerOutput::Create { assignment, container } => {
            format!("create {} {container}", name(assignment.task))
        }
        WorkerOutput::Start { task, container } => format!("start {} {container}", name(*task)),
        WorkerOutput::Stopping { task } => format!("stopping {}", name(*task)),
        WorkerOutput::Signal { task, container, signal: Signal::Stop } => {
            format!("signal {} {container} stop", name(*task))
        }
        WorkerOutput::Signal { task, container, signal: Signal::Kill } => {
            format!("signal {} {container} kill", name(*task))
        }
        WorkerOutput::Delete { task } => format!("delete {}", name(*task)),
        WorkerOutput::Restart { task, container } => format!("restart {} {container}", name(*task)),
        WorkerOutput::Check { task, container, number, .. } => {
            format!("check {} {container} #{number}", name(*task))
        }
        WorkerOutput::Report { sequence, reports } => {
            let all: Vec<String> = reports.iter().map(show_report).collect();
            format!("report #{sequence} {}", all.join("; "))
        }
        WorkerOutput::Obeyed { epoch, revision } => format!("obeyed {epoch} {revision}"),
        WorkerOutput::AskForContact(on) => format!("asks for contact: {on}"),
        WorkerOutput::WakeAt(at) => format!("wake @{}ms", at.since(BEGIN).0),
    }
}

fn show_report(report: &TaskReport) -> String {
    let seen = &report.observed;
    let mut line = format!("{} {:?}", name(report.task), seen.phase);
    if let Some(code) = seen.stop_code {
        let _ = write!(line, " {code:?}");
    }
    if let Some(reason) = &seen.reason {
        let _ = write!(line, " ({reason})");
    }
    for container in &seen.containers {
        let _ = write!(line, " {}:{:?}", container.name, container.phase);
        if let Some(code) = container.exit_code {
            let _ = write!(line, "={code}");
        }
        if let Some(reason) = &container.reason {
            let _ = write!(line, "({reason})");
        }
        if container.health != HealthStatus::Unknown {
            let _ = write!(line, "[{}]", container.health.name());
        }
        if container.restarts > 0 {
            let _ = write!(line, "x{}", container.restarts);
        }
    }
    line
}

#[test]
fn the_worker_decides_as_recorded() {
    for path in stage::scripts("worker") {
        let text = std::fs::read_to_string(&path).expect("unreadable script");
        let mut bench = Bench::new();
        let now = record(&text, |lines| {
            if lines.first() == Some(&"new worker") {
                bench = Bench::new();
                return bench.block(&lines[1..]);
            }
            bench.block(lines)
        });
        stage::check(&path, &text, &now);
    }
}
