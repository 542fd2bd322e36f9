//! The setters: the only code that writes a table, so that rows and indexes cannot part.
//!
//! Each setter takes the difference between the old row and the new one and moves the derived
//! entries accordingly. Nothing is judged here; `apply` has done that.

use super::{DefinitionRow, Indexes, Meta, RequestRow, Reserved, ServiceTasks, State};
use crate::access_key::{AccessKey, AccessKeyId};
use crate::cluster::{Authority, Cluster, ClusterStatus, Manager, User};
use crate::ids::{ClusterId, Index, InstanceId, RequestId, ServiceId, Slot, TaskId};
use crate::instance::{Instance, InstanceStatus};
use crate::policy::{Holder, Policy};
use crate::service::{Event, Service, ServiceStatus};
use crate::spec::{Named, Protocol, Resources};
use crate::task::Task;
use crate::time::Time;
use imbl::OrdMap;
use std::sync::Arc;

/// A host port as it is reserved: tcp and udp do not collide.
pub type HostPort = (u16, Protocol);

/// What a task contributes to the indexes; two equal keys mean: nothing to move.
#[derive(PartialEq)]
struct Keys {
    /// Of its service, which never changes.
    slot: Option<Slot>,
    /// On an instance.
    there: bool,
    reserves: bool,
    waiting: bool,
    ended: Option<Time>,
}

impl Keys {
    fn of(task: &Task) -> Self {
        Self {
            slot: task.slot().filter(|_| task.wanted()),
            there: task.instance.is_some() && task.observed.phase < crate::Phase::Stopped,
            reserves: task.reserves(),
            waiting: task.wanted() && task.instance.is_none(),
            ended: task.ended_at(),
        }
    }

    const NONE: Self =
        Self { slot: None, there: false, reserves: false, waiting: false, ended: None };
}

impl State {
    /// Records that the log has reached `index` at `at`; neither ever moves back.
    pub(crate) fn advance(&mut self, index: Index, at: Time) {
        self.applied = self.applied.max(index);
        if at > self.meta.now {
            Arc::make_mut(&mut self.meta).now = at;
        }
    }

    pub(crate) fn meta_mut(&mut self) -> &mut Meta {
        Arc::make_mut(&mut self.meta)
    }

    /// All but the authority, which is a row of its own.
    pub(crate) fn put_meta(&mut self, row: Arc<Meta>) {
        let authority = self.meta.authority.clone();
        self.meta = row;
        if self.meta.authority != authority {
            self.meta_mut().authority = authority;
        }
    }

    pub(crate) fn put_authority(&mut self, row: Arc<Authority>) {
        self.meta_mut().authority = row;
    }

    /// Every row but those of managers and users goes.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            applied: self.applied,
            meta: self.meta.clone(),
            managers: self.managers.clone(),
            users: self.users.clone(),
            ..Self::default()
        };
    }

    pub(crate) fn put_cluster(&mut self, row: Arc<Cluster>) {
        let old = self.clusters.insert(row.id, row.clone());
        if let Some(old) = old.filter(|old| old.status == ClusterStatus::Active) {
            self.index.cluster_names.remove(&old.name);
        }
        if row.status == ClusterStatus::Active {
            self.index.cluster_names.insert(row.name.clone(), row.id);
        }
    }

    /// Forgets an INACTIVE cluster.
    pub(crate) fn remove_cluster(&mut self, id: ClusterId) {
        let Some(old) = self.clusters.remove(&id) else { return };
        if old.status == ClusterStatus::Active {
            self.index.cluster_names.remove(&old.name);
        }
    }

    pub(crate) fn put_definition(&mut self, row: Arc<DefinitionRow>) {
        self.index.revisions.insert((row.family.clone(), row.revision), row.id);
        self.definitions.insert(row.id, row);
    }

    pub(crate) fn put_service(&mut self, row: Arc<Service>) {
        let old = self.services.insert(row.id, row.clone());
        let was = old.as_deref().and_then(service_name);
        let is = service_name(&row);
        if was != is {
            self.index.rename_service(was, is.map(|key| (key, row.id)));
        }
        // Neither its cluster nor its strategy ever changes.
        match row.spec.is_daemon() && row.status == ServiceStatus::Active {
            true => self.index.daemons.insert((row.cluster, row.id)),
            false => self.index.daemons.remove(&(row.cluster, row.id)),
        };
    }

    /// Forgets an INACTIVE service and its events.
    pub(crate) fn remove_service(&mut self, id: ServiceId) {
        self.remove_shift(id);
        self.remove_pause(id);
        self.remove_pins(id);
        self.remove_task_sets(id);
        if let Some(old) = self.services.remove(&id) {
            self.index.rename_service(service_name(&old), None);
            self.index.daemons.remove(&(old.cluster, id));
            self.remove_established(id);
        }
        let numbers: Vec<u64> = self.events(id).map(|(number, _)| number).collect();
        for number in numbers {
            self.events.remove(&(id, number));
        }
    }

    pub(crate) fn put_event(&mut self, service: ServiceId, number: u64, event: Arc<Event>) {
        self.events.insert((service, number), event);
    }

    pub(crate) fn remove_event(&mut self, service: ServiceId, number: u64) {
        self.events.remove(&(service, number));
    }

    pub(crate) fn put_instance(&mut self, row: Arc<Instance>) {
        let key = (row.cluster, row.id);
        match row.status {
            InstanceStatus::Active => self.index.active_instances.insert(key),
            _ => self.index.active_instances.remove(&key),
        };
        self.instances.insert(row.id, row);
    }

    pub(crate) fn remove_instance(&mut self, id: InstanceId) {
        if let Some(old) = self.instances.remove(&id) {
            self.index.active_instances.remove(&(old.cluster, id));
        }
    }

    pub(crate) fn put_manager(&mut self, row: Arc<Manager>) {
        self.managers.insert(row.id, row);
    }

    pub(crate) fn put_user(&mut self, row: Arc<User>) {
        self.users.insert(row.name.clone(), row);
    }

    /// A key never changes its user.
    pub(crate) fn put_access_key(&mut self, row: Arc<AccessKey>) {
        self.index.access_keys_of_user.insert((row.user.clone(), row.id));
        self.access_keys.insert(row.id, row);
    }

    pub(crate) fn remove_access_key(&mut self, id: AccessKeyId) {
        if let Some(old) = self.access_keys.remove(&id) {
            self.index.access_keys_of_user.remove(&(old.user.clone(), id));
        }
    }

    pub(crate) fn put_policy(&mut self, row: Arc<Policy>) {
        self.policies.insert((row.holder.clone(), row.name.clone()), row);
    }

    pub(crate) fn remove_policy(&mut self, holder: &Holder, name: &Arc<str>) {
        self.policies.remove(&(holder.clone(), name.clone()));
    }

    pub(crate) fn put_request(&mut self, row: Arc<RequestRow>) {
        if let Some(old) = self.index.request_ids.insert(row.id, row.index) {
            self.requests.remove(&old);
        }
        self.requests.insert(row.index, row);
    }

    pub(crate) fn remove_request(&mut self, id: RequestId) {
        if let Some(index) = self.index.request_ids.remove(&id) {
            self.requests.remove(&index);
        }
    }

    /// The definition of the task must be there: its ports and sizes are read from it.
    pub(crate) fn put_task(&mut self, row: Arc<Task>) {
        self.written.0 += 1;
        let is = Keys::of(&row);
        let old = self.tasks.insert(row.id, row.clone());
        let was = old.as_deref().map_or(Keys::NONE, Keys::of);
        if old.is_none() {
            self.enroll(&row, |own| {
                own.tasks.insert(row.id);
            });
            row.job().map(|job| self.index.tasks_of_job.insert((job, row.id)));
        }
        self.move_task(&row, &was, &is);
    }

    /// Changes a row that is there; it is copied only if somebody else has it too: another version
    /// of the state, or a caller who looked it up.
    pub(crate) fn change_task(&mut self, id: TaskId, change: impl FnOnce(&mut Task)) {
        let Some(row) = self.tasks.get_mut(&id) else { return };
        self.written.0 += 1;
        let was = Keys::of(row);
        change(Arc::make_mut(row));
        let (row, is) = (row.clone(), Keys::of(row));
        self.move_task(&row, &was, &is);
    }

    pub(crate) fn remove_task(&mut self, id: TaskId) {
        let Some(old) = self.tasks.remove(&id) else { return };
        self.remove_protection(id);
        self.enroll(&old, |own| {
            own.tasks.remove(&id);
        });
        old.job().map(|job| self.index.tasks_of_job.remove(&(job, id)));
        self.move_task(&old, &Keys::of(&old), &Keys::NONE);
    }

    fn move_task(&mut self, task: &Task, was: &Keys, is: &Keys) {
        if was == is {
            return;
        }
        let id = task.id;
        if was.slot != is.slot {
            self.enroll(task, |own| {
                was.slot.map(|slot| own.slots.remove(&slot));
                is.slot.map(|slot| own.slots.insert(slot, id));
            });
        }
        let index = &mut self.index;
        if was.waiting && !is.waiting {
            index.waiting.remove(&id);
        }
        if is.waiting && !was.waiting {
            index.waiting.insert(id);
        }
        if was.ended != is.ended {
            was.ended.map(|at| index.finished.remove(&(at, id)));
            is.ended.map(|at| index.finished.insert((at, id)));
        }
        if (was.there, was.reserves) != (is.there, is.reserves) {
            self.occupy(task, was, is);
        }
    }

    /// Changes what its service has, if it is one's.
    fn enroll(&mut self, task: &Task, change: impl FnOnce(&mut ServiceTasks)) {
        let Some(service) = task.service() else { return };
        at(&mut self.index.service_tasks, service, |own| {
            change(own);
            own.tasks.is_empty() && own.slots.is_empty()
        });
    }

    /// A task is placed once and never moved, so a claim only begins and ends.
    fn occupy(&mut self, task: &Task, was: &Keys, is: &Keys) {
        let Some(instance) = task.instance else { return };
        let claim = (was.reserves != is.reserves).then(|| self.claim(task));
        at(&mut self.index.occupancy, instance, |row| {
            match is.there {
                true => row.tasks.insert(task.id),
                false => row.tasks.remove(&task.id),
            };
            match (claim, is.reserves) {
                (Some(claim), true) => row.reserved.add(task.id, claim),
                (Some(claim), false) => row.reserved.take_off(claim),
                (None, _) => {}
            }
            row.tasks.is_empty() && row.reserved.tasks == 0
        });
    }

    fn claim(&self, task: &Task) -> Claim {
        let spec = self.spec_of(task);
        let takes = spec.map(|spec| (spec.reservation(), spec.named_reservation()));
        let (resources, named) = takes.unwrap_or_default();
        Claim { resources, named, ports: self.host_ports(task) }
    }

    /// The host ports of a placed task, with their protocols.
    pub fn host_ports(&self, task: &Task) -> Vec<HostPort> {
        // Overrides change no ports, so the definition's own mappings are the task's.
        let Some(row) = self.definitions.get(&task.definition) else { return Vec::new() };
        let mappings = row.spec.port_mappings();
        task.ports.iter().zip(mappings).map(|(port, (_, m))| (*port, m.protocol)).collect()
    }
}

/// Changes the row at a key, which is there only while something is in it: `change` says whether
/// nothing is left.
fn at<K: Ord + Clone, V: Clone + Default>(
    rows: &mut OrdMap<K, Arc<V>>,
    key: K,
    change: impl FnOnce(&mut V) -> bool,
) {
    match rows.get_mut(&key).map(Arc::make_mut) {
        Some(row) => {
            if change(row) {
                rows.remove(&key);
            }
        }
        None => {
            let mut row = V::default();
            if !change(&mut row) {
                rows.insert(key, Arc::new(row));
            }
        }
    }
}

/// What one task takes of its instance.
struct Claim {
    resources: Resources,
    named: Named,
    ports: Vec<HostPort>,
}

impl Reserved {
    fn add(&mut self, task: TaskId, claim: Claim) {
        self.resources = self.resources.plus(claim.resources);
        for (name, amount) in claim.named {
            let held = self.named.entry(name).or_default();
            *held = held.saturating_add(amount);
        }
        self.tasks += 1;
        for port in claim.ports {
            self.ports.insert(port, task);
        }
    }

    fn take_off(&mut self, claim: Claim) {
        self.resources = self.resources.minus(claim.resources);
        for (name, amount) in claim.named {
            let held = self.named.entry(name.clone()).or_default();
            *held = held.saturating_sub(amount);
            if *held == 0 {
                self.named.remove(&name);
            }
        }
        self.tasks = self.tasks.saturating_sub(1);
        for port in claim.ports {
            self.ports.remove(&port);
        }
    }
}

fn service_name(service: &Service) -> Option<(ClusterId, Arc<str>)> {
    let listed = service.status != ServiceStatus::Inactive;
    listed.then(|| (service.cluster, Arc::from(service.spec.name.as_str())))
}

type ServiceKey = (ClusterId, Arc<str>);

impl Indexes {
    fn rename_service(&mut self, was: Option<ServiceKey>, is: Option<(ServiceKey, ServiceId)>) {
        if let Some(key) = was {
            self.count_service(key.0, |n| n.saturating_sub(1));
            self.service_names.remove(&key);
        }
        if let Some((key, id)) = is {
            self.count_service(key.0, |n| n + 1);
            self.service_names.insert(key, id);
        }
    }

    fn count_service(&mut self, cluster: ClusterId, change: impl Fn(usize) -> usize) {
        let count = change(self.services_per_cluster.get(&cluster).copied().unwrap_or(0));
        if count == 0 {
            self.services_per_cluster.remove(&cluster);
        } else {
            self.services_per_cluster.insert(cluster, count);
        }
    }
}
