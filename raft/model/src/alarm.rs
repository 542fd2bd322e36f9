//! Alarms: what somebody's monitoring says of their systems, by name, and what it means for the
//! deployments that name them.
//!
//! ECS asks CloudWatch. Here whoever watches says so, as with CloudWatch's SetAlarmState. It
//! decides when an alarm ends a deployment, and how long a rolling one is watched once it is whole.
//! It does not know what is measured. Invariants: `since` moves only when the state does; an alarm
//! that nobody has set is not in ALARM.

use crate::error::Error;
use crate::limits::{ALARM_BAKE, NAME_CHARS_MAX};
use crate::service::{Deployment, Service};
use crate::state::State;
use crate::task::Task;
use crate::time::{Millis, Time};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// CloudWatch's states of an alarm, by their names there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AlarmState {
    Ok,
    Alarm,
    InsufficientData,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    pub name: Arc<str>,
    pub state: AlarmState,
    pub reason: Arc<str>,
    /// When it got into this state.
    pub since: Time,
}

/// What changes alarms. Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AlarmCommand {
    /// Makes it, if there is none of this name.
    Set {
        name: Arc<str>,
        state: AlarmState,
        reason: Arc<str>,
    },
    Delete {
        name: Arc<str>,
    },
}

/// ECS `deploymentConfiguration.alarms`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeploymentAlarms {
    pub names: Vec<String>,
    pub enable: bool,
    /// Back to the newest deployment that completed, if there is one.
    pub rollback: bool,
}

impl DeploymentAlarms {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// CloudWatch's names of alarms: anything but control characters, and no longer than ours are.
///
/// # Errors
/// Says what is allowed.
pub fn check_name(field: &str, name: &str) -> Result<(), Error> {
    let fits = !name.is_empty() && name.chars().count() <= NAME_CHARS_MAX;
    if fits && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let allowed = format!("1 to {NAME_CHARS_MAX} characters, no control characters");
    Err(Error::invalid(field, name, allowed))
}

impl State {
    pub fn alarm(&self, name: &str) -> Option<&Arc<Alarm>> {
        self.alarms.get(name)
    }
    /// By name.
    pub fn alarms(&self) -> impl Iterator<Item = &Arc<Alarm>> {
        self.alarms.values()
    }

    /// The alarm that a deployment of the service fails for. ECS: one that was in ALARM before the
    /// deployment began says nothing of it; the deployment may be what ends it.
    pub fn alarm_against(&self, service: &Service, of: &Deployment) -> Option<&Arc<Alarm>> {
        let alarms = &service.spec.alarms;
        let names = alarms.names.iter().filter(|_| alarms.enable);
        let mut rows = names.filter_map(|name| self.alarm(name));
        rows.find(|row| row.state == AlarmState::Alarm && row.since >= of.created_at)
    }

    /// Until when a rolling deployment is watched by its alarms, if it stays as whole as it is:
    /// `ALARM_BAKE` after the last of its tasks became healthy and the last older one ended. `None`
    /// for a service without alarms; where traffic shifts, its own bake time is watched.
    pub fn baked_at(&self, service: &Service, of: &Deployment) -> Option<Time> {
        if !service.spec.alarms.enable || service.spec.alarms.names.is_empty() {
            return None;
        }
        let after = self.healthy_after(service.cluster);
        let settled = |task: &Arc<Task>| match self.checked_health(task) {
            _ if task.deployment() != Some(of.id) || !task.wanted() => task.ended_at(),
            Some(_) => task.healthy_at(Millis(0)),
            None => task.healthy_at(after),
        };
        let last = self.tasks_of(service.id).filter_map(settled).fold(of.created_at, Time::max);
        Some(last + ALARM_BAKE)
    }

    /// Whether it is too early to call the deployment done.
    pub fn is_watched(&self, service: &Service, of: &Deployment) -> bool {
        let rolls = of.is_open() && self.shift(service.id).is_none();
        rolls && self.baked_at(service, of).is_some_and(|at| at > self.now())
    }

    pub(crate) fn put_alarm(&mut self, row: Arc<Alarm>) {
        self.alarms.insert(row.name.clone(), row);
    }

    pub(crate) fn remove_alarm(&mut self, name: &str) {
        self.alarms.remove(name);
    }
}
