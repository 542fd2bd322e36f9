//! Who is alive: leases in memory, renewed by anything an agent says, and the verdict when one
//! runs out.
//!
//! It does not know tasks. Invariants: no instance is judged for time the leader itself was not
//! running, or before it had a lease of this leader; a mass loss over several zones is acted on
//! only when a second lease has passed as well.

use super::draft::Draft;
use super::explain;
use super::view::View;
use muster_model::{
    Changes, Health, Instance, InstanceId, InstanceStatus, Millis, ServiceId, State, Step, Time,
    limits,
};
use std::collections::{BTreeMap, BTreeSet};

/// A look at least this often while there are leases, so that a pause of the process shows.
const LOOK: Millis = Millis(limits::LEASE.0 / 4);
/// Longer than this without a look, and the leader slept: nobody is judged for that time.
const SLEPT: Millis = Millis(limits::LEASE.0 / 2);
/// A lease with no more than this left belongs to somebody who missed a heartbeat.
const MISSED: Millis = Millis(limits::LEASE.0 / 2);

/// Services whose history says that a mass loss is held back.
const SERVICES_TOLD_MAX: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lease {
    until: Time,
    /// Extended once by the governor: the next end counts.
    second: bool,
}

#[derive(Debug)]
pub(super) struct Leases {
    of: BTreeMap<InstanceId, Lease>,
    by_time: BTreeSet<(Time, InstanceId)>,
    /// Heard of although its row says it is not Ready.
    heard: BTreeSet<InstanceId>,
    last_look: Time,
    /// When an instance was last judged lost.
    last_loss: Option<Time>,
    held: u64,
}

impl Leases {
    pub fn new(now: Time) -> Self {
        Self {
            of: BTreeMap::new(),
            by_time: BTreeSet::new(),
            heard: BTreeSet::new(),
            last_look: now,
            last_loss: None,
            held: 0,
        }
    }

    /// Times the governor held back.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Called first with every input: a leader that slept extends all leases before it judges.
    pub fn woke(&mut self, now: Time) {
        if now.since(self.last_look) > SLEPT {
            let all: Vec<(InstanceId, Lease)> = self.of.iter().map(|(i, l)| (*i, *l)).collect();
            for (instance, lease) in all {
                let until = lease.until.max(now + limits::LEASE);
                self.set(instance, Lease { until, ..lease });
            }
        }
        self.last_look = self.last_look.max(now);
    }

    /// A Ready instance without a lease gets one with grace: every agent must first find the way
    /// to a new leader.
    pub fn learn(&mut self, now: Time, changes: &Changes) {
        for change in &changes.instances {
            let Some(row) = change.latest() else { continue };
            if change.after.is_none() || row.status == InstanceStatus::Inactive {
                self.forget(row.id);
            } else if row.ready() {
                self.heard.remove(&row.id);
                if !self.of.contains_key(&row.id) {
                    let until = now + limits::LEASE_GRACE;
                    self.set(row.id, Lease { until, second: false });
                }
            } else if self.of.get(&row.id).is_some_and(|lease| lease.until > now) {
                // Judged while its next word was on the way.
                self.heard.insert(row.id);
            } else {
                self.forget(row.id);
            }
        }
    }

    /// The agent said something.
    pub fn renew(&mut self, now: Time, instance: InstanceId, ready: bool) {
        let until = now + limits::LEASE;
        self.set(instance, Lease { until, second: false });
        if !ready {
            self.heard.insert(instance);
        }
    }

    fn set(&mut self, instance: InstanceId, lease: Lease) {
        if let Some(old) = self.of.insert(instance, lease) {
            self.by_time.remove(&(old.until, instance));
        }
        self.by_time.insert((lease.until, instance));
    }

    fn forget(&mut self, instance: InstanceId) {
        if let Some(old) = self.of.remove(&instance) {
            self.by_time.remove(&(old.until, instance));
        }
        self.heard.remove(&instance);
    }

    pub fn has_work(&self, now: Time) -> bool {
        !self.heard.is_empty() || self.by_time.first().is_some_and(|(until, _)| *until <= now)
    }

    pub fn next_look(&self, now: Time) -> Option<Time> {
        self.by_time.first().map(|(until, _)| (*until).min(now + LOOK))
    }

    /// Whom not to trust with new tasks: while others are being lost, those who missed a heartbeat.
    /// A zone that dies falls silent within one heartbeat and is judged over just as long: what its
    /// first instances lose must not go to its last. One that is merely slow loses nothing.
    fn suspects(&self, now: Time) -> BTreeSet<InstanceId> {
        let losing = self.last_loss.is_some_and(|at| now.since(at) <= limits::LEASE);
        if losing { self.silent(now).collect() } else { BTreeSet::new() }
    }

    /// Those who missed a heartbeat, and those who are lost.
    fn silent(&self, now: Time) -> impl Iterator<Item = InstanceId> + '_ {
        self.by_time.iter().take_while(move |(until, _)| *until <= now + MISSED).map(|(_, i)| *i)
    }

    /// Instances whose lease has ended and that may be judged now, and those held back just now.
    fn expired(&mut self, now: Time, state: &State) -> (Vec<InstanceId>, Vec<InstanceId>) {
        let ended = |leases: &Self| -> Vec<InstanceId> {
            leases.by_time.iter().take_while(|(until, _)| *until <= now).map(|(_, i)| *i).collect()
        };
        if ended(self).is_empty() {
            return (Vec::new(), Vec::new());
        }
        // Whoever fell silent together with them is counted already, though its lease still runs.
        let silent: Vec<InstanceId> = self.silent(now).collect();
        let mut held = Vec::new();
        if is_storm(&silent, state) {
            held = silent.into_iter().filter(|i| !self.of[i].second).collect();
            self.held += u64::from(!held.is_empty());
            for instance in &held {
                self.set(*instance, Lease { until: now + limits::LEASE, second: true });
            }
        }
        (ended(self), held)
    }
}

/// More than a share of all instances, and not few, and not of one zone. A whole zone is what zones
/// are for: it is replaced at once, whoever elsewhere is late with a heartbeat just then.
fn is_storm(silent: &[InstanceId], state: &State) -> bool {
    let ready = |row: &&std::sync::Arc<Instance>| row.ready();
    let lost: Vec<_> = silent.iter().filter_map(|id| state.instance(*id)).filter(ready).collect();
    let all = state.instances().filter(ready).count();
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &lost {
        *zones.entry(row.spec.zone.as_str()).or_default() += 1;
    }
    let elsewhere = lost.len() - zones.into_values().max().unwrap_or(0);
    lost.len() >= limits::GOVERNOR_INSTANCES_MIN
        && lost.len() * limits::GOVERNOR_SHARE > all
        && elsewhere * limits::GOVERNOR_LATE_SHARE > lost.len()
}

pub(super) fn stage(draft: &mut Draft, view: &mut View, leases: &mut Leases) {
    for instance in leases.heard.clone() {
        set_health(draft, view, instance, Health::Ready);
    }
    let (ended, held) = leases.expired(view.now, draft.state());
    tell_services(draft, &held);
    if !ended.is_empty() {
        leases.last_loss = Some(view.now);
    }
    // A lease is kept until a state shows the verdict: the plan may yet fail.
    for instance in ended {
        set_health(draft, view, instance, Health::Down { since: view.now });
    }
    view.suspects = leases.suspects(view.now);
    // A heartbeat alone makes nobody think: whoever waits for such an instance is looked at again.
    if !view.suspects.is_empty() {
        view.wakes.waiting_at(view.now + LOOK);
    }
}

/// Users see why nothing is replaced yet.
fn tell_services(draft: &mut Draft, held: &[InstanceId]) {
    let state = draft.state();
    let tasks = held.iter().flat_map(|instance| state.tasks_on(*instance));
    let services: BTreeSet<ServiceId> = tasks.filter_map(|task| task.service()).collect();
    for service in services.into_iter().take(SERVICES_TOLD_MAX) {
        explain::held_back(draft, service, held.len());
    }
}

fn set_health(draft: &mut Draft, view: &mut View, instance: InstanceId, health: Health) {
    let Some(row) = draft.state().instance(instance) else { return };
    let ready = health == Health::Ready;
    if row.status == InstanceStatus::Inactive || row.ready() == ready {
        return;
    }
    let step = Step::SetHealth { instance, health };
    view.dirty.mark_step(&step, draft.state());
    draft.push(step);
}
