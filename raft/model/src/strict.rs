//! Strict singletons: services of which no two tasks ever run at the same time, also while the
//! instance of one is out of reach.
//!
//! Within reach it follows from the percentages: one task desired, one at most, and what is still
//! stopping counts. Out of reach the task must stop without being told, before its replacement
//! starts, and neither side can ask the other. So both count from the same moment, each by its own
//! clock:
//!
//! ```text
//! agent    heartbeat sent        CONTACT over: SIGTERM   stop timeout over: SIGKILL
//!          |---------------------|-----------------------|--|
//!          |                                                KILL over: the shim kills it, whatever
//!          |                                                became of the agent
//! leader     heartbeat heard,                                 MARGIN over: given up,
//!            confirmed                                        and replaced
//!            |-----------------------------------------------------|
//! ```
//!
//! The agent counts from before the leader does, and only from heartbeats that a leader confirmed:
//! it runs the task on no other word. A leader confirms none before it has seen, by a linearizable
//! read that began after it heard it, that no later one has taken over; and a new leader counts
//! from the begin of its reign, as if it had confirmed everybody then. Nor does it confirm one of
//! an instance that counts as lost: there a task may have been given up whose agent has not heard
//! so, and none is given up before it is applied that the instance counts as lost. An agent takes a
//! confirmation only after the orders that were sent before. Nobody's wall clock matters, and of
//! two monotonic ones only that they run equally fast but for the margin.
//!
//! What it cannot see: a machine that is stopped as a whole, clocks included, by its hypervisor,
//! and goes on later. It has a moment before its shim looks at the clock. Against that there is the
//! fencing token (Kleppmann, "How to do distributed locking", 2016): it grows with each task of the
//! service, so that storage can refuse the older one.

use crate::limits::{STRICT_CONTACT, STRICT_KILL, STRICT_MARGIN};
use crate::service::ServiceSpec;
use crate::spec::TaskDefinition;
use crate::state::State;
use crate::task::Task;
use crate::time::Millis;

/// The longest that a container of the task may take to stop.
fn stop_timeout(spec: &TaskDefinition) -> Millis {
    let longest = spec.containers.iter().map(|c| c.stop_timeout_secs()).max().unwrap_or(0);
    Millis::from_secs(u64::from(longest))
}

/// How long after the last confirmed heartbeat was sent nothing of the task runs any more.
pub fn over_after(spec: &TaskDefinition) -> Millis {
    STRICT_CONTACT + stop_timeout(spec) + STRICT_KILL
}

/// How long after the last heartbeat was confirmed a task out of reach is given up.
pub fn given_up_after(spec: &TaskDefinition) -> Millis {
    over_after(spec) + STRICT_MARGIN
}

impl ServiceSpec {
    /// What a strict singleton cannot be: the field, its value, and what it may be.
    pub(crate) fn beyond_strict(&self) -> Option<(&'static str, String, &'static str)> {
        let percent = self.deployment.maximum_percent;
        match self {
            _ if !self.strict => None,
            _ if self.is_daemon() => {
                Some(("schedulingStrategy", "DAEMON".into(), "REPLICA where strict is true"))
            }
            _ if self.desired_count > 1 => Some((
                "desiredCount",
                self.desired_count.to_string(),
                "0 or 1 where strict is true: no two tasks run at the same time",
            )),
            _ if self.deployment.minimum_healthy_percent != 0 => Some((
                "deploymentConfiguration.minimumHealthyPercent",
                self.deployment.minimum_healthy_percent.to_string(),
                "0 where strict is true: a task has ended before the next one starts",
            )),
            _ if percent != 100 => Some((
                "deploymentConfiguration.maximumPercent",
                percent.to_string(),
                "100 where strict is true: a task has ended before the next one starts",
            )),
            _ if self.strategy.shifts_traffic() => Some((
                "deploymentConfiguration.strategy",
                self.strategy.pace.shown().into(),
                "ROLLING where strict is true: blue and green would run at the same time",
            )),
            _ => None,
        }
    }
}

impl TaskDefinition {
    /// Why no strict singleton may run it: killing a container's first process must end all of it.
    pub(crate) fn beyond_strict(&self) -> Option<&'static str> {
        self.pid_mode.is_some().then_some(
            "one without pidMode where strict is true: only then does a container end as a whole",
        )
    }
}

impl State {
    /// Whether the task must never run beside another one of its service.
    pub fn is_strict(&self, task: &Task) -> bool {
        let service = task.service().and_then(|id| self.service(id));
        service.is_some_and(|row| row.spec.strict)
    }

    /// A strict task's number: greater than that of every earlier task of its service. The
    /// service's version, which grows with each of its tasks.
    pub fn fencing_token(&self, task: &Task) -> Option<u64> {
        let service = self.service(task.service()?)?;
        service.spec.strict.then_some(service.version)
    }
}
