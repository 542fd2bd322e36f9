//! What each connected agent is told: a complete set when its session opens, then what changed.
//!
//! It runs on committed states only and pushes nothing. It does not know why a task is where it is.
//! Invariants: an order speaks of one task by its id; nothing follows from what is not mentioned;
//! messages of a session carry this epoch and never a lower revision than the one before.

use crate::io::LeaderOutput;
use muster_model::cluster::INSTANCE_METADATA_SETTING;
use muster_model::dispatch::{Assignment, Assignments, Held, Order};
use muster_model::error::Kind;
use muster_model::{
    Changes, Desired, Epoch, Error, Index, InstanceId, InstanceStatus, Phase, SessionId, State,
    Task,
};
use std::collections::BTreeMap;

/// Orders in one message: with definitions of 64 KiB it stays below a message's 4 MiB.
const ORDERS_PER_MESSAGE_MAX: usize = 50;

#[derive(Clone, Copy, Debug)]
struct Open {
    session: SessionId,
    /// Of the last orders it was sent.
    revision: Index,
}

#[derive(Debug)]
pub(super) struct Sessions {
    epoch: Epoch,
    of: BTreeMap<InstanceId, Open>,
    /// What agents listed whose complete set is still to be sent.
    unanswered: BTreeMap<InstanceId, Vec<Held>>,
}

impl Sessions {
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, of: BTreeMap::new(), unanswered: BTreeMap::new() }
    }

    /// Opens a session, ending any older one, and sends its complete set.
    pub fn hello(
        &mut self,
        state: &State,
        instance: InstanceId,
        session: SessionId,
        inventory: Vec<Held>,
        out: &mut Vec<LeaderOutput>,
    ) {
        if let Some(old) = self.remove(instance).filter(|old| *old != session) {
            let why = ended("a newer session of this container instance has opened");
            out.push(LeaderOutput::Close { instance, session: old, why });
        }
        let admitted = if self.started(state) { admit(state, instance) } else { Ok(()) };
        if let Err(why) = admitted {
            out.push(LeaderOutput::Close { instance, session, why });
            return;
        }
        self.of.insert(instance, Open { session, revision: Index(0) });
        self.unanswered.insert(instance, inventory);
        self.answer(state, instance, out);
    }

    /// Whether this is the instance's session; any other is ended.
    pub fn current(
        &self,
        state: &State,
        instance: InstanceId,
        session: SessionId,
        out: &mut Vec<LeaderOutput>,
    ) -> bool {
        if self.is_current(instance, session) {
            return true;
        }
        let why = match self.started(state).then(|| admit(state, instance)) {
            Some(Err(why)) => why,
            Some(Ok(())) | None => ended("this session has ended: open a new one"),
        };
        out.push(LeaderOutput::Close { instance, session, why });
        false
    }

    pub fn is_current(&self, instance: InstanceId, session: SessionId) -> bool {
        self.of.get(&instance).is_some_and(|open| open.session == session)
    }

    /// The orders that the instance's agent must have obeyed before it takes a confirmation that is
    /// sent now.
    pub fn told(&self, instance: InstanceId) -> (Epoch, Index) {
        (self.epoch, self.of.get(&instance).map_or(Index(0), |open| open.revision))
    }

    /// The stream ended. Not a verdict: the lease decides.
    pub fn gone(&mut self, instance: InstanceId, session: SessionId) {
        if self.is_current(instance, session) {
            self.remove(instance);
        }
    }

    fn remove(&mut self, instance: InstanceId) -> Option<SessionId> {
        self.unanswered.remove(&instance);
        self.of.remove(&instance).map(|open| open.session)
    }

    /// Ends a session for a reason of its own.
    pub fn end(
        &mut self,
        instance: InstanceId,
        session: SessionId,
        why: Error,
        out: &mut Vec<LeaderOutput>,
    ) {
        self.gone(instance, session);
        out.push(LeaderOutput::Close { instance, session, why });
    }

    /// The instance was deregistered.
    pub fn dismiss(&mut self, instance: InstanceId, out: &mut Vec<LeaderOutput>) {
        if let Some(session) = self.remove(instance) {
            let why = not_active(instance);
            out.push(LeaderOutput::Close { instance, session, why });
        }
    }

    fn started(&self, state: &State) -> bool {
        state.meta().epoch == self.epoch
    }

    /// The complete set: every task of the instance, and an answer for everything it listed.
    fn answer(&mut self, state: &State, instance: InstanceId, out: &mut Vec<LeaderOutput>) {
        if !self.started(state) {
            return;
        }
        let Some(Open { session, .. }) = self.of.get(&instance).copied() else { return };
        let Some(inventory) = self.unanswered.remove(&instance) else { return };
        let mut orders: Vec<Order> =
            state.tasks_on(instance).filter_map(|task| order(state, task)).collect();
        for held in inventory {
            let on_it = |task: &&std::sync::Arc<Task>| {
                task.instance == Some(instance) && task.observed.phase < Phase::Stopped
            };
            if state.task(held.task).filter(on_it).is_none() {
                orders.push(Order::Forget(held.task));
            }
        }
        self.deliver(state, instance, session, orders, true, out);
    }

    /// After a state was applied: what it changed, per connected agent.
    pub fn send(&mut self, state: &State, changes: &Changes, out: &mut Vec<LeaderOutput>) {
        let mut deltas: BTreeMap<InstanceId, Vec<Order>> = BTreeMap::new();
        for change in &changes.tasks {
            let Some(instance) = change.latest().and_then(|task| task.instance) else { continue };
            if !self.of.contains_key(&instance) || self.unanswered.contains_key(&instance) {
                continue;
            }
            if let Some(order) = delta(state, change.before.as_deref(), change.after.as_deref()) {
                deltas.entry(instance).or_default().push(order);
            }
        }
        for (instance, orders) in deltas {
            if let Some(Open { session, .. }) = self.of.get(&instance).copied() {
                self.deliver(state, instance, session, orders, false, out);
            }
        }
        self.answer_early(state, out);
    }

    /// Sessions that opened before the first state was known.
    fn answer_early(&mut self, state: &State, out: &mut Vec<LeaderOutput>) {
        let waiting: Vec<InstanceId> = self.unanswered.keys().copied().collect();
        for instance in waiting {
            match admit(state, instance) {
                Ok(()) => self.answer(state, instance, out),
                Err(_) => self.dismiss(instance, out),
            }
        }
    }

    /// A set larger than a message is sent in several: only the first is marked complete, and
    /// nothing is concluded from what it does not name.
    fn deliver(
        &mut self,
        state: &State,
        instance: InstanceId,
        session: SessionId,
        orders: Vec<Order>,
        complete: bool,
        out: &mut Vec<LeaderOutput>,
    ) {
        let mut orders = orders.into_iter();
        let mut first = complete;
        loop {
            let orders: Vec<Order> = orders.by_ref().take(ORDERS_PER_MESSAGE_MAX).collect();
            if orders.is_empty() && !first {
                return;
            }
            let (epoch, revision) = (self.epoch, state.applied());
            self.of.insert(instance, Open { session, revision });
            let assignments = Assignments { epoch, revision, complete: first, orders };
            out.push(LeaderOutput::Send { instance, session, assignments });
            first = false;
        }
    }
}

fn admit(state: &State, instance: InstanceId) -> Result<(), Error> {
    match state.instance(instance) {
        None => Err(Error::not_found(Kind::ContainerInstance, instance)),
        Some(row) if row.status == InstanceStatus::Inactive => Err(not_active(instance)),
        Some(_) => Ok(()),
    }
}

fn ended(why: &str) -> Error {
    Error::Unavailable { why: why.into() }
}

fn not_active(instance: InstanceId) -> Error {
    Error::NotActive { kind: Kind::ContainerInstance, name: instance.to_string() }
}

/// The order for a task that is placed and has not stopped.
fn order(state: &State, task: &Task) -> Option<Order> {
    match task.desired {
        Desired::Stopped { .. } | Desired::Abandoned { .. } => Some(Order::Stop(task.id)),
        Desired::Running => Some(Order::Run(Box::new(assignment(state, task)?))),
    }
}

fn delta(state: &State, before: Option<&Task>, after: Option<&Task>) -> Option<Order> {
    let Some(task) = after else {
        return before.filter(|task| !has_stopped(task)).map(|task| Order::Forget(task.id));
    };
    let placed = before.is_none_or(|before| before.instance.is_none());
    if has_stopped(task) {
        let news = before.is_none_or(|before| !has_stopped(before));
        return news.then_some(Order::Forget(task.id));
    }
    let changed = before.is_none_or(|before| before.desired.rank() != task.desired.rank());
    (placed || changed).then(|| order(state, task)).flatten()
}

fn has_stopped(task: &Task) -> bool {
    task.observed.phase == Phase::Stopped
}

fn assignment(state: &State, task: &Task) -> Option<Assignment> {
    let row = state.definition(task.definition)?;
    let cluster = state.cluster(task.cluster)?;
    Some(Assignment {
        task: task.id,
        account: state.meta().account.clone(),
        region: state.meta().region.clone(),
        cluster: cluster.name.clone(),
        family: row.family.clone(),
        revision: row.revision,
        group: state.group_of(task),
        spec: state.spec_of(task)?,
        ports: task.ports.to_vec(),
        trace: task.trace,
        fencing_token: state.fencing_token(task),
        instance_metadata: cluster.is_enabled(INSTANCE_METADATA_SETTING),
        digests: state.digests_for(task),
    })
}
