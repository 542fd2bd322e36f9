//! What a request would do, told before anyone makes it: the leader's own stages on a copy of the
//! state, round after round, with agents that do at once what they are told.
//!
//! Only the request's own subject moves: its service, or its tasks. Leases, losses and history are
//! left out, so that nothing is foretold but what follows from the request; tasks of others that
//! wait take the room that comes free when it is their turn, as they would. It changes nothing and
//! knows nothing that the state does not say. Invariant: every round is a plan that `apply` took.

use super::draft::Draft;
use super::index::Index;
use super::parking::Parking;
use super::view::{Dirty, View, Wakes};
use super::witness::{Subject, Witness};
use super::{explain, place, replicas, rollout};
use muster_model::foresight::{Foresight, Round, Start, Stop};
use muster_model::spec::ContainerDefinition;
use muster_model::task::ContainerStatus;
use muster_model::{
    Command, Desired, Entry, Error, HealthStatus, HookAction, IdSource, InstanceId, Millis,
    Observed, Phase, Principal, Response, State, Step, Task, TaskId, TaskReport, Time, apply,
    limits,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the entry of a RunTask, CreateService or UpdateService would lead to on this state.
///
/// # Errors
/// Those of `apply`; `Invalid` for other commands.
pub fn foresee(state: &State, entry: &Entry) -> Result<Foresight, Error> {
    let mut future = state.clone();
    let answer = commit(&mut future, entry)?;
    let subject = match answer {
        Response::Service(service) => Subject::Service(service),
        Response::Tasks(tasks) => Subject::Tasks(tasks.into_iter().collect()),
        _ => {
            let allowed = "RunTask, CreateService or UpdateService";
            return Err(Error::invalid("command", "another one", allowed));
        }
    };
    let before = tasks_of(state, &subject).filter(|task| task.wanted()).map(|task| task.id);
    let before: BTreeSet<TaskId> = before.collect();
    let mut rehearsal = Rehearsal::new(future, entry, subject);
    let (rounds, cut) = rehearsal.run()?;
    Ok(rehearsal.told(&before, rounds, cut))
}

fn commit(state: &mut State, entry: &Entry) -> Result<Response, Error> {
    let index = muster_model::Index(state.applied().0 + 1);
    apply(state, index, entry)
}

fn tasks_of<'s>(
    state: &'s State,
    subject: &'s Subject,
) -> Box<dyn Iterator<Item = &'s Arc<Task>> + 's> {
    match subject {
        Subject::Service(service) => Box::new(state.tasks_of(*service)),
        Subject::Tasks(tasks) => Box::new(tasks.iter().filter_map(|id| state.task(*id))),
    }
}

/// A leader that acts for nobody, and the agents it would have.
struct Rehearsal {
    state: State,
    begun: Time,
    now: Time,
    /// Entries are made after this one.
    model: Entry,
    subject: Subject,
    witness: Witness,
    ids: IdSource,
    index: Index,
    parking: Parking,
    wakes: Wakes,
    /// The last plan took a deployment a stage further.
    turned: bool,
}

impl Rehearsal {
    fn new(state: State, entry: &Entry, subject: Subject) -> Self {
        let now = state.now();
        Self {
            begun: now,
            now,
            model: Entry {
                command: Command::Plan { epoch: state.meta().epoch, steps: Vec::new() },
                by: Principal::Manager(state.meta().leader),
                ..entry.clone()
            },
            witness: Witness::of(subject.clone()),
            subject,
            // Ids of a real leader come from another seed; these never leave the copy.
            ids: IdSource::new(entry.request.bits()),
            index: Index::default(),
            parking: Parking::default(),
            wakes: Wakes::default(),
            turned: false,
            state,
        }
    }

    /// Until nothing more follows. `true`: more would, but only so many rounds are looked at.
    fn run(&mut self) -> Result<(Vec<Round>, bool), Error> {
        let mut rounds = Vec::new();
        for _ in 0..limits::FORESEE_ROUNDS_MAX {
            let round = self.decide()?;
            let acted = !round.started.is_empty() || !round.stopped.is_empty();
            if acted {
                rounds.push(round);
            }
            let obeyed = self.obey()? | self.release()?;
            if self.is_answered() {
                return Ok((rounds, false));
            }
            let turned = std::mem::take(&mut self.turned);
            if acted || obeyed || turned {
                self.now = self.now + self.healthy_after();
                continue;
            }
            // A back-off or a protection ends later.
            match self.wakes.next() {
                Some(at) => self.now = self.now.max(at),
                None => return Ok((rounds, false)),
            }
        }
        Ok((rounds, true))
    }

    /// What is RUNNING now counts as healthy then.
    fn healthy_after(&self) -> Millis {
        let mut tasks = tasks_of(&self.state, &self.subject);
        let cluster = tasks.next().map(|task| task.cluster);
        cluster.map_or(limits::HEALTHY_AFTER, |cluster| self.state.healthy_after(cluster))
    }

    /// One plan: the stages that place, replace and give up, in the leader's order.
    fn decide(&mut self) -> Result<Round, Error> {
        let mut dirty = Dirty::default();
        self.wakes.due(self.now, &mut dirty);
        dirty.services.clear();
        if let Subject::Service(service) = self.subject {
            dirty.services.insert(service);
        }
        dirty.waiting = true;
        let mut draft = Draft::new(&self.state, self.now, limits::PLAN_STEPS_MAX);
        let mut view = View {
            now: self.now,
            dirty,
            arriving: BTreeMap::new(),
            suspects: BTreeSet::new(),
            ids: &mut self.ids,
            wakes: &mut self.wakes,
            witness: Some(&mut self.witness),
        };
        rollout::stage(&mut draft, &mut view, &mut rollout::Turns::default());
        replicas::stage(&mut draft, &mut view);
        place::stage(&mut draft, &mut view, &mut self.index, &mut self.parking);
        let steps = draft.into_steps();
        self.turned = steps.iter().any(|step| matches!(step, Step::Turn { .. }));
        let before = self.state.clone();
        self.commit(Command::Plan { epoch: before.meta().epoch, steps: steps.clone() })?;
        Ok(self.round(&before, &steps))
    }

    fn commit(&mut self, command: Command) -> Result<Response, Error> {
        commit(&mut self.state, &Entry { at: self.now, command, ..self.model.clone() })
    }

    /// What a plan does to the subject.
    fn round(&self, before: &State, steps: &[Step]) -> Round {
        let mine = |id: &TaskId| match &self.subject {
            Subject::Service(service) => {
                self.state.task(*id).is_some_and(|task| task.service() == Some(*service))
            }
            Subject::Tasks(tasks) => tasks.contains(id),
        };
        let (mut started, mut stopped) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Place { task, instance, .. } if mine(task) => {
                    let why = self.witness.choice(*task).cloned();
                    started.push(Start { task: *task, on: *instance, why });
                }
                Step::Stop { task, .. } if mine(task) => {
                    let on = before.task(*task).and_then(|row| row.instance);
                    stopped.push(Stop { task: *task, on });
                }
                _ => {}
            }
        }
        let waiting = tasks_of(&self.state, &self.subject).filter(|task| waits(task)).count();
        let after = self.now.since(self.begun);
        Round { after, started, stopped, waiting: waiting as u32 }
    }

    /// What is told to start runs, what is told to stop has stopped, wherever an agent listens.
    /// `false`: everything was so already.
    fn obey(&mut self) -> Result<bool, Error> {
        let reports: Vec<TaskReport> =
            tasks_of(&self.state, &self.subject).filter_map(|task| self.report(task)).collect();
        if reports.is_empty() {
            return Ok(false);
        }
        self.commit(Command::Report { reports })?;
        Ok(true)
    }

    /// Somebody continues a deployment that waits at a hook. `false`: none does.
    fn release(&mut self) -> Result<bool, Error> {
        let Subject::Service(service) = self.subject else { return Ok(false) };
        let Some(shift) = self.state.shift(service).filter(|shift| shift.hook.is_some()) else {
            return Ok(false);
        };
        let deployment = shift.green;
        let (hook, action) = (shift.hook_id().map(Arc::from), HookAction::Continue);
        let command = Command::ContinueServiceDeployment { service, deployment, hook, action };
        let request = self.ids.request();
        let entry = Entry { request, at: self.now, command, ..self.model.clone() };
        commit(&mut self.state, &entry)?;
        Ok(true)
    }

    fn report(&self, task: &Task) -> Option<TaskReport> {
        let instance = self.state.instance(task.instance?).filter(|row| row.ready())?.id;
        let (is, becomes) = (
            task.observed.phase,
            match task.desired {
                Desired::Running => Phase::Running,
                Desired::Stopped { .. } | Desired::Abandoned { .. } => Phase::Stopped,
            },
        );
        (is < becomes).then(|| {
            let containers = self.containers(task, becomes);
            let observed = Observed { phase: becomes, containers, ..Observed::default() };
            TaskReport { task: task.id, instance, observed }
        })
    }

    /// All goes well in a rehearsal, so what is checked passes.
    fn containers(&self, task: &Task, phase: Phase) -> Vec<ContainerStatus> {
        let row = self.state.definition(task.definition);
        let checked = row.iter().flat_map(|row| &row.spec.containers);
        let checked = checked.filter(|container| container.health_check.is_some());
        let status = |container: &ContainerDefinition| ContainerStatus {
            name: Arc::from(container.name.as_str()),
            phase,
            health: HealthStatus::Healthy,
            ..ContainerStatus::default()
        };
        checked.map(status).collect()
    }

    /// Tasks of RunTask have a place at once, or are refused.
    fn is_answered(&self) -> bool {
        let open = |task: &Arc<Task>| waits(task) && task.waiting.is_none();
        matches!(self.subject, Subject::Tasks(_)) && !tasks_of(&self.state, &self.subject).any(open)
    }

    fn told(self, before: &BTreeSet<TaskId>, rounds: Vec<Round>, cut: bool) -> Foresight {
        let tasks = || tasks_of(&self.state, &self.subject).filter(|task| task.wanted());
        let kept = tasks().filter(|task| before.contains(&task.id)).count();
        let mut unplaced: Vec<&Arc<Task>> = tasks().filter(|task| waits(task)).collect();
        unplaced.sort_by_key(|task| (task.created_at, task.slot(), task.id));
        let unplaced = unplaced.into_iter().map(|task| task.id).collect();
        let (mut left, mut stuck) = (0, None);
        if let Subject::Service(service) = self.subject {
            let newest = self.state.service(service).and_then(|row| Some(row.primary()?.id));
            left = tasks().filter(|task| task.deployment() != newest).count();
            if left > 0 && !cut {
                stuck = explain::stuck_as_said(&self.state, service);
            }
        }
        let moved = moved(&rounds);
        let (kept, left) = (kept as u32, left as u32);
        Foresight { end: self.state, rounds, kept, moved, unplaced, left, stuck, cut }
    }
}

fn waits(task: &Task) -> bool {
    task.wanted() && task.instance.is_none()
}

/// Of what stops and is started again, the part that is not started where it stopped.
fn moved(rounds: &[Round]) -> u32 {
    let mut on: BTreeMap<InstanceId, (u32, u32)> = BTreeMap::new();
    for round in rounds {
        for start in &round.started {
            on.entry(start.on).or_default().0 += 1;
        }
        for stop in round.stopped.iter().filter_map(|stop| stop.on) {
            on.entry(stop).or_default().1 += 1;
        }
    }
    let (started, stopped) =
        on.values().fold((0, 0), |(all, gone), (started, stopped)| (all + started, gone + stopped));
    let stay: u32 = on.values().map(|(started, stopped)| started.min(stopped)).sum();
    u32::min(started, stopped) - stay
}
