//! One task on this machine and its one next action.
//!
//! It decides how a task gets from assigned to running to stopped, and what its end is called. It
//! does not know other tasks (the ledger does), whose turn it is among its containers (`order`), or
//! whether a report arrived. Invariants: a stage never moves back; what depends on nothing starts
//! in the order of the definition; once the task is to stop, nothing of it is created or started
//! any more.

use super::contact::Contact;
use super::container::{Container, Life, OUT_OF_MEMORY, VANISHED};
use super::ledger::{Ledger, Verdict};
use super::order::{self, Turn};
use crate::io::{ContainerEvent, Ending, Found, FoundContainer, WorkerOutput};
use muster_model::dispatch::Assignment;
use muster_model::spec::TaskDefinition;
use muster_model::task::{StopCode, reason};
use muster_model::{Observed, Phase, TaskId, Time};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Found at boot before it had started: goes on only if a manager still wants it.
    Paused,
    New,
    Pulling,
    /// Images are here; waits for room in the ledger.
    Pulled,
    Starting,
    Running,
    Ended,
}

/// What `advance` leaves open.
#[derive(Debug, Default)]
pub(super) struct Next {
    pub look_again: Option<Time>,
    pub waits_for_room: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Work {
    pub id: TaskId,
    /// Grows with every change that a report shows.
    pub version: u64,
    /// `None`: an order to stop something this machine never had.
    assignment: Option<Arc<Assignment>>,
    stage: Stage,
    containers: Vec<Container>,
    /// When it came here.
    since: Time,
    /// Set once, when it is to stop, whoever said so.
    stopping: Option<Time>,
    /// Why it ended, if it was not ordered to.
    ending: Option<Ending>,
    pub(super) forget: bool,
    pub(super) deleting: bool,
    pull_started_at: Option<Time>,
    pull_stopped_at: Option<Time>,
    started_at: Option<Time>,
    stopped_at: Option<Time>,
}

impl Work {
    pub fn new(now: Time, assignment: Assignment) -> Self {
        let containers = assignment.spec.containers.iter().map(Container::new).collect();
        Self {
            id: assignment.task,
            assignment: Some(Arc::new(assignment)),
            containers,
            since: now,
            ..Self::unknown(TaskId::from_bits(0))
        }
    }

    /// The answer to an order to stop what is not here: it has stopped.
    pub fn unknown(id: TaskId) -> Self {
        Self {
            id,
            version: 1,
            assignment: None,
            stage: Stage::New,
            containers: Vec::new(),
            since: Time(0),
            stopping: None,
            ending: None,
            forget: false,
            deleting: false,
            pull_started_at: None,
            pull_stopped_at: None,
            started_at: None,
            stopped_at: None,
        }
    }

    /// Adopts what a restart found. Running containers stay as they are.
    pub fn found(now: Time, found: Found) -> Self {
        let mut work = Self::new(now, found.assignment);
        for (name, what) in found.containers {
            let Some(container) = work.containers.iter_mut().find(|c| c.status.name == name) else {
                continue;
            };
            match what {
                FoundContainer::Missing => {}
                FoundContainer::Running { status, started_at } => {
                    container.adopt(status, Life::Running, Phase::Running);
                    container.started(started_at);
                    work.started_at = work.started_at.max(Some(started_at));
                }
                FoundContainer::Exited { status, started_at, finished_at } => {
                    container.started_at = started_at;
                    if started_at.is_some() && status.exit_code.is_none() && status.reason.is_none()
                    {
                        container.status.reason = Some(Arc::from(VANISHED));
                    }
                    container.adopt(status, Life::Ended, Phase::Stopped);
                    container.found_ended(finished_at);
                    work.started_at = work.started_at.max(started_at);
                }
            }
        }
        work.resume(now, found.stopping);
        work
    }

    fn resume(&mut self, now: Time, stopping: bool) {
        let started =
            |c: &Container| matches!(c.life, Life::Starting | Life::Running | Life::Ended);
        let ended = |c: &Container| c.essential && c.life == Life::Ended;
        self.stage = match self.containers.iter().all(started) {
            true => Stage::Running,
            false => Stage::Paused,
        };
        if self.stage == Stage::Paused {
            self.started_at = None;
        }
        if stopping {
            self.stopping = Some(now);
        } else if let Some(container) = self.containers.iter().find(|c| ended(c)) {
            let ending = match container.status.exit_code.is_none() && self.started_at.is_none() {
                true => Ending {
                    code: StopCode::TaskFailedToStart,
                    reason: container.status.reason.clone().unwrap_or(Arc::from(VANISHED)),
                },
                false => Ending::essential_exited(),
            };
            self.end(now, ending);
        }
    }

    // ---- what others ask ----

    pub fn assignment(&self) -> Option<&Arc<Assignment>> {
        self.assignment.as_ref()
    }

    /// Holds memory and cpu of the machine.
    pub fn alive(&self) -> bool {
        self.stage != Stage::Ended
            && self.containers.iter().any(|c| !matches!(c.life, Life::Absent | Life::Ended))
    }

    /// Runs only while there is contact with a leader.
    pub fn is_strict(&self) -> bool {
        self.assignment.as_ref().is_some_and(|a| a.fencing_token.is_some()) && !self.ended()
    }

    /// Will end without anybody deciding more.
    pub fn ends(&self) -> bool {
        self.stopping.is_some()
    }

    pub fn ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    pub fn forgotten(&self) -> bool {
        self.forget
    }

    pub fn tombstone(&self) -> bool {
        self.assignment.is_none() && self.ended()
    }

    /// Its row may still change by what is reported.
    pub fn reports(&self) -> bool {
        !self.forget
    }

    /// A user waits for this news; other news is gathered for a moment.
    pub fn urgent(&self) -> bool {
        matches!(self.phase(), Phase::Running | Phase::Stopped)
    }

    /// ECS `lastStatus` as this machine sees it.
    pub fn phase(&self) -> Phase {
        match (self.stage, self.stopping) {
            (Stage::Ended, _) => Phase::Stopped,
            (_, Some(_)) => Phase::Stopping,
            (Stage::Running, _) => Phase::Running,
            (Stage::New | Stage::Paused, _) => Phase::Pending,
            (Stage::Pulling, _) if self.pull_started_at.is_none() => Phase::Pending,
            (Stage::Pulling | Stage::Pulled | Stage::Starting, _) => Phase::Activating,
        }
    }

    pub fn observed(&self) -> Observed {
        Observed {
            phase: self.phase(),
            containers: self.containers.iter().map(|c| c.status.clone()).collect(),
            pull_started_at: self.pull_started_at,
            pull_stopped_at: self.pull_stopped_at,
            started_at: self.started_at,
            stopping_at: self.stopping,
            stopped_at: self.stopped_at,
            stop_code: self.ending.as_ref().map(|e| e.code),
            reason: self.ending.as_ref().map(|e| e.reason.clone()),
        }
    }

    // ---- what happens to it ----

    /// A manager still wants it: goes on if it was found half started.
    pub fn confirm(&mut self) {
        if self.stage == Stage::Paused {
            self.stage = Stage::New;
        }
    }

    pub fn order_stop(&mut self, now: Time) {
        if self.stopping.is_none() && !self.ended() {
            self.stopping = Some(now);
            self.version += 1;
        }
    }

    fn end(&mut self, now: Time, ending: Ending) {
        if self.stopping.is_none() && !self.ended() {
            self.ending = Some(ending);
            self.stopping = Some(now);
            self.version += 1;
        }
    }

    /// Late or repeated events change nothing: a container's life only moves forward.
    pub fn observe(&mut self, now: Time, event: ContainerEvent) {
        if self.ended() {
            return;
        }
        if let ContainerEvent::Checked { container, number, outcome } = event {
            let outcome = match &outcome {
                Ok(()) => Ok(()),
                Err(why) => Err(&**why),
            };
            let found = self.containers.iter_mut().find(|c| c.status.name == container);
            // A check that passes as the one before is no news.
            self.version += u64::from(found.is_some_and(|c| c.checked(now, number, outcome)));
            return;
        }
        self.version += 1;
        match event {
            ContainerEvent::PullStarted => {
                self.pull_started_at.get_or_insert(now);
            }
            ContainerEvent::Pulled => {
                self.pull_stopped_at.get_or_insert(now);
                if self.stage == Stage::Pulling {
                    self.stage = Stage::Pulled;
                }
            }
            ContainerEvent::PullFailed { container, reason: why } => {
                self.pull_failed(now, container.as_deref(), &why);
            }
            ContainerEvent::Created { container, status } => {
                if let Some(c) = self.container(&container, Life::Created) {
                    c.adopt(status, Life::Created, Phase::Pending);
                }
            }
            ContainerEvent::Started { container, at } => {
                if let Some(c) = self.container(&container, Life::Running) {
                    c.started(at);
                    self.started_at = self.started_at.max(Some(at));
                }
            }
            ContainerEvent::Restarted { container, pid, at } => {
                if let Some(c) = self.container(&container, Life::Running) {
                    c.restarted(at, pid);
                }
            }
            ContainerEvent::Failed { container, reason: why } => {
                let Some(c) = self.container(&container, Life::Ended) else { return };
                let ran = c.status.restarts > 0;
                c.finish(None, Some(reason(&why)));
                match (c.essential, ran) {
                    (true, true) => self.end(now, Ending::essential_exited()),
                    (true, false) => self.end(now, Ending::failed_to_start(&why)),
                    (false, _) => {}
                }
            }
            ContainerEvent::Exited { container, exit_code, oom_killed, at } => {
                let Some(c) = self.container(&container, Life::Ended) else { return };
                let why = match (oom_killed, exit_code) {
                    (true, _) => Some(Arc::from(OUT_OF_MEMORY)),
                    (false, None) => Some(Arc::from(VANISHED)),
                    (false, Some(_)) => None,
                };
                if c.exited(exit_code, why, at) && c.essential {
                    self.end(now, Ending::essential_exited());
                }
            }
            ContainerEvent::Checked { .. } | ContainerEvent::Deleted => {}
        }
    }

    fn pull_failed(&mut self, now: Time, container: Option<&str>, why: &str) {
        self.pull_stopped_at.get_or_insert(now);
        let own = |c: &&mut Container| c.life == Life::Absent && Some(&*c.status.name) == container;
        if let Some(c) = self.containers.iter_mut().find(own) {
            c.status.reason = Some(reason(why));
        }
        self.end(now, Ending::failed_to_start(why));
    }

    /// The container of this name, if `life` is ahead of it.
    fn container(&mut self, name: &str, life: Life) -> Option<&mut Container> {
        self.containers.iter_mut().find(|c| &*c.status.name == name && (c.life as u8) < life as u8)
    }

    // ---- the one next action ----

    /// `confirmed`: when the newest heartbeat that a leader confirmed was sent.
    pub fn advance(
        &mut self,
        now: Time,
        confirmed: Option<Time>,
        ledger: &mut Ledger,
        out: &mut Vec<WorkerOutput>,
    ) -> Next {
        let mut next = Next::default();
        let contact = self.contact(now, confirmed);
        if contact == Contact::Lost {
            self.end(now, Ending::out_of_contact());
        }
        if self.stopping.is_none() && !matches!(contact, Contact::Awaited(_)) {
            self.build_up(now, ledger, out, &mut next);
        }
        if self.stopping.is_none() {
            self.keep_up(now, out, &mut next);
            next.look_again = next.look_again.into_iter().chain(contact.changes_at()).min();
        }
        if self.stopping.is_some() && !self.ended() {
            next = Next { look_again: self.wind_down(now, ledger, out), waits_for_room: false };
        }
        next
    }

    fn contact(&self, now: Time, confirmed: Option<Time>) -> Contact {
        if !self.is_strict() {
            return Contact::Free;
        }
        let untouched = self.containers.iter().all(|c| c.life == Life::Absent);
        Contact::of(now, confirmed, Some(self.since).filter(|_| untouched))
    }

    /// What runs is watched, and started again where its policy says so.
    fn keep_up(&mut self, now: Time, out: &mut Vec<WorkerOutput>, next: &mut Next) {
        for container in &mut self.containers {
            self.version += u64::from(container.keep_up(now, self.id, out));
            next.look_again = next.look_again.into_iter().chain(container.next_look()).min();
        }
    }

    fn build_up(
        &mut self,
        now: Time,
        ledger: &mut Ledger,
        out: &mut Vec<WorkerOutput>,
        next: &mut Next,
    ) {
        let Some(assignment) = self.assignment.clone() else { return };
        if self.stage == Stage::New {
            self.stage = Stage::Pulling;
            out.push(WorkerOutput::Pull(assignment.clone()));
        }
        if self.stage == Stage::Pulled {
            match ledger.admit(&assignment) {
                Verdict::Granted => self.create_all(&assignment, out),
                Verdict::Wait => next.waits_for_room = true,
                Verdict::Never(what) => {
                    let why = format!("TaskFailedToStart: {what}");
                    self.end(now, Ending::failed_to_start(&why));
                }
            }
        }
        if self.stage == Stage::Starting {
            next.look_again = self.start_next(now, &assignment.spec, out);
        }
    }

    fn create_all(&mut self, assignment: &Arc<Assignment>, out: &mut Vec<WorkerOutput>) {
        self.stage = Stage::Starting;
        self.version += 1;
        for container in self.containers.iter_mut().filter(|c| c.life == Life::Absent) {
            container.life = Life::Creating;
            out.push(WorkerOutput::Create {
                assignment: assignment.clone(),
                container: container.status.name.clone(),
            });
        }
    }

    /// Starts containers in the order of the definition, each once the one before has started and
    /// what it depends on is as it must be. When to look again, should nothing happen.
    fn start_next(
        &mut self,
        now: Time,
        spec: &TaskDefinition,
        out: &mut Vec<WorkerOutput>,
    ) -> Option<Time> {
        let (task, mut waits, mut look_again) = (self.id, false, None);
        for index in 0..self.containers.len() {
            match self.containers[index].life {
                Life::Running | Life::Ended => continue,
                Life::Absent | Life::Creating | Life::Starting => return look_again,
                Life::Created => {}
            }
            match order::turn(now, spec, &self.containers, index) {
                Turn::Now => {
                    self.containers[index].life = Life::Starting;
                    let container = self.containers[index].name();
                    out.push(WorkerOutput::Start { task, container });
                    return look_again;
                }
                Turn::Later(at) => {
                    waits = true;
                    look_again = look_again.into_iter().chain(at).min();
                }
                Turn::Never(why) => {
                    self.containers[index].status.reason = Some(reason(&why));
                    self.end(now, Ending::failed_to_start(&why));
                    return None;
                }
            }
        }
        if !waits {
            self.stage = Stage::Running;
            self.version += 1;
        }
        look_again
    }

    /// Stops what lives, each container after those that depend on it; the time of the next
    /// SIGKILL, if one is due later.
    fn wind_down(
        &mut self,
        now: Time,
        ledger: &mut Ledger,
        out: &mut Vec<WorkerOutput>,
    ) -> Option<Time> {
        let task = self.id;
        ledger.ending(task);
        let mut signals = Vec::new();
        // What ends without a signal lets go of what it depends on, so that goes in the same turn.
        while self.wind_down_free(now, &mut signals) {}
        if signals.iter().any(|(_, first)| *first) {
            out.push(WorkerOutput::Stopping { task });
        }
        out.extend(signals.into_iter().map(|(signal, _)| signal));
        if self.containers.iter().all(|c| c.life == Life::Ended) {
            self.stage = Stage::Ended;
            self.stopped_at = Some(now);
            self.version += 1;
            ledger.release(task);
        }
        self.containers.iter().filter_map(Container::next_kill).min()
    }

    /// Signals every container that nothing holds any more, and whether that is its first signal.
    /// True if one of them ended by that, and may have let go of others.
    fn wind_down_free(&mut self, now: Time, signals: &mut Vec<(WorkerOutput, bool)>) -> bool {
        let (task, assignment) = (self.id, self.assignment.clone());
        let mut ended = false;
        for index in 0..self.containers.len() {
            let held = |a: &Arc<Assignment>| order::is_held(&a.spec, &self.containers, index);
            if assignment.as_ref().is_some_and(held) {
                continue;
            }
            let container = &mut self.containers[index];
            let (before, first) = (container.life, container.unsignalled());
            if let Some(signal) = container.wind_down(now) {
                let container = container.name();
                signals.push((WorkerOutput::Signal { task, container, signal }, first));
            }
            ended |= before != Life::Ended && self.containers[index].life == Life::Ended;
        }
        ended
    }
}
