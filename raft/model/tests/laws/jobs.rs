//! Jobs at random: run, started, stopped and forgotten while their tasks come to any end.

use super::{cluster, definition, name, task};
use muster_model::job::*;
use muster_model::{Command, JobId, State, Step};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::sync::Arc;

fn id() -> impl Strategy<Value = JobId> {
    (0u128..3).prop_map(JobId::from_bits)
}

pub fn spec() -> impl Strategy<Value = Arc<JobSpec>> {
    let timeout = || option::weighted(0.3, 1u32..60);
    (name(), 0u32..4, 0u32..4, 0u32..4, timeout(), timeout()).prop_map(
        |(name, completions, parallelism, retries, timeout_secs, attempt_timeout_secs)| {
            Arc::new(JobSpec {
                name: name.to_string(),
                completions,
                parallelism,
                retries,
                timeout_secs,
                attempt_timeout_secs,
                ..JobSpec::default()
            })
        },
    )
}

pub fn jobs() -> impl Strategy<Value = Command> {
    let run = (id(), cluster(), definition(), spec());
    prop_oneof![
        6 => run.prop_map(|(id, cluster, definition, spec)| {
            JobCommand::Run { id, cluster, definition, spec }
        }),
        1 => id().prop_map(|id| JobCommand::Stop { id, reason: Arc::from("") }),
        1 => id().prop_map(|id| JobCommand::Delete { id }),
    ]
    .prop_map(Command::Job)
}

pub fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (id(), vec(task(), 0..3)).prop_map(|(job, tasks)| Step::StartAttempts { job, tasks }),
        1 => id().prop_map(|job| Step::TimeOutJob { job }),
    ]
}

/// What a job says of its tasks is what they are, it asks for no more than it may, and what it came
/// to stays.
pub fn add_up(before: &State, after: &State) {
    for row in after.jobs() {
        let (spec, tasks) = (&row.spec, || after.tasks_of_job(row.id));
        assert!(row.attempts <= spec.completions + spec.retries, "{row:?}");
        assert!(row.succeeded <= spec.completions, "{row:?}");
        let wanted = tasks().filter(|task| task.wanted()).count();
        match row.end {
            None => {
                let open = tasks().filter(|task| task.ended_at().is_none()).count();
                assert_eq!(open, row.open_attempts() as usize, "{row:?}");
                assert!(wanted <= spec.parallelism as usize, "{row:?}");
                assert!(row.succeeded < spec.completions && row.failed <= spec.retries, "{row:?}");
            }
            Some(_) => assert_eq!(wanted, 0, "{row:?}"),
        }
        if let Some(old) = before.job(row.id).filter(|old| old.end.is_some()) {
            assert_eq!(old, row);
        }
    }
}
