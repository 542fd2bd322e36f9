//! Monitoring: alarms that go off and end, and services that name them.

use crate::sim::world::World;
use muster_model::{AlarmCommand, AlarmState, Command, DeploymentAlarms};

const NAMES: [&str; 2] = ["errors", "latency"];

impl World {
    /// OK twice as often as not: else no deployment would ever complete.
    pub(super) fn set_alarm(&mut self) -> Option<Command> {
        use AlarmState::{Alarm, InsufficientData, Ok};
        let name = self.dice.pick(&NAMES)?.into();
        let state = self.dice.pick(&[Ok, Ok, InsufficientData, Alarm])?;
        Some(Command::Alarm(match self.dice.percent(5) {
            true => AlarmCommand::Delete { name },
            false => AlarmCommand::Set { name, state, reason: "".into() },
        }))
    }

    pub(super) fn alarms(&mut self) -> DeploymentAlarms {
        let names: Vec<String> =
            NAMES.iter().filter(|_| self.dice.percent(30)).map(|name| (*name).to_owned()).collect();
        let enable = !names.is_empty() && self.dice.percent(90);
        DeploymentAlarms { names, enable, rollback: self.dice.percent(70) }
    }
}
