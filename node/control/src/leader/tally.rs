//! Why nothing fits: how many instances each filter removed, and which came closest.
//!
//! Made only for what cannot be placed: it looks at every instance of the cluster.

use super::contest::Contest;
use super::filter::Wish;
use super::fleet::At;
use super::index::{Index, Signature};
use muster_model::task::{Blocker, Shortfall, Waiting};
use muster_model::{InstanceId, Resources, State};
use std::cmp::Reverse;
use std::sync::Arc;

/// The closest instance: how far it came, then the smaller shortfall, then the smaller id.
type Closeness = (u16, Reverse<u64>, Reverse<InstanceId>);

#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    instances: u32,
    removed: Vec<(Blocker, u32)>,
    closest: Option<(Closeness, Blocker, Shortfall)>,
}

impl Tally {
    /// What stands against each instance of the cluster now.
    pub fn of(
        state: &State,
        index: &Index,
        signature: &Signature,
        wish: &Wish,
        contest: &Contest,
    ) -> Self {
        let (mut tally, candidates) = Self::parted(state, index, signature, wish, contest);
        for at in candidates {
            // Free for a task that asks for another port: this one counts as taken.
            let port = Shortfall::Port { port: 0 };
            tally.remove(index.fleet.ids[at as usize], Blocker::Ports, port);
        }
        tally
    }

    /// The same for a task that has a place: what stands against the others, and the candidates.
    pub fn parted(
        state: &State,
        index: &Index,
        signature: &Signature,
        wish: &Wish,
        contest: &Contest,
    ) -> (Self, Vec<At>) {
        let (mut tally, mut candidates) = (Self::default(), Vec::new());
        for class in index.fleet.classes_in(signature.cluster) {
            for at in index.fleet.class_at(*class).members() {
                tally.instances += 1;
                let (blocker, port) = match wish.judge(index, state, &signature.owner, at) {
                    Err(why) => why,
                    Ok(()) if contest.holds_back(*class) => (Blocker::Skew, 0),
                    Ok(()) if contest.missing(*class).is_some() => (Blocker::Reserve, 0),
                    Ok(()) => {
                        candidates.push(at);
                        continue;
                    }
                };
                let shortfall = match (blocker, contest.missing(*class)) {
                    (Blocker::Reserve, Some(Resources { cpu, memory_mib })) => {
                        Shortfall::Reserve { cpu, memory_mib }
                    }
                    _ => shortfall(state, index, at, wish, blocker, port),
                };
                tally.remove(index.fleet.ids[at as usize], blocker, shortfall);
            }
        }
        (tally, candidates)
    }

    fn remove(&mut self, id: InstanceId, blocker: Blocker, shortfall: Shortfall) {
        match self.removed.iter_mut().find(|(b, _)| *b == blocker) {
            Some((_, count)) => *count += 1,
            None => self.removed.push((blocker, 1)),
        }
        let distance = match &shortfall {
            Shortfall::Cpu { wanted, free }
            | Shortfall::MemoryMib { wanted, free }
            | Shortfall::Named { wanted, free, .. } => share(*wanted, *free),
            Shortfall::Reserve { cpu, memory_mib } => u64::from(*cpu) + u64::from(*memory_mib),
            Shortfall::Port { .. } | Shortfall::Rule(_) => 0,
        };
        let closeness = (blocker.depth(), Reverse(distance), Reverse(id));
        if self.closest.as_ref().is_none_or(|(best, ..)| closeness > *best) {
            self.closest = Some((closeness, blocker, shortfall));
        }
    }

    pub fn closest(&self) -> Option<(InstanceId, Blocker)> {
        self.closest.as_ref().map(|((.., id), blocker, _)| (id.0, *blocker))
    }

    /// The counted reasons as they are stored.
    pub fn waiting(mut self) -> Waiting {
        self.removed.sort_by_key(|(blocker, count)| (Reverse(*count), blocker.depth()));
        let nearest = self.closest.map(|((.., id), _, shortfall)| (id.0, shortfall));
        Waiting { instances: self.instances, removed: self.removed, nearest }
    }
}

/// What is missing there.
fn shortfall(
    state: &State,
    index: &Index,
    at: At,
    wish: &Wish,
    blocker: Blocker,
    port: u16,
) -> Shortfall {
    let free = index.fleet.free[at as usize];
    let named = || {
        let row = state.instance(index.fleet.ids[at as usize])?;
        let (_, (name, wanted, free)) = wish.short(state, row)?;
        Some(Shortfall::Named { name: Arc::from(name), wanted, free })
    };
    match blocker {
        Blocker::Cpu => Shortfall::Cpu { wanted: wish.size.cpu, free: free.cpu },
        Blocker::Memory => {
            Shortfall::MemoryMib { wanted: wish.size.memory_mib, free: free.memory_mib }
        }
        Blocker::Ports => Shortfall::Port { port },
        Blocker::Resource(_) => named().unwrap_or(Shortfall::Rule(blocker)),
        _ => Shortfall::Rule(blocker),
    }
}

/// What is missing, as a share of what is wanted, in 1/65,536.
fn share(wanted: u32, free: u32) -> u64 {
    (u64::from(wanted.saturating_sub(free)) << 16) / u64::from(wanted.max(1))
}
