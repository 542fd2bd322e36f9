//! Users' schedules: short ones, so that a run sees them begin, meet their own tasks and end.

use crate::sim::setting::FAMILIES;
use crate::sim::world::World;
use muster_model::schedule::{ScheduleCommand, ScheduledRun};
use muster_model::{
    Command, Millis, MissedRunPolicy, OverlapPolicy, Schedule, ScheduleId, ScheduleSpec,
    ScheduleState, State,
};
use std::sync::Arc;

/// Schedules of a run: each starts tasks for two minutes at most.
const SCHEDULES_MAX: usize = 4;
/// What they recur by, and how often: the calendar is tested elsewhere.
pub(in crate::sim) const RATES: [(&str, Millis); 2] =
    [("rate(1 minute)", Millis::from_secs(60)), ("rate(2 minutes)", Millis::from_secs(120))];

impl World {
    pub(super) fn schedule(&mut self, state: &State) -> Option<Command> {
        let all: Vec<Arc<Schedule>> = state.schedules().cloned().collect();
        let some = self.dice.pick(&all);
        match (self.dice.below(100), some) {
            (50..80, Some(old)) => {
                let name = old.spec.name.clone();
                let (spec, version) = (Arc::new(self.schedule_spec(name)?), old.version);
                Some(Command::Schedule(ScheduleCommand::Update {
                    id: old.id,
                    expected_version: self.dice.percent(50).then_some(version),
                    next_due: spec.start.filter(|_| spec.state == ScheduleState::Enabled),
                    spec,
                }))
            }
            (80.., Some(old)) => Some(Command::Schedule(ScheduleCommand::Delete { id: old.id })),
            _ if all.len() < SCHEDULES_MAX => {
                let name = self.schedule_name();
                let spec = Arc::new(self.schedule_spec(name)?);
                Some(Command::Schedule(ScheduleCommand::Create {
                    id: ScheduleId::from_bits(0),
                    cluster: self.dice.pick(&self.clients.clusters.clone())?,
                    next_due: spec.start.filter(|_| spec.state == ScheduleState::Enabled),
                    spec,
                }))
            }
            _ => None,
        }
    }

    fn schedule_name(&mut self) -> String {
        self.clients.next_name += 1;
        format!("every{}", self.clients.next_name)
    }

    /// The first time is the start, as a rate has it.
    fn schedule_spec(&mut self, name: String) -> Option<ScheduleSpec> {
        let policies = [OverlapPolicy::Allow, OverlapPolicy::Skip, OverlapPolicy::Replace];
        let late = [MissedRunPolicy::Skip, MissedRunPolicy::RunOnce { within_secs: 60 }];
        let missed = self.dice.pick(&late).filter(|_| self.dice.percent(60));
        let start = self.now + self.dice.span(0, 20_000);
        let end = start + Millis::from_secs(30 + 60 * self.dice.below(3));
        let disabled = self.dice.percent(15);
        let (expression, _) = self.dice.pick(&RATES)?;
        // Mostly tasks that end by themselves, now and then before the next is due.
        let batch = FAMILIES.len() - 1;
        let any = self.dice.below(FAMILIES.len() as u64) as usize;
        let family = FAMILIES[if self.dice.percent(80) { batch } else { any }];
        let job = self.dice.percent(40).then(|| self.scheduled_job());
        Some(ScheduleSpec {
            name,
            job,
            expression: expression.into(),
            timezone: "UTC".into(),
            state: if disabled { ScheduleState::Disabled } else { ScheduleState::Enabled },
            start: Some(start),
            end: Some(end),
            overlap: self.dice.pick(&policies)?,
            missed: missed.unwrap_or_default(),
            run: ScheduledRun {
                family: family.into(),
                count: self.dice.between(1, 3) as u32,
                ..ScheduledRun::default()
            },
        })
    }
}
