//! The agent's brain: turns orders and container events into actions and reports, one next action
//! per task at a time.
//!
//! It decides when to pull, create, start, signal and delete, and what to tell the managers. It
//! does not know why a task should run, what time it is unless told, or how anything is done.
//! Invariants: an order of a lower (epoch, revision) than the highest obeyed does nothing; a
//! container is signalled only on an explicit order or because its own task ended; nothing is
//! concluded from the absence of an order, except by strict tasks, which end without contact.

mod contact;
mod container;
mod ending;
mod gc;
mod health;
mod ledger;
mod order;
mod report;
mod task;

use crate::io::{ContainerEvent, Found, WorkerInput, WorkerOutput};
use ledger::Ledger;
use muster_model::dispatch::{Assignments, Held, Order};
use muster_model::spec::Named;
use muster_model::{Epoch, Index, InstanceId, Resources, TaskId, Time};
use report::Outbox;
use std::collections::{BTreeMap, BTreeSet};
use task::Work;

/// What one agent has to do with. One value, one thread.
#[derive(Clone, Debug)]
pub struct Worker {
    instance: InstanceId,
    /// Highest (epoch, revision) obeyed, also before a restart.
    obeyed: (Epoch, Index),
    tasks: BTreeMap<TaskId, Work>,
    ledger: Ledger,
    outbox: Outbox,
    /// When to look at which task again. May hold times that no longer matter.
    timers: BTreeSet<(Time, TaskId)>,
    /// When the newest heartbeat that a leader confirmed was sent, as far as anybody asked.
    confirmed: Option<Time>,
    /// Tasks that need contact with a leader.
    strict: BTreeSet<TaskId>,
    /// What the shell was last told about asking.
    asks: bool,
    /// Tasks whose images are here but for which there is no room yet, the longest waiting first.
    for_room: Vec<TaskId>,
    wake: Option<Time>,
}

impl Worker {
    /// `obeyed` is what the agent persisted at the last `Obeyed`; zero on a new machine.
    pub fn new(instance: InstanceId, obeyed: (Epoch, Index)) -> Self {
        Self {
            instance,
            obeyed,
            tasks: BTreeMap::new(),
            ledger: Ledger::default(),
            outbox: Outbox::default(),
            timers: BTreeSet::new(),
            confirmed: None,
            strict: BTreeSet::new(),
            asks: false,
            for_room: Vec::new(),
            wake: None,
        }
    }

    /// What tasks may take of this machine, as registered. Without it only ports are checked.
    pub fn with_capacity(mut self, total: Resources) -> Self {
        self.ledger.total = Some(total);
        self
    }

    /// Its named resources, as registered.
    pub fn with_resources(mut self, named: Named) -> Self {
        self.ledger.named = named;
        self
    }

    /// When the newest heartbeat that a leader confirmed before a restart was sent.
    pub fn with_confirmed(mut self, sent: Option<Time>) -> Self {
        self.confirmed = sent;
        self
    }

    /// Every task this agent has something of, for `Hello`.
    pub fn inventory(&self) -> Vec<Held> {
        self.tasks.values().map(|work| Held { task: work.id, phase: work.phase() }).collect()
    }

    /// The highest (epoch, revision) obeyed.
    pub fn obeyed(&self) -> (Epoch, Index) {
        self.obeyed
    }

    /// One input in, what to do about it out. `now` never steps back.
    pub fn handle(&mut self, now: Time, input: WorkerInput) -> Vec<WorkerOutput> {
        let mut out = Vec::new();
        let touched = match input {
            WorkerInput::Boot { found } => self.boot(now, found),
            WorkerInput::Assignments(orders) => self.obey(now, orders, &mut out),
            WorkerInput::Container { task, event } => self.observe(now, task, event),
            WorkerInput::Connected(session) => {
                self.outbox.connected(session, now);
                Vec::new()
            }
            WorkerInput::Lost => {
                self.outbox.lost(now);
                Vec::new()
            }
            // One that has overtaken orders may have overtaken the word that all is lost.
            WorkerInput::Confirmed { orders, .. } if orders > self.obeyed => Vec::new(),
            WorkerInput::Confirmed { sent, .. } => {
                self.confirmed = self.confirmed.max(Some(sent));
                self.strict.iter().copied().collect()
            }
            WorkerInput::Acked { sequence } => {
                self.outbox.acked(sequence);
                Vec::new()
            }
            WorkerInput::Tick => {
                // The shell may have spent the wake it was asked for on this.
                self.wake = None;
                Vec::new()
            }
        };
        self.advance(now, touched, &mut out);
        self.ask_for_contact(&mut out);
        self.outbox.flush(now, self.instance, &self.tasks, &mut out);
        self.ask_to_wake(now, &mut out);
        out
    }

    fn boot(&mut self, now: Time, found: Vec<Found>) -> Vec<TaskId> {
        let mut touched = Vec::new();
        for found in found {
            let work = Work::found(now, found);
            if work.alive() {
                self.ledger.book(&work);
            }
            self.outbox.changed(work.id, now);
            touched.push(work.id);
            self.tasks.insert(work.id, work);
        }
        touched
    }

    /// Obeys orders that are not older than what was obeyed before.
    fn obey(&mut self, now: Time, orders: Assignments, out: &mut Vec<WorkerOutput>) -> Vec<TaskId> {
        let authority = (orders.epoch, orders.revision);
        if authority < self.obeyed {
            return Vec::new();
        }
        if authority > self.obeyed {
            self.obeyed = authority;
            out.push(WorkerOutput::Obeyed { epoch: orders.epoch, revision: orders.revision });
        }
        let mut touched = Vec::with_capacity(orders.orders.len());
        for order in orders.orders {
            touched.push(order.task());
            self.order(now, order);
        }
        touched
    }

    fn order(&mut self, now: Time, order: Order) {
        match order {
            Order::Run(assignment) => match self.tasks.get_mut(&assignment.task) {
                Some(work) => work.confirm(),
                None => {
                    let work = Work::new(now, *assignment);
                    self.tasks.insert(work.id, work);
                }
            },
            Order::Stop(task) => {
                let work = self.tasks.entry(task).or_insert_with(|| Work::unknown(task));
                work.order_stop(now);
            }
            Order::Forget(task) => gc::forget(self.tasks.get_mut(&task), now),
        }
    }

    fn observe(&mut self, now: Time, task: TaskId, event: ContainerEvent) -> Vec<TaskId> {
        if event == ContainerEvent::Deleted {
            return self.deleted(task);
        }
        match self.tasks.get_mut(&task) {
            Some(work) => {
                work.observe(now, event);
                vec![task]
            }
            None => Vec::new(),
        }
    }

    fn deleted(&mut self, task: TaskId) -> Vec<TaskId> {
        if self.tasks.get(&task).is_some_and(gc::may_drop) {
            self.tasks.remove(&task);
            self.outbox.dropped(task);
            self.ledger.delete(task);
        }
        Vec::new()
    }

    /// Gives each touched task its next action, then those that waited for room.
    fn advance(&mut self, now: Time, touched: Vec<TaskId>, out: &mut Vec<WorkerOutput>) {
        for task in touched {
            self.advance_one(now, task, out);
        }
        while let Some(&(at, task)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            self.advance_one(now, task, out);
        }
        if self.ledger.take_released() {
            for task in std::mem::take(&mut self.for_room) {
                self.advance_one(now, task, out);
            }
        }
    }

    fn advance_one(&mut self, now: Time, task: TaskId, out: &mut Vec<WorkerOutput>) {
        let Some(work) = self.tasks.get_mut(&task) else { return };
        let next = work.advance(now, self.confirmed, &mut self.ledger, out);
        match work.is_strict() {
            true => self.strict.insert(task),
            false => self.strict.remove(&task),
        };
        gc::delete_if_done(work, out);
        if next.waits_for_room && !self.for_room.contains(&task) {
            self.for_room.push(task);
        }
        if let Some(at) = next.look_again {
            self.timers.insert((at, task));
        }
        if !work.reports() {
            self.outbox.dropped(task);
        } else if work.version > self.outbox.noted(task) {
            self.outbox.note(task, work, now);
        }
        // Nothing on the machine to delete: the order was answered, the row is closed.
        if work.tombstone() && work.forgotten() {
            self.tasks.remove(&task);
            self.outbox.dropped(task);
        }
    }

    fn ask_for_contact(&mut self, out: &mut Vec<WorkerOutput>) {
        if self.asks == self.strict.is_empty() {
            self.asks = !self.asks;
            out.push(WorkerOutput::AskForContact(self.asks));
        }
    }

    fn ask_to_wake(&mut self, now: Time, out: &mut Vec<WorkerOutput>) {
        let timer = self.timers.first().map(|(at, _)| *at);
        let Some(at) = timer.into_iter().chain(self.outbox.due()).min() else { return };
        // An earlier wake that is still to come serves as well: it costs one empty tick.
        if self.wake.is_none_or(|asked| asked <= now || at < asked) {
            self.wake = Some(at);
            out.push(WorkerOutput::WakeAt(at));
        }
    }
}
