//! Whom this leader told last that it heard them: how long strict tasks out of reach may still run.
//!
//! `muster_model::strict` has the whole picture. It does not judge who is lost. Invariant: no agent
//! was confirmed, by this leader or an earlier one, later than it says here.

use muster_model::{Instance, InstanceId, State, Task, Time, strict};
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Contacts {
    /// Until then earlier leaders may have confirmed anybody.
    begin: Time,
    /// At most one per instance that has or had a strict task.
    last: BTreeMap<InstanceId, Time>,
}

impl Contacts {
    /// `begin`: after this leader's `Takeover` was applied.
    pub fn new(begin: Time) -> Self {
        Self { begin, last: BTreeMap::new() }
    }

    /// Whether a heartbeat that was just heard may be confirmed, and if so, it is. One of an
    /// instance that counts as lost may not: what ran there may have been given up, and its agent
    /// does not know that yet. `apply` gives up nothing strict once the row says that it is back.
    pub fn confirm(&mut self, now: Time, instance: &Instance) -> bool {
        if instance.ready() {
            self.last.insert(instance.id, now);
        }
        instance.ready()
    }

    pub fn forget(&mut self, instance: InstanceId) {
        self.last.remove(&instance);
    }

    /// From when on a task on a lost instance may be given up, if it is strict.
    pub fn given_up_at(&self, state: &State, task: &Task) -> Option<Time> {
        if !state.is_strict(task) {
            return None;
        }
        let last = task.instance.and_then(|on| self.last.get(&on).copied());
        // A task's definition outlives it.
        let spec = state.spec_of(task).unwrap_or_default();
        Some(last.unwrap_or(self.begin).max(self.begin) + strict::given_up_after(&spec))
    }
}
