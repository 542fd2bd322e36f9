//! A whole cluster in one thread and virtual time: the real state machine and both real brains,
//! with everything around them — log, network, machines, users — played by dice from one seed.
//!
//! It decides what happens when, and judges what comes of it by the laws in `invariants`. It does
//! not know how the brains decide. What touches fsync, snapshots or read barriers is not simulated:
//! that is tested on real processes. Invariant: the same seed gives the same history, to the line.
//!
//! A run has two phases. In the first, users work while faults strike; then the faults end, and in
//! the second everything must heal within bounded time and come to rest.

mod agent;
mod client;
mod dice;
mod faults;
mod invariants;
mod log;
mod machine;
mod manager;
mod net;
mod part;
mod phases;
mod setting;
mod show;
mod shrink;
mod strict;
mod trace;
mod world;

pub use part::{Part, Wish};
pub use phases::Phases;
pub use shrink::{Shrunk, shrink};

use muster_model::Millis;
use std::fmt;

/// What was found to be broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which law, by the name of its file in `invariants`.
    pub law: &'static str,
    pub what: String,
}

/// What a run did: how much of what it is for it really met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub agents: u64,
    pub entries: u64,
    pub plans: u64,
    /// Plans that `apply` refused because their leader had been replaced.
    pub stale_plans: u64,
    /// Messages that an agent must not obey.
    pub stale_orders: u64,
    pub takeovers: u64,
    /// What deployments were at when somebody took over.
    pub met: Phases,
    pub faults: u64,
    /// Proposals whose proposer never heard what came of them.
    pub unknown: u64,
    pub acknowledged: u64,
    pub wishes: u64,
    /// Followers that came back with an empty disk.
    pub disks_lost: u64,
    pub snapshots: u64,
    pub containers: u64,
    /// Deployments that failed or were stopped.
    pub rollouts_halted: u64,
    /// Deployments that began to shift traffic, and those that got all of it.
    pub shifts_begun: u64,
    pub shifts_done: u64,
    /// Runs of schedules, and due times that came to none.
    pub runs_started: u64,
    pub runs_idle: u64,
    /// Jobs that succeeded, and those that failed or were stopped.
    pub jobs_succeeded: u64,
    pub jobs_failed: u64,
    /// Tasks of services that were given up because their health checks failed.
    pub unhealthy: u64,
    /// Tags that were settled for a deployment, and tasks that made room as they ran other bits.
    pub pins: u64,
    pub strays: u64,
    /// Tasks that were protected from scaling in.
    pub protected: u64,
    /// Task sets that were made, and those that drained and are gone.
    pub sets_made: u64,
    pub sets_gone: u64,
    /// Strict tasks that shims killed.
    pub leashes: u64,
    /// Milliseconds from the end of the faults to rest.
    pub healed_ms: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.agents += other.agents;
        self.entries += other.entries;
        self.plans += other.plans;
        self.stale_plans += other.stale_plans;
        self.stale_orders += other.stale_orders;
        self.takeovers += other.takeovers;
        self.met.add(&other.met);
        self.faults += other.faults;
        self.unknown += other.unknown;
        self.acknowledged += other.acknowledged;
        self.wishes += other.wishes;
        self.disks_lost += other.disks_lost;
        self.snapshots += other.snapshots;
        self.containers += other.containers;
        self.rollouts_halted += other.rollouts_halted;
        self.shifts_begun += other.shifts_begun;
        self.shifts_done += other.shifts_done;
        self.runs_started += other.runs_started;
        self.runs_idle += other.runs_idle;
        self.jobs_succeeded += other.jobs_succeeded;
        self.jobs_failed += other.jobs_failed;
        self.unhealthy += other.unhealthy;
        self.pins += other.pins;
        self.strays += other.strays;
        self.protected += other.protected;
        self.sets_made += other.sets_made;
        self.sets_gone += other.sets_gone;
        self.leashes += other.leashes;
        self.healed_ms += other.healed_ms;
    }
}

/// One seed's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub seed: u64,
    pub violation: Option<Violation>,
    pub counts: Counts,
    pub simulated: Millis,
    /// Faults that struck, by number.
    pub struck: Vec<u64>,
    pub wished: Vec<Wish>,
    /// Of every line of the trace.
    pub hash: u64,
    /// The newest lines of the trace.
    pub tail: Vec<String>,
}

/// Lives through one seed. `print`: each line of the trace goes to standard output at once.
pub fn run(seed: u64, print: bool) -> Outcome {
    run_part(seed, &Part::default(), print)
}

/// Lives through a part of it.
pub fn run_part(seed: u64, part: &Part, print: bool) -> Outcome {
    world::World::new(seed, part.clone(), print).live()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.violation.is_some() { "BROKEN" } else { "ok" };
        let Counts { agents, entries, plans, takeovers, faults, .. } = self.counts;
        let Counts { stale_plans, stale_orders, unknown, acknowledged, .. } = self.counts;
        write!(
            f,
            "seed {:<6} {verdict:<6} {:>4} s, agents {agents}, entries {entries}, plans {plans} \
             (stale {stale_plans}), stale orders {stale_orders}, takeovers {takeovers}, faults \
             {faults}, unknown {unknown}, writes {acknowledged}, containers {}, healed after \
             {:.1} s, hash {:016x}",
            self.seed,
            self.simulated.0 / 1000,
            self.counts.containers,
            self.counts.healed_ms as f64 / 1000.0,
            self.hash,
        )
    }
}
