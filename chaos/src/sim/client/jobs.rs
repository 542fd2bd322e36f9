//! Users' jobs: short ones of tasks that mostly end with 0, and each with a time by which it is
//! over, so that a run sees them succeed, fail, be stopped and time out.

use crate::sim::setting::FAMILIES;
use crate::sim::world::World;
use muster_model::{Command, DefinitionId, Job, JobCommand, JobId, JobSpec, State};
use std::sync::Arc;

/// Jobs of a run that have not ended.
const JOBS_MAX: usize = 4;
/// Within this many seconds of its beginning a job is over, whatever becomes of its tasks.
const TIMEOUT_SECS: (u64, u64) = (40, 150);

impl World {
    pub(super) fn job(&mut self, state: &State) -> Option<Command> {
        let all: Vec<Arc<Job>> = state.jobs().cloned().collect();
        let some = self.dice.pick(&all).map(|row| row.id);
        match (self.dice.below(100), some) {
            (80..92, Some(id)) => {
                Some(Command::Job(JobCommand::Stop { id, reason: Arc::from("enough") }))
            }
            (92.., Some(id)) => Some(Command::Job(JobCommand::Delete { id })),
            _ if state.open_jobs() < JOBS_MAX => {
                let definition = self.job_definition();
                let spec = Arc::new(self.job_spec());
                let cluster = self.dice.pick(&self.clients.clusters.clone())?;
                let id = JobId::from_bits(0);
                state.definition(definition)?;
                Some(Command::Job(JobCommand::Run { id, cluster, definition, spec }))
            }
            _ => None,
        }
    }

    /// Mostly tasks that end with 0, else any: some crash, some never end.
    fn job_definition(&mut self) -> DefinitionId {
        match self.dice.percent(70) {
            true => DefinitionId(FAMILIES.len() as u64),
            false => self.any_definition(),
        }
    }

    /// Few names, so that one is still taken, or free again.
    fn job_spec(&mut self) -> JobSpec {
        let name = format!("job{}", self.dice.below(6));
        JobSpec { name, ..self.scheduled_job() }
    }

    /// Also of a schedule, whose jobs have names of their own.
    pub(super) fn scheduled_job(&mut self) -> JobSpec {
        let limited = self.dice.percent(40);
        let (shortest, longest) = TIMEOUT_SECS;
        JobSpec {
            completions: self.dice.between(1, 5) as u32,
            parallelism: self.dice.between(1, 4) as u32,
            retries: self.dice.between(0, 4) as u32,
            timeout_secs: Some(self.dice.between(shortest, longest) as u32),
            attempt_timeout_secs: limited.then(|| self.dice.between(5, 30) as u32),
            ..JobSpec::default()
        }
    }
}
