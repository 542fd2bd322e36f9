//! The scheduler by itself: what it chooses, without a plan around it. For measuring.
//!
//! The room that its choices take counts for the next ones; host ports are looked up in the state
//! it is given, which does not change.

use super::contest::Contest;
use super::filter::Wish;
use super::index::{Index, OwnerKey, Signature};
use muster_model::{InstanceId, Resources, Service, Slot, State, TaskId};

#[derive(Debug, Default)]
pub struct Decider {
    index: Index,
}

impl Decider {
    pub fn new(state: &State) -> Self {
        let mut index = Index::default();
        index.sync(state);
        Self { index }
    }

    /// Where these new tasks of a service go, in their order; shorter if nothing takes the rest.
    pub fn decide(
        &mut self,
        state: &State,
        service: &Service,
        tasks: &[TaskId],
    ) -> Vec<InstanceId> {
        let Some(newest) = service.primary() else { return Vec::new() };
        let definition = state.definition(newest.definition);
        let signature = Signature {
            cluster: service.cluster,
            owner: OwnerKey::Service(service.id),
            definition: newest.definition,
            size: definition.map(|row| row.spec.reservation()).unwrap_or_default(),
            named: definition.map(|row| row.spec.named_reservation()).unwrap_or_default(),
            placement: None,
        };
        let Some(wish) = Wish::of(state, &mut self.index, &signature) else { return Vec::new() };
        let mut contest = Contest::new(&mut self.index, &signature, &wish);
        let mut chosen = Vec::with_capacity(tasks.len());
        let mut placed = Vec::with_capacity(tasks.len());
        for (slot, task) in (0..).map(Slot).zip(tasks) {
            let found = contest.best(state, &self.index, &signature.owner, &wish, *task);
            let Some((at, _)) = found else { break };
            let left: Resources = self.index.fleet.free[at as usize].minus(signature.size);
            self.index.fleet.set_free(at, left);
            contest.placed(&self.index, &wish, at);
            chosen.push(self.index.fleet.ids[at as usize]);
            placed.push(((state.now(), slot, *task), at));
        }
        self.index.settle(&signature, &placed);
        chosen
    }
}
