//! Users with long work in tasks of services: they protect them, for a minute or two at most.

use crate::sim::world::World;
use muster_model::{Command, Millis, State, TaskId};

const SPAN_SECS_MAX: u64 = 90;

impl World {
    pub(super) fn protect_task(&mut self, state: &State) -> Option<Command> {
        let own = state.tasks().filter(|task| task.wanted() && task.service().is_some());
        let own: Vec<TaskId> = own.map(|task| task.id).collect();
        let task = self.dice.pick(&own)?;
        let span = Millis::from_secs(self.dice.between(5, SPAN_SECS_MAX));
        Some(Command::ProtectTask { task, span: self.dice.percent(90).then_some(span) })
    }
}
