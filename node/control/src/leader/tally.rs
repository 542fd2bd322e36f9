//! Why nothing fits: how many instances each filter removed, and which came closest.
//!
//! Made only for what cannot be placed: it looks at every instance of the cluster.

use super::contest::Contest;
use super::filter::Wish;
use super::fleet::At;
use super::index::{Index, Signature};
use muster_model::task::{Blocker, Shortfall, Waiting};
use muster_model::{InstanceId, State};
use std::cmp::Reverse;

/// The closest instance: how far it came, then the smaller shortfall, then the smaller id.
type Closeness = (u16, Reverse<u64>, Reverse<InstanceId>);

#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    instances: u32,
    removed: Vec<(Blocker, u32)>,
    closest: Option<(Closeness, Blocker, Option<Shortfall>)>,
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
            tally.remove(index, at, wish, Blocker::Ports, 0);
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
                match wish.judge(index, state, &signature.owner, at) {
                    Err((blocker, port)) => tally.remove(index, at, wish, blocker, port),
                    Ok(()) if contest.holds_back(*class) => {
                        tally.remove(index, at, wish, Blocker::Skew, 0);
                    }
                    Ok(()) => candidates.push(at),
                }
            }
        }
        (tally, candidates)
    }

    fn remove(&mut self, index: &Index, at: u32, wish: &Wish, blocker: Blocker, port: u16) {
        match self.removed.iter_mut().find(|(b, _)| *b == blocker) {
            Some((_, count)) => *count += 1,
            None => self.removed.push((blocker, 1)),
        }
        let free = index.fleet.free[at as usize];
        let (distance, shortfall) = match blocker {
            Blocker::Cpu => {
                let (wanted, free) = (wish.size.cpu, free.cpu);
                (share(wanted, free), Some(Shortfall::Cpu { wanted, free }))
            }
            Blocker::Memory => {
                let (wanted, free) = (wish.size.memory_mib, free.memory_mib);
                (share(wanted, free), Some(Shortfall::MemoryMib { wanted, free }))
            }
            Blocker::Ports => (0, Some(Shortfall::Port { port })),
            _ => (0, None),
        };
        let closeness = (blocker.depth(), Reverse(distance), Reverse(index.fleet.ids[at as usize]));
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
        let nearest = self.closest.and_then(|((.., id), _, shortfall)| Some((id.0, shortfall?)));
        Waiting { instances: self.instances, removed: self.removed, nearest }
    }
}

/// What is missing, as a share of what is wanted, in 1/65,536.
fn share(wanted: u32, free: u32) -> u64 {
    (u64::from(wanted.saturating_sub(free)) << 16) / u64::from(wanted.max(1))
}
