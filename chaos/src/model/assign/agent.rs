//! The agent of the model: the real `Worker`, on a machine of two tasks with one container each.
//!
//! It mirrors `node/agent`: what is begun is journalled first (`journal.rs`), actions of a task are
//! carried out one after the other (`drive/lanes.rs`), and a new agent finds what the machine has
//! (`collector.rs`). Time stands still: a container that is told to stop does so at once, without a
//! SIGKILL. Invariant: the machine changes only by an action of the worker, or by a container's
//! own end.

use super::rows::{Reports, Rows, TASKS, Verb, Word};
use muster_control::io::{ContainerEvent, Found, FoundContainer, WorkerInput, WorkerOutput};
use muster_control::worker::Worker;
use muster_model::dispatch::{Assignment, Assignments, Order};
use muster_model::spec::{ContainerDefinition, TaskDefinition};
use muster_model::task::ContainerStatus;
use muster_model::{Epoch, Index, InstanceId, Phase, Revision, TaskId, Time};
use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};

const NOW: Time = Time(0);

// Shared by all states, of which there are many.
static NAME: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("c"));
static SPEC: LazyLock<Arc<TaskDefinition>> = LazyLock::new(|| {
    let name = NAME.to_string();
    let container = ContainerDefinition { name, essential: true, ..ContainerDefinition::default() };
    Arc::new(TaskDefinition { containers: vec![container], ..TaskDefinition::default() })
});

/// Life of a task's only container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Life {
    /// Journalled, nothing of it was started.
    Begun,
    Running,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Hold {
    pub life: Life,
    stopping: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Act {
    /// Its image arrives; it is created and started in the same moment.
    Pull,
}

/// The worker's brain, and a print of all that it remembers: brains with one print are one state.
#[derive(Clone)]
struct Brain {
    worker: Arc<Worker>,
    print: u64,
}

struct Printer(DefaultHasher);

impl Write for Printer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl Brain {
    fn new(worker: Worker) -> Self {
        let mut printer = Printer(DefaultHasher::new());
        // A hasher takes everything.
        let _ = write!(printer, "{worker:?}");
        Self { worker: Arc::new(worker), print: printer.0.finish() }
    }
}

impl PartialEq for Brain {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl Hash for Brain {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.print.hash(to);
    }
}

impl fmt::Debug for Brain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.worker.inventory())
    }
}

#[derive(Clone, Debug, PartialEq, Hash)]
pub(super) struct Agent {
    brain: Brain,
    pub holds: [Option<Hold>; TASKS],
    /// What the machine is to do next, per task; dies with the process.
    pub acts: [Vec<Act>; TASKS],
    /// How often each task was started.
    pub starts: [u8; TASKS],
}

/// What the worker's shell sees of what it did.
#[derive(Debug)]
pub(super) enum Deed {
    Report(u64, Reports),
    Started(u8),
    Signalled(u8),
}

impl Agent {
    pub fn new() -> Self {
        Self {
            brain: Brain::new(Worker::new(instance(), (Epoch(0), Index(0)))),
            holds: [None; TASKS],
            acts: Default::default(),
            starts: [0; TASKS],
        }
    }

    /// Whether the machine and the committed rows say the same of every task.
    pub fn agrees(&self, rows: &Rows) -> bool {
        let alive = |hold: &Hold| hold.life == Life::Running;
        rows.iter().zip(&self.holds).all(|(row, hold)| match row {
            Some(row) if row.wanted() => {
                row.seen == Phase::Running && hold.as_ref().is_some_and(alive)
            }
            // Its end is recorded, and nothing of it is left.
            Some(row) => row.ended() && hold.is_none(),
            None => hold.is_none(),
        })
    }

    pub fn obeyed(&self) -> (u8, u8) {
        let (epoch, revision) = self.brain.worker.obeyed();
        (epoch.0 as u8, revision.0 as u8)
    }

    pub fn inventory(&self) -> Vec<u8> {
        self.brain.worker.inventory().iter().map(|held| number(held.task)).collect()
    }

    /// A new process on the same machine, which remembers what it obeyed.
    pub fn restart(&mut self, obeyed: (u8, u8)) -> Vec<Deed> {
        let obeyed = (Epoch(obeyed.0.into()), Index(obeyed.1.into()));
        self.brain = Brain::new(Worker::new(instance(), obeyed));
        self.acts = Default::default();
        let held = (0u8..).zip(self.holds);
        let found = held.filter_map(|(task, hold)| Some(found(task, hold?))).collect();
        self.tell(WorkerInput::Boot { found })
    }

    pub fn hear(&mut self, words: &[Word]) -> Vec<Deed> {
        let mut deeds = Vec::new();
        for word in words {
            let orders = word.order.map(|(verb, task)| match verb {
                Verb::Run => Order::Run(Box::new(assignment(task))),
                Verb::Stop => Order::Stop(id(task)),
                Verb::Forget => Order::Forget(id(task)),
            });
            let (epoch, revision) = (Epoch(word.epoch.into()), Index(word.revision.into()));
            let orders = orders.into_iter().collect();
            let orders = Assignments { epoch, revision, complete: word.complete, orders };
            deeds.extend(self.tell(WorkerInput::Assignments(orders)));
        }
        deeds
    }

    /// The next action of a task is carried out.
    pub fn act(&mut self, task: u8) -> Vec<Deed> {
        match self.acts[usize::from(task)].remove(0) {
            Act::Pull => {
                self.tell(WorkerInput::Container { task: id(task), event: ContainerEvent::Pulled })
            }
        }
    }

    /// Its container ends by itself.
    pub fn end(&mut self, task: u8) -> Vec<Deed> {
        let event = self.ended(task);
        event
            .map(|event| self.tell(WorkerInput::Container { task: id(task), event }))
            .unwrap_or_default()
    }

    fn ended(&mut self, task: u8) -> Option<ContainerEvent> {
        let hold = self.holds[usize::from(task)].as_mut()?;
        if hold.life != Life::Running {
            return None;
        }
        hold.life = Life::Ended;
        let (exit_code, oom_killed, at) = (Some(0), false, NOW);
        Some(ContainerEvent::Exited { container: name(), exit_code, oom_killed, at })
    }

    pub fn tell(&mut self, input: WorkerInput) -> Vec<Deed> {
        let mut worker = Worker::clone(&self.brain.worker);
        let mut inputs = VecDeque::from([input]);
        let mut deeds = Vec::new();
        while let Some(input) = inputs.pop_front() {
            for output in worker.handle(NOW, input) {
                let event = self.perform(output, &mut deeds);
                inputs.extend(event.map(|(task, event)| WorkerInput::Container { task, event }));
            }
        }
        self.brain = Brain::new(worker);
        deeds
    }

    fn perform(
        &mut self,
        output: WorkerOutput,
        deeds: &mut Vec<Deed>,
    ) -> Option<(TaskId, ContainerEvent)> {
        match output {
            WorkerOutput::Pull(assignment) => {
                let task = usize::from(number(assignment.task));
                self.holds[task].get_or_insert(Hold { life: Life::Begun, stopping: false });
                self.acts[task].push(Act::Pull);
                None
            }
            WorkerOutput::Create { assignment, container } => {
                let status = ContainerStatus::default();
                Some((assignment.task, ContainerEvent::Created { container, status }))
            }
            WorkerOutput::Start { task, container } => {
                let at = usize::from(number(task));
                if let Some(hold) = &mut self.holds[at] {
                    hold.life = Life::Running;
                }
                self.starts[at] += 1;
                deeds.push(Deed::Started(number(task)));
                Some((task, ContainerEvent::Started { container, at: NOW }))
            }
            WorkerOutput::Stopping { task } => {
                if let Some(hold) = &mut self.holds[usize::from(number(task))] {
                    hold.stopping = true;
                }
                None
            }
            WorkerOutput::Signal { task, .. } => {
                deeds.push(Deed::Signalled(number(task)));
                self.ended(number(task)).map(|event| (task, event))
            }
            WorkerOutput::Delete { task } => {
                let at = usize::from(number(task));
                self.holds[at] = None;
                // A pull is given up when its task is deleted.
                self.acts[at].clear();
                Some((task, ContainerEvent::Deleted))
            }
            WorkerOutput::Report { sequence, reports } => {
                let said = reports.iter().map(|r| (number(r.task), r.observed.phase));
                deeds.push(Deed::Report(sequence, said.collect()));
                None
            }
            // What was obeyed is asked of the worker when the process ends.
            WorkerOutput::Obeyed { .. } | WorkerOutput::WakeAt(_) => None,
            // Its tasks are nobody's singletons.
            WorkerOutput::AskForContact(_) => None,
            // Its container has neither a policy nor a check.
            WorkerOutput::Restart { .. } | WorkerOutput::Check { .. } => None,
        }
    }
}

fn instance() -> InstanceId {
    InstanceId::from_bits(1)
}

fn id(task: u8) -> TaskId {
    TaskId::from_bits(u128::from(task))
}

fn number(task: TaskId) -> u8 {
    task.bits() as u8
}

fn name() -> Arc<str> {
    NAME.clone()
}

fn assignment(task: u8) -> Assignment {
    Assignment {
        task: id(task),
        account: NAME.clone(),
        region: NAME.clone(),
        cluster: NAME.clone(),
        family: NAME.clone(),
        revision: Revision(1),
        group: NAME.clone(),
        spec: SPEC.clone(),
        ports: Vec::new(),
        trace: None,
        fencing_token: None,
        instance_metadata: false,
        digests: Default::default(),
    }
}

fn found(task: u8, hold: Hold) -> Found {
    let status = ContainerStatus { phase: Phase::Running, ..ContainerStatus::default() };
    let container = match hold.life {
        Life::Begun => FoundContainer::Missing,
        Life::Running => FoundContainer::Running { status, started_at: NOW },
        Life::Ended => FoundContainer::Exited {
            status: ContainerStatus { exit_code: Some(0), ..status },
            started_at: Some(NOW),
            finished_at: NOW,
        },
    };
    let containers = vec![(name(), container)];
    Found { assignment: assignment(task), stopping: hold.stopping, containers }
}
