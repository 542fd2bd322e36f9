//! The agent on the machine starts again: what it finds there.

use super::{GPUS, Machine, Real, TOTAL, Want, gpus};
use muster_control::io::{Found, FoundContainer, WorkerInput};
use muster_control::worker::Worker;
use muster_model::task::ContainerStatus;
use muster_model::{InstanceId, TaskId};
use std::sync::Arc;

impl Machine {
    pub(super) fn restart(&mut self) {
        self.session = None;
        self.unacked.clear();
        self.to_do.clear();
        // What was created but not started is taken down by the agent's collector, and what failed
        // before anything ended leaves no trace: it may be tried again.
        self.real.retain(|_, real| *real != Real::Created);
        let (wants, real) = (&self.wants, &self.real);
        let ended = |task: TaskId| real.iter().any(|((t, _), r)| *t == task && *r == Real::Exited);
        self.sealed.retain(|task| wants.get(task) != Some(&Want::Run) || ended(*task));
        let found = self.journal.iter().map(|task| self.found(*task)).collect();
        let instance = InstanceId::from_bits(1);
        self.worker =
            Worker::new(instance, self.obeyed).with_capacity(TOTAL).with_resources(gpus(GPUS));
        self.tell(WorkerInput::Boot { found });
    }

    fn found(&self, task: TaskId) -> Found {
        let assignment = self.assignments[&task].clone();
        let status = ContainerStatus::default();
        let containers = assignment.spec.containers.iter().map(|c| {
            let name: Arc<str> = Arc::from(c.name.as_str());
            let found = match self.real.get(&(task, name.clone())) {
                Some(Real::Running) => {
                    FoundContainer::Running { status: status.clone(), started_at: self.now }
                }
                Some(Real::Exited) => FoundContainer::Exited {
                    status: ContainerStatus { exit_code: Some(0), ..status.clone() },
                    started_at: Some(self.now),
                    finished_at: self.now,
                },
                Some(Real::Created) | None => FoundContainer::Missing,
            };
            (name, found)
        });
        let containers = containers.collect();
        Found { assignment, stopping: self.stopping.contains(&task), containers }
    }
}
