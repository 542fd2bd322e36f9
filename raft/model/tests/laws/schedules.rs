//! Schedules at random: created, changed and fired, mostly when they are due.

use super::{cluster, jobs, name};
use muster_model::schedule::*;
use muster_model::spec::Tags;
use muster_model::{Command, JobSpec, Revision, ScheduleId, State, Step, Time};
use proptest::option;
use proptest::prelude::*;
use std::sync::Arc;

/// The mark for "the time that it waits for", and what follows the latest by as much.
const WAITED_FOR: Time = Time(u64::MAX);
const PERIOD: u64 = 10_000;

fn id() -> impl Strategy<Value = ScheduleId> {
    (0u128..3).prop_map(ScheduleId::from_bits)
}

fn spec() -> impl Strategy<Value = Arc<ScheduleSpec>> {
    let overlap = prop_oneof![
        Just(OverlapPolicy::Allow),
        Just(OverlapPolicy::Skip),
        Just(OverlapPolicy::Replace)
    ];
    let missed = prop_oneof![
        Just(MissedRunPolicy::Skip),
        Just(MissedRunPolicy::default()),
        Just(MissedRunPolicy::RunOnce { within_secs: 60 })
    ];
    let family = prop_oneof![4 => Just("a"), 1 => Just("none")];
    let state = prop_oneof![5 => Just(ScheduleState::Enabled), 1 => Just(ScheduleState::Disabled)];
    let job = option::weighted(0.4, jobs::spec());
    (name(), overlap, missed, family, state, option::of(1u32..3), 1u32..3, job).prop_map(
        |(name, overlap, missed, family, state, revision, count, job)| {
            let run = ScheduledRun {
                family: family.into(),
                revision: revision.map(Revision),
                count,
                tags: Tags::new(),
                ..ScheduledRun::default()
            };
            let expression = format!("rate({count} minutes)");
            let name = name.to_string();
            let spec = ScheduleSpec {
                name,
                expression,
                state,
                overlap,
                missed,
                run,
                job: job.map(|job| JobSpec::clone(&job)),
                ..Default::default()
            };
            Arc::new(spec)
        },
    )
}

fn next() -> impl Strategy<Value = Option<Time>> {
    option::weighted(0.9, (0u64..100_000).prop_map(Time))
}

fn update() -> impl Strategy<Value = ScheduleCommand> {
    let version = option::weighted(0.2, 1u64..4);
    (id(), version, spec(), next()).prop_map(|(id, expected_version, spec, next_due)| {
        ScheduleCommand::Update { id, expected_version, spec, next_due }
    })
}

pub fn schedules() -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => (id(), cluster(), spec(), next()).prop_map(|(id, cluster, spec, next_due)| {
            ScheduleCommand::Create { id, cluster, spec, next_due }
        }),
        3 => update(),
        1 => id().prop_map(|id| ScheduleCommand::Delete { id }),
    ]
    .prop_map(Command::Schedule)
}

pub fn fire() -> impl Strategy<Value = Step> {
    let due = prop_oneof![8 => Just(WAITED_FOR), 1 => (0u64..100_000).prop_map(Time)];
    (id(), due, 0u32..3, next()).prop_map(|(schedule, due, missed, next)| Step::Fire {
        schedule,
        due,
        latest: due,
        missed,
        next,
    })
}

/// Puts the time that it waits for in place of the mark.
pub fn aim(state: &State, step: &mut Step) {
    let Step::Fire { schedule, due, latest, missed, next } = step else { return };
    let row = state.schedule(*schedule);
    if let Some(at) = row.and_then(|row| row.next_due).filter(|_| *due == WAITED_FOR) {
        *due = at;
        *latest = Time(at.0 + u64::from(*missed) * PERIOD);
        *next = next.map(|_| Time(latest.0 + PERIOD));
    }
}

/// Of a due time something becomes once, and what it waits for is later than all of them.
pub fn fire_once(before: &State, after: &State) {
    for row in after.schedules() {
        let dues: Vec<Time> = row.runs.iter().map(|run| run.due).collect();
        assert!(dues.windows(2).all(|pair| pair[0] < pair[1]), "{dues:?}");
        assert!(row.next_due.is_none() || row.next_due > dues.last().copied(), "{row:?}");
        let Some(old) = before.schedule(row.id).filter(|old| old.created_at == row.created_at)
        else {
            continue;
        };
        let last = old.runs.last().map(|run| run.due);
        let new = row.runs.iter().filter(|run| Some(run.due) > last);
        for run in new {
            assert!(old.next_due.is_some_and(|due| due <= run.due), "{old:?} became {row:?}");
            if let RunOutcome::StartedJob { job } = run.outcome {
                assert!(after.job(job).is_some() && before.job(job).is_none(), "{row:?}");
            }
        }
    }
}
