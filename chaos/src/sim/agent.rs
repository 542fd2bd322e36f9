//! One agent: a real `Worker` on a pretended machine, and what its disk remembers.
//!
//! It stands in for `node/agent`: orders are written down before they are obeyed, actions of one
//! container run one after the other, deleting a task comes last. It does not know what orders
//! mean. Invariant: the machine changes only by an action of the worker or by a container's own
//! end.

use super::machine::{Act, Machine};
use super::net::Up;
use super::setting::behaviour;
use super::strict::Leash;
use super::world::{Event, World, short};
use muster_control::io::{ContainerEvent, Signal, WorkerInput, WorkerOutput};
use muster_control::worker::Worker;
use muster_model::dispatch::{Assignments, Held};
use muster_model::{ClusterId, Epoch, Index, InstanceId, Resources, SessionId, TaskId, Time};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Agent {
    pub id: InstanceId,
    pub cluster: ClusterId,
    pub zone: usize,
    pub up: bool,
    pub paused: Option<Time>,
    /// Its host is up.
    pub host: bool,
    /// Deregistered: its machine is switched off for good.
    pub retired: bool,
    /// Counts starts of the process.
    pub life: u64,
    /// Counts starts of the host.
    pub boot: u64,
    worker: Option<Worker>,
    /// On disk: the highest orders obeyed.
    obeyed: (Epoch, Index),
    pub machine: Machine,
    pub session: Option<SessionId>,
    pub dial: u64,
    pub hint: Option<usize>,
    pub refused: bool,
    wake_at: Option<Time>,
    /// Actions under way or waiting, by number.
    actions: BTreeMap<u64, Act>,
    next_action: u64,
    /// When the newest action of a container, or of a task as a whole, is done.
    lanes: BTreeMap<(TaskId, Option<Arc<str>>), Time>,
    total: Resources,
    /// Milliseconds its clock is ahead; below zero: behind.
    skew: i64,
    pub leash: Leash,
}

impl Agent {
    pub fn new(
        id: InstanceId,
        cluster: ClusterId,
        zone: usize,
        total: Resources,
        skew: i64,
    ) -> Self {
        Self {
            id,
            cluster,
            zone,
            up: false,
            paused: None,
            host: true,
            retired: false,
            life: 0,
            boot: 0,
            worker: None,
            obeyed: (Epoch(0), Index(0)),
            machine: Machine::new(total),
            session: None,
            dial: 0,
            hint: None,
            refused: false,
            wake_at: None,
            actions: BTreeMap::new(),
            next_action: 0,
            lanes: BTreeMap::new(),
            total,
            skew,
            leash: Leash::default(),
        }
    }

    pub fn worker_obeyed(&self) -> (Epoch, Index) {
        self.worker.as_ref().map_or(self.obeyed, Worker::obeyed)
    }

    pub fn inventory(&self) -> Vec<Held> {
        self.worker.as_ref().map(Worker::inventory).unwrap_or_default()
    }
}

impl World {
    pub fn agent_clock(&self, agent: usize) -> Time {
        Time(self.now.0.saturating_add_signed(self.agents[agent].skew))
    }

    // ---- the process ----

    pub fn start_agent(&mut self, agent: usize) {
        let a = &mut self.agents[agent];
        if a.up || !a.host || a.retired {
            return;
        }
        a.up = true;
        a.life += 1;
        a.wake_at = None;
        let worker = Worker::new(a.id, a.obeyed).with_capacity(a.total);
        a.worker = Some(worker.with_confirmed(a.leash.restart()));
        let found = a.machine.found();
        let tasks = found.len();
        self.say(&format!("a{agent} starts, finds {tasks} tasks"));
        self.tell_worker(agent, WorkerInput::Boot { found });
        self.dial_later(agent, 1, 200);
    }

    /// The process dies; containers live on. What it was about to do is done or not.
    pub fn kill_agent(&mut self, agent: usize) {
        if !self.agents[agent].up {
            return;
        }
        self.say(&format!("a{agent} is killed"));
        let a = &mut self.agents[agent];
        a.up = false;
        a.paused = None;
        a.worker = None;
        a.lanes.clear();
        let session = a.session.take();
        let actions = std::mem::take(&mut a.actions);
        for act in actions.into_values() {
            if self.dice.percent(50) {
                self.carry_out(agent, act);
            }
        }
        if let Some(session) = session {
            let host = self.agents[agent].host;
            self.agent_left(session, if host { 100 } else { 12_000 });
        }
    }

    /// Power is gone: every container with it. The disk remains.
    pub fn crash_host(&mut self, agent: usize) {
        if !self.agents[agent].host {
            return;
        }
        self.say(&format!("a{agent} loses its host"));
        self.agents[agent].host = false;
        self.agents[agent].actions.clear();
        self.kill_agent(agent);
        let now = self.agent_clock(agent);
        self.agents[agent].machine.lose_power(now);
        self.agents[agent].leash = Leash::default();
        self.agents[agent].boot += 1;
    }

    pub fn start_host(&mut self, agent: usize) {
        if !self.agents[agent].host && !self.agents[agent].retired {
            self.agents[agent].host = true;
            self.start_agent(agent);
        }
    }

    // ---- the brain ----

    pub fn hear_orders(&mut self, agent: usize, orders: Assignments) {
        let authority = (orders.epoch, orders.revision);
        let stale = authority < self.agents[agent].obeyed;
        self.counts.stale_orders += u64::from(stale);
        if !stale {
            let (id, life) = (self.agents[agent].id, self.agents[agent].life);
            let verdict = self.observers.orders(&self.log, (agent, life), id, &orders);
            self.judge("orders", verdict.map_err(|what| format!("a{agent}: {what}")));
        }
        let outputs = self.ask_worker(agent, WorkerInput::Assignments(orders));
        let verdict = self.observers.obedience(agent, authority, &outputs);
        self.judge("authority", verdict.map_err(|what| format!("a{agent}: {what}")));
        for output in outputs {
            self.obey(agent, output);
        }
    }

    pub fn tell_worker(&mut self, agent: usize, input: WorkerInput) {
        for output in self.ask_worker(agent, input) {
            self.obey(agent, output);
        }
    }

    fn ask_worker(&mut self, agent: usize, input: WorkerInput) -> Vec<WorkerOutput> {
        let now = self.agent_clock(agent);
        match &mut self.agents[agent].worker {
            Some(worker) => worker.handle(now, input),
            None => Vec::new(),
        }
    }

    pub fn wake_agent(&mut self, agent: usize, life: u64, at: Time) {
        let a = &mut self.agents[agent];
        if a.up && a.life == life && a.wake_at == Some(at) {
            a.wake_at = None;
            self.tell_worker(agent, WorkerInput::Tick);
        }
    }

    fn obey(&mut self, agent: usize, output: WorkerOutput) {
        match output {
            WorkerOutput::Obeyed { epoch, revision } => {
                self.agents[agent].obeyed = (epoch, revision);
            }
            WorkerOutput::Report { sequence, reports } => {
                if let Some(session) = self.agents[agent].session {
                    self.send_up(session, Up::Report { sequence, reports });
                }
            }
            WorkerOutput::WakeAt(at) => {
                let a = &mut self.agents[agent];
                a.wake_at = Some(at);
                let (life, due) = (a.life, Time(at.0.saturating_add_signed(-a.skew)));
                self.at(due, Event::Wake { agent, life, at });
            }
            WorkerOutput::Pull(assignment) => {
                let task = assignment.task;
                let family = assignment.family.to_string();
                self.agents[agent].machine.journal(&assignment);
                self.tell_worker_of(agent, task, ContainerEvent::PullStarted);
                let fails = behaviour(&family, "", self.calm()).pull_fails;
                let fails = self.dice.percent(fails);
                let slow = self.dice.percent(10);
                let high = if slow { 5000 } else { 300 };
                self.plan_act(agent, task, None, (5, high), Act::Pull { task, fails });
            }
            WorkerOutput::Create { assignment, container } => {
                let task = assignment.task;
                let name = Some(container.clone());
                let act = Act::Create { assignment, container };
                self.plan_act(agent, task, name, (5, 120), act);
            }
            WorkerOutput::Start { task, container } => {
                let verdict = self.observers.start(agent, self.agents[agent].life, task);
                self.judge("confirmed", verdict.map_err(|what| format!("a{agent}: {what}")));
                let family = self.agents[agent].machine.family(task);
                let how = behaviour(&family, &container, self.calm());
                let fails = self.dice.percent(how.start_fails);
                let name = Some(container.clone());
                let act = Act::Start { task, container, fails };
                self.plan_act(agent, task, name, (10, how.start_ms), act);
            }
            WorkerOutput::Stopping { task } => self.agents[agent].machine.stopping(task),
            WorkerOutput::Signal { task, container, signal } => {
                let slack = self.agents[agent].leash.is_slack(self.agent_clock(agent));
                let machine = &self.agents[agent].machine;
                let verdict = self.observers.signal((agent, slack), task, machine);
                self.judge("kills", verdict.map_err(|what| format!("a{agent}: {what}")));
                let name = Some(container.clone());
                let act = Act::Signal { task, container, signal };
                self.plan_act(agent, task, name, (1, 20), act);
            }
            WorkerOutput::Delete { task } => {
                self.plan_act(agent, task, None, (1, 100), Act::Delete { task });
            }
            WorkerOutput::AskForContact(on) => self.ask_for_contact(agent, on),
            WorkerOutput::Check { task, container, number, .. } => {
                let family = self.agents[agent].machine.family(task);
                let how = behaviour(&family, &container, self.calm());
                let fails = self.dice.percent(how.checks_fail);
                let act = Act::Check { task, container, number, fails };
                self.plan_act(agent, task, None, (5, 1500), act);
            }
            // No definition of `setting` has a policy.
            WorkerOutput::Restart { .. } => {}
        }
    }

    /// Queues an action behind those that must come before it.
    fn plan_act(
        &mut self,
        agent: usize,
        task: TaskId,
        container: Option<Arc<str>>,
        (low, high): (u64, u64),
        act: Act,
    ) {
        let span = self.dice.span(low, high);
        let deletes = matches!(act, Act::Delete { .. });
        let a = &mut self.agents[agent];
        let mine = |(of, name): &(TaskId, Option<Arc<str>>)| {
            *of == task && (deletes || *name == container)
        };
        let before = a.lanes.iter().filter(|(key, _)| mine(key)).map(|(_, at)| *at).max();
        // A check waits for nothing.
        let before = before.filter(|_| !matches!(act, Act::Check { .. }));
        let at = before.unwrap_or_default().max(self.now) + span;
        // A pull holds up nothing: it is given up when its task is deleted. Nor does a check.
        if !matches!(act, Act::Pull { .. } | Act::Check { .. }) {
            a.lanes.insert((task, container), at);
        }
        a.next_action += 1;
        let action = a.next_action;
        a.actions.insert(action, act);
        self.at(at, Event::Act { agent, action });
    }

    pub fn act(&mut self, agent: usize, action: u64) {
        if let Some(act) = self.agents[agent].actions.remove(&action) {
            for (task, event) in self.carry_out(agent, act) {
                self.tell_worker_of(agent, task, event);
            }
        }
    }

    fn tell_worker_of(&mut self, agent: usize, task: TaskId, event: ContainerEvent) {
        self.tell_worker(agent, WorkerInput::Container { task, event });
    }

    /// Does it; the events are for an agent that still listens.
    fn carry_out(&mut self, agent: usize, act: Act) -> Vec<(TaskId, ContainerEvent)> {
        let now = self.agent_clock(agent);
        let text = format!("a{agent} {}", act.shown());
        self.say(&text);
        match &act {
            Act::Start { task, container, fails: false } => {
                self.counts.containers += 1;
                let verdict = self.observers.started(*task, container);
                self.judge("once", verdict);
                self.judge_strict(agent, *task);
                self.plan_end(agent, *task, container);
            }
            Act::Signal { task, container, signal } => {
                self.strike_container(agent, *task, container, *signal);
            }
            Act::Delete { task } => {
                let a = &mut self.agents[agent];
                let given_up = |other: &Act| match other {
                    Act::Pull { task: of, .. } | Act::Check { task: of, .. } => of == task,
                    _ => false,
                };
                a.actions.retain(|_, other| !given_up(other));
                a.lanes.retain(|(of, _), _| of != task);
            }
            _ => {}
        }
        let started = match &act {
            Act::Start { task, fails: false, .. } => Some(*task),
            _ => None,
        };
        let events = self.agents[agent].machine.act(now, act);
        let a = &self.agents[agent];
        let strict = |task: &TaskId| {
            let hold = a.machine.tasks.get(task);
            hold.is_some_and(|hold| hold.assignment.fencing_token.is_some())
        };
        if let Some(task) = started.filter(strict) {
            self.look_at_leash(agent, a.boot, task);
        }
        let a = &self.agents[agent];
        let cluster = self.log.state().cluster(a.cluster).map(|row| row.name.clone());
        let verdict = self.observers.machine(&a.machine, cluster.as_deref());
        self.judge("capacity", verdict.map_err(|what| format!("a{agent}: {what}")));
        events
    }

    /// Containers of some families end by themselves.
    fn plan_end(&mut self, agent: usize, task: TaskId, container: &Arc<str>) {
        let family = self.agents[agent].machine.family(task);
        let how = behaviour(&family, container, self.calm());
        if let Some((within, code)) = how.ends {
            let boot = self.agents[agent].boot;
            let container = container.clone();
            self.after(1, within, Event::Exit { agent, boot, task, container, code });
        }
    }

    fn strike_container(
        &mut self,
        agent: usize,
        task: TaskId,
        container: &Arc<str>,
        signal: Signal,
    ) {
        let family = self.agents[agent].machine.family(task);
        let how = behaviour(&family, container, self.calm());
        let (code, high) = match signal {
            Signal::Stop if how.ignores_stop => return,
            Signal::Stop => (143, 1200),
            Signal::Kill => (137, 20),
        };
        let boot = self.agents[agent].boot;
        let container = container.clone();
        self.after(1, high, Event::Exit { agent, boot, task, container, code });
    }

    /// A container ends, if it still runs.
    pub fn exit(
        &mut self,
        agent: usize,
        boot: u64,
        task: TaskId,
        container: &Arc<str>,
        code: Option<i32>,
    ) {
        let at = self.agent_clock(agent);
        // Sick containers that still run when the faults end are well from then on.
        let by_itself = code.is_some_and(|code| (1..128).contains(&code));
        if by_itself && self.calm() {
            return;
        }
        let a = &mut self.agents[agent];
        if a.boot != boot || !a.machine.end(task, container, code, at) {
            return;
        }
        self.say(&format!("a{agent} {} {container} exits with {code:?}", short(task)));
        let exit_code = code;
        let container = container.clone();
        let event = ContainerEvent::Exited { container, exit_code, oom_killed: false, at };
        self.tell_worker_of(agent, task, event);
    }
}
