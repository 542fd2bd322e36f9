//! A machine for the worker's brain: it does what it is told, sometimes badly, and checks that
//! it is told nothing that breaks a law. The manager beside it says what it wants, again whenever
//! a session opens, and forgets a task once its end was acknowledged.

mod restart;
mod together;

use muster_control::io::{ContainerEvent, Signal, WorkerInput, WorkerOutput};
use muster_control::worker::Worker;
use muster_model::dispatch::{Assignment, Assignments, Order};
use muster_model::spec::{ContainerDefinition, PortMapping, Protocol, TaskDefinition};
use muster_model::task::ContainerStatus;
use muster_model::{
    Epoch, Index, InstanceId, Millis, Phase, Resources, Revision, SessionId, TaskId, TaskReport,
    Time,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

const TOTAL: Resources = Resources { cpu: 1024, memory_mib: 1024 };
const GPUS: u32 = 1;

#[derive(Clone, Debug)]
pub enum Op {
    Run {
        cpu: u8,
        port: bool,
        containers: u8,
    },
    Stop(u8),
    /// An order of an epoch that has ended.
    Stale(u8),
    /// The machine does the next thing it was told; badly, if so.
    Act {
        badly: bool,
    },
    Exit(u8),
    Reconnect,
    Lose,
    Ack,
    Restart,
    Wait(u8),
}

pub fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1u8..5, any::<bool>(), 1u8..4)
            .prop_map(|(cpu, port, containers)| Op::Run { cpu, port, containers }),
        2 => (0u8..6).prop_map(Op::Stop),
        1 => (0u8..6).prop_map(Op::Stale),
        12 => prop::bool::weighted(0.1).prop_map(|badly| Op::Act { badly }),
        2 => (0u8..6).prop_map(Op::Exit),
        2 => Just(Op::Reconnect),
        1 => Just(Op::Lose),
        4 => Just(Op::Ack),
        1 => Just(Op::Restart),
        2 => (0u8..40).prop_map(Op::Wait),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Real {
    Created,
    Running,
    Exited,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    Run,
    Stop,
    Forget,
}

pub struct Machine {
    pub worker: Worker,
    now: Time,
    revision: u64,
    next_task: u128,
    session: Option<u128>,
    sessions: u128,
    /// What the managers want, and what they were told and acknowledged.
    pub wants: BTreeMap<TaskId, Want>,
    pub seen: BTreeMap<TaskId, Phase>,
    unacked: VecDeque<(u64, Vec<TaskReport>)>,
    assignments: BTreeMap<TaskId, Assignment>,
    // ---- the machine ----
    pub journal: BTreeSet<TaskId>,
    stopping: BTreeSet<TaskId>,
    pub real: BTreeMap<(TaskId, Arc<str>), Real>,
    to_do: VecDeque<WorkerOutput>,
    obeyed: (Epoch, Index),
    /// Tasks that may be signalled: ordered to stop, or one of their essential containers ended,
    /// or one that another waits for never started.
    may_signal: BTreeSet<TaskId>,
    /// Tasks of which nothing may be started any more.
    sealed: BTreeSet<TaskId>,
    /// Containers whose health check has passed.
    passed: BTreeSet<(TaskId, Arc<str>)>,
}

fn gpus(units: u32) -> BTreeMap<String, u32> {
    (units > 0).then(|| ("GPU".to_owned(), units)).into_iter().collect()
}

impl Machine {
    pub fn new() -> Self {
        Self {
            worker: Worker::new(InstanceId::from_bits(1), (Epoch(0), Index(0)))
                .with_capacity(TOTAL)
                .with_resources(gpus(GPUS)),
            now: Time(1_000_000),
            revision: 1,
            next_task: 1,
            session: None,
            sessions: 0,
            wants: BTreeMap::new(),
            seen: BTreeMap::new(),
            unacked: VecDeque::new(),
            assignments: BTreeMap::new(),
            journal: BTreeSet::new(),
            stopping: BTreeSet::new(),
            real: BTreeMap::new(),
            to_do: VecDeque::new(),
            obeyed: (Epoch(0), Index(0)),
            may_signal: BTreeSet::new(),
            sealed: BTreeSet::new(),
            passed: BTreeSet::new(),
        }
    }

    pub fn run(&mut self, op: &Op) {
        match op {
            Op::Run { cpu, port, containers } => self.assign(*cpu, *port, *containers),
            Op::Stop(which) => {
                let running: Vec<TaskId> =
                    self.wants.iter().filter(|(_, w)| **w == Want::Run).map(|(t, _)| *t).collect();
                if let Some(task) = running.get(usize::from(*which) % running.len().max(1)) {
                    self.want(*task, Want::Stop);
                }
            }
            Op::Stale(which) => {
                let all: Vec<TaskId> = self.wants.keys().copied().collect();
                if let Some(task) = all.get(usize::from(*which) % all.len().max(1)) {
                    let orders = vec![Order::Forget(*task)];
                    let (epoch, revision) = (Epoch(1), Index(u64::MAX));
                    let stale = Assignments { epoch, revision, complete: true, orders };
                    if self.obeyed.0 > epoch {
                        self.tell(WorkerInput::Assignments(stale));
                    }
                }
            }
            Op::Act { badly } => self.act(*badly),
            Op::Exit(which) => self.exit(*which),
            Op::Reconnect => self.connect(),
            Op::Lose => {
                self.session = None;
                self.tell(WorkerInput::Lost);
            }
            Op::Ack => self.ack(),
            Op::Restart => self.restart(),
            Op::Wait(seconds) => {
                self.now = self.now + Millis::from_secs(u64::from(*seconds));
                self.tell(WorkerInput::Tick);
            }
        }
        self.check();
    }

    fn assign(&mut self, cpu: u8, port: bool, containers: u8) {
        let id = TaskId::from_bits(self.next_task);
        self.next_task += 1;
        let containers: Vec<ContainerDefinition> = (0..containers)
            .map(|n| ContainerDefinition {
                name: format!("c{n}"),
                essential: n != 2,
                port_mappings: Vec::new(),
                ..ContainerDefinition::default()
            })
            .collect();
        let mut spec = TaskDefinition {
            containers,
            cpu: Some(u32::from(cpu) * 256),
            memory_mib: Some(64),
            ..TaskDefinition::default()
        };
        together::live(&mut spec.containers, cpu);
        // Every other size wants a GPU as well.
        spec.containers[0].resource_requirements = gpus(u32::from(cpu) % 2);
        if port {
            spec.containers[0].port_mappings.push(PortMapping {
                name: None,
                container_port: 80,
                host_port: 80,
                protocol: Protocol::Tcp,
                app_protocol: None,
            });
        }
        let assignment = Assignment {
            task: id,
            account: "000000000000".into(),
            region: "local".into(),
            cluster: Arc::from("default"),
            family: Arc::from("web"),
            revision: Revision(1),
            group: Arc::from("service:web"),
            spec: Arc::new(spec),
            ports: if port { vec![80] } else { Vec::new() },
            trace: None,
            fencing_token: None,
            instance_metadata: false,
            digests: Default::default(),
        };
        self.assignments.insert(id, assignment);
        self.want(id, Want::Run);
    }

    fn want(&mut self, task: TaskId, want: Want) {
        self.wants.insert(task, want);
        self.revision += 1;
        if self.session.is_some() {
            let order = self.order(task);
            self.send(vec![order], false);
        }
    }

    fn order(&self, task: TaskId) -> Order {
        match self.wants[&task] {
            Want::Run => Order::Run(Box::new(self.assignments[&task].clone())),
            Want::Stop => Order::Stop(task),
            Want::Forget => Order::Forget(task),
        }
    }

    fn send(&mut self, orders: Vec<Order>, complete: bool) {
        for order in &orders {
            if let Order::Stop(task) | Order::Forget(task) = order {
                self.may_signal.insert(*task);
                self.sealed.insert(*task);
            }
        }
        let (epoch, revision) = (Epoch(2), Index(self.revision));
        self.tell(WorkerInput::Assignments(Assignments { epoch, revision, complete, orders }));
    }

    fn connect(&mut self) {
        self.sessions += 1;
        self.session = Some(self.sessions);
        self.unacked.clear();
        let inventory = self.worker.inventory();
        self.tell(WorkerInput::Connected(SessionId::from_bits(self.sessions)));
        let mut orders: Vec<Order> = Vec::new();
        for (task, want) in &self.wants {
            if *want != Want::Forget {
                orders.push(self.order(*task));
            }
        }
        let known = |task| matches!(self.wants.get(task), Some(Want::Run | Want::Stop));
        let strange = inventory.iter().filter(|held| !known(&held.task));
        orders.extend(strange.map(|held| Order::Forget(held.task)));
        self.send(orders, true);
    }

    fn ack(&mut self) {
        let Some((sequence, reports)) = self.unacked.pop_front() else { return };
        self.tell(WorkerInput::Acked { sequence });
        for report in reports {
            let seen = self.seen.entry(report.task).or_default();
            *seen = (*seen).max(report.observed.phase);
            if *seen == Phase::Stopped && self.wants.get(&report.task) != Some(&Want::Forget) {
                self.want(report.task, Want::Forget);
            }
        }
    }

    fn exit(&mut self, which: u8) {
        let running: Vec<(TaskId, Arc<str>)> = self
            .real
            .iter()
            .filter(|(_, real)| **real == Real::Running)
            .map(|(key, _)| key.clone())
            .collect();
        if let Some((task, container)) = running.get(usize::from(which) % running.len().max(1)) {
            self.ended(*task, container.clone());
        }
    }

    fn ended(&mut self, task: TaskId, container: Arc<str>) {
        self.real.insert((task, container.clone()), Real::Exited);
        self.essential_ended(task, &container);
        let (exit_code, oom_killed, at) = (Some(0), false, self.now);
        let event = ContainerEvent::Exited { container, exit_code, oom_killed, at };
        self.tell(WorkerInput::Container { task, event });
    }

    fn essential_ended(&mut self, task: TaskId, container: &str) {
        let spec = &self.assignments[&task].spec;
        if spec.containers.iter().any(|c| c.name == container && c.essential) {
            self.may_signal.insert(task);
            self.sealed.insert(task);
        }
    }

    /// The machine does the next thing on its list.
    fn act(&mut self, badly: bool) {
        let Some(output) = self.to_do.pop_front() else { return };
        match output {
            WorkerOutput::Pull(a) => {
                let task = a.task;
                self.tell(WorkerInput::Container { task, event: ContainerEvent::PullStarted });
                let event = match badly {
                    true => {
                        // A half started task whose second pull fails is taken down.
                        self.may_signal.insert(task);
                        self.sealed.insert(task);
                        ContainerEvent::PullFailed { container: None, reason: Arc::from("no") }
                    }
                    false => ContainerEvent::Pulled,
                };
                self.tell(WorkerInput::Container { task, event });
            }
            WorkerOutput::Create { assignment, container } => {
                let task = assignment.task;
                let key = (task, container.clone());
                assert!(!self.real.contains_key(&key), "{key:?} is created twice");
                let event = match badly {
                    true => self.never_started(task, container),
                    false => {
                        self.real.insert(key, Real::Created);
                        ContainerEvent::Created { container, status: ContainerStatus::default() }
                    }
                };
                self.tell(WorkerInput::Container { task, event });
            }
            WorkerOutput::Start { task, container } => {
                let key = (task, container.clone());
                assert_eq!(self.real.get(&key), Some(&Real::Created), "{key:?}");
                let event = match badly {
                    true => {
                        self.real.insert(key, Real::Exited);
                        self.never_started(task, container)
                    }
                    false => {
                        self.real.insert(key, Real::Running);
                        ContainerEvent::Started { container, at: self.now }
                    }
                };
                self.tell(WorkerInput::Container { task, event });
            }
            WorkerOutput::Signal { task, container, signal } => {
                // A container may ignore the stop signal, never the kill.
                match self.real.get(&(task, container.clone())) {
                    Some(Real::Running) if signal == Signal::Kill || !badly => {
                        self.ended(task, container);
                    }
                    Some(Real::Created) if signal == Signal::Kill => {
                        self.real.insert((task, container), Real::Exited);
                    }
                    _ => {}
                }
            }
            WorkerOutput::Restart { task, container } => self.restart_one(task, container, badly),
            WorkerOutput::Check { task, container, number, .. } => {
                self.check_one(task, container, number, badly);
            }
            WorkerOutput::Delete { task } => {
                self.real.retain(|(t, _), _| *t != task);
                self.journal.remove(&task);
                self.tell(WorkerInput::Container { task, event: ContainerEvent::Deleted });
            }
            _ => {}
        }
    }

    fn failed(&mut self, task: TaskId, container: Arc<str>) -> ContainerEvent {
        self.essential_ended(task, &container);
        ContainerEvent::Failed { container, reason: Arc::from("no") }
    }

    fn tell(&mut self, input: WorkerInput) {
        for output in self.worker.handle(self.now, input) {
            self.take(output);
        }
    }

    /// Notes what the worker wants, and whether it may want it.
    fn take(&mut self, output: WorkerOutput) {
        match &output {
            WorkerOutput::Obeyed { epoch, revision } => {
                assert!((*epoch, *revision) > self.obeyed, "authority goes back");
                self.obeyed = (*epoch, *revision);
            }
            WorkerOutput::Pull(a) => {
                assert!(!self.sealed.contains(&a.task), "pulls for what is to stop");
                self.journal.insert(a.task);
            }
            WorkerOutput::Create { assignment, .. } => {
                assert!(!self.sealed.contains(&assignment.task), "creates what is to stop");
            }
            WorkerOutput::Start { task, container } => {
                assert!(!self.sealed.contains(task), "starts what is to stop");
                self.may_start(*task, container);
            }
            WorkerOutput::Restart { task, .. } => {
                assert!(!self.sealed.contains(task), "restarts what is to stop");
            }
            WorkerOutput::Check { task, container, .. } => {
                let real = self.real.get(&(*task, container.clone()));
                assert!(matches!(real, Some(Real::Running | Real::Exited)), "checks {real:?}");
            }
            WorkerOutput::Stopping { task } => {
                self.stopping.insert(*task);
            }
            WorkerOutput::Signal { task, container, .. } => {
                self.may_stop(*task, container);
                assert!(self.may_signal.contains(task), "signals without an order");
                assert!(self.stopping.contains(task), "signals before it is written down");
            }
            WorkerOutput::Delete { task } => {
                let strange = self.wants.get(task).is_none_or(|want| *want == Want::Forget);
                assert!(strange, "deletes what was not forgotten");
                let lives = |((t, _), real): (&(TaskId, Arc<str>), &Real)| {
                    t == task && *real == Real::Running
                };
                assert!(!self.real.iter().any(lives), "deletes what lives");
            }
            WorkerOutput::Report { sequence, reports } => {
                assert!(self.session.is_some(), "reports to nobody");
                for report in reports {
                    let seen = self.seen.get(&report.task).copied().unwrap_or_default();
                    // What ended before anything of it ran leaves no trace for a restart to find;
                    // the managers ignore a lower phase and say forget.
                    let ran = self.real.keys().any(|(task, _)| *task == report.task);
                    let over = ran && seen == Phase::Stopped;
                    assert!(!over || report.observed.phase == Phase::Stopped, "rose again");
                }
                self.unacked.push_back((*sequence, reports.clone()));
            }
            WorkerOutput::AskForContact(_) => panic!("asks for contact without a strict task"),
            WorkerOutput::WakeAt(_) => {}
        }
        if !matches!(output, WorkerOutput::Report { .. } | WorkerOutput::WakeAt(_)) {
            self.to_do.push_back(output);
        }
    }

    /// Nothing ever holds more than there is.
    fn check(&self) {
        let alive: BTreeSet<TaskId> =
            self.real.iter().filter(|(_, r)| **r == Real::Running).map(|((t, _), _)| *t).collect();
        let used = alive.iter().map(|task| self.assignments[task].spec.reservation());
        let used = used.fold(Resources::default(), Resources::plus);
        assert!(used.fits_in(TOTAL), "{used:?} are in use");
        let named = |task: &TaskId| self.assignments[task].spec.named_reservation();
        let taken: u32 = alive.iter().filter_map(|task| named(task).remove("GPU")).sum();
        assert!(taken <= GPUS, "{taken} GPUs are in use");
        let ports = alive.iter().filter(|task| !self.assignments[task].ports.is_empty()).count();
        assert!(ports <= 1, "port 80 has {ports} holders");
    }

    /// From here on nothing fails: everything comes to where it was wanted.
    pub fn calm_down(&mut self) {
        self.connect();
        for _ in 0..2000 {
            self.now = self.now + Millis::from_secs(5);
            self.tell(WorkerInput::Tick);
            while !self.to_do.is_empty() {
                self.act(false);
                self.check();
            }
            while !self.unacked.is_empty() {
                self.ack();
            }
        }
    }
}
