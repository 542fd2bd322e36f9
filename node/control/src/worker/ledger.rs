//! The machine's own books: what the tasks that live here hold, checked again before anything
//! starts, whatever the managers believe.
//!
//! It knows sizes, named resources and host ports, not states. Invariant: what is granted never
//! adds up to more than the machine has, and no host port has two holders.

use super::task::Work;
use muster_model::dispatch::Assignment;
use muster_model::spec::{Named, Protocol};
use muster_model::{Resources, TaskId};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Granted,
    /// Tasks that are ending hold what it needs.
    Wait,
    /// Not even when everything that is ending has ended: ECS's reason code.
    Never(String),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// `None`: unknown, only ports are checked.
    pub total: Option<Resources>,
    pub named: Named,
    held: BTreeMap<TaskId, (Resources, Named)>,
    /// Kept until the task is deleted: rules for its ports may stand until then.
    ports: BTreeMap<(u16, Protocol), TaskId>,
    ending: BTreeSet<TaskId>,
    released: bool,
}

impl Ledger {
    /// Books a task that lives already: it was found so, or is granted.
    pub fn book(&mut self, work: &Work) {
        if let Some(assignment) = work.assignment() {
            self.enter(assignment);
        }
        if work.ends() {
            self.ending.insert(work.id);
        }
    }

    fn enter(&mut self, assignment: &Assignment) {
        self.held.insert(assignment.task, wants(assignment));
        for key in ports(assignment) {
            self.ports.entry(key).or_insert(assignment.task);
        }
    }

    pub fn admit(&mut self, assignment: &Assignment) -> Verdict {
        let verdict = self.judge(assignment);
        if verdict == Verdict::Granted {
            self.enter(assignment);
        }
        verdict
    }

    fn judge(&self, assignment: &Assignment) -> Verdict {
        let mut verdict = Verdict::Granted;
        for key in ports(assignment) {
            match self.ports.get(&key) {
                Some(holder) if *holder == assignment.task => {}
                Some(holder) if self.ending.contains(holder) => verdict = Verdict::Wait,
                Some(_) => return Verdict::Never("RESOURCE:PORTS".into()),
                None => {}
            }
        }
        let Some(total) = self.total else { return verdict };
        let (wanted, wanted_named) = wants(assignment);
        let others = || self.held.iter().filter(|(task, _)| **task != assignment.task);
        let staying = || others().filter(|(task, _)| !self.ending.contains(task));
        let sum = |sum: Resources, (_, held): (_, &(Resources, _))| sum.plus(held.0);
        let lasting = staying().fold(wanted, sum);
        if lasting.cpu > total.cpu {
            return Verdict::Never("RESOURCE:CPU".into());
        }
        if lasting.memory_mib > total.memory_mib {
            return Verdict::Never("RESOURCE:MEMORY".into());
        }
        if !others().fold(wanted, sum).fits_in(total) {
            verdict = Verdict::Wait;
        }
        for (name, wanted) in wanted_named {
            let total = self.named.get(&name).copied().unwrap_or(0);
            let sum = |sum: u32, (_, held): (_, &(_, Named))| {
                sum.saturating_add(held.1.get(&name).copied().unwrap_or(0))
            };
            if staying().fold(wanted, sum) > total {
                return Verdict::Never(format!("RESOURCE:{name}"));
            }
            if others().fold(wanted, sum) > total {
                verdict = Verdict::Wait;
            }
        }
        verdict
    }

    /// The task will end: others may wait for what it holds.
    pub fn ending(&mut self, task: TaskId) {
        if self.held.contains_key(&task) {
            self.ending.insert(task);
        }
    }

    /// All its containers have ended.
    pub fn release(&mut self, task: TaskId) {
        self.released |= self.held.remove(&task).is_some();
    }

    /// Nothing of it is left on the machine.
    pub fn delete(&mut self, task: TaskId) {
        self.release(task);
        let before = self.ports.len();
        self.ports.retain(|_, holder| *holder != task);
        self.released |= self.ports.len() < before;
        self.ending.remove(&task);
    }

    /// Whether room was made since the last call.
    pub fn take_released(&mut self) -> bool {
        std::mem::take(&mut self.released)
    }
}

fn wants(assignment: &Assignment) -> (Resources, Named) {
    (assignment.spec.reservation(), assignment.spec.named_reservation())
}

fn ports(assignment: &Assignment) -> impl Iterator<Item = (u16, Protocol)> {
    let mappings = assignment.spec.port_mappings();
    mappings.zip(&assignment.ports).map(|((_, mapping), port)| (*port, mapping.protocol))
}
