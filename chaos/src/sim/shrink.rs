//! Makes a failure short enough to be read: leaves out faults, wishes, machines and time as long as
//! the same law breaks.
//!
//! Each fault and each wish has luck of its own (`dice`), so what remains mostly stays what it was.
//! What does change is judged by running it. Invariant: what it returns breaks the same law.

use super::{Outcome, Part, run_part};
use muster_model::Millis;
use std::collections::BTreeSet;

/// A shrunken failure.
#[derive(Clone, Debug)]
pub struct Shrunk {
    pub part: Part,
    pub outcome: Outcome,
    pub runs: u64,
}

struct Search {
    seed: u64,
    law: &'static str,
    best: Shrunk,
    runs_max: u64,
}

/// `None`: the seed breaks no law. At most `runs_max` histories are tried.
pub fn shrink(seed: u64, part: &Part, runs_max: u64) -> Option<Shrunk> {
    let outcome = run_part(seed, part, false);
    let law = outcome.violation.as_ref()?.law;
    let best = Shrunk { part: part.clone(), outcome, runs: 1 };
    let mut search = Search { seed, law, best, runs_max };
    loop {
        let before = search.size();
        search.time();
        search.machines();
        search.faults();
        search.wishes();
        if search.size() == before || search.best.runs >= runs_max {
            return Some(search.best);
        }
    }
}

impl Search {
    /// What is left: faults, wishes, machines. Time follows from them.
    fn size(&self) -> (usize, usize, u64) {
        let outcome = &self.best.outcome;
        let (faults, wishes) = (outcome.struck.len(), outcome.wished.len());
        (faults, wishes, outcome.counts.agents)
    }

    /// Whether it still breaks the same law, and so replaces the best.
    fn try_part(&mut self, part: Part) -> bool {
        if self.best.runs >= self.runs_max {
            return false;
        }
        self.best.runs += 1;
        let outcome = run_part(self.seed, &part, false);
        let same = outcome.violation.as_ref().is_some_and(|broken| broken.law == self.law);
        if same {
            self.best.part = part;
            self.best.outcome = outcome;
        }
        same
    }

    /// The faults need not go on after what they led to.
    fn time(&mut self) {
        let (mut low, mut high) = (0, self.best.outcome.simulated.0);
        while high - low > 2000 {
            let middle = low + (high - low) / 2;
            let part = Part { calm_at: Some(Millis(middle)), ..self.best.part.clone() };
            match self.try_part(part) {
                true => high = middle,
                false => low = middle,
            }
        }
    }

    fn machines(&mut self) {
        let mut agents = self.best.outcome.counts.agents;
        while agents > 1 {
            agents /= 2;
            let part = Part { agents_max: Some(agents), ..self.best.part.clone() };
            if !self.try_part(part) {
                return;
            }
        }
    }

    fn faults(&mut self) {
        let all: Vec<u64> = self.best.outcome.struck.clone();
        self.without(all, |part, left_out: &[u64]| {
            part.no_faults.extend(left_out);
        });
    }

    fn wishes(&mut self) {
        let all: Vec<super::Wish> = self.best.outcome.wished.clone();
        self.without(all, |part, left_out: &[super::Wish]| {
            part.no_wishes.extend(left_out);
        });
    }

    /// Leaves out halves, then quarters, and so on down to single ones.
    fn without<T: Copy + Ord>(&mut self, all: Vec<T>, leave_out: impl Fn(&mut Part, &[T])) {
        let mut size = all.len();
        let mut gone: BTreeSet<T> = BTreeSet::new();
        while size > 0 {
            for chunk in all.chunks(size) {
                let fresh: Vec<T> =
                    chunk.iter().filter(|one| !gone.contains(*one)).copied().collect();
                if fresh.is_empty() {
                    continue;
                }
                let mut part = self.best.part.clone();
                leave_out(&mut part, &fresh);
                if self.try_part(part) {
                    gone.extend(fresh);
                }
            }
            size /= 2;
        }
    }
}
