//! Signatures that nothing could take: each waits for an event that can help it, and for no other.
//!
//! What helps is an instance of its cluster that gained something (room, a port, an open gate,
//! another class) and now has the room it asks for. The parked ones are sorted by the cpu they
//! ask for, so that an event looks only at those that would fit, not at all of them.
//! Invariant: a signature that waits is either ready or parked.

use super::filter::Wish;
use super::fleet::At;
use super::index::{Index, Signature};
use muster_model::{ClusterId, State};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What it is found by: its cluster and the cpu it asks for.
type Need = (ClusterId, u32);

#[derive(Debug, Default)]
pub(super) struct Parking {
    ready: BTreeSet<Arc<Signature>>,
    parked: BTreeMap<Need, BTreeSet<Arc<Signature>>>,
}

impl Parking {
    /// Signatures to place, the one with the longest waiting task first; those of DAEMON services
    /// before all others, so that what every instance needs finds room there.
    pub fn order(&mut self, state: &State, index: &Index) -> Vec<Arc<Signature>> {
        let mut order = Vec::with_capacity(self.ready.len());
        self.ready.retain(|signature| match index.waiting().get(&**signature) {
            Some(queue) => {
                let first = queue.first().map(|(at, slot, _)| (*at, *slot));
                let follows = !signature.owner.is_daemon(state);
                order.push((follows, first, signature.clone()));
                true
            }
            None => false,
        });
        order.sort();
        order.into_iter().map(|(.., signature)| signature).collect()
    }

    pub fn park(&mut self, signature: &Arc<Signature>) {
        self.ready.remove(signature);
        self.parked.entry(need(signature)).or_default().insert(signature.clone());
    }

    pub fn done(&mut self, signature: &Arc<Signature>) {
        self.ready.remove(signature);
    }

    /// Readies what an event can have helped; `all`: everything.
    pub fn wake(&mut self, state: &State, index: &mut Index, all: bool) {
        let gains = index.take_gains();
        for signature in index.take_arrivals() {
            self.ready(Arc::new(signature));
        }
        if all {
            for (_, parked) in std::mem::take(&mut self.parked) {
                self.ready.extend(parked);
            }
            self.ready.extend(index.waiting().keys().cloned().map(Arc::new));
        }
        if self.parked.is_empty() {
            return;
        }
        let mut helped = Vec::new();
        for at in gains {
            self.helped_by(state, index, at, &mut helped);
        }
        for signature in helped {
            self.ready(signature);
        }
    }

    fn ready(&mut self, signature: Arc<Signature>) {
        if let Some(parked) = self.parked.get_mut(&need(&signature)) {
            parked.remove(&signature);
            if parked.is_empty() {
                self.parked.remove(&need(&signature));
            }
        }
        self.ready.insert(signature);
    }

    fn helped_by(
        &self,
        state: &State,
        index: &mut Index,
        at: At,
        helped: &mut Vec<Arc<Signature>>,
    ) {
        let (cluster, free) = (index.fleet.cluster_of(at), index.fleet.free[at as usize]);
        let fitting = self.parked.range((cluster, 0)..=(cluster, free.cpu));
        for signature in fitting.flat_map(|(_, parked)| parked) {
            if signature.size.memory_mib > free.memory_mib {
                continue;
            }
            let Some(wish) = Wish::of(state, index, signature) else { continue };
            if wish.judge(index, state, &signature.owner, at).is_ok() {
                helped.push(signature.clone());
            }
        }
    }
}

fn need(signature: &Signature) -> Need {
    (signature.cluster, signature.size.cpu)
}
