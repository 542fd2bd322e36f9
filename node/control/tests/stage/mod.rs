//! A stage for the leader's brain: a world of text around it that applies what it proposes, when
//! told to, and says what came out, in names.

#![allow(dead_code)] // each test file uses a part of it

mod recorded;
mod steps;

#[allow(unused_imports, reason = "each test uses its part")]
pub use recorded::{check, scripts};

use muster_control::io::{LeaderInput, LeaderOutput, Mandate, Ticket};
use muster_control::leader::Leader;
use muster_model::dispatch::{Assignments, Held, Order};
use muster_model::fixture::{self, BEGIN, Line, Noun, World};
use muster_model::task::ContainerStatus;
use muster_model::{
    Command, Epoch, Error, HealthStatus, InstanceId, Observed, Phase, RaftId, Response, SessionId,
    State, TaskId, TaskReport, Time,
};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::Arc;

pub struct Stage {
    pub world: World,
    pub leader: Option<Leader>,
    /// Proposals, each with the state it was made on.
    pub pending: VecDeque<(Ticket, Command, State)>,
    shown: State,
    /// Steps of the last commit that were refused.
    pub refused: usize,
    sessions: BTreeMap<InstanceId, (SessionId, u64)>,
    /// What each agent was told of each task: `true` to run it.
    pub told: BTreeMap<InstanceId, BTreeMap<TaskId, bool>>,
    pub wake: Option<Time>,
    next_session: u128,
    named: u32,
    /// Nothing is written down: naming costs more than deciding.
    pub quiet: bool,
    out: String,
}

impl Stage {
    pub fn new() -> Self {
        Self {
            quiet: false,
            world: World::new(),
            leader: None,
            pending: VecDeque::new(),
            shown: State::default(),
            refused: 0,
            sessions: BTreeMap::new(),
            told: BTreeMap::new(),
            wake: None,
            next_session: 1,
            named: 0,
            out: String::new(),
        }
    }

    /// Lines that begin with `>` are for the leader, the others for the world.
    pub fn block(&mut self, lines: &[&str]) -> String {
        for line in lines {
            match line.strip_prefix('>') {
                Some(line) => self.direct(line.trim()),
                None => {
                    let answer = self.world.run(line);
                    if !answer.starts_with("ok") || line.starts_with("show") {
                        let _ = writeln!(self.out, "{}", answer.trim_end());
                    }
                }
            }
        }
        std::mem::take(&mut self.out)
    }

    fn direct(&mut self, text: &str) {
        let mut line = Line::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        match line.verb.as_str() {
            "lead" => self.lead(),
            "state" => self.show_state(),
            "tick" => {
                if let Ok(span) = line.word("a span") {
                    self.world.run(&format!("time {span}"));
                }
                self.tell(LeaderInput::Tick);
            }
            "wake" => {
                let at = self.wake.take().expect("no wake was asked for");
                let _ = writeln!(self.out, "woken {}", shown(at));
                self.world.at = self.world.at.max(at);
                self.tell(LeaderInput::Tick);
            }
            "hello" => {
                for instance in self.instances(&mut line) {
                    let held: Vec<Held> = line
                        .take_all("held")
                        .iter()
                        .map(|name| Held { task: self.world.task(name), phase: Phase::Running })
                        .collect();
                    self.hello(instance, held);
                }
            }
            "beat" => {
                let number = line.number("asks").expect("a number");
                for instance in self.instances(&mut line) {
                    self.beat(instance, number);
                }
            }
            "gone" => {
                for instance in self.instances(&mut line) {
                    if let Some((session, _)) = self.sessions.remove(&instance) {
                        self.tell(LeaderInput::Gone { instance, session });
                    }
                }
            }
            "up" => self.report_told(true, Phase::Running),
            "down" => self.report_told(false, Phase::Stopped),
            "report" => self.report_line(&mut line),
            "commit" => self.commit(),
            "settle" => {
                while !self.pending.is_empty() {
                    self.commit();
                }
            }
            "fail" => {
                let why = String::from("test");
                let error = match line.word("a fate").expect("a fate").as_str() {
                    "unknown" => Error::UnknownOutcome { why },
                    "unavailable" => Error::Unavailable { why },
                    _ => Error::StaleEpoch { refused: Epoch(1), current: Epoch(2) },
                };
                let (ticket, _, _) = self.pending.pop_front().expect("nothing is proposed");
                self.tell(LeaderInput::Proposed { ticket, result: Err(error) });
            }
            "counters" => {
                let counters = self.leader.as_ref().expect("no leader").counters();
                let _ = writeln!(self.out, "{counters:?}");
            }
            other => panic!("unknown direction {other:?}"),
        }
        line.done().unwrap_or_else(|why| panic!("{text}: {why}"));
    }

    fn instances(&self, line: &mut Line) -> Vec<InstanceId> {
        match line.words() {
            words if words == ["all"] => self.world.state.instances().map(|i| i.id).collect(),
            words => words.iter().map(|name| self.world.instance(name)).collect(),
        }
    }

    pub fn lead(&mut self) {
        self.world.run("takeover 1");
        let epoch = self.world.state.meta().epoch;
        let mandate = Mandate { manager: RaftId(1), epoch, seed: u128::from(epoch.0) };
        self.leader = Some(Leader::new(mandate, self.world.at));
        self.sessions.clear();
        self.pending.clear();
        self.wake = None;
        self.show_state();
    }

    pub fn show_state(&mut self) {
        self.shown = self.world.state.clone();
        self.tell(LeaderInput::State(Arc::new(self.world.state.clone())));
    }

    pub fn hello(&mut self, instance: InstanceId, inventory: Vec<Held>) {
        let session = SessionId::from_bits(self.next_session);
        self.next_session += 1;
        self.sessions.insert(instance, (session, 0));
        self.tell(LeaderInput::Hello { instance, session, inventory });
    }

    pub fn connected(&self, instance: InstanceId) -> bool {
        self.sessions.contains_key(&instance)
    }

    pub fn beat(&mut self, instance: InstanceId, number: Option<u64>) {
        if let Some((session, _)) = self.sessions.get(&instance).copied() {
            self.tell(LeaderInput::Heartbeat { instance, session, number });
        }
    }

    fn report_told(&mut self, run: bool, phase: Phase) {
        let told: Vec<(InstanceId, Vec<TaskId>)> = self
            .told
            .iter()
            .map(|(instance, tasks)| {
                let tasks = tasks.iter().filter(|(_, r)| **r == run).map(|(t, _)| *t).collect();
                (*instance, tasks)
            })
            .collect();
        for (instance, tasks) in told {
            let reports: Vec<TaskReport> = tasks
                .into_iter()
                .filter(|task| {
                    let row = self.world.state.task(*task);
                    row.is_some_and(|row| row.observed.phase < phase)
                })
                .map(|task| self.seen(task, instance, phase))
                .collect();
            if !reports.is_empty() {
                self.report(instance, reports);
            }
        }
    }

    pub fn seen(&self, task: TaskId, instance: InstanceId, phase: Phase) -> TaskReport {
        let row = self.world.state.task(task);
        let old = row.and_then(|row| row.observed.started_at);
        let started_at = old.or((phase == Phase::Running).then_some(self.world.at));
        let stopped_at = (phase == Phase::Stopped).then_some(self.world.at);
        let observed = Observed { phase, started_at, stopped_at, ..Observed::default() };
        TaskReport { task, instance, observed }
    }

    fn report_line(&mut self, line: &mut Line) {
        let task = self.world.task(&line.word("a task").expect("a task"));
        let phase = match line.word("a phase").expect("a phase").as_str() {
            "ACTIVATING" => Phase::Activating,
            "RUNNING" => Phase::Running,
            "STOPPING" => Phase::Stopping,
            _ => Phase::Stopped,
        };
        let placed = self.world.state.task(task).and_then(|row| row.instance);
        let instance = match line.take("on") {
            Some(name) => self.world.instance(&name),
            None => placed.expect("the task is not placed"),
        };
        let as_if = line.take("as").map(|name| self.world.instance(&name));
        let mut report = self.seen(task, as_if.unwrap_or(instance), phase);
        let exit_code = line.number("exit").expect("a code");
        let health = line.take("health").map(|text| match text.as_str() {
            "healthy" => HealthStatus::Healthy,
            "unhealthy" => HealthStatus::Unhealthy,
            other => panic!("{other:?} is no health"),
        });
        let image_digest = line.take("digest").map(|digit| fixture::digest(&digit));
        if health.is_some() || exit_code.is_some() || image_digest.is_some() {
            report.observed.containers.push(ContainerStatus {
                name: Arc::from("main"),
                phase,
                health: health.unwrap_or_default(),
                exit_code,
                image_digest,
                ..ContainerStatus::default()
            });
        }
        self.report(instance, vec![report]);
    }

    pub fn report(&mut self, instance: InstanceId, reports: Vec<TaskReport>) {
        let Some((session, sequence)) = self.sessions.get_mut(&instance) else { return };
        *sequence += 1;
        let (session, sequence) = (*session, *sequence);
        self.tell(LeaderInput::Report { instance, session, sequence, reports });
    }

    /// Applies the oldest proposal; the leader sees the state, then the answer.
    pub fn commit(&mut self) {
        let (ticket, command, _) = self.pending.pop_front().expect("nothing is proposed");
        let by = muster_model::ids::Principal::Manager(RaftId(1));
        let request = self.world.ids.request();
        let result = self.world.apply_as(by, request, command);
        self.refused = 0;
        if let Ok(Response::Plan { refused }) = &result {
            self.refused = refused.len();
            for (position, why) in refused.iter().filter(|_| !self.quiet) {
                let _ = writeln!(
                    self.out,
                    "refused {position}: {}",
                    self.world.named(&why.to_string())
                );
            }
        }
        self.show_state();
        self.tell(LeaderInput::Proposed { ticket, result });
    }

    pub fn tell(&mut self, input: LeaderInput) {
        let outputs = self.leader.as_mut().expect("no leader").handle(self.world.at, input);
        for output in outputs {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: LeaderOutput) {
        match output {
            LeaderOutput::Propose { ticket, command } => {
                if !self.quiet {
                    self.show_command(ticket, &command);
                }
                self.pending.push_back((ticket, command, self.shown.clone()));
            }
            LeaderOutput::Send { instance, session, assignments } => {
                if self.sessions.get(&instance).map(|s| s.0) == Some(session) {
                    self.show_orders(instance, &assignments);
                }
            }
            LeaderOutput::Ack { instance, sequence, .. } => {
                let name = self.instance_name(instance);
                let _ = writeln!(self.out, "ack {name} {sequence}");
            }
            LeaderOutput::Confirm { instance, heard, .. } => {
                let name = self.instance_name(instance);
                let _ = writeln!(self.out, "confirm {name} {}", heard.number);
            }
            LeaderOutput::Close { instance, session, why } => {
                let name = self.instance_name(instance);
                if !self.quiet {
                    let why = self.world.named(&why.to_string());
                    let _ = writeln!(self.out, "close {name}: {why}");
                }
                if self.sessions.get(&instance).map(|s| s.0) == Some(session) {
                    self.sessions.remove(&instance);
                }
            }
            LeaderOutput::WakeAt(at) => self.wake = Some(at),
        }
    }

    fn show_command(&mut self, ticket: Ticket, command: &Command) {
        match command {
            Command::Plan { steps, .. } => {
                let _ = writeln!(self.out, "plan #{}", ticket.0);
                for step in steps {
                    let line = self.show_step(step);
                    let _ = writeln!(self.out, "  {line}");
                }
            }
            Command::Report { reports } => {
                let all: Vec<String> = reports
                    .iter()
                    .map(|r| format!("{} {:?}", self.task_name(r.task), r.observed.phase))
                    .collect();
                let _ = writeln!(self.out, "reports #{}: {}", ticket.0, all.join(", "));
            }
            other => {
                let _ = writeln!(self.out, "propose #{}: {other:?}", ticket.0);
            }
        }
    }

    fn show_orders(&mut self, instance: InstanceId, assignments: &Assignments) {
        let mut line = format!("send {}", self.instance_name(instance));
        if assignments.complete {
            line.push_str(" complete");
        }
        let told = self.told.entry(instance).or_default();
        for order in &assignments.orders {
            match order {
                Order::Run(a) => told.insert(a.task, true),
                Order::Stop(task) => told.insert(*task, false),
                Order::Forget(task) => told.remove(task),
            };
        }
        if self.quiet {
            return;
        }
        for order in &assignments.orders {
            let _ = match order {
                Order::Run(a) => {
                    let mut run =
                        format!("; run {} {}:{}", self.task_name(a.task), a.family, a.revision);
                    for (container, digest) in &a.digests {
                        let digits: String = digest.chars().skip("sha256:".len()).take(4).collect();
                        let _ = write!(run, " {container}={digits}");
                    }
                    write!(line, "{run}")
                }
                Order::Stop(task) => write!(line, "; stop {}", self.task_name(*task)),
                Order::Forget(task) => write!(line, "; forget {}", self.task_name(*task)),
            };
        }
        let _ = writeln!(self.out, "{line}");
    }

    // ---- names ----

    fn readable(&self, text: &str) -> String {
        let mut text = self.world.named(text);
        for deployment in self.world.state.services().flat_map(|s| s.deployments.clone()) {
            let name = self.name(Noun::Deployment, deployment.id.bits());
            text = text.replace(&deployment.id.shown(), &format!("ecs-svc/{name}"));
        }
        for instance in self.world.state.instances() {
            let id = format!("container-instance {}", instance.id);
            let name = format!("container-instance {}", self.instance_name(instance.id));
            text = text.replace(&id, &name);
        }
        text
    }

    fn name(&self, noun: Noun, bits: u128) -> String {
        self.world.name_of(noun, bits)
    }

    pub fn task_name(&self, task: TaskId) -> String {
        self.name(Noun::Task, task.bits())
    }

    pub fn instance_name(&self, instance: InstanceId) -> String {
        self.name(Noun::Instance, instance.bits())
    }
}

fn shown(at: Time) -> String {
    format!("@{}ms", at.since(BEGIN).0)
}
