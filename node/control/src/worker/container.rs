//! One container of a task: how far its life has come, what it is owed, and what is told of it.
//!
//! It decides when a container is killed after its stop signal, whether it is started again in
//! place, and what its health check makes of it. It does not know the other containers: who may
//! start or stop when is `order`'s. Invariant: a life moves forward, but for a restart.

use super::health::{Verdict, Watch};
use crate::io::{Signal, WorkerOutput};
use muster_model::life::RestartPolicy;
use muster_model::spec::ContainerDefinition;
use muster_model::task::{ContainerStatus, reason};
use muster_model::{HealthStatus, Millis, Phase, TaskId, Time};
use std::sync::Arc;

/// A killed container whose end was not seen is killed again after this long.
const KILL_AGAIN: Millis = Millis::from_secs(10);

pub(super) const VANISHED: &str =
    "ContainerVanishedError: the container ended and its exit code was lost";
pub(super) const OUT_OF_MEMORY: &str = "OutOfMemoryError: Container killed due to memory usage";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Absent,
    Creating,
    Created,
    /// Also: it ended and is being started again.
    Starting,
    Running,
    Ended,
}

#[derive(Clone, Debug)]
pub(super) struct Container {
    pub essential: bool,
    pub life: Life,
    pub status: ContainerStatus,
    /// Its last start, if it ever was.
    pub started_at: Option<Time>,
    stop_timeout: Millis,
    /// When SIGKILL follows; set with the stop signal.
    kill_at: Option<Time>,
    policy: Option<RestartPolicy>,
    /// It ended, and the order to start it again has not gone out.
    restart_due: bool,
    watch: Option<Watch>,
}

impl Container {
    pub fn new(definition: &ContainerDefinition) -> Self {
        Self {
            essential: definition.essential,
            life: Life::Absent,
            status: ContainerStatus {
                name: Arc::from(definition.name.as_str()),
                phase: Phase::Pending,
                ..ContainerStatus::default()
            },
            started_at: None,
            stop_timeout: Millis::from_secs(u64::from(definition.stop_timeout_secs())),
            kill_at: None,
            policy: definition.restart_policy.clone(),
            restart_due: false,
            watch: definition.health_check.as_ref().map(Watch::new),
        }
    }

    pub fn name(&self) -> Arc<str> {
        self.status.name.clone()
    }

    /// Started, whatever became of it.
    pub fn was_started(&self) -> bool {
        self.started_at.is_some()
    }

    // ---- what happens to it ----

    pub fn adopt(&mut self, status: ContainerStatus, life: Life, phase: Phase) {
        let name = self.status.name.clone();
        let reason = status.reason.clone().or(self.status.reason.take());
        self.life = life;
        self.status = ContainerStatus { name, phase, reason, ..status };
    }

    pub fn started(&mut self, at: Time) {
        self.life = Life::Running;
        self.status.phase = Phase::Running;
        self.started_at = Some(at);
        if let Some(watch) = &mut self.watch {
            watch.started(at);
        }
    }

    pub fn restarted(&mut self, at: Time, pid: Option<u32>) {
        let last = match self.status.exit_code.take() {
            Some(code) => format!("restarted after it ended with code {code}"),
            None => "restarted after its exit code was lost".to_owned(),
        };
        self.status.reason = Some(reason(&last));
        self.status.pid = pid;
        self.started(at);
    }

    /// Its process ended at `at`. False if it is to be started again, and so has not ended.
    pub fn exited(&mut self, exit_code: Option<i32>, reason: Option<Arc<str>>, at: Time) -> bool {
        self.finish(exit_code, reason);
        self.consider_restart(at);
        self.life == Life::Ended
    }

    /// It was found to have ended then, while no agent watched it.
    pub fn found_ended(&mut self, at: Time) {
        self.consider_restart(at);
    }

    /// What was told to stop stays stopped.
    fn consider_restart(&mut self, ended_at: Time) {
        let ran = self.started_at.map_or(Millis(0), |started| ended_at.since(started));
        let code = self.status.exit_code;
        let restarts = self.policy.as_ref().is_some_and(|policy| policy.restarts(code, ran));
        if restarts && self.kill_at.is_none() {
            self.restart_due = true;
            self.life = Life::Starting;
            self.status.phase = Phase::Pending;
        }
    }

    pub fn finish(&mut self, exit_code: Option<i32>, reason: Option<Arc<str>>) {
        self.life = Life::Ended;
        self.restart_due = false;
        self.status.phase = Phase::Stopped;
        self.status.exit_code = exit_code;
        self.status.reason = reason;
        self.status.health = HealthStatus::Unknown;
        if let Some(watch) = &mut self.watch {
            watch.ended();
        }
    }

    /// The outcome of a check; whether anything changed that is told.
    pub fn checked(&mut self, now: Time, number: u32, outcome: Result<(), &str>) -> bool {
        let verdict = self.watch.as_mut().and_then(|w| w.answered(now, number, outcome));
        self.take(verdict)
    }

    fn take(&mut self, verdict: Option<Verdict>) -> bool {
        let Some(verdict) = verdict else { return false };
        self.status.health = verdict.health;
        self.status.reason = verdict.reason.as_deref().map(reason);
        true
    }

    // ---- what it is owed ----

    /// Its restart and its next health check, if they are due; whether anything changed.
    pub fn keep_up(&mut self, now: Time, task: TaskId, out: &mut Vec<WorkerOutput>) -> bool {
        let mut changed = false;
        if std::mem::take(&mut self.restart_due) {
            self.status.restarts = self.status.restarts.saturating_add(1);
            self.started_at = None;
            out.push(WorkerOutput::Restart { task, container: self.name() });
            changed = true;
        }
        let container = self.name();
        let Some(watch) = &mut self.watch else { return changed };
        let overdue = watch.overdue(now);
        if let Some((number, check)) = watch.due(now) {
            out.push(WorkerOutput::Check { task, container, number, check });
        }
        self.take(overdue) || changed
    }

    /// When its health is to be looked at again.
    pub fn next_look(&self) -> Option<Time> {
        self.watch.as_ref().and_then(Watch::look_again)
    }

    /// A stop signal could reach it and has not been sent.
    pub fn unsignalled(&self) -> bool {
        let signallable = matches!(self.life, Life::Created | Life::Starting | Life::Running);
        signallable && self.kill_at.is_none()
    }

    pub fn next_kill(&self) -> Option<Time> {
        self.kill_at.filter(|_| self.life != Life::Ended)
    }

    /// The signal that is due now. What never started needs no grace; what is being created is
    /// waited for: its end or its creation is the next event.
    pub fn wind_down(&mut self, now: Time) -> Option<Signal> {
        match self.life {
            Life::Absent => {
                let why = self.status.reason.take();
                self.finish(None, why);
                None
            }
            Life::Created => {
                let why = self.status.reason.take();
                self.finish(None, why);
                Some(Signal::Kill)
            }
            Life::Creating | Life::Ended => None,
            Life::Starting if self.restart_due => {
                let why = self.status.reason.take();
                self.finish(self.status.exit_code, why);
                None
            }
            Life::Starting | Life::Running => match self.kill_at {
                None => {
                    self.kill_at = Some(now + self.stop_timeout);
                    Some(Signal::Stop)
                }
                Some(at) if at <= now => {
                    self.kill_at = Some(now + KILL_AGAIN);
                    Some(Signal::Kill)
                }
                Some(_) => None,
            },
        }
    }
}
