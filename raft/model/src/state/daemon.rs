//! How many tasks a service should have, and which of its tasks count for that number.
//!
//! A DAEMON service should have one task on each instance of its cluster that accepts tasks and
//! satisfies its constraints: ACTIVE, and its agent is there to start it. One that is lost, or has
//! yet to connect, wants none: nothing waits for it. It does not know whether there is room.
//! Invariant: of the tasks that are in place on instances, at most one per instance is wanted
//! (`check_place` holds them apart), so a DAEMON service with as many of them as it desires has one
//! everywhere.

use super::State;
use crate::ids::{ClusterId, InstanceId, ServiceId};
use crate::instance::Instance;
use crate::service::{Service, ServiceStatus};
use crate::task::Task;
use std::sync::Arc;

impl State {
    /// What the user said, or, for DAEMON, the number of instances that should have a task.
    pub fn desired_count(&self, service: &Service) -> u32 {
        if !service.spec.is_daemon() {
            return service.spec.desired_count;
        }
        if service.status != ServiceStatus::Active {
            return 0;
        }
        let instances = self.active_instances(service.cluster);
        // At most `limits::INSTANCES_MAX`.
        instances.filter(|instance| self.wants_daemon(service, instance)).count() as u32
    }

    /// Whether a task counts for what its service should have: all of a REPLICA service; of a
    /// DAEMON service those that wait, and those where one should be.
    pub fn in_place(&self, service: &Service, task: &Task) -> bool {
        let Some(on) = task.instance.filter(|_| service.spec.is_daemon()) else { return true };
        self.instance(on).is_some_and(|instance| self.wants_daemon(service, instance))
    }

    fn wants_daemon(&self, service: &Service, instance: &Instance) -> bool {
        instance.accepts_tasks() && self.admits(service, instance)
    }

    /// Nothing runs on the instance, or is still stopping there, but tasks of DAEMON services.
    pub fn only_daemons_on(&self, instance: InstanceId) -> bool {
        let daemon = |task: &Task| {
            let service = task.service().and_then(|id| self.service(id));
            service.is_some_and(|row| row.spec.is_daemon())
        };
        self.tasks_on(instance).all(|task| !task.reserves() || daemon(task))
    }

    /// ACTIVE instances of a cluster, in order of id.
    pub fn active_instances(&self, cluster: ClusterId) -> impl Iterator<Item = &Arc<Instance>> {
        let id = InstanceId::from_bits;
        self.index
            .active_instances
            .range((cluster, id(0))..=(cluster, id(u128::MAX)))
            .filter_map(|(_, id)| self.instance(*id))
    }

    /// ACTIVE services of a cluster that follow its instances, in order of id.
    pub fn daemons(&self, cluster: ClusterId) -> impl Iterator<Item = ServiceId> + '_ {
        let id = ServiceId::from_bits;
        let all = self.index.daemons.range((cluster, id(0))..=(cluster, id(u128::MAX)));
        all.map(|(_, id)| *id)
    }
}
