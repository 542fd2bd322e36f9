//! What a request would do, in words: where each task would go and why, what would stop, and what
//! would find no place.

use super::waiting::{placement_failure, removed};
use super::{int, service};
use crate::arn::{Arns, name_of};
use crate::pb;
use muster_model::foresight::{Choice, Measure, PREFER_ZERO, Round, Weighed};
use muster_model::placement::BinpackField;
use muster_model::{Foresight, InstanceId, State, Task, TaskId, limits};

pub fn foresight(told: &Foresight) -> pb::Foresight {
    let started = told.rounds.iter().map(|round| round.started.len()).sum::<usize>();
    let stopped = told.rounds.iter().map(|round| round.stopped.len()).sum::<usize>();
    pb::Foresight {
        rounds: told.rounds.iter().map(|one| round(&told.end, one)).collect(),
        kept_count: int(told.kept),
        started_count: int(started),
        stopped_count: int(stopped),
        moved_count: int(told.moved),
        waiting: waiting(&told.end, &told.unplaced),
        left_count: int(told.left),
        notes: notes(told),
    }
}

fn round(end: &State, round: &Round) -> pb::ForeseenRound {
    let stopped = round.stopped.iter().filter_map(|stop| {
        let row = end.task(stop.task)?;
        let task_arn = Arns::of(end).task(&name_of(end, row.cluster), row.id);
        Some(pb::ForeseenTask { task_arn, ..task(end, row, stop.on) })
    });
    let started = round.started.iter().filter_map(|start| {
        let row = end.task(start.task)?;
        let reasons = start.why.as_ref().map(|why| reasons(end, row, why)).unwrap_or_default();
        Some(pb::ForeseenTask { reasons, ..task(end, row, Some(start.on)) })
    });
    pb::ForeseenRound {
        after_seconds: int(round.after.0 / 1000),
        stopped: stopped.collect(),
        started: started.collect(),
        waiting_count: int(round.waiting),
    }
}

fn task(end: &State, row: &Task, on: Option<InstanceId>) -> pb::ForeseenTask {
    let arn = |id| Arns::of(end).instance(&name_of(end, row.cluster), id);
    let instance = on.and_then(|id| end.instance(id));
    pb::ForeseenTask {
        task_arn: String::new(),
        task_definition_arn: service::definition(end, row.definition),
        container_instance_arn: on.map(arn).unwrap_or_default(),
        instance_name: instance.map(|row| row.spec.hostname.clone()).unwrap_or_default(),
        availability_zone: instance.map(|row| row.spec.zone.clone()).unwrap_or_default(),
        reasons: Vec::new(),
    }
}

fn reasons(end: &State, task: &Task, why: &Choice) -> Vec<String> {
    let all = why.removed.instances;
    let removed = removed(end, task, &why.removed);
    let mut reasons = vec![match why.candidates {
        1 => format!("the only candidate of {all} container instances{removed}"),
        some => format!("{some} candidates of {all} container instances{removed}"),
    }];
    reasons.extend(why.weighed.iter().map(weighed));
    if let Some(last) = why.weighed.last().filter(|last| last.level > 1) {
        let level = last.level;
        reasons.push(format!("{level} level: the first zone by name, then the smallest id"));
    }
    reasons
}

/// What was compared, what it is there, and over which range: the first word is the strategy's.
fn weighed(one: &Weighed) -> String {
    let (least, most, compared) = (one.least, one.most, one.compared);
    let over = |shown: &dyn Fn(u64) -> String| match least == most {
        true => format!("all {compared} alike"),
        false => format!("{} to {} over {compared}", shown(least), shown(most)),
    };
    let plain = |number: u64| number.to_string();
    match &one.by {
        Measure::Spread { attribute, value } => {
            let value = value.as_deref().unwrap_or("without it");
            let over = over(&plain);
            format!("spread attribute:{attribute}: {value} has {} of its tasks ({over})", one.value)
        }
        Measure::SpreadInstances => {
            format!("spread instanceId: has {} of its tasks ({})", one.value, over(&plain))
        }
        Measure::Binpack(BinpackField::Cpu) => {
            format!("binpack cpu: has {} units free ({})", one.value, over(&plain))
        }
        Measure::Binpack(BinpackField::Memory) => {
            format!("binpack memory: has {} MiB free ({})", one.value, over(&plain))
        }
        Measure::Random => format!("random: drawn from {compared}"),
        Measure::Prefer => {
            // The smaller number is the better one, so the range runs the other way.
            let weight = |number: u64| (PREFER_ZERO as i64 - number as i64).to_string();
            let over = match least == most {
                true => format!("all {compared} alike"),
                false => format!("{} to {} over {compared}", weight(most), weight(least)),
            };
            format!("prefer: weighs {} ({over})", weight(one.value))
        }
        Measure::Load => {
            // Of cpu and memory together: both taken in full are 2 x 65,536.
            let percent = |load: u64| format!("{} %", load * 100 / (2 << 16));
            format!("least loaded: {} taken ({})", percent(one.value), over(&percent))
        }
    }
}

/// Tasks with the same failure are one row.
fn waiting(end: &State, tasks: &[TaskId]) -> Vec<pb::ForeseenWait> {
    let mut rows: Vec<pb::ForeseenWait> = Vec::new();
    for task in tasks.iter().filter_map(|id| end.task(*id)) {
        let failure = placement_failure(end, task);
        match rows.iter_mut().find(|row| row.failure == failure) {
            Some(row) => row.count += 1,
            None => rows.push(pb::ForeseenWait { count: 1, failure }),
        }
    }
    rows
}

fn notes(told: &Foresight) -> Vec<String> {
    let mut notes: Vec<String> = told.stuck.iter().map(ToString::to_string).collect();
    if told.cut {
        let most = limits::FORESEE_ROUNDS_MAX;
        notes.push(format!("further rounds follow; a foresight ends after {most}"));
    }
    let starts = told.rounds.iter().flat_map(|round| &round.started);
    if starts.clone().any(|start| start.why.is_none()) {
        let most = limits::FORESEE_REASONS_MAX;
        let all = starts.count();
        notes.push(format!("reasons are given for the first {most} of {all} placements"));
    }
    notes
}
