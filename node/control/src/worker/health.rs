//! When a container's health check runs, and what its outcomes make of the container.
//!
//! It counts as Docker does for ECS: the first check that counts comes one interval after the
//! start, the next one interval after the last has ended; failures within the start period do not
//! count until one has passed. Beyond ECS it looks before the first interval is over, without
//! counting failures, so that what is ready soon is HEALTHY soon. It does not know how a check is
//! executed. Invariant: one check at a time, and an answer to any other changes nothing.

use muster_model::life::HealthCheck;
use muster_model::{HealthStatus, Millis, Time};
use std::sync::Arc;

/// The first early look after the start; each later one waits twice as long.
const EARLY: Millis = Millis::from_secs(1);
/// An answer this long after the check's own timeout has been lost with whoever ran it.
const ANSWER_WITHIN: Millis = Millis::from_secs(30);
/// Checks of one container are told apart by their numbers, which count up from here.
const FIRST: u32 = 1;

#[derive(Clone, Debug)]
pub(super) struct Watch {
    check: Arc<HealthCheck>,
    health: HealthStatus,
    /// Failures in a row that count.
    failures: u32,
    number: u32,
    running: Option<Running>,
}

/// The container runs since `started`.
#[derive(Clone, Copy, Debug)]
struct Running {
    started: Time,
    pause: Millis,
    next: Next,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    At(Time),
    Answer { began: Time },
}

/// What an answer changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub health: HealthStatus,
    /// Why it is UNHEALTHY.
    pub reason: Option<String>,
}

impl Watch {
    pub fn new(check: &HealthCheck) -> Self {
        let (check, health) = (Arc::new(check.clone()), HealthStatus::Unknown);
        Self { check, health, failures: 0, number: FIRST, running: None }
    }

    /// A new process: nothing that was known of an earlier one holds. `started` may be long ago,
    /// when an agent finds the container at its own start: then the first look comes at once.
    pub fn started(&mut self, started: Time) {
        (self.health, self.failures) = (HealthStatus::Unknown, 0);
        let next = Next::At(started + EARLY);
        self.running = Some(Running { started, pause: EARLY, next });
    }

    pub fn ended(&mut self) {
        (self.health, self.running) = (HealthStatus::Unknown, None);
    }

    /// The check that is to begin now.
    pub fn due(&mut self, now: Time) -> Option<(u32, Arc<HealthCheck>)> {
        let running = self.running.as_mut()?;
        if !matches!(running.next, Next::At(at) if at <= now) {
            return None;
        }
        self.number = self.number.wrapping_add(1);
        running.next = Next::Answer { began: now };
        Some((self.number, self.check.clone()))
    }

    /// Counts an answer that never came as one that came late.
    pub fn overdue(&mut self, now: Time) -> Option<Verdict> {
        match self.look_again()? {
            at if at <= now && matches!(self.running?.next, Next::Answer { .. }) => {
                let number = self.number;
                // Whatever comes of it later is an answer to nothing.
                let verdict = self.answered(now, number, Err("its outcome was lost"));
                self.number = self.number.wrapping_add(1);
                verdict
            }
            _ => None,
        }
    }

    pub fn look_again(&self) -> Option<Time> {
        Some(match self.running?.next {
            Next::At(at) => at,
            Next::Answer { began } => began + self.timeout() + ANSWER_WITHIN,
        })
    }

    /// `Some` if the container's health is another than before.
    pub fn answered(
        &mut self,
        now: Time,
        number: u32,
        outcome: Result<(), &str>,
    ) -> Option<Verdict> {
        let running = self.running?;
        let Next::Answer { began } = running.next else { return None };
        if number != self.number {
            return None;
        }
        let health = match outcome {
            Ok(()) => {
                self.failures = 0;
                HealthStatus::Healthy
            }
            Err(_) if !self.counts(running.started, began) => self.health,
            Err(_) => {
                self.failures = self.failures.saturating_add(1);
                match self.failures >= self.check.retries {
                    true => HealthStatus::Unhealthy,
                    false => self.health,
                }
            }
        };
        let changed = health != self.health;
        self.health = health;
        self.plan_next(now, running);
        let reason = outcome.err().map(|why| match self.failures {
            0 | 1 => format!("health check failed: {why}"),
            times => format!("health check failed {times} times in a row: {why}"),
        });
        changed.then_some(Verdict { health, reason })
    }

    fn plan_next(&mut self, now: Time, running: Running) {
        let first = running.started + self.interval();
        let pause = Millis(running.pause.0.saturating_mul(2));
        let at = match self.health == HealthStatus::Unknown && now < first {
            // An early look does not put off the first one that counts.
            true => first.min(now + pause),
            false => now + self.interval(),
        };
        self.running = Some(Running { pause, next: Next::At(at), ..running });
    }

    fn counts(&self, started: Time, began: Time) -> bool {
        let secs = self.check.start_period_secs;
        let spared = started + Millis::from_secs(u64::from(secs));
        let starting = self.health == HealthStatus::Unknown;
        began >= started + self.interval() && !(starting && began < spared)
    }

    fn interval(&self) -> Millis {
        Millis::from_secs(u64::from(self.check.interval_secs))
    }

    fn timeout(&self) -> Millis {
        Millis::from_secs(u64::from(self.check.timeout_secs))
    }
}
