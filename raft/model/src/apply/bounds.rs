//! How many tasks of a service a plan may still start, and how many healthy ones it may stop, by
//! the service's percentages as they are when the plan is applied.
//!
//! A plan is made on a state that others may have changed before its turn comes: the user scales
//! or stops a task, an agent reports a crash. Judged by the leader alone, its steps would then be
//! measured with yesterday's numbers. Only the step that would break a bound is refused: what the
//! bounds allow goes on, so that a user who never stops changing a service cannot halt it.
//! While a deployment shifts traffic, blue and green are judged each by itself (`State::sides`).
//! Every plan goes through it, whatever it is for: a deployment, a drain, scaling, rebalancing.
//! It does not know why a task is to go, or which one should. Invariant: a count in here is what
//! counting the state anew would give.

use super::reserve::Reserves;
use crate::error::Error;
use crate::ids::{ClusterId, ServiceId};
use crate::service::{Service, ServiceStatus};
use crate::state::{Side, State};
use crate::task::Task;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One pass over a service's tasks per plan; a plan may stop thousands of one service.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    tallies: BTreeMap<(ServiceId, Side), Tally>,
    /// What zones' reserves let it place.
    pub reserves: Reserves,
}

/// Of a DAEMON service only tasks where they should be (`State::in_place`): the others stand for
/// instances that are no longer counted, so they keep none from starting and may always go.
#[derive(Debug)]
struct Tally {
    /// All that may run, also what is still stopping.
    existing: usize,
    healthy: usize,
    /// Of what a plan can say only a turn or a verdict changes it (`Bounds::forget`).
    desired: u32,
}

impl Tally {
    fn of(state: &State, row: &Service, side: Side) -> Self {
        let mut tally = Self { existing: 0, healthy: 0, desired: state.desired_on(row, side) };
        let own = |task: &&Arc<Task>| state.in_place(row, task) && state.side_of(row, task) == side;
        for task in state.tasks_of(row.id).filter(own) {
            tally.existing += usize::from(task.ended_at().is_none());
            tally.healthy += usize::from(state.is_healthy(task));
        }
        tally
    }
}

impl Bounds {
    fn tally(&mut self, state: &State, row: &Service, side: Side) -> &mut Tally {
        self.tallies.entry((row.id, side)).or_insert_with(|| Tally::of(state, row, side))
    }

    /// What was counted of the service is counted anew: its sides, or their numbers, have changed.
    pub fn forget(&mut self, service: ServiceId) {
        self.tallies.retain(|(of, _), _| *of != service);
    }

    /// Counts `number` new tasks of the service, which the caller is about to make.
    pub fn may_start(
        &mut self,
        state: &State,
        row: &Service,
        side: Side,
        number: usize,
    ) -> Result<(), Error> {
        let tally = self.tally(state, row, side);
        let most = row.spec.deployment.ceiling(tally.desired) as usize;
        let existing = tally.existing + number;
        if existing > most {
            let name = &row.spec.name;
            let why = format!("service {name} would have {existing} of at most {most} tasks");
            return Err(Error::refused(why));
        }
        tally.existing = existing;
        Ok(())
    }

    /// Counts a wanted task that the caller is about to stop. A service that is being deleted has
    /// no minimum, nor has a task without a service.
    pub fn may_stop(&mut self, state: &State, task: &Task) -> Result<(), Error> {
        let service = task.service().and_then(|id| state.service(id));
        let Some(row) = service.filter(|row| row.status == ServiceStatus::Active) else {
            return Ok(());
        };
        if !state.in_place(row, task) {
            return Ok(());
        }
        let tally = self.tally(state, row, state.side_of(row, task));
        if state.is_healthy(task) {
            let desired = tally.desired;
            let least = row.spec.deployment.floor(desired).min(desired) as usize;
            if tally.healthy <= least {
                let (name, left) = (&row.spec.name, tally.healthy.saturating_sub(1));
                return Err(Error::refused(format!(
                    "service {name} would be left with {left} of at least {least} healthy tasks"
                )));
            }
            tally.healthy -= 1;
        }
        // What was never placed has ended with its stop; the others run until they are reported.
        if task.instance.is_none() {
            tally.existing = tally.existing.saturating_sub(1);
        }
        Ok(())
    }

    /// An instance of the cluster accepts tasks from now on, or no longer does: a DAEMON service
    /// should have another number of them.
    pub fn change(&mut self, state: &State, cluster: ClusterId) {
        for service in state.daemons(cluster) {
            self.forget(service);
        }
        self.reserves.change(cluster);
    }

    /// Counts a task that is lost with its instance; nothing is left to refuse.
    pub fn lose(&mut self, state: &State, task: &Task) {
        let Some(row) = task.service().and_then(|id| state.service(id)) else { return };
        let Some(tally) = self.tallies.get_mut(&(row.id, state.side_of(row, task))) else { return };
        if state.in_place(row, task) {
            tally.existing = tally.existing.saturating_sub(1);
            let healthy = usize::from(state.is_healthy(task));
            tally.healthy = tally.healthy.saturating_sub(healthy);
        }
    }
}
